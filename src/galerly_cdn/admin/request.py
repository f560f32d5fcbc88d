"""One request to the admin side: what it asks for, its body as it comes, and what is noted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from galerly_cdn.errors import Disconnected, MalformedBody, MalformedQuery
from galerly_cdn.http.request import Request
from galerly_cdn.serialization import ValidationError, Value, convert, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.admin.routes import Route
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.client_address import Network
    from galerly_cdn.http.request import Receive, Scope

V = TypeVar("V", bound=Value)

MAX_JSON_BYTES = 16 * 1024
_MAX_PARAMETERS = 16


class AdminRequest(Request):
    """One request on its way, with what is learned of it for the audit log.

    `route` is the operation, `named` what its path's `{…}` stands for, still encoded.
    """

    route: Route

    __slots__ = (
        "_receive",
        "error",
        "length_bytes",
        "named",
        "outcome",
        "route",
        "subject",
        "who",
    )

    def __init__(self, scope: Scope, receive: Receive, request_id: str, trusted: tuple[Network, ...]) -> None:
        super().__init__(scope, request_id, trusted)
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
