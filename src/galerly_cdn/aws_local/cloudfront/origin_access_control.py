"""Signs requests to origins with SigV4, as CloudFront's origin access control does.

botocore signs by the real time, because a real S3 server verifies the signature.

The path is signed as it is sent. S3 verifies it like that. Lambda encodes it once more, as all services but
S3 do, so that a function URL refuses a path with any character that SigV4 escapes. This is how CloudFront's
signatures have failed for `%20` and `+` (github.com/aws-samples/image-optimization/issues/44).

Source: the IAM User Guide, "AWS Signature Version 4 for API requests"; the CloudFront Developer Guide,
"Restrict access to an Amazon S3 origin", "Restrict access to an AWS Lambda function URL origin".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from galerly_cdn.aws_local.cloudformation.stack import ACCOUNT, REGION
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse, Responder


class Identity(Value, frozen=True):
    """The access key with which the local CloudFront signs."""

    access_key: str
    secret_key: str


class _PathAsSent(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    def _normalize_url_path(self, path: str) -> str:
        return path


class SigningOrigin:
    """Signs requests as one distribution, and passes them to the origin."""

    def __init__(
        self, inner: Responder, identity: Identity, service: Literal["s3", "lambda"], source_arn: str
    ) -> None:
        self._inner = inner
        credentials = Credentials(identity.access_key, identity.secret_key)
        kind: Any = S3SigV4Auth if service == "s3" else _PathAsSent
        self._signer = kind(credentials, service, REGION)
        self._source_arn = source_arn

    async def respond(self, request: OriginRequest) -> OriginResponse:
        return await self._inner.respond(self.signed(request))

    def signed(self, request: OriginRequest) -> OriginRequest:
        """The request with `authorization`, and the two headers that name the distribution to the origin."""
        source = {"x-amz-source-arn": self._source_arn, "x-amz-source-account": ACCOUNT}
        query = f"?{request.query}" if request.query else ""
        draft = AWSRequest(
            method=request.method,
            url=f"{request.scheme}://{request.host}{request.raw_path}{query}",
            headers={**_signable(request.headers), **source, "host": request.host},
        )
        self._signer.add_auth(draft)
        added = {name.lower(): value for name, value in draft.headers.items()}
        return replaced(request, headers={**request.headers, **added})


def _signable(headers: dict[str, str]) -> dict[str, str]:
    """The headers to sign. None of the viewer's is signed, because proxies may change them on the way."""
    return {name: value for name, value in headers.items() if name.startswith("x-amz-")}
