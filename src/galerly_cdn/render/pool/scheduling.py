"""Schedules renders: the queue for workers, the memory budget, and the quarantine. It does no I/O.

Workers and memory are given out first come, first served; viewers come before warming. The clock is
injected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Generic, TypeVar

from galerly_cdn.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

W = TypeVar("W")

_MAX_CRASH_RECORDS = 1024
"""Originals in the quarantine's records. An attacker with more of them gets the oldest tried again."""


class WorkQueue(Generic[W]):
    """The free workers, and the calls that wait for one: no viewer waits while a worker is free.

    `admission` bounds the viewers' calls. Warming has a queue of its own, behind all viewers: it gets a
    worker while no viewer waits and `reserved` other workers are free. Between two pictures it *offers* its
    worker: a viewer takes it at once, otherwise warming reclaims it.
    """

    def __init__(self, max_warming: int, reserved: int) -> None:
        self._max_warming = max_warming
        self._reserved = reserved
        self._free: list[W] = []
        self._offered: dict[W, object] = {}
        self._waiting: dict[asyncio.Future[W], None] = {}
        self._warming: dict[asyncio.Future[W], None] = {}

    @property
    def waiting(self) -> int:
        """The number of viewers' calls that wait."""
        return len(self._waiting)

    @property
    def warming(self) -> int:
        """The number of warming calls that wait."""
        return len(self._warming)

    async def acquire(self) -> W:
        """Acquire a worker for a viewer: the one used last, whose memory is warm, or the next to be free."""
        if self._free:
            return self._free.pop()
        if self._offered:
            return self._offered.popitem()[0]
        return await self._wait(self._waiting)

    async def acquire_for_warming(self) -> W:
        """Acquire a worker that viewers leave idle. Raises `QueueFull` at once."""
        if len(self._free) > self._reserved:
            return self._free.pop()
        if len(self._warming) >= self._max_warming:
            raise QueueFull(f"{len(self._warming)} warming calls wait")
        return await self._wait(self._warming)

    def release(self, worker: W) -> None:
        """Pass the worker to the viewer who has waited longest, else to warming, else keep it free."""
        if not _pass_on(worker, self._waiting):
            self._free.append(worker)
            while len(self._free) > self._reserved and _pass_on(self._free[-1], self._warming):
                self._free.pop()

    def offer(self, worker: W, owner: object) -> None:
        """Let viewers take the worker until `owner` reclaims it."""
        if not _pass_on(worker, self._waiting):
            self._offered[worker] = owner

    def reclaim(self, worker: W, owner: object) -> bool:
        """End the offer; False if a viewer has taken the worker or `owner` has not offered it."""
        if self._offered.get(worker) is not owner:
            return False
        del self._offered[worker]
        return True

    def remove(self, worker: W) -> bool:
        """Stop giving the worker out; False if it was neither free nor offered."""
        if worker in self._free:
            self._free.remove(worker)
            return True
        return self._offered.pop(worker, None) is not None

    def fail_waiting(self, error: Exception) -> None:
        """Raise `error` in every call that waits."""
        for future in (*self._waiting, *self._warming):
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
        self._warming.clear()

    async def _wait(self, queue: dict[asyncio.Future[W], None]) -> W:
        future: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        queue[future] = None
        try:
            return await future
        except asyncio.CancelledError:
            queue.pop(future, None)
            if not future.cancelled() and not future.exception():
                self.release(future.result())
            raise


def _pass_on(worker: W, queue: dict[asyncio.Future[W], None]) -> bool:
    """Give the worker to the call that has waited longest; False if none waits."""
    while queue:
        future = next(iter(queue))
        del queue[future]
        if not future.done():
            future.set_result(worker)
            return True
    return False


class MemoryBudget:
    """Limits the memory of concurrent decodes, first come, first served.

    A request above the capacity runs exclusively.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._free_bytes = capacity_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def reserve(self, memory_bytes: int) -> AsyncIterator[None]:
        """Wait until `memory_bytes` are free and reserve them while the context is open."""
        memory_bytes = max(0, min(memory_bytes, self._capacity_bytes))
        await self._acquire(memory_bytes)
        try:
            yield
        finally:
            self._release(memory_bytes)

    async def _acquire(self, memory_bytes: int) -> None:
        if not self._waiting and memory_bytes <= self._free_bytes:
            self._free_bytes -= memory_bytes
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((memory_bytes, future))
        try:
            await future
        except asyncio.CancelledError:
            # Either its bytes were just given to it, or a smaller request behind it may now be served.
            self._release(0 if future.cancelled() else memory_bytes)
            raise

    def _release(self, memory_bytes: int) -> None:
        self._free_bytes += memory_bytes
        while self._waiting:
            memory_bytes, future = self._waiting[0]
            if not future.done() and memory_bytes > self._free_bytes:
                return
            self._waiting.popleft()
            if not future.done():
                self._free_bytes -= memory_bytes
                future.set_result(None)


class Quarantine:
    """Records the originals that crashed a worker, by token.

    An original that crashes two workers within `hold_s` is quarantined for `hold_s` after the last crash.
    """

    def __init__(self, hold_s: float, clock: Callable[[], float]) -> None:
        self._hold_s = hold_s
        self._clock = clock
        self._crashes: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def contains(self, token: str) -> bool:
        """Return whether the original is quarantined."""
        count, last_s = self._crashes.get(token, (0, 0.0))
        if count and self._clock() - last_s >= self._hold_s:
            del self._crashes[token]
            return False
        return count > 1

    def record_crash(self, token: str) -> bool:
        """Record that a render of the original ended its worker; return whether it is quarantined now."""
        self.contains(token)
        count, _ = self._crashes.pop(token, (0, 0.0))
        self._crashes[token] = count + 1, self._clock()
        if len(self._crashes) > _MAX_CRASH_RECORDS:
            self._crashes.popitem(last=False)
        return count > 0
