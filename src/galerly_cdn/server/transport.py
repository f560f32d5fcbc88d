"""How does an answer reach a slow client, and how does a connection end? No answer is cut off.

No byte that was written is cut off by our own close, and no client holds an answer it does not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

LINGER_S = 1.0
"""How long a closed connection's input is still read and dropped: closing over unread bytes is a reset,
and a reset makes the client drop the answer it has not read yet (RFC 9112 §9.6)."""
PROGRESS_BYTES = 64 * 1024
"""What a slow reader has to take within each write deadline, or else the rest."""


class ResponseTransport:
    """The writing side of a connection; uvicorn's request cycle takes it for the transport."""

    __slots__ = ("_deadline_s", "_loop", "_timer", "_transport", "_unsent_bytes", "is_ended", "write")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, write_deadline_s: float
    ) -> None:
        self.write = transport.write
        self._transport = transport
        self._loop = loop
        self._deadline_s = write_deadline_s
        self._timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self.is_ended = False

    def is_closing(self) -> bool:
        return self.is_ended or self._transport.is_closing()

    def close(self) -> None:
        """Send what is written, then the end; then read on for `LINGER_S`."""
        if self.is_closing():
            return
        self.is_ended = True
        self._transport.write_eof()
        if not self._transport.is_reading():
            self._transport.resume_reading()
        self._after(LINGER_S, self._watch)

    def abort(self) -> None:
        """End the connection now, whatever is unsent."""
        self._transport.abort()

    def lost(self) -> None:
        """There is no connection any more."""
        self.is_ended = True
        self._cancel()

    def pause(self) -> None:
        """More is written than the client takes: watch it."""
        self._watch()

    def resume(self) -> None:
        """The client has taken nearly everything; what is left is watched once the connection is over."""
        if not self.is_ended:
            self._cancel()

    def _watch(self) -> None:
        self._unsent_bytes = self._transport.get_write_buffer_size()
        if self.is_ended and not self._unsent_bytes:
            self._transport.close()
        else:
            self._after(self._deadline_s, self._look)

    def _look(self) -> None:
        left_bytes = self._transport.get_write_buffer_size()
        if left_bytes and left_bytes > self._unsent_bytes - PROGRESS_BYTES:
            self._transport.abort()
        else:
            self._watch()

    def _after(self, delay_s: float, step: Callable[[], None]) -> None:
        self._cancel()
        self._timer = self._loop.call_later(delay_s, step)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
