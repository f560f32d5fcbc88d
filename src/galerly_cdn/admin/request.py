"""Reads one request to the admin API: its query, its body, and the facts for the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from galerly_cdn.errors import Disconnected, MalformedBody, MalformedQuery
from galerly_cdn.http.exchange import Exchange
from galerly_cdn.http.negotiation import accepts_html
from galerly_cdn.serialization import ValidationError, Value, convert, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.admin.routes import Route
    from galerly_cdn.http.request import Receive, Scope
    from galerly_cdn.settings.networks import Networks

PAGES_PATH = "/dashboard"

V = TypeVar("V", bound=Value)

MAX_BODY_BYTES = 16 * 1024
_MAX_PARAMETERS = 32


class AdminRequest(Exchange):
    """An exchange with a client of the admin API.

    `route` is the operation, `named` the part of the path that its `{…}` matched, percent-encoded. The
    handler sets `subject` and `outcome` for the audit log.
    """

    route: Route

    __slots__ = (
        "_receive",
        "is_secure",
        "is_tls",
        "length_bytes",
        "named",
        "outcome",
        "route",
        "subject",
        "who",
    )

    def __init__(self, scope: Scope, receive: Receive, request_id: str, trusted: Networks) -> None:
        super().__init__(scope, request_id, trusted)
        self.is_private = True
        self.named = b""
        self._receive = receive
        self.is_tls = scope.get("scheme") == "https"
        """Whether this server has ended the connection's TLS."""
        # A proxy that ends TLS passes the browser's Origin, which `check_site` compares with Host.
        self.is_secure = self.is_tls or self.headers.get(b"origin", b"")[:6] == b"https:"
        """Whether the browser's connection has TLS."""
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
            return convert(kind, _parameters(self.query))
        except ValueError as error:  # ValidationError and UnicodeDecodeError too
            raise MalformedQuery(str(error)) from error

    async def form(self, kind: type[V]) -> V:
        """The fields of a form (`application/x-www-form-urlencoded`) as a `kind`. Raises `MalformedBody`."""
        body = await self._whole_body()
        try:
            return convert(kind, _parameters(bytes(body)))
        except ValueError as error:
            raise MalformedBody(type(error).__name__) from error  # the message might repeat a token

    @property
    def shows_html(self) -> bool:
        """For a browser's window at the address of a page, or of what could be one."""
        return self._is_in_pages and accepts_html(self.headers.get(b"accept", b""))

    @property
    def is_part(self) -> bool:
        """Whether a page requests it by htmx, to show the response as a part of itself."""
        return self._is_in_pages and b"hx-request" in self.headers

    @property
    def is_of_page(self) -> bool:
        """Whether a browser shows the response, so that an error is told in HTML."""
        return self.shows_html or self.is_part

    @property
    def _is_in_pages(self) -> bool:
        path = self.raw_path.decode("latin-1")
        return path == "/" or f"{path}/".startswith(f"{PAGES_PATH}/")

    async def json(self, kind: type[V]) -> V:
        """The body's JSON as a `kind`. Raises `MalformedBody`."""
        body = await self._whole_body()
        try:
            return from_json(kind, body)
        except ValidationError as error:
            raise MalformedBody(str(error)) from error

    async def _whole_body(self) -> bytearray:
        """The body. Raises `MalformedBody` if it is longer than `MAX_BODY_BYTES`."""
        body = bytearray()
        async for chunk in self.body():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise MalformedBody(f"longer than {MAX_BODY_BYTES} bytes")
        return body

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


def _parameters(encoded: bytes) -> dict[str, str]:
    """The parameters of a query or form by name. Raises `ValueError` if it is malformed or repeats one."""
    parameters = parse_qsl(
        encoded.decode("ascii"),
        keep_blank_values=True,
        strict_parsing=True,
        errors="strict",
        max_num_fields=_MAX_PARAMETERS,
    )
    if len(dict(parameters)) != len(parameters):
        raise ValueError("a parameter is repeated")
    return dict(parameters)
