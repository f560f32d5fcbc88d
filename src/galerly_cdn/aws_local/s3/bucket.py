"""Evaluates the template's bucket policy for CloudFront's requests, and passes them to the S3 server.

The S3 server verifies the signature, but it knows only one owner. It cannot know which AWS service may do
what: that is decided here, by the policy.

Source: the S3 API Reference, GetObject: a missing object is 404 for a caller who may list the bucket, else
403.
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
    """A bucket with its policy, in front of the S3 server `inner`.

    `source_arn` is the distribution that signs the requests; it is empty if they are not signed.
    """

    def __init__(self, bucket: BucketWithPolicy, endpoint: str, inner: Responder, source_arn: str) -> None:
        url = urlsplit(endpoint)
        self._name = bucket.name
        self._scheme, self._host = url.scheme, url.netloc
        self._policy = bucket.policy
        self._inner = inner
        self._source_arn = source_arn

    async def respond(self, request: OriginRequest) -> OriginResponse:
        arn = f"arn:aws:s3:::{self._name}"
        key = unquote(request.raw_path)
        if not self._is_allowed("s3:GetObject", arn + key, request.scheme):
            return refusal(403, "AccessDenied", "Access Denied", request.method)
        response = await self._inner.respond(
            replaced(
                request,
                scheme=self._scheme,
                host=self._host,
                raw_path=f"/{self._name}{request.raw_path}",  # path-style addressing
            )
        )
        if response.status == 404 and not self._is_allowed("s3:ListBucket", arn, request.scheme):
            return refusal(403, "AccessDenied", "Access Denied", request.method)
        return response

    def _is_allowed(self, action: str, resource: str, scheme: str) -> bool:
        context = {"aws:securetransport": str(scheme == "https").lower()}
        if self._source_arn:
            context |= {"aws:sourcearn": self._source_arn, "aws:sourceaccount": ACCOUNT}
        service = "cloudfront.amazonaws.com" if self._source_arn else ""
        return self._policy.allows(Access(service=service, action=action, resource=resource, context=context))


def refusal(status: int, code: str, message: str, method: str) -> OriginResponse:
    """S3's error response; the response to a HEAD has no body."""
    xml = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}'.encode()
    headers = {"content-type": "application/xml", "server": "AmazonS3"}
    return OriginResponse(status, headers, b"" if method == "HEAD" else body)
