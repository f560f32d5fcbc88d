"""May a function do this in the bucket? Its requests pass here on their way to the S3 server, byte for byte.

The server knows one owner, whose credentials sign here; what a role may do, it cannot know.

Source: the Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"; the S3
API Reference: HeadObject needs s3:GetObject, what is missing is 404 to who may list the bucket, else 403.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from galerly_cdn.aws_local.s3 import bucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse, Responder
    from galerly_cdn.aws_local.iam.resources import BucketWithPolicy
    from galerly_cdn.aws_local.iam.roles import Role

_OF_OBJECTS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}
_MEANINGLESS = {"x-id"}
"""Parameters by which SDKs tell which operation they mean."""


class RoleCheck:
    """The bucket as one role meets it; `inner` is the S3 server.

    `after` is called with each exchange before its response is handed on: who waits there holds the function.
    """

    def __init__(self, own: BucketWithPolicy, role: Role, inner: Responder) -> None:
        self._own = own
        self._role = role
        self._inner = inner
        self.after: Callable[[OriginRequest, OriginResponse], Awaitable[None]] = _nothing

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """The server's response, or S3's to what the role may not do. Raises as the server does."""
        name, _, path = request.raw_path.removeprefix("/").partition("/")
        key = unquote(path)
        operation = s3_action(request, key)
        if operation is None:
            told = f"{request.method} {request.raw_path}?{request.query} is not modelled"
            return bucket.refusal(501, "NotImplemented", told, request.method)
        arn = f"arn:aws:s3:::{unquote(name)}"
        if not self._may(operation, f"{arn}/{key}" if key else arn):
            return bucket.refusal(403, "AccessDenied", f"its role may not {operation}", request.method)
        found = await self._inner.respond(request)
        if found.status == 404 and operation == "s3:GetObject" and not self._may("s3:ListBucket", arn):
            found = bucket.refusal(403, "AccessDenied", "its role may not s3:ListBucket", request.method)
        await self.after(request, found)
        return found

    def _may(self, operation: str, arn: str) -> bool:
        return self._role.may(operation, arn, self._own.policy)


def s3_action(request: OriginRequest, key: str) -> str | None:
    """The action that a request is; None for what our functions have no business with."""
    asked = {name for name, _ in parse_qsl(request.query, keep_blank_values=True)} - _MEANINGLESS
    if key:
        is_plain = not asked and "x-amz-copy-source" not in request.headers
        return _OF_OBJECTS.get(request.method) if is_plain else None
    if request.method != "GET":
        return None
    if "versions" in asked:
        return "s3:ListBucketVersions"
    return "s3:ListBucket" if "list-type" in asked else None


async def _nothing(_request: OriginRequest, _response: OriginResponse) -> None:
    """Nobody watches."""
