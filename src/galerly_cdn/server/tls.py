"""How does a connection go through TLS? The protocol of the TCP transport is the connection's transport.

Not the event loop's own TLS. That counts nobody before the handshake is over, so that whoever never finishes
one is in no cap; and it keeps its buffer to itself, so that an answer a slow reader has not yet taken
looks sent, and is cut off at the end. Here the connection sees the buffer of the TCP transport, and its
writing deadline, its back-pressure and its lingering end hold as they do without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, cast

from galerly_cdn.errors import TooManyConnections
from galerly_cdn.server.transport import LINGER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.server import ServerState

    from galerly_cdn.server.certificate import Certificate
    from galerly_cdn.server.connection import Connection, ConnectionConfig

_READ_BYTES = 64 * 1024


class TlsConnection(asyncio.Protocol):
    """One client's TLS. The connection is made when the handshake is over, in `header_deadline_s` at most."""

    def __init__(
        self,
        connection: Callable[[], Connection],
        certificate: Certificate,
        server_state: ServerState,
        terms: ConnectionConfig,
    ) -> None:
        self._make_connection = connection
        self._terms = terms
        self._waiting = cast("set[Any]", server_state.connections)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = certificate.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._loop = asyncio.get_running_loop()
        self._wire: asyncio.Transport
        self._connection: Connection | None = None
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._is_draining = False
        self._is_paused = False
        self._is_ended = False

    # until the handshake is over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)
        self._address = (transport.get_extra_info("peername") or [""])[0]
        self._waiting.add(self)
        self._timer = self._loop.call_later(self._terms.settings.header_deadline_s, self.abort)
        if not self._terms.crowd.join(self._address):
            self._terms.refuse(TooManyConnections(), self._address)  # for the record: it cannot be told yet
            self.abort()

    def shutdown(self) -> None:
        """Whoever is just arriving may still finish, and is then answered with `Connection: close`."""
        self._is_draining = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(LINGER_S, self.abort)

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self._flush()  # it says why, in TLS's own words
            self._wire.close()
        else:
            self._flush()
            self._arrive()

    def _arrive(self) -> None:
        self._leave()
        self._connection = self._make_connection()
        self._connection.connection_made(cast("asyncio.Transport", self))
        if self._is_draining:
            self._connection.shutdown()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._waiting.discard(self)
            self._terms.crowd.leave(self._address)

    # the protocol of the wire

    def data_received(self, data: bytes) -> None:
        if self._is_ended or self._wire.is_closing():
            return
        self._incoming.write(data)
        if self._connection is None:
            self._shake()
        if self._connection is not None:
            self._read(self._connection)

    def _read(self, connection: Connection) -> None:
        try:
            while not (self._is_paused or self._is_ended or self._wire.is_closing()):
                data = self._tls.read(_READ_BYTES)
                if not data:
                    self._wire.close()  # a client that says its end counts as gone, as one that half-closes
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
        self._leave()
        if self._connection is not None:
            self._connection.connection_lost(exc)

    # the transport of the connection

    def write(self, data: bytes) -> None:
        """Encrypt, and hand over to the wire."""
        if self._is_ended or self._wire.is_closing():
            return
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left) :]
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._wire.is_closing():
            self._wire.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Say that nothing follows, and drop what still comes.

        In TLS alone: the end of TCP makes clients (asyncio's, uvloop's) drop what they have not decrypted.
        """
        self._is_ended = True
        with contextlib.suppress(ssl.SSLError):  # it would wait for the client to say the same
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        self._wire.close()

    def abort(self) -> None:
        self._wire.abort()

    def is_closing(self) -> bool:
        return self._wire.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._wire.get_write_buffer_size()

    def is_reading(self) -> bool:
        return not self._is_paused

    def pause_reading(self) -> None:
        self._is_paused = True
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Go on, with what has come and is not yet read first."""
        self._is_paused = False
        self._wire.resume_reading()
        self._loop.call_soon(self.data_received, b"")

    def get_extra_info(self, name: str) -> Any:  # noqa: ANN401 - asyncio's
        """As a transport's; the base asks for `sslcontext` to know the scheme."""
        return self._tls.context if name == "sslcontext" else self._wire.get_extra_info(name)
