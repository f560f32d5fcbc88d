"""Holds what the connections of one listener share: its limits, its open connections, its tasks, the date."""

from __future__ import annotations

import asyncio
import functools
import http
from collections import Counter
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from galerly_cdn.http.responses import field_lines
from galerly_cdn.http.urls import is_local_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.exchange import HitAnswer
    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings

    Application = Callable[[Scope, Receive, Send], Awaitable[None]]
    AnswerHit = Callable[[Scope], HitAnswer | None]
    Refuse = Callable[[GalerlyError, str], Response]


def no_hit(_scope: Scope) -> HitAnswer | None:
    """Leaves every request to the application."""
    return None


class ConnectionLimit:
    """Counts the connections of one listener, in all and by client address."""

    def __init__(self, settings: Settings) -> None:
        self._max = settings.max_connections
        self._max_per_client = settings.max_connections_per_client
        self._count = 0
        self._count_by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    def acquire(self, address: str, *, is_proxy: bool = False) -> bool:
        """Count a connection until its `release`; False if it exceeds a limit.

        Clients on this machine have no limit of their own, nor has a proxy that has not named its client yet.
        """
        self._count += 1
        self._count_by_address[address] += 1
        if self._count > self._max:
            return False
        is_limited = not (is_proxy or is_local_client(address))
        return not is_limited or self._count_by_address[address] <= self._max_per_client

    def release(self, address: str) -> None:
        """Stop counting a connection, whether `acquire` allowed it or not."""
        self._count -= 1
        self._count_by_address[address] -= 1
        if not self._count_by_address[address]:
            del self._count_by_address[address]


class OpenConnection(Protocol):
    """An open connection, as the server that stops sees it."""

    def drain(self) -> None:
        """End the connection after its current response, if that can still say so."""

    def shutdown(self) -> None:
        """End the connection after its current request."""

    def abort(self) -> None:
        """End the connection now and drop unsent bytes."""


class ListenerState:
    """The configuration, the connections and the requests in progress of one listener."""

    def __init__(
        self,
        application: Application,
        settings: Settings,
        refuse: Refuse,
        *,
        takes_bodies: bool = False,
        answer_hit: AnswerHit = no_hit,
    ) -> None:
        self.application = application
        self.settings = settings
        self.refuse = refuse
        self.takes_bodies = takes_bodies
        self.answer_hit = answer_hit
        self.limit = ConnectionLimit(settings)
        self.is_draining = False
        """Whether each response is the last one of its connection."""
        self.is_stopping = False
        """Whether connections that are idle are closed."""
        self._connections: set[OpenConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._waits = True
        self._date_line = b""
        self._head_starts: dict[int, bytes] = {}

    @property
    def connections(self) -> tuple[OpenConnection, ...]:
        return tuple(self._connections)

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """The requests in progress."""
        return tuple(self._tasks)

    def add(self, connection: OpenConnection) -> None:
        """Note a connection until its `discard`."""
        self._connections.add(connection)

    def discard(self, connection: OpenConnection) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        self._ended.set()

    def start(self, loop: asyncio.AbstractEventLoop, request: Coroutine[None, None, None]) -> None:
        """Run a request in a task."""
        task = loop.create_task(request)
        self._tasks.add(task)
        task.add_done_callback(self._end_task)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended.set()

    def drain(self) -> None:
        """Respond with `Connection: close` from now on, on open connections and on new ones."""
        self.is_draining = True
        for connection in self.connections:
            connection.drain()

    def shutdown(self) -> None:
        """Close idle connections, and the others after their responses, also those that come from now on."""
        self.is_draining = self.is_stopping = True
        for connection in self.connections:
            connection.shutdown()

    def stop_waiting(self) -> None:
        """Let `wait_until_idle` return now."""
        self._waits = False
        self._ended.set()

    async def wait_until_idle(self) -> None:
        """Wait until every connection and every request has ended, or until `stop_waiting`."""
        while self._waits and (self._connections or self._tasks):
            self._ended.clear()
            await self._ended.wait()

    def set_date(self, now_s: float) -> None:
        """Set the Date of the responses (RFC 9110 §6.6.1); `now_s` is seconds since the epoch."""
        self._date_line = field_lines([(b"date", formatdate(now_s, usegmt=True).encode())])
        self._head_starts.clear()

    def head_start(self, status: int) -> bytes:
        """The first lines of a response: status and Date."""
        start = self._head_starts.get(status)
        if start is None:
            start = self._head_starts[status] = _status_line(status) + self._date_line
        return start


@functools.cache
def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:  # 499, which is nginx's
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()
