"""Terminates TLS: a protocol on the TCP transport that serves as the HTTP connection's transport.

It replaces the event loop's own TLS for two reasons. asyncio calls `connection_made` after the handshake, so
that a client that never finishes one is in no connection limit. And its transport hides the buffer below it,
so that a response that a slow client has not read yet looks sent, and is cut off at the end. Here the
connection sees the buffer of the TCP transport, and its write deadline, its back-pressure and its lingering
close work as they do without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, cast

from galerly_cdn.errors import TooManyConnections
from galerly_cdn.server.transport import LINGER_S, peer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from galerly_cdn.server.certificate import Certificate
    from galerly_cdn.server.connection import Connection
    from galerly_cdn.server.listener import ListenerState
    from galerly_cdn.server.transport import Peer

_READ_BYTES = 64 * 1024


class TlsConnection(asyncio.Protocol):
    """One client's TLS. The HTTP connection is made after a handshake of at most `header_deadline_s`."""

    def __init__(
        self,
        connection: Callable[[], Connection],
        certificate: Certificate,
        state: ListenerState,
        peer: Peer | None = None,
    ) -> None:
        """`peer` is the client, where the other end of the connection is a proxy that has named it."""
        self._peer = peer
        self._make_connection = connection
        self._state = state
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = certificate.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._loop = asyncio.get_running_loop()
        self._tcp_transport: asyncio.Transport
        self._connection: Connection | None = None
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_ended = False

    # the handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp_transport = cast("asyncio.Transport", transport)
        self._peer = self._peer or peer_of(transport)
        self._address = self._peer[0] if self._peer else ""
        self._state.add(self)
        self._timer = self._loop.call_later(self._state.settings.header_deadline_s, self.abort)
        if not self._state.limit.acquire(self._address):
            # Only records it: no response can be sent before the handshake.
            self._state.refuse(TooManyConnections(), self._address)
            self.abort()

    def drain(self) -> None:
        """Nothing to do: no response is in progress."""

    def shutdown(self) -> None:
        """Let a handshake in progress finish; its request gets a response with `Connection: close`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(LINGER_S, self.abort)

    def _do_handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self._flush()  # sends the TLS alert
            self._tcp_transport.close()
        else:
            self._flush()
            self._start_connection()

    def _start_connection(self) -> None:
        self._end_handshake()
        self._connection = self._make_connection()
        self._connection.connection_made(cast("asyncio.Transport", self))
        if self._state.is_stopping:
            self._connection.shutdown()

    def _end_handshake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._state.discard(self)
            self._state.limit.release(self._address)

    # the protocol of the TCP transport

    def data_received(self, data: bytes) -> None:
        if self._is_ended or self._tcp_transport.is_closing():
            return
        self._incoming.write(data)
        if self._connection is None:
            self._do_handshake()
        if self._connection is not None:
            self._read(self._connection)

    def _read(self, connection: Connection) -> None:
        try:
            while not (self._is_paused or self._is_ended or self._tcp_transport.is_closing()):
                data = self._tls.read(_READ_BYTES)
                if not data:
                    self._tcp_transport.close()  # close_notify ends the connection, like a TCP half-close
                    return
                connection.data_received(data)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self.abort()

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_handshake()
        if self._connection is not None:
            self._connection.connection_lost(exc)

    # the transport of the connection

    def write(self, data: bytes) -> None:
        """Encrypt, and write to the TCP transport."""
        if self._is_ended or self._tcp_transport.is_closing():
            return
        unsent = memoryview(data)
        while unsent:
            unsent = unsent[self._tls.write(unsent) :]
        self._flush()

    def writelines(self, parts: Iterable[bytes]) -> None:
        """As `write`, for the parts in their order."""
        self.write(b"".join(parts))

    def _flush(self) -> None:
        if self._outgoing.pending and not self._tcp_transport.is_closing():
            self._tcp_transport.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Send TLS's close_notify, and drop all further input.

        The end of TCP follows later: it makes asyncio and uvloop clients drop what they have not decrypted.
        """
        self._is_ended = True
        with contextlib.suppress(ssl.SSLError):  # it would wait for the client's close_notify
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        self._tcp_transport.close()

    def abort(self) -> None:
        self._tcp_transport.abort()

    def is_closing(self) -> bool:
        return self._tcp_transport.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._tcp_transport.get_write_buffer_size()

    def is_reading(self) -> bool:
        return not self._is_paused

    def pause_reading(self) -> None:
        self._is_paused = True
        self._tcp_transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, first the input that arrived before the pause."""
        self._is_paused = False
        self._tcp_transport.resume_reading()
        self._loop.call_soon(self.data_received, b"")

    def get_extra_info(self, name: str) -> Any:  # noqa: ANN401 - asyncio's signature
        """As of a transport. `sslcontext` tells the scheme."""
        if name == "peername" and self._peer is not None:
            return self._peer
        return self._tls.context if name == "sslcontext" else self._tcp_transport.get_extra_info(name)
