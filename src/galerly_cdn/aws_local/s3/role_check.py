"""Checks a function's S3 requests against its role, and passes allowed ones to the S3 server byte for byte.

The S3 server verifies the signature, but it knows only one owner. It cannot know what a role allows.

Source: the Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"; the S3
API Reference: HeadObject needs s3:GetObject; a missing object is 404 for a caller who may list the bucket,
else 403.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from galerly_cdn.aws_local.s3 import bucket as s3_bucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse, Responder
    from galerly_cdn.aws_local.iam.resources import BucketWithPolicy
    from galerly_cdn.aws_local.iam.roles import Role

_OBJECT_ACTIONS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}
_IGNORED_PARAMETERS = {"x-id"}
"""Parameters with which SDKs name the operation; they do not change the action."""


class RoleCheck:
    """The bucket for one role, in front of the S3 server `inner`.

    `after` is awaited with each request and its response before the function gets the response; a test can
    delay the function there.
    """

    def __init__(self, bucket: BucketWithPolicy, role: Role, inner: Responder) -> None:
        self._bucket = bucket
        self._role = role
        self._inner = inner
        self.after: Callable[[OriginRequest, OriginResponse], Awaitable[None]] = _do_nothing

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """The S3 server's response, or S3's error if the role does not allow the request.

        Raises what `inner` raises.
        """
        name, _, path = request.raw_path.removeprefix("/").partition("/")
        key = unquote(path)
        action = s3_action(request, key)
        if action is None:
            message = f"{request.method} {request.raw_path}?{request.query} is not modelled"
            return s3_bucket.refusal(501, "NotImplemented", message, request.method)
        arn = f"arn:aws:s3:::{unquote(name)}"
        if not self._is_allowed(action, f"{arn}/{key}" if key else arn):
            return s3_bucket.refusal(403, "AccessDenied", f"its role may not {action}", request.method)
        response = await self._inner.respond(request)
        if response.status == 404 and action == "s3:GetObject" and not self._is_allowed("s3:ListBucket", arn):
            response = s3_bucket.refusal(
                403, "AccessDenied", "its role may not s3:ListBucket", request.method
            )
        await self.after(request, response)
        return response

    def _is_allowed(self, action: str, arn: str) -> bool:
        return self._role.allows(action, arn, self._bucket.policy)


def s3_action(request: OriginRequest, key: str) -> str | None:
    """The IAM action of a request; None for requests that our functions do not make."""
    parameters = {name for name, _ in parse_qsl(request.query, keep_blank_values=True)} - _IGNORED_PARAMETERS
    if key:
        is_plain = not parameters and "x-amz-copy-source" not in request.headers
        return _OBJECT_ACTIONS.get(request.method) if is_plain else None
    if request.method != "GET":
        return None
    if "versions" in parameters:
        return "s3:ListBucketVersions"
    return "s3:ListBucket" if "list-type" in parameters else None


async def _do_nothing(_request: OriginRequest, _response: OriginResponse) -> None:
    """The default of `RoleCheck.after`."""
