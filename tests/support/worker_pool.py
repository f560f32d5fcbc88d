"""A pool of hooked workers, the originals that steer them, and a place to meet them at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from galerly_cdn.model import Format, Job, Limits, Picture, Size, Target
from galerly_cdn.render.pool import process
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from galerly_cdn.model import Facts
    from galerly_cdn.render.pool.protocol import Ready

LIMITS = Limits(10**8, 256, 10**9)
JOB = Job((Picture(Target(Size(800, 600)), {Format.JPEG: 85}),), LIMITS)


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[int]:
    """A descriptor that reads `content`."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


class Pool(WorkerPool):
    """Workers that are told what to do."""

    counted: Counter[str]
    news: asyncio.Event
    hello: Ready

    async def reach(self, event: str, times: int) -> None:
        """Wait until `event` was counted so many times."""
        while self.counted[event] < times:
            self.news.clear()
            await self.news.wait()

    async def look(self, do: str) -> Facts:
        """One inspection."""
        content = json.dumps({"do": do}).encode()
        with opened(content) as fd:
            return await self.inspect(fd, len(content), do)

    async def do(self, do: str, token: str = "", **script: Any) -> bytes:  # noqa: ANN401 - JSON
        """One render of an original that says `do`; the body, by default the worker's process id."""
        content = json.dumps({"do": do} | script).encode()
        with opened(content) as fd:
            _, body = await self.render(fd, len(content), JOB, token or f"{do} {script}")
        return body


@contextlib.asynccontextmanager
async def pool(
    *,
    clock: Callable[[], float] = lambda: 0.0,
    close_s: float = 5,
    **settings: Any,  # noqa: ANN401 - as Settings has them
) -> AsyncIterator[Pool]:
    """Two workers unless told otherwise, all of them there."""
    counted: Counter[str] = Counter()
    news = asyncio.Event()

    def count(event: str) -> None:
        counted[event] += 1
        news.set()

    workers = Pool(
        Settings(**{"workers": 2, **settings}),
        count,
        clock=clock,
        command=process.worker_command("tests.support.hooked_worker"),
    )
    workers.counted, workers.news = counted, news
    workers.hello = await workers.start()
    try:
        await workers.whole.wait()
        yield workers
    finally:
        await workers.close(close_s)


class Meeting:
    """Where workers say that they are there, and wait: a barrier across processes."""

    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._doors: list[asyncio.StreamWriter] = []
        self.gone = asyncio.Event()
        """Set when someone has left without being let go."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self.at = f"{self._folder.name}/door"
        self._server = await asyncio.start_unix_server(self._open, self.at)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.let_go()
        self._folder.cleanup()

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._doors.append(writer)
        self.arrivals.put_nowait(json.loads(await reader.readline()))
        with contextlib.suppress(OSError):
            await reader.read()
        self.gone.set()
        writer.close()

    async def arrival(self) -> dict[str, Any]:
        """The next to arrive: its script and its process id."""
        return await self.arrivals.get()

    def let_go(self) -> None:
        """Everyone who is there may go on."""
        for door in self._doors:
            if not door.is_closing():
                door.write(b".")
        self._doors.clear()


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a Path would open one more for longer


async def ticks() -> None:
    """Let every task run up to what it waits for."""
    for _ in range(5):
        loop = asyncio.get_running_loop()
        tick = loop.create_future()
        loop.call_soon(tick.set_result, None)
        await tick
