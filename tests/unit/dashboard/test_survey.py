"""Counting galleries: what is counted, how long it is valid, and what is shown meanwhile."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.dashboard.survey import GalleryCount, Survey
from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.model import Listed
from tests.support.in_memory_cdn import Gate, MemoryOriginals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class GatedOriginals(MemoryOriginals):
    """Passes the gate `listings` before the last key; counts the listings. Each takes `duration_s`."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        for key in keys:
            self.put(key, 1000)
        self.listings = Gate()
        self.listed = 0
        self.now_s = 0.0
        self.duration_s = 0.0

    async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        self.listed += 1
        found = [one async for one in super().list(prefix, after)]
        for one in found[:-1]:
            yield one
        await self.listings.passed()
        if self.error is not None:
            raise self.error
        self.now_s += self.duration_s
        yield found[-1]


def survey(originals: GatedOriginals, patience_s: float = 60.0) -> Survey:
    return Survey(originals, lambda: originals.now_s, patience_s=patience_s)


async def test_survey_counts_photographs_and_bytes_of_each_gallery() -> None:
    originals = GatedOriginals("a.jpg", "b/1.jpg", "b/2.png", "b/c/3.jpg", "b/notes.txt", "bc/4.jpg")
    surveyed = await survey(originals).read()
    assert surveyed.galleries == (
        GalleryCount("", 1, 1000),
        GalleryCount("b", 2, 2000),
        GalleryCount("b/c", 1, 1000),
        GalleryCount("bc", 1, 1000),
    )
    assert (surveyed.photographs, surveyed.length_bytes, surveyed.other_files) == (5, 5000, 1)
    assert [surveyed.within(gallery) for gallery in ("", "b", "b/c", "none")] == [5, 3, 1, 0]


async def test_survey_in_progress_tells_how_far_it_has_come() -> None:
    originals = GatedOriginals("a/1.jpg", "a/2.jpg", "a/3.jpg")
    originals.listings.close()
    one = survey(originals, patience_s=0.0)
    started = await one.read()
    await originals.listings.arrival()
    surveyed = await one.read()
    assert (started.is_complete, surveyed.is_complete, surveyed.photographs) == (False, False, 2)
    assert one.known is None
    originals.listings.open()
    assert (await survey(originals).read()).photographs == 3
    assert originals.listed == 2  # one for each survey


async def test_concurrent_readers_cause_one_listing() -> None:
    originals = GatedOriginals("a/1.jpg")
    one = survey(originals)
    assert len(set(await asyncio.gather(*(one.read(again=again) for again in (False, True, False))))) == 1
    assert originals.listed == 1


@pytest.mark.parametrize(("duration_s", "valid_s"), [(0.0, 1.0), (3.0, 60.0)])
async def test_survey_is_valid_for_twenty_times_as_long_as_it_took(duration_s: float, valid_s: float) -> None:
    originals = GatedOriginals("a/1.jpg")
    originals.duration_s = duration_s
    one = survey(originals)
    await one.read()
    originals.now_s += valid_s - 0.5
    assert (await one.read()).age_s == valid_s - 0.5
    assert originals.listed == 1
    await one.read(again=True)
    assert originals.listed == 2
    originals.now_s += valid_s
    await one.read()
    assert originals.listed == 3


async def test_expired_survey_is_shown_while_the_next_one_takes_long() -> None:
    originals = GatedOriginals("a/1.jpg")
    one = survey(originals, patience_s=0.0)
    while not (await one.read()).is_complete:
        pass
    originals.put("a/2.jpg")
    originals.listings.close()
    originals.now_s += 5.0
    expired = await one.read()
    assert (expired.is_complete, expired.age_s, expired.photographs) == (True, 5.0, 1)
    assert not (await one.read(again=True)).is_complete
    assert not (await one.read()).is_complete
    originals.listings.open()
    while not (counted := await one.read()).is_complete:
        pass
    assert (counted.photographs, originals.listed) == (2, 2)


async def test_failed_survey_raises_and_the_next_one_counts_again() -> None:
    originals = GatedOriginals("a/1.jpg")
    originals.error = StoreUnreachable("gone")
    one = survey(originals)
    with pytest.raises(StoreUnreachable):
        await one.read()
    originals.error = None
    assert (await one.read()).photographs == 1


async def test_memory_grows_with_the_galleries_not_with_the_photographs() -> None:
    class ManyOriginals(GatedOriginals):
        async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
            assert prefix == after == ""
            for number in range(100_000):
                yield Listed(f"gallery-{number // 10_000}/{number:06}.jpg", 1000, 0.0)

    one = survey(ManyOriginals())
    tracemalloc.start()
    surveyed = await one.read()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (surveyed.photographs, len(surveyed.galleries)) == (100_000, 10)
    assert peak_bytes < 200_000
