"""Caches the listing of originals for the gallery page, and looks up the fact record of each one.

A store is listed in parts of `PART` originals: listing all of a large one takes minutes. A part is cached for
one second, or for 20 times as long as it took to list: a remote store's listing is slow and billed. Records
are remembered and stored by `facts`.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from galerly_cdn.browse.pagination import GalleryListing, group_by_gallery
from galerly_cdn.cache import MemoryCache, SingleFlight
from galerly_cdn.errors import GalerlyError, Unrenderable
from galerly_cdn.library import read_page
from galerly_cdn.model import Facts
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.facts import OriginalFacts
    from galerly_cdn.model import FactRecord
    from galerly_cdn.store.interfaces import Originals

    Inspect = Callable[[str], Awaitable[FactRecord]]

PART = 10_000
"""Originals that are listed together: 167 pages, which S3 lists by eleven requests."""
_MAX_PARTS = 16
_MIN_LISTING_LIFETIME_S = 1.0
_LISTING_LIFETIME_FACTOR = 20
"""The lifetime of a listing, as a multiple of the time it took."""
_MAX_CONCURRENT_INSPECTIONS = 8
"""Far below the limit of the render queue, so that the page does not displace the pictures' renders."""


class CachedFacts(Value, frozen=True):
    """A photograph's facts and its file's length, or in `problem` the reason why it cannot be shown."""

    facts: Facts | None = None
    length_bytes: int = 0
    problem: str = ""


class FactsCache:
    """Lists originals and looks up their facts. `inspect` makes a record that `facts` does not remember."""

    def __init__(
        self,
        originals: Originals,
        facts: OriginalFacts,
        inspect: Inspect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._originals = originals
        self._records = facts
        self._inspect = inspect
        self._clock = clock
        self._parts: MemoryCache[str, tuple[GalleryListing, float]] = MemoryCache(_MAX_PARTS, lambda _: 1)
        """Each listing, and when it expires, by the key after which it begins."""
        self._listings: SingleFlight[str, GalleryListing] = SingleFlight()
        self._inspections = asyncio.Semaphore(_MAX_CONCURRENT_INSPECTIONS)

    async def listing(self, after: str = "") -> GalleryListing:
        """The part after a key, from a listing that has not expired. Raises as listing the originals does."""
        listing, expires_s = self._parts.get(after) or (None, -math.inf)
        if listing is None or self._clock() >= expires_s:
            listing, _ = await self._listings.run(after, lambda: self._list(after))
        return listing

    async def facts(self, keys: tuple[str, ...]) -> list[CachedFacts]:
        """The facts of each key, in the same order. Originals are inspected concurrently."""
        return await asyncio.gather(*map(self._facts_of, keys))

    async def _list(self, after: str) -> GalleryListing:
        started_s = self._clock()
        page = await read_page(self._originals, "", after, PART)
        listing = group_by_gallery([listed.key for listed in page.originals], after, page.next)
        duration_s = self._clock() - started_s
        lifetime_s = max(_MIN_LISTING_LIFETIME_S, _LISTING_LIFETIME_FACTOR * duration_s)
        self._parts.put(after, (listing, started_s + lifetime_s))
        return listing

    async def _facts_of(self, key: str) -> CachedFacts:
        try:
            head = await self._originals.head(key)
            record = self._records.remembered(key, head.version)
            if record is None:
                async with self._inspections:
                    record = await self._inspect(key)
        except GalerlyError as error:
            return CachedFacts(problem=error.public)
        refusal = self._records.refusal(record)
        if refusal is not None or record.facts is None:
            return CachedFacts(length_bytes=head.length_bytes, problem=(refusal or Unrenderable).public)
        return CachedFacts(record.facts, head.length_bytes)
