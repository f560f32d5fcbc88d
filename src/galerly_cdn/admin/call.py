"""One request to the admin side: what it asks for, its body as it comes, and what is noted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from galerly_cdn.errors import Disconnected, MalformedBody, MalformedQuery
from galerly_cdn.model import ValidationError, Value, convert, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from galerly_cdn.admin.routes import Route
    from galerly_cdn.errors import GalerlyError

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

V = TypeVar("V", bound=Value)

MAX_JSON_BYTES = 16 * 1024
_MAX_PARAMETERS = 16


class Call:
    """One request on its way, with what is learned of it for the audit log.

    `route` is the operation, `named` what its path's `{…}` stands for, still encoded.
    """

    route: Route

    __slots__ = (
        "_receive",
        "client",
        "error",
        "headers",
        "length_bytes",
        "method",
        "named",
        "outcome",
        "query",
        "raw_path",
        "request_id",
        "route",
        "subject",
        "who",
    )

    def __init__(self, scope: Scope, receive: Receive, request_id: str) -> None:
        self.request_id = request_id
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.client: str = scope["client"][0] if scope["client"] else ""
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:  # a repeated header is one list (RFC 9110 §5.3)
            self.headers[name] = self.headers[name] + b", " + value if name in self.headers else value
        self.named = b""
        self._receive = receive
        self.error: GalerlyError | None = None
        self.who = ""
        """Who was let in; of one who was not, nothing."""
        self.subject = ""
        """The key, gallery or upload it is about, for the audit log."""
        self.outcome = ""
        """What came of it, in a word, for the audit log."""
        self.length_bytes = 0
        """Of the body, as far as it came."""

    def asked(self, kind: type[V]) -> V:
        """The query's parameters as a `kind`. Raises `MalformedQuery`."""
        try:
            told = parse_qsl(
                self.query.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_MAX_PARAMETERS,
            )
            if len(dict(told)) != len(told):
                raise MalformedQuery("a parameter twice")
            return convert(kind, dict(told))
        except ValueError as error:  # ValidationError and UnicodeDecodeError too
            raise MalformedQuery(str(error)) from error

    async def json(self, kind: type[V]) -> V:
        """The body's JSON as a `kind`. Raises `MalformedBody`."""
        body = bytearray()
        async for chunk in self.body():
            body += chunk
            if len(body) > MAX_JSON_BYTES:
                raise MalformedBody(f"over {MAX_JSON_BYTES} bytes")
        try:
            return from_json(kind, body)
        except ValidationError as error:
            raise MalformedBody(str(error)) from error

    async def body(self) -> AsyncIterator[bytes]:
        """The body, a chunk at a time. Raises `Disconnected`, `BadRequest`, `BodyTooSlow`."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Disconnected
            more = message.get("more_body", False)
            chunk = message.get("body", b"")
            self.length_bytes += len(chunk)
            if chunk:
                yield chunk
