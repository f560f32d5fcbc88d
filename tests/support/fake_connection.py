"""A connection over a fake transport and a fake event loop, so that no test waits for a deadline."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Any, cast

from galerly_cdn.server import serve
from galerly_cdn.server.connection import Connection
from galerly_cdn.server.listener import ListenerState, no_hit
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.exchange import HitAnswer
    from galerly_cdn.http.request import Scope
    from galerly_cdn.http.responses import Response
    from galerly_cdn.server.serve import Application

SETTINGS = Settings(header_deadline_s=10, idle_s=60, write_deadline_s=30)


class FakeTimer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """The methods of an event loop that a connection calls; `advance` moves its clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, FakeTimer, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer()
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._order), timer, callback))
        return timer

    def create_task(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine)

    def advance(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, timer, callback = heapq.heappop(self._due)
            if not timer.is_cancelled:
                callback()
        self.now_s = until_s

    def time(self) -> float:
        return self.now_s


class FakeTransport:
    """A transport that records what was written; the client has not read `unsent_bytes` of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sent = b""
        self.unsent_bytes = 0
        self.ended = ""
        self.has_sent_end = False
        self.is_paused = False

    def write(self, data: bytes) -> None:
        assert not self.has_sent_end
        self.sent += data

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.has_sent_end = True

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_reading(self) -> bool:
        return not self.is_paused

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def fileno(self) -> int:
        """Of the transport itself in place of its socket."""
        return 99

    def get_extra_info(self, name: str) -> object:
        return {"peername": (self.address, 50000), "socket": self}.get(name)


class FakeConnection:
    """A connection over a fake transport. `beside` is one whose server, limits and clock it shares."""

    def __init__(
        self,
        application: Application,
        beside: FakeConnection | None = None,
        settings: Settings = SETTINGS,
        address: str = "192.0.2.1",
        *,
        takes_bodies: bool = False,
        answer_hit: Callable[[Scope], HitAnswer | None] = no_hit,
    ) -> None:
        self.loop: FakeLoop = beside.loop if beside else FakeLoop()
        self.errors: list[tuple[str, str]] = []
        self.state = ListenerState(
            application, settings, self._refuse, takes_bodies=takes_bodies, answer_hit=answer_hit
        )
        if beside is not None:
            self.state.limit = beside.state.limit
        self.limit = self.state.limit
        self.protocol = Connection(self.state, cast("Any", self.loop))
        self.transport = FakeTransport(address)
        self.protocol.connection_made(cast("Any", self.transport))

    def _refuse(self, error: GalerlyError, client: str) -> Response:
        self.errors.append((error.code, client))
        return serve.refuse(error, client)

    async def feed(self, raw: bytes) -> None:
        """Receive bytes, and run the tasks that they start."""
        self.protocol.data_received(raw)
        for _ in range(4):
            await asyncio.sleep(0)

    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.transport.sent.split(b"HTTP/1.1 ")[1:]]
