"""Answers plain hits on one connection in a hit process, and returns it to the server for all else.

The connection has no part of a request between two reads. What was read goes back unparsed unless it is one
whole request, and that a plain hit: deadlines of requests, limits and errors stay with the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from galerly_cdn.server.connection import Connection

if TYPE_CHECKING:
    import asyncio

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.server.cycle import RequestCycle
    from galerly_cdn.server.listener import ListenerState

_END = b"\r\n\r\n"


class Owner(Protocol):
    """What the hit process does for its connections."""

    is_draining: bool

    def take_back(self, number: int, fd: int, data: bytes, *, is_used: bool) -> None:
        """Return a connection to the server."""
        ...

    def ended(self, number: int) -> None:
        """Tell the server that a connection has ended."""
        ...


class HitConnection(Connection):
    """A connection that the server has given to this process."""

    def __init__(
        self,
        state: ListenerState,
        owner: Owner,
        number: int,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(state, loop)
        self._owner = owner
        self._number = number
        self._read_bytes = b""
        self._is_used = False
        self._is_unanswered = False
        """Whether the request that was parsed last is no plain hit."""
        self._is_leaving = False
        self._has_left = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream
        # `pause_writing` is called whenever the kernel has not taken all, `resume_writing` when it has
        transport.set_write_buffer_limits(0)
        super().connection_made(transport)
        self._cancel_head_timer()
        self._start_idle_timer()
        if self._owner.is_draining:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._has_left:
            self._owner.ended(self._number)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_ended:
            return
        if self._is_leaving:
            self._read_bytes += data
            return
        is_one_head = data.endswith(_END) and data.find(_END) == len(data) - len(_END)
        if not is_one_head or self.transport.is_full:
            self._leave(data)
            return
        super().data_received(data)
        if self._is_unanswered or not self._hits:  # empty lines before a request are no hit
            self._leave(data)
        else:
            self._is_used = True

    def shutdown(self) -> None:
        """Return the connection once its responses are sent: the server stops."""
        if not (self._is_leaving or self.transport.is_ended):
            self._leave(b"")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_leaving:
            self._return()

    def _start_cycle(self, cycle: RequestCycle) -> None:  # noqa: ARG002 - the application is the server's
        self._is_unanswered = True

    def _send_error(self, error: GalerlyError) -> None:  # noqa: ARG002 - the server meets it again
        self._is_unanswered = True

    def _leave(self, data: bytes) -> None:
        self._is_leaving = True
        self._idle_since_s = None
        self._read_bytes = data
        self.transport.pause_reading()
        if not self.transport.is_full:
            self._return()

    def _return(self) -> None:
        if self._has_left or self.transport.is_ended:
            return
        self._has_left = True
        fd = self.transport.fileno()
        self._owner.take_back(self._number, fd, self._read_bytes, is_used=self._is_used)
        self.abort()
