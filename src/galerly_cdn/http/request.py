"""Reads a request from an ASGI scope, for the public application and the admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.http.client_address import client_address, is_trusted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from galerly_cdn.http.client_address import Network

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


class Request:
    """One request. `client` is the peer's address, or the one that `trusted` proxies forward.

    Repeated headers are joined to one list (RFC 9110 §5.3). Header names are in lower case, as in ASGI.
    """

    __slots__ = ("client", "headers", "is_forwarded", "method", "query", "raw_path", "request_id")

    def __init__(self, scope: Scope, request_id: str, trusted: tuple[Network, ...] = ()) -> None:
        self.request_id = request_id
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.client: str = scope["client"][0] if scope["client"] else ""
        self.headers = headers_of(scope)
        self.is_forwarded = False
        """Whether a trusted proxy sent the request."""
        if trusted:
            peer = self.client
            self.client = client_address(peer, self.headers.get(b"x-forwarded-for", b""), trusted)
            self.is_forwarded = self.client != peer or is_trusted(peer, trusted)


def empty_scope(client: str = "") -> Scope:
    """The scope of an exchange whose request could not be read."""
    return {"method": "", "raw_path": b"", "query_string": b"", "client": (client, 0), "headers": []}


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request by name; repeated ones are joined to one list."""
    headers = dict(scope["headers"])
    return headers if len(headers) == len(scope["headers"]) else _joined(scope["headers"])


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(several) for name, several in values.items()}
