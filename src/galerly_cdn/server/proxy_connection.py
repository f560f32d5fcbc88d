"""Reads the PROXY protocol header of a connection, and hands the connection on with the client's address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from galerly_cdn.errors import BadRequest, GalerlyError, HeadersTooSlow, TooManyConnections
from galerly_cdn.server.proxy_protocol import parse_proxy_header
from galerly_cdn.server.transport import LINGER_S, peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.server.connection import Connection
    from galerly_cdn.server.listener import ListenerState
    from galerly_cdn.server.tls import TlsConnection
    from galerly_cdn.server.transport import Peer
    from galerly_cdn.settings.networks import Networks


class ProxyConnection(asyncio.Protocol):
    """A connection whose client may be a proxy that sends the header.

    Of a proxy in `proxies` the header is required, within `header_deadline_s`: a connection without one is
    recorded as a bad request and closed. Other clients' connections are handed on at once.
    """

    def __init__(
        self,
        make_protocol: Callable[[Peer | None], Connection | TlsConnection],
        state: ListenerState,
        proxies: Networks,
    ) -> None:
        """`make_protocol` makes what serves the connection; it gets the client that the header names."""
        self._make_protocol = make_protocol
        self._state = state
        self._proxies = proxies
        self._transport: asyncio.Transport
        self._proxy = ""
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = peer_of(transport)
        self._proxy = peer[0] if peer else ""
        if self._proxy not in self._proxies:
            self._hand_on(None)
            return
        self._state.add(self)
        self._timer = self._call_later(self._state.settings.header_deadline_s)
        # Of the proxy itself: the client's connections are counted once it is known
        if not self._state.limit.acquire(self._proxy, is_proxy=True):
            self._refuse(TooManyConnections())

    def _call_later(self, deadline_s: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(deadline_s, self._on_timeout)

    def data_received(self, data: bytes) -> None:
        if self._timer is None or self._transport.is_closing():
            return
        self._received += data
        try:
            header = parse_proxy_header(self._received)
        except BadRequest as error:
            self._refuse(error)
            return
        if header is not None:
            self._end()
            self._hand_on(header.peer, self._received[header.length_bytes :])

    def _hand_on(self, peer: Peer | None, received: bytes = b"") -> None:
        protocol = self._make_protocol(peer)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if received:
            protocol.data_received(received)
        if self._state.is_stopping:
            protocol.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._end()

    def drain(self) -> None:
        """Nothing to do: no response is in progress."""

    def shutdown(self) -> None:
        """Let the header arrive; a request that follows it gets a response with `Connection: close`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._call_later(LINGER_S)

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()

    def _end(self) -> None:
        """Stop waiting for the header."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._state.discard(self)
            self._state.limit.release(self._proxy)

    def _on_timeout(self) -> None:
        if self._received:
            self._refuse(HeadersTooSlow())
        else:  # a health check that only connects, or a connection that a proxy holds in reserve
            self.abort()

    def _refuse(self, error: GalerlyError) -> None:
        """Record an error and end the connection: without its header, nobody knows what the client speaks."""
        self._state.refuse(error, self._proxy)
        self.abort()
