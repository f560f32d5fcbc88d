"""A miss is filled once, from the original as it is now, and stored if the store will have it."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.errors import (
    NoSuchOriginal,
    QueueFull,
    StoreRefused,
    StoreUnreachable,
    Undecodable,
    Unsettled,
)
from galerly_cdn.fill import Filled, RenditionKey
from galerly_cdn.model import Format, Head, Size, Target
from tests.support.in_memory_cdn import MemoryOriginals, SmallCdn

KEY = "g/a.jpg"
WANTED = RenditionKey(KEY, Target(Size(800, 600), Format.WEBP))


def body(version: str) -> bytes:
    return f"{version} {KEY} at 800x600.webp".encode()


async def test_a_fill_opens_renders_stores_and_names_what_it_was_made_from() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    filled, collapsed = await cdn.origin.fill(WANTED, version)
    assert (filled.rendition.body, filled.stored, collapsed) == (body(version), True, False)
    record = filled.rendition.record
    assert (record.key, record.target, record.version, record.recipe) == (
        KEY,
        WANTED.target,
        version,
        cdn.digest,
    )
    assert cdn.renditions.kept == {"800x600.webp/g/a.jpg": filled.rendition}
    assert filled.stages_ms == dict.fromkeys(["open", "render", "put", "head"], 1000.0)
    assert cdn.counters.snapshot() == {"render": 1}


async def test_a_fill_under_way_is_shared() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fills = [asyncio.create_task(cdn.origin.fill(WANTED, version)) for _ in range(1000)]
    await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    answers = await asyncio.gather(*fills)
    assert cdn.renderer.renders == cdn.originals.opened == 1
    assert len({id(filled) for filled, _ in answers}) == 1
    assert sum(collapsed for _, collapsed in answers) == 999


async def test_fifty_pictures_wanted_by_twenty_each_are_fifty_renders() -> None:
    cdn = SmallCdn()
    wanted = [RenditionKey(f"g/{number}", WANTED.target) for number in range(50)]
    versions = {one: cdn.originals.put(one.key) for one in wanted}
    cdn.renderer.gate.close()
    fills = [asyncio.create_task(cdn.origin.fill(one, versions[one])) for _ in range(20) for one in wanted]
    for _ in wanted:
        await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    answers = await asyncio.gather(*fills)
    assert cdn.renderer.renders == 50
    assert [filled.rendition.record.key for filled, _ in answers] == [one.key for one in wanted] * 20


@pytest.mark.parametrize(
    "error", [Undecodable(), QueueFull(), OSError("disk")], ids=lambda one: type(one).__name__
)
async def test_a_failed_render_stores_nothing_is_shared_once_and_tried_again(error: Exception) -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    cdn.renderer.error = error
    fills = [asyncio.create_task(cdn.origin.fill(WANTED, version)) for _ in range(20)]
    await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    answers = await asyncio.gather(*fills, return_exceptions=True)
    assert {type(answer) for answer in answers} == {type(error)}
    assert (cdn.renderer.renders, cdn.renditions.kept) == (1, {})
    cdn.renderer.error = None
    filled, _ = await cdn.origin.fill(WANTED, version)
    assert filled.rendition.body == body(version)


async def test_an_original_replaced_while_it_renders_is_rendered_again() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill = asyncio.create_task(cdn.origin.fill(WANTED, version))
    await cdn.renderer.gate.arrival()
    new = cdn.originals.put(KEY)
    cdn.renderer.gate.open()
    filled, _ = await fill
    assert filled.rendition.body == body(new)
    assert cdn.renditions.kept["800x600.webp/g/a.jpg"].body == body(new)
    assert cdn.counters.snapshot() == {"render": 2, "original-changed": 1}


async def test_an_original_replaced_while_its_rendition_is_stored_is_rendered_again() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.puts.close()
    fill = asyncio.create_task(cdn.origin.fill(WANTED, version))
    await cdn.renditions.puts.arrival()
    new = cdn.originals.put(KEY)
    cdn.renditions.puts.open()
    filled, _ = await fill
    assert filled.rendition.body == body(new)
    assert cdn.renditions.kept["800x600.webp/g/a.jpg"].body == body(new)


async def test_who_comes_after_the_replacement_is_never_given_the_old_one() -> None:
    """The second viewer knows the new version and joins the fill of the old one."""
    cdn = SmallCdn()
    old = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    first = asyncio.create_task(cdn.origin.fill(WANTED, old))
    await cdn.renderer.gate.arrival()
    new = cdn.originals.put(KEY)
    second = asyncio.create_task(cdn.origin.fill(WANTED, new))
    cdn.renderer.gate.open()
    (filled, _), (joined, collapsed) = await asyncio.gather(first, second)
    assert (filled.rendition.body, joined.rendition.body, collapsed) == (body(new), body(new), True)


class Restless(MemoryOriginals):
    """Originals replaced right after they were looked at, `times` times."""

    times = 0

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        head = await super().head(key, remembered=remembered)
        if self.times:
            self.times -= 1
            self.put(key)
        return head


async def test_an_original_replaced_after_the_last_look_is_filled_again() -> None:
    """The viewer's version is another than the fill's, and the fill's is no longer the current one."""
    originals = Restless()
    cdn = SmallCdn(originals=originals)
    originals.put(KEY)
    originals.times = 1
    filled, _ = await cdn.origin.fill(WANTED, "gone")
    assert filled.rendition.body == body("v2")


