"""Reads and writes as fast as the client and the application do, and closes without cutting a response off.

The server's own close never drops a byte that was written, and a client that does not read its response
cannot hold the connection.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from galerly_cdn.settings.networks import UNIX

if TYPE_CHECKING:
    from collections.abc import Callable

    Peer = tuple[str, int]

LINGER_S = 1.0
"""How long the input of a closed connection is still read and dropped. Closing a socket with unread bytes
sends a reset, and a reset makes the client drop the response that it has not read yet (RFC 9112 §9.6)."""
PROGRESS_BYTES = 64 * 1024
"""A slow client has to read this much, or the rest of the response, within each write deadline."""


def peer_of(transport: asyncio.BaseTransport) -> Peer | None:
    """The address and the port of a connection's client; `unix:` and 0 on a unix socket.

    None if the client has gone already.
    """
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    connected = transport.get_extra_info("socket")
    return (UNIX, 0) if connected is not None and connected.family == socket.AF_UNIX else None


class ResponseTransport:
    """A connection's transport with flow control, a write deadline and a lingering close."""

    __slots__ = (
        "_can_write",
        "_deadline_s",
        "_loop",
        "_timer",
        "_transport",
        "_unsent_bytes",
        "is_ended",
        "is_full",
        "write",
        "writelines",
    )

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, write_deadline_s: float
    ) -> None:
        self.write = transport.write
        self.writelines = transport.writelines
        self._transport = transport
        self._loop = loop
        self._deadline_s = write_deadline_s
        self._timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._can_write = asyncio.Event()
        self.is_ended = False
        self.is_full = False
        """Whether more is written than the client has read."""

    def is_closing(self) -> bool:
        return self.is_ended or self._transport.is_closing()

    def unsent_bytes(self) -> int:
        """What is written and was not taken by the kernel yet."""
        return self._transport.get_write_buffer_size()

    def fileno(self) -> int:
        """The descriptor of the connection's socket."""
        fd: int = self._transport.get_extra_info("socket").fileno()
        return fd

    def close(self) -> None:
        """Send what was written and the end of the stream, then read on for `LINGER_S`."""
        if self.is_closing():
            return
        self.is_ended = True
        self._transport.write_eof()
        self.resume_reading()
        self._schedule(LINGER_S, self._start_deadline)

    def abort(self) -> None:
        """End the connection now and drop unsent bytes."""
        self._transport.abort()

    def connection_lost(self) -> None:
        """Release the timer of a connection that has ended."""
        self.is_ended = True
        self._cancel_timer()
        self._end_pause()

    def pause_reading(self) -> None:
        """Let the client's bytes wait in the socket."""
        if self._transport.is_reading() and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not (self._transport.is_reading() or self._transport.is_closing()):
            self._transport.resume_reading()

    async def drained(self) -> None:
        """Wait until the client has read nearly everything, or the connection has ended."""
        while self.is_full:
            await self._can_write.wait()

    def pause_writing(self) -> None:
        """Start the write deadline: more is written than the client has read."""
        self.is_full = True
        self._can_write.clear()
        self._start_deadline()

    def resume_writing(self) -> None:
        """Stop the write deadline: nearly everything was sent. A closed connection keeps its deadline."""
        self._end_pause()
        if not self.is_ended:
            self._cancel_timer()

    def _end_pause(self) -> None:
        self.is_full = False
        self._can_write.set()

    def _start_deadline(self) -> None:
        self._unsent_bytes = self._transport.get_write_buffer_size()
        if self.is_ended and not self._unsent_bytes:
            self._transport.close()
        else:
            self._schedule(self._deadline_s, self._check_progress)

    def _check_progress(self) -> None:
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes and unsent_bytes > self._unsent_bytes - PROGRESS_BYTES:
            self._transport.abort()
        else:
            self._start_deadline()

    def _schedule(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(delay_s, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
