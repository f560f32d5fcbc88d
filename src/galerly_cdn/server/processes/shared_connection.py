"""Serves a connection in the server, and gives it to a hit process while it has no request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.server.connection import Connection

if TYPE_CHECKING:
    import asyncio

    from galerly_cdn.server.listener import ListenerState
    from galerly_cdn.server.processes.hit_processes import Given, HitProcesses

MAX_UNUSED = 3
"""How often in a row a connection may come back without a plain hit; then it stays with the server."""

_TURNS = 2
"""Turns of the event loop, after each of which it has sent what was written during it."""


class Returned(NamedTuple):
    """A connection that a hit process has returned, and what was read from it."""

    given: Given
    data: bytes
    unused: int
    """How often in a row it has come back without a plain hit."""


class SharedConnection(Connection):
    """A connection that the server has accepted, or that a hit process has returned."""

    def __init__(
        self, state: ListenerState, processes: HitProcesses, returned: Returned | None = None
    ) -> None:
        super().__init__(state)
        self._processes = processes
        self._returned = returned
        self._unused = returned.unused if returned else 0
        self._is_given = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream
        if self._returned is None:
            super().connection_made(transport)
            return
        self._returned.given.end()  # this connection takes its place in the limits
        super().connection_made(transport)
        if self._returned.data:
            self.data_received(self._returned.data)
        else:
            self._cancel_head_timer()
            self._start_idle_timer()
        if self.state.is_stopping:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_given:
            self.state.limit.acquire(self._address)  # of the given connection, which `Given` releases
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._hits:
            self._give_later()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._give_later()

    def _give_later(self) -> None:
        """Give the connection once the event loop has sent the response."""
        if self._unused < MAX_UNUSED and self._processes.has_room():
            self.loop.call_soon(self._give, _TURNS)

    def _give(self, turns: int) -> None:
        is_busy = self._unfinished or self._is_in_head or self._head_timer is not None
        if self._is_given or is_busy or self.state.is_draining or self.transport.is_closing():
            return
        if self.transport.unsent_bytes():
            if turns:  # else the client is slow; the next response is the next opportunity
                self.loop.call_soon(self._give, turns - 1)
            return
        fd = self.transport.fileno()
        self._is_given = self._processes.give(fd, self._address, self._unused)
        if self._is_given:
            self.abort()
