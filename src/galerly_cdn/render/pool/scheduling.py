"""Which render may begin, and which may not be tried? No effects: futures and an injected clock.

Workers and memory are given first come, first served, to viewers before those who warm; the originals
that end workers are remembered.
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
T = TypeVar("T")

_MAX_STRIKES = 1024
"""Originals remembered; an attacker who brings more of them meets the oldest again untried."""


class WorkQueue(Generic[W]):
    """Workers that are free, and calls that wait for one: never a viewer's while any worker is free.

    Viewers wait bounded by count and by bytes. Warming waits in a queue of its own, behind all of them:
    it is given a worker while no viewer waits and `kept` others are free, and *lends* it between two
    pictures, so that the viewer who comes meanwhile has it at once.
    """

    def __init__(self, max_waiting: int, max_waiting_bytes: int, max_warming: int, kept: int) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._max_warming = max_warming
        self._kept = kept
        self._free: list[W] = []
        self._lent: dict[W, object] = {}
        self._waiting: dict[asyncio.Future[W], int] = {}
        self._warming: dict[asyncio.Future[W], None] = {}

    @property
    def waiting(self) -> int:
        """Viewers' calls that wait."""
        return len(self._waiting)

    @property
    def warming(self) -> int:
        """Calls of warming that wait."""
        return len(self._warming)

    async def take(self, length_bytes: int) -> W:
        """The worker used last, whose memory is warm, or the next to be free. Raises `QueueFull` at once."""
        if self._free:
            return self._free.pop()
        if self._lent:
            return self._lent.popitem()[0]
        waiting_bytes = sum(self._waiting.values()) + length_bytes
        if len(self._waiting) >= self._max_waiting or waiting_bytes > self._max_waiting_bytes:
            raise QueueFull(f"{len(self._waiting)} waiting, {waiting_bytes} bytes with this one")
        return await self._wait(self._waiting, length_bytes)

    async def take_to_warm(self) -> W:
        """A worker that viewers leave idle. Raises `QueueFull` at once."""
        if len(self._free) > self._kept:
            return self._free.pop()
        if len(self._warming) >= self._max_warming:
            raise QueueFull(f"{len(self._warming)} wait to warm")
        return await self._wait(self._warming, None)

    def give(self, worker: W) -> None:
        """The worker is free: the viewer who waits longest has it."""
        if not _hand(worker, self._waiting):
            self._free.append(worker)
            while self._warming and len(self._free) > self._kept and _hand(self._free[-1], self._warming):
                self._free.pop()

    def lend(self, worker: W, by: object) -> None:
        """The worker may be taken until `by` claims it back."""
        if not _hand(worker, self._waiting):
            self._lent[worker] = by

    def claim(self, worker: W, by: object) -> bool:
        """Whether the worker was still there, and is now `by`'s again."""
        if self._lent.get(worker) is not by:
            return False
        del self._lent[worker]
        return True

    def withdraw(self, worker: W) -> bool:
        """No longer give the worker out; whether it could have been taken."""
        if worker in self._free:
            self._free.remove(worker)
            return True
        return self._lent.pop(worker, None) is not None

    def refuse(self, error: Exception) -> None:
        """Answer everyone who waits with `error`."""
        for turn in (*self._waiting, *self._warming):
            if not turn.done():
                turn.set_exception(error)
        self._waiting.clear()
        self._warming.clear()

    async def _wait(self, queue: dict[asyncio.Future[W], T], length_bytes: T) -> W:
        turn: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        queue[turn] = length_bytes
        try:
            return await turn
        except asyncio.CancelledError:
            queue.pop(turn, None)
            if not turn.cancelled() and not turn.exception():
                self.give(turn.result())
            raise


def _hand(worker: W, queue: dict[asyncio.Future[W], T]) -> bool:
    """Give the worker to whoever waits longest; False if nobody does."""
    while queue:
        turn = next(iter(queue))
        del queue[turn]
        if not turn.done():
            turn.set_result(worker)
            return True
    return False


class MemoryBudget:
    """So many bytes, given out in the order of asking; what asks for more than all of it runs alone."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._free_bytes = capacity_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def share(self, weight_bytes: int) -> AsyncIterator[None]:
        """Wait until `weight_bytes` are free, and hold them."""
        weight_bytes = max(0, min(weight_bytes, self._capacity_bytes))
        await self._take(weight_bytes)
        try:
            yield
        finally:
            self._give(weight_bytes)

    async def _take(self, weight_bytes: int) -> None:
        if not self._waiting and weight_bytes <= self._free_bytes:
            self._free_bytes -= weight_bytes
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((weight_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._give(0)  # it may have stood before one that fits
            else:
                self._give(weight_bytes)
            raise

    def _give(self, weight_bytes: int) -> None:
        self._free_bytes += weight_bytes
        while self._waiting:
            weight_bytes, turn = self._waiting[0]
            if not turn.done() and weight_bytes > self._free_bytes:
                return
            self._waiting.popleft()
            if not turn.done():
                self._free_bytes -= weight_bytes
                turn.set_result(None)


class Quarantine:
    """The originals that ended a worker, by token; two strikes within `hold_s`, and one is held so long."""

    def __init__(self, hold_s: float, clock: Callable[[], float]) -> None:
        self._hold_s = hold_s
        self._clock = clock
        self._strikes: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def holds(self, token: str) -> bool:
        strikes, since = self._strikes.get(token, (0, 0.0))
        if strikes and self._clock() - since >= self._hold_s:
            del self._strikes[token]
            return False
        return strikes > 1

    def strike(self, token: str) -> bool:
        """Its render ended a worker; whether it is held now."""
        self.holds(token)
        strikes, _ = self._strikes.pop(token, (0, 0.0))
        self._strikes[token] = strikes + 1, self._clock()
        if len(self._strikes) > _MAX_STRIKES:
            self._strikes.popitem(last=False)
        return strikes > 0
