"""Serves, inside a hit process, the connections that the server gives to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import Counter
from typing import TYPE_CHECKING

from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.model import parse_target
from galerly_cdn.serialization import replaced
from galerly_cdn.server import serve
from galerly_cdn.server.listener import ListenerState
from galerly_cdn.server.processes import messages
from galerly_cdn.server.processes.channel import Channel
from galerly_cdn.server.processes.hit_connection import HitConnection
from galerly_cdn.telemetry import Counters, Telemetry

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.model import Target
    from galerly_cdn.server.listener import AnswerHit
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import AccessRecord

_log = logging.getLogger(__name__)

BATCH_S = 0.05
"""How long records wait for others; those of a process that is killed are lost."""
_NO_LIMIT = 2**31
_MAX_RECORDS = 24
"""Records in one packet: with the longest paths and keys, they fit into it."""
_MAX_UNSENT = 1000
"""Packets that wait for the server; while there are more, records are dropped."""


class RecordBatch(Telemetry):
    """The requests and events of this process that the server does not know yet."""

    def __init__(self) -> None:
        super().__init__(Counters(), None)
        self.on_first: Callable[[], None] = lambda: None
        """Called when there is something to take."""
        self._records: list[messages.ResultRecord] = []
        self._events: Counter[str] = Counter()

    def record(self, record: AccessRecord, result: str = "") -> None:
        """Keep the record of a request."""
        if not (self._records or self._events):
            self.on_first()
        self._records.append(messages.ResultRecord(record, result))

    def count(self, event: str) -> None:
        """Count an event."""
        if not (self._records or self._events):
            self.on_first()
        self._events[event] += 1

    def take(self) -> tuple[list[messages.ResultRecord], dict[str, int]]:
        """The records and events since the last call."""
        taken = self._records, dict(self._events)
        self._records = []
        self._events.clear()
        return taken


async def application(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Take the place of an application: none runs in a hit process."""
    raise AssertionError("a hit process has no application")


class HitServer:
    """Answers plain hits until the server stops or ends."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        end: socket.socket,
        settings: Settings,
        answer_hit: AnswerHit,
        batch: RecordBatch,
        *,
        forget: Callable[[str, Target], bool],
        memory_bytes: Callable[[], int],
    ) -> None:
        """`end` is this process's end of the channel. Needs a running event loop.

        `forget` removes a rendition from memory, and returns whether it was there.
        """
        self.is_draining = False
        self._loop = asyncio.get_running_loop()
        # The server has counted each connection, and does so until it has learned of its end
        unlimited = replaced(settings, max_connections=_NO_LIMIT, max_connections_per_client=_NO_LIMIT)
        self._state = ListenerState(application, unlimited, serve.refuse, answer_hit=answer_hit)
        self._batch = batch
        batch.on_first = self._send_later
        self._forget = forget
        self._memory_bytes = memory_bytes
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()
        self._channel = Channel(end, self._loop, self._on_message, self._stopped.set)

    async def run(self) -> None:
        """Serve until the server has stopped, or has ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # A service manager may send it to every process of the service: the server says when to stop
            self._loop.add_signal_handler(number, lambda: None)
        self._channel.send(messages.Ready())
        while not self._stopped.is_set():
            self._state.set_date(SYSTEM_CLOCK.wall())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stopped.wait()
        self._send_records()
        await self._channel.flush()
        for connection in self._state.connections:
            connection.abort()
        self._channel.close()

    # for the connections

    def take_back(self, number: int, fd: int, data: bytes, *, is_used: bool) -> None:
        """Return a connection to the server."""
        while len(data) > messages.DATA_BYTES:
            self._channel.send(messages.Data(number), data[: messages.DATA_BYTES])
            data = data[messages.DATA_BYTES :]
        try:
            self._channel.send(messages.Return(number, is_used), data, fd)
        except OSError:  # no file is free for a copy of the descriptor
            self.ended(number)

    def ended(self, number: int) -> None:
        """Tell the server that a connection has ended."""
        self._channel.send(messages.Closed(number))

    # for the channel

    def _on_message(self, message: messages.Message, _data: bytes, connection: socket.socket | None) -> None:
        match message:
            case messages.Give(number) if connection is None:
                self.ended(number)  # no file was free for it, and the kernel has closed it
            case messages.Give(number) if connection is not None:
                task = self._loop.create_task(self._connect(number, connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case messages.Forget(number, renditions):
                removed = tuple(name for key, name in renditions if self._has_forgotten(key, name))
                self._channel.send(messages.Forgotten(number, removed))
            case messages.Drain():
                self.is_draining = True
                for open_connection in self._state.connections:
                    open_connection.shutdown()
            case messages.Stop():
                self._stopped.set()
            case _:
                _log.error("unexpected: %r", message)
                self._stopped.set()

    def _has_forgotten(self, key: str, name: str) -> bool:
        target = parse_target(name)
        return target is not None and self._forget(key, target)

    async def _connect(self, number: int, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: HitConnection(self._state, self, number), connection
            )
        except OSError:  # the client has ended it meanwhile
            connection.close()
            self.ended(number)

    def _send_later(self) -> None:
        self._loop.call_later(BATCH_S, self._send_records)

    def _send_records(self) -> None:
        """Send what has happened since the last call, if something has."""
        records, events = self._batch.take()
        if self._channel.unsent > _MAX_UNSENT:
            events["access-record-dropped"] = events.get("access-record-dropped", 0) + len(records)
            records = []
        if not (records or events):
            return
        memory_bytes = self._memory_bytes()
        for first in range(0, max(len(records), 1), _MAX_RECORDS):
            some = tuple(records[first : first + _MAX_RECORDS])
            self._channel.send(messages.Records(some, events, memory_bytes))
            events = {}
