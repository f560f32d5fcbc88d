"""A pool of hooked workers, the scripts that control them, and a barrier across processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from galerly_cdn.model import Format, Job, Limits, Picture, Size, Target
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from galerly_cdn.model import Facts
    from galerly_cdn.render.pool.protocol import Ready

LIMITS = Limits(10**8, 256, 10**9)
JOB = Job((Picture(Target(Size(800, 600)), {Format.JPEG: 85}),), LIMITS)


@contextlib.contextmanager
def file_with(content: bytes) -> Iterator[int]:
    """Yield a file descriptor that reads `content`."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


class HookedPool(WorkerPool):
    """A pool whose workers run the hook that their original names."""

    counted: Counter[str]
    count_changed: asyncio.Event
    ready: Ready

    async def wait_for_count(self, event: str, count: int) -> None:
        """Wait until `event` has been counted `count` times."""
        while self.counted[event] < count:
            self.count_changed.clear()
            await self.count_changed.wait()

    async def inspect_script(self, do: str) -> Facts:
        """Inspect an original that runs the hook `do`."""
        content = json.dumps({"do": do}).encode()
        with file_with(content) as fd:
            return await self.inspect(fd, len(content), do)

    async def run_script(self, do: str, token: str = "", **script: Any) -> bytes:  # noqa: ANN401 - JSON
        """Render an original that runs the hook `do`; return the body, by default the worker's process id."""
        content = json.dumps({"do": do} | script).encode()
        with file_with(content) as fd:
            _, body = await self.render(fd, len(content), JOB, token or f"{do} {script}")
        return body


@contextlib.asynccontextmanager
async def hooked_pool(
    *,
    clock: Callable[[], float] = lambda: 0.0,
    close_s: float = 5,
    **settings: Any,  # noqa: ANN401 - as Settings has them
) -> AsyncIterator[HookedPool]:
    """Start a pool, of two workers by default, and wait until all are ready."""
    counted: Counter[str] = Counter()
    count_changed = asyncio.Event()

    def count(event: str) -> None:
        counted[event] += 1
        count_changed.set()

    workers = HookedPool(
        Settings(**{"workers": 2, **settings}),
        count,
        clock=clock,
        command=fork_server_process.worker_command("tests.support.hooked_worker"),
    )
    workers.counted, workers.count_changed = counted, count_changed
    workers.ready = await workers.start()
    try:
        await workers.all_ready.wait()
        yield workers
    finally:
        await workers.close(close_s)


class Barrier:
    """A barrier across processes: a worker connects to its socket and waits until it is released."""

    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._connections: list[asyncio.StreamWriter] = []
        self.disconnected = asyncio.Event()
        """Set when a process has disconnected, released or not."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self.path = f"{self._folder.name}/barrier"
        self._server = await asyncio.start_unix_server(self._connected, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.release()
        self._folder.cleanup()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(writer)
        self.arrivals.put_nowait(json.loads(await reader.readline()))
        with contextlib.suppress(OSError):
            await reader.read()
        self.disconnected.set()
        writer.close()

    async def next_arrival(self) -> dict[str, Any]:
        """Wait for the next process; return its script and its process id (`pid`)."""
        return await self.arrivals.get()

    def release(self) -> None:
        """Let every process that waits continue."""
        for connection in self._connections:
            if not connection.is_closing():
                connection.write(b".")
        self._connections.clear()


class LoopClock:
    """Puts the clock of an event loop forward, so that a long time-out ends when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._real_time = loop.time
        self._skipped_s = 0.0
        loop.time = self._time  # type: ignore[method-assign]  # a method of this loop alone

    def skip(self, seconds: float) -> None:
        """Let every time-out that ends within `seconds` end now."""
        self._skipped_s += seconds

    def _time(self) -> float:
        return self._real_time() + self._skipped_s


async def ticks() -> None:
    """Run the event loop until every task has reached its next wait."""
    for _ in range(5):
        loop = asyncio.get_running_loop()
        tick = loop.create_future()
        loop.call_soon(tick.set_result, None)
        await tick
