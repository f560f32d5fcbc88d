"""Which render may begin, and which may not be tried? No effects: futures and an injected clock.

Workers and memory are given first come, first served; the originals that end workers are remembered.
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

_MAX_STRIKES = 1024
"""Originals remembered; an attacker who brings more of them meets the oldest again untried."""


class Turns(Generic[W]):
    """Workers that are free, and calls that wait for one: never both. Bounded by count and by bytes."""

    def __init__(self, max_waiting: int, max_waiting_bytes: int) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._free: list[W] = []
        self._waiting: dict[asyncio.Future[W], int] = {}

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    async def take(self, length_bytes: int) -> W:
        """The worker used last, whose memory is warm, or the next to be free. Raises `QueueFull` at once."""
        if self._free:
            return self._free.pop()
        waiting_bytes = sum(self._waiting.values()) + length_bytes
        if len(self._waiting) >= self._max_waiting or waiting_bytes > self._max_waiting_bytes:
            raise QueueFull(f"{len(self._waiting)} waiting, {waiting_bytes} bytes with this one")
        turn: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = length_bytes
        try:
            return await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled() and not turn.exception():
                self.give(turn.result())
            raise

    def give(self, worker: W) -> None:
        """The worker is free: whoever waits longest has it."""
        while self._waiting:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(worker)
                return
        self._free.append(worker)

    def withdraw(self, worker: W) -> bool:
        """No longer give the worker out; whether it was free."""
        if worker in self._free:
            self._free.remove(worker)
            return True
        return False

    def refuse(self, error: Exception) -> None:
        """Answer everyone who waits with `error`."""
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(error)
        self._waiting.clear()


class Budget:
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
