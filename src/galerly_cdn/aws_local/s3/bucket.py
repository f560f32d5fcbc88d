"""What does the bucket response CloudFront? Its policy is asked first, then a real S3 server.

The server knows one owner, whose credentials sign here; who of AWS may do what, it cannot know. That is the
template's bucket policy, evaluated in front of it.

Source: the S3 API Reference, GetObject: what is missing is 404 to who may list the bucket, 403 to others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from galerly_cdn.aws_local.cloudformation.stack import ACCOUNT
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.aws_local.iam.policies import Access
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.origin_exchange import Responder
    from galerly_cdn.aws_local.iam.resources import BucketWithPolicy


class Bucket:
    """A bucket behind its policy; `source_arn` is whose signature requests have, empty for none."""

    def __init__(self, own: BucketWithPolicy, endpoint: str, inner: Responder, source_arn: str) -> None:
        place = urlsplit(endpoint)
        self._name = own.name
        self._scheme, self._host = place.scheme, place.netloc
        self._policy = own.policy
        self._inner = inner
        self._source_arn = source_arn

    async def respond(self, request: OriginRequest) -> OriginResponse:
        arn = f"arn:aws:s3:::{self._name}"
        key = unquote(request.raw_path)
        if not self._may("s3:GetObject", arn + key, request.scheme):
            return refusal(403, "AccessDenied", "Access Denied", request.method)
        found = await self._inner.respond(
            replaced(
                request,
                scheme=self._scheme,
                host=self._host,
                raw_path=f"/{self._name}{request.raw_path}",  # the server's other way of naming buckets
            )
        )
        if found.status == 404 and not self._may("s3:ListBucket", arn, request.scheme):
            return refusal(403, "AccessDenied", "Access Denied", request.method)
        return found

    def _may(self, action: str, resource: str, scheme: str) -> bool:
        context = {"aws:securetransport": str(scheme == "https").lower()}
        if self._source_arn:
            context |= {"aws:sourcearn": self._source_arn, "aws:sourceaccount": ACCOUNT}
        service = "cloudfront.amazonaws.com" if self._source_arn else ""
        return self._policy.allows(Access(service=service, action=action, resource=resource, context=context))


def refusal(status: int, code: str, message: str, method: str) -> OriginResponse:
    """What S3 says of what it does not do; without a body to a HEAD."""
    told = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{told}'.encode()
    headers = {"content-type": "application/xml", "server": "AmazonS3"}
    return OriginResponse(status, headers, b"" if method == "HEAD" else body)
