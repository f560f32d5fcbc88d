"""What is known of originals in a remote store, without asking it for every request?

- A head is remembered for `fresh_s`: so long a replace by somebody else may go unseen.
- What is asked for all the time is asked anew ahead of that: its viewers never wait.
- Any number who ask for one key are one request to the store.
- While the store cannot be asked, or is late, what was last known is told, with its age: a picture that
  is warm is never held up by a store that is not.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

from galerly_cdn.cache import MemoryCache, SingleFlight
from galerly_cdn.errors import NoSuchOriginal, StoreUnreachable
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Head

_MAX_KNOWN = 100_000
_AHEAD = 0.75
"""The part of `fresh_s` after which the next viewer lets the store be asked anew, and does not wait."""
_PATIENCE_S = 0.25
"""How late a store may be; then who waits takes what was last known."""
_WARY_S = 5.0
"""How long after a failure or a late answer nobody waits for the store who need not."""


class _Known(NamedTuple):
    head: Head | None
    """None: there was no such original."""
    asked_s: float
    tried_s: float = -math.inf
    """When it was last asked for in vain."""


class HeadRequest(Protocol):
    """How the store is asked for a head."""

    async def __call__(self, key: str, *, is_optional: bool) -> Head:
        """The head. Raises `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`.

        Who does not insist knows one to go on with: it is not worth asking twice.
        """
        ...


class HeadCache:
    """Asks `ask` at most once in `fresh_s` for each key; tells heads up to `stale_s` old while that fails.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        ask: HeadRequest,
        clock: Callable[[], float],
        *,
        fresh_s: float,
        stale_s: float,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._known: MemoryCache[str, _Known] = MemoryCache(_MAX_KNOWN, lambda _: 1)
        self._asking: SingleFlight[str, _Known] = SingleFlight()
        self._under_way: dict[str, float] = {}
        """Since when each key is being asked for."""
        self._wary_until_s = -math.inf

    async def get(self, key: str) -> Head:
        """The head; `stale_s` in it says how old it is while the store cannot be asked."""
        known = self._known.get(key)
        now_s = self._clock()
        age_s = now_s - known.asked_s if known else math.inf
        if known and age_s < self._fresh_s:
            if age_s >= _AHEAD * self._fresh_s and now_s - known.tried_s >= self._fresh_s:
                self._begin(key)
            return _told(known)
        if known is None or known.head is None or age_s >= self._stale_s:
            return await self._asked(key)
        patience_s = _PATIENCE_S - (now_s - self._under_way.get(key, now_s))
        if now_s < self._wary_until_s or patience_s <= 0:
            if now_s - known.tried_s >= self._fresh_s:
                self._begin(key)
            return replaced(known.head, stale_s=age_s)
        try:
            async with asyncio.timeout(patience_s):
                return await self._asked(key)
        except (TimeoutError, StoreUnreachable):
            self._beware()
            return replaced(known.head, stale_s=age_s)

    async def refreshed(self, key: str) -> Head:
        """What the store says now, whatever was known. Raises as `ask` does."""
        return _told(await self._ask_now(key, is_optional=False))

    def learn(self, key: str, head: Head | None) -> None:
        """We changed it ourselves: None if it is gone."""
        self._learn(key, _Known(head, self._clock()))

    def _begin(self, key: str) -> asyncio.Task[_Known]:
        known = self._known.get(key)
        can_wait = known and known.head and self._clock() - known.asked_s < self._stale_s
        task, _ = self._asking.begin(key, lambda: self._ask_now(key, is_optional=bool(can_wait)))
        return task

    async def _asked(self, key: str) -> Head:
        """What the store said, asked no longer than `fresh_s` before now: else it may be too old."""
        came_s = self._clock()
        while True:
            known = await asyncio.shield(self._begin(key))
            if known.asked_s >= came_s - self._fresh_s:
                return _told(known)

    async def _ask_now(self, key: str, *, is_optional: bool) -> _Known:
        asked_s = self._under_way[key] = self._clock()
        head: Head | None = None
        try:
            head = await self._ask(key, is_optional=is_optional)
        except NoSuchOriginal:
            pass
        except StoreUnreachable:
            self._beware()
            if known := self._known.get(key):
                self._known.put(key, known._replace(tried_s=self._clock()))
            raise
        finally:
            self._under_way.pop(key, None)
        if self._clock() - asked_s > _PATIENCE_S:
            self._beware()
        return self._learn(key, _Known(head, asked_s))

    def _beware(self) -> None:
        self._wary_until_s = self._clock() + _WARY_S

    def _learn(self, key: str, learned: _Known) -> _Known:
        """What is known now: what was asked before we changed it and answered after is old."""
        known = self._known.get(key)
        if known and known.asked_s > learned.asked_s:
            return known
        self._known.put(key, learned)
        return learned


def _told(known: _Known) -> Head:
    if known.head is None:
        raise NoSuchOriginal
    return known.head
