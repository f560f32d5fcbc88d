"""What is known of the originals? Their keys, and each one's facts: asked once, remembered a while.

A listing is remembered for a second, or twenty times as long as it took: a remote store's is slow, and paid
for. Facts are remembered as long as the original keeps its version.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from galerly_cdn.browse.pagination import Galleries, group_by_gallery
from galerly_cdn.cache import MemoryCache, SingleFlight
from galerly_cdn.errors import GalerlyError, Unrenderable
from galerly_cdn.model import Facts
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.store.interfaces import Originals

    Inspect = Callable[[str], Awaitable[Facts]]

_LISTING_S = 1.0
_LISTING_TIMES = 20
"""How much longer than it took a listing is remembered."""
_MAX_REMEMBERED = 20_000
_INSPECTED_AT_ONCE = 8
"""Far below the render queue's bound: the page never crowds out the pictures."""


class CachedFacts(Value, frozen=True):
    """A photograph's facts and its file's length; or, in `problem`, why it cannot be shown."""

    facts: Facts | None = None
    length_bytes: int = 0
    problem: str = ""


class FactsCache:
    """Looks at the originals; `inspect` reads one's header in a worker process."""

    def __init__(
        self, originals: Originals, inspect: Inspect, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._originals = originals
        self._inspect = inspect
        self._clock = clock
        self._collection = Galleries((), ())
        self._lasts_s = -math.inf
        self._listings: SingleFlight[str, Galleries] = SingleFlight()
        self._entries: MemoryCache[tuple[str, str], CachedFacts] = MemoryCache(_MAX_REMEMBERED, lambda _: 1)
        self._turns = asyncio.Semaphore(_INSPECTED_AT_ONCE)

    async def collection(self) -> Galleries:
        """Every photograph, as of a moment ago. Raises as listing does."""
        if self._clock() >= self._lasts_s:
            self._collection, _ = await self._listings.run("", self._list)
        return self._collection

    async def entries(self, keys: tuple[str, ...]) -> list[CachedFacts]:
        """What is known of each key, in the same order; several are inspected at once."""
        return await asyncio.gather(*map(self._entry, keys))

    async def _list(self) -> Galleries:
        began_s = self._clock()
        found = group_by_gallery([one.key async for one in self._originals.list()])
        took_s = self._clock() - began_s
        self._lasts_s = began_s + max(_LISTING_S, _LISTING_TIMES * took_s)
        return found

    async def _entry(self, key: str) -> CachedFacts:
        try:
            head = await self._originals.head(key)
            known = self._entries.get((key, head.version))
            if known is None:
                known = await self._looked_at(key, head.length_bytes)
                self._entries.put((key, head.version), known)
        except GalerlyError as error:
            return CachedFacts(problem=error.public)  # of this moment: not remembered
        return known

    async def _looked_at(self, key: str, length_bytes: int) -> CachedFacts:
        """The entry of one original; its own fault is worth remembering, a full queue is not."""
        async with self._turns:
            try:
                return CachedFacts(await self._inspect(key), length_bytes)
            except Unrenderable as error:
                return CachedFacts(length_bytes=length_bytes, problem=error.public)
