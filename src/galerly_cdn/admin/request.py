"""Reads one request to the admin API: its query, its body, and the facts for the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from galerly_cdn.errors import Disconnected, MalformedBody, MalformedQuery
from galerly_cdn.http.exchange import Exchange
from galerly_cdn.serialization import ValidationError, Value, convert, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.admin.routes import Route
    from galerly_cdn.http.client_address import Network
    from galerly_cdn.http.request import Receive, Scope

V = TypeVar("V", bound=Value)

MAX_JSON_BYTES = 16 * 1024
_MAX_PARAMETERS = 16


class AdminRequest(Exchange):
    """An exchange with a client of the admin API.

    `route` is the operation, `named` the part of the path that its `{…}` matched, percent-encoded. The
    handler sets `subject` and `outcome` for the audit log.
    """

    route: Route

    __slots__ = ("_receive", "length_bytes", "named", "outcome", "route", "subject", "who")

    def __init__(self, scope: Scope, receive: Receive, request_id: str, trusted: tuple[Network, ...]) -> None:
        super().__init__(scope, request_id, trusted)
        self.is_private = True
        self.named = b""
        self._receive = receive
        self.who = ""
        """The authenticated client; empty before authentication."""
        self.subject = ""
        """The key, gallery or upload."""
        self.outcome = ""
        """One word, such as `created`."""
        self.length_bytes = 0
        """Of the body, as far as it was received."""

    def parse_query(self, kind: type[V]) -> V:
        """The query's parameters as a `kind`. Raises `MalformedQuery`."""
        try:
            parameters = parse_qsl(
                self.query.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_MAX_PARAMETERS,
            )
            if len(dict(parameters)) != len(parameters):
                raise MalformedQuery("a parameter is repeated")
            return convert(kind, dict(parameters))
        except ValueError as error:  # ValidationError and UnicodeDecodeError too
            raise MalformedQuery(str(error)) from error

    async def json(self, kind: type[V]) -> V:
        """The body's JSON as a `kind`. Raises `MalformedBody`."""
        body = bytearray()
        async for chunk in self.body():
            body += chunk
            if len(body) > MAX_JSON_BYTES:
                raise MalformedBody(f"longer than {MAX_JSON_BYTES} bytes")
        try:
            return from_json(kind, body)
        except ValidationError as error:
            raise MalformedBody(str(error)) from error

    async def body(self) -> AsyncIterator[bytes]:
        """The body, chunk by chunk. Raises `Disconnected`, `BadRequest`, `BodyTooSlow`."""
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
