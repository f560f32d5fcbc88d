"""Which render may begin, and which may not be tried? No effects: futures and an injected clock.

Memory is shared first come, first served; the originals that end workers are remembered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_MAX_STRIKES = 1024
"""Originals remembered; an attacker who brings more of them meets the oldest again untried."""


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