async def test_an_original_replaced_after_every_look_is_given_up() -> None:
    originals = Restless()
    cdn = SmallCdn(originals=originals)
    originals.put(KEY)
    originals.times = 1000
    with pytest.raises(Unsettled):
        await cdn.origin.fill(WANTED, "gone")


async def test_an_original_that_never_settles_is_given_up() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill = asyncio.create_task(cdn.origin.fill(WANTED, version))
    for _ in range(5):
        await cdn.renderer.gate.arrival()
        cdn.originals.put(KEY)
        cdn.renderer.gate.open()
        cdn.renderer.gate.close()
    with pytest.raises(Unsettled):
        await fill
    assert cdn.renderer.renders == 5


async def test_an_original_removed_while_it_renders_is_not_answered() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill = asyncio.create_task(cdn.origin.fill(WANTED, version))
    await cdn.renderer.gate.arrival()
    cdn.originals.remove(KEY)
    cdn.renderer.gate.open()
    with pytest.raises(NoSuchOriginal):
        await fill


async def test_a_store_that_cannot_take_it_costs_this_viewer_nothing() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.error = StoreUnreachable("disk full")
    filled, _ = await cdn.origin.fill(WANTED, version)
    assert (filled.rendition.body, filled.stored) == (body(version), False)
    assert cdn.counters.snapshot() == {"render": 1, "rendition-not-stored": 1}


@pytest.mark.parametrize(
    "error", [NoSuchOriginal(), StoreRefused(), StoreUnreachable()], ids=lambda one: one.code
)
async def test_an_original_that_cannot_be_opened_is_not_rendered(
    error: NoSuchOriginal | StoreRefused | StoreUnreachable,
) -> None:
    cdn = SmallCdn()
    cdn.originals.error = error
    with pytest.raises(type(error)):
        await cdn.origin.fill(WANTED, "v1")
    assert cdn.renderer.renders == 0


async def test_drain_waits_for_the_fills_under_way() -> None:
    cdn = SmallCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill: asyncio.Task[tuple[Filled, bool]] = asyncio.create_task(cdn.origin.fill(WANTED, version))
    await cdn.renderer.gate.arrival()
    draining = asyncio.create_task(cdn.origin.drain())
    fill.cancel()
    cdn.renderer.gate.open()
    await draining
    assert cdn.renditions.kept["800x600.webp/g/a.jpg"].body == body(version)
