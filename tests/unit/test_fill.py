"""Tests of `Filler.fill`: single flight, replaced originals, and stores that fail."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.errors import (
    NoSuchOriginal,
    QueueFull,
    StoreRefused,
    StoreUnreachable,
    TooMuchMemory,
    Unsettled,
)
from galerly_cdn.fill import Filled, RenditionKey
from galerly_cdn.model import Format, Head, Size, Target
from tests.support.in_memory_cdn import InMemoryCdn, MemoryOriginals
from tests.support.worker_pool import ticks

KEY = "g/a.jpg"
RENDITION_KEY = RenditionKey(KEY, Target(Size(800, 600), Format.WEBP))


def body(version: str) -> bytes:
    return f"{version} {KEY} at 800x600.webp".encode()


async def test_fill_renders_and_stores_with_key_version_and_recipe() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    filled, collapsed = await cdn.origin.fill(RENDITION_KEY, version)
    assert (filled.rendition.body, filled.stored, collapsed) == (body(version), True, False)
    record = filled.rendition.record
    assert (record.key, record.target, record.version, record.recipe) == (
        KEY,
        RENDITION_KEY.target,
        version,
        cdn.digest,
    )
    assert cdn.renditions.kept == {"800x600.webp/g/a.jpg": filled.rendition}
    assert filled.stages_ms == dict.fromkeys(["queue", "open", "render", "put", "head"], 1000.0)
    assert cdn.counters.snapshot() == {"render": 1}


async def test_concurrent_requests_for_one_rendition_share_a_fill() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fills = [asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version)) for _ in range(1000)]
    await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    answers = await asyncio.gather(*fills)
    assert cdn.renderer.renders == cdn.originals.opened == 1
    assert len({id(filled) for filled, _ in answers}) == 1
    assert sum(collapsed for _, collapsed in answers) == 999


async def test_concurrent_requests_for_fifty_renditions_are_fifty_renders() -> None:
    cdn = InMemoryCdn()
    rendition_keys = [RenditionKey(f"g/{number}", RENDITION_KEY.target) for number in range(50)]
    versions = {one: cdn.originals.put(one.key) for one in rendition_keys}
    cdn.renderer.gate.close()
    requests = [one for _ in range(20) for one in rendition_keys]
    fills = [asyncio.create_task(cdn.origin.fill(one, versions[one])) for one in requests]
    for _ in rendition_keys:
        await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    answers = await asyncio.gather(*fills)
    assert cdn.renderer.renders == 50
    assert [filled.rendition.record.key for filled, _ in answers] == [one.key for one in requests]


@pytest.mark.parametrize(
    "error", [TooMuchMemory(), QueueFull(), OSError("disk")], ids=lambda one: type(one).__name__
)
async def test_failed_render_is_shared_stores_nothing_and_is_not_cached(error: Exception) -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    cdn.renderer.error = error
    fills = [asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version)) for _ in range(20)]
    await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    answers = await asyncio.gather(*fills, return_exceptions=True)
    assert {type(answer) for answer in answers} == {type(error)}
    assert (cdn.renderer.renders, cdn.renditions.kept) == (1, {})
    cdn.renderer.error = None
    filled, _ = await cdn.origin.fill(RENDITION_KEY, version)
    assert filled.rendition.body == body(version)


async def test_original_replaced_during_render_is_rendered_again() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version))
    await cdn.renderer.gate.arrival()
    new = cdn.originals.put(KEY)
    cdn.renderer.gate.open()
    filled, _ = await fill
    assert filled.rendition.body == body(new)
    assert cdn.renditions.kept["800x600.webp/g/a.jpg"].body == body(new)
    assert cdn.counters.snapshot() == {"render": 2, "original-changed": 1}


async def test_original_replaced_during_put_is_rendered_again() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.puts.close()
    fill = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version))
    await cdn.renditions.puts.arrival()
    new = cdn.originals.put(KEY)
    cdn.renditions.puts.open()
    filled, _ = await fill
    assert filled.rendition.body == body(new)
    assert cdn.renditions.kept["800x600.webp/g/a.jpg"].body == body(new)


async def test_request_after_a_replacement_never_gets_the_old_rendition() -> None:
    """The second request knows the new version and joins the fill of the old version."""
    cdn = InMemoryCdn()
    old = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    first = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, old))
    await cdn.renderer.gate.arrival()
    new = cdn.originals.put(KEY)
    second = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, new))
    cdn.renderer.gate.open()
    (filled, _), (joined, collapsed) = await asyncio.gather(first, second)
    assert (filled.rendition.body, joined.rendition.body, collapsed) == (body(new), body(new), True)


class ReplacedAfterHead(MemoryOriginals):
    """Originals that are replaced right after a `head` of the store itself, `times` times."""

    times = 0

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        head = await super().head(key, remembered=remembered)
        if self.times and not remembered:
            self.times -= 1
            self.put(key)
        return head


async def test_original_replaced_after_the_last_head_is_filled_again() -> None:
    """The viewer's version is not the fill's, and the fill's is no longer the current one."""
    originals = ReplacedAfterHead()
    cdn = InMemoryCdn(originals=originals)
    originals.put(KEY)
    originals.times = 1
    filled, _ = await cdn.origin.fill(RENDITION_KEY, "gone")
    assert filled.rendition.body == body("v2")


async def test_original_replaced_after_every_head_raises_unsettled() -> None:
    originals = ReplacedAfterHead()
    cdn = InMemoryCdn(originals=originals)
    originals.put(KEY)
    originals.times = 1000
    with pytest.raises(Unsettled):
        await cdn.origin.fill(RENDITION_KEY, "gone")


async def test_original_replaced_during_every_render_raises_unsettled() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version))
    for _ in range(5):
        await cdn.renderer.gate.arrival()
        cdn.originals.put(KEY)
        cdn.renderer.gate.open()
        cdn.renderer.gate.close()
    with pytest.raises(Unsettled):
        await fill
    assert cdn.renderer.renders == 5


async def test_original_removed_during_render_raises_no_such_original() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version))
    await cdn.renderer.gate.arrival()
    cdn.originals.remove(KEY)
    cdn.renderer.gate.open()
    with pytest.raises(NoSuchOriginal):
        await fill


async def test_rendition_is_answered_if_the_store_fails_to_put_it() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.error = StoreUnreachable("disk full")
    filled, _ = await cdn.origin.fill(RENDITION_KEY, version)
    assert (filled.rendition.body, filled.stored) == (body(version), False)
    await cdn.origin.drain()
    assert cdn.counters.snapshot() == {"render": 1, "rendition-not-stored": 1, "facts-not-stored": 1}


@pytest.mark.parametrize(
    "error", [NoSuchOriginal(), StoreRefused(), StoreUnreachable()], ids=lambda one: one.code
)
async def test_original_that_cannot_be_opened_is_not_rendered(
    error: NoSuchOriginal | StoreRefused | StoreUnreachable,
) -> None:
    cdn = InMemoryCdn()
    cdn.originals.error = error
    with pytest.raises(type(error)):
        await cdn.origin.fill(RENDITION_KEY, "v1")
    assert cdn.renderer.renders == 0


async def test_refused_render_does_not_open_its_original() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.refusal = QueueFull()
    with pytest.raises(QueueFull):
        await cdn.origin.fill(RENDITION_KEY, version)
    assert (cdn.originals.opened, cdn.renderer.renders) == (0, 0)


async def test_fill_that_nobody_waits_for_is_dropped_until_it_is_admitted() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.admissions.close()
    fills = [asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version)) for _ in range(3)]
    await cdn.renderer.admissions.arrival()
    for fill in fills[:2]:
        fill.cancel()
    await asyncio.wait(fills[:2])
    assert cdn.origin.is_filling(RENDITION_KEY), "one viewer still waits"
    fills[2].cancel()
    await asyncio.wait(fills)
    assert not cdn.origin.is_filling(RENDITION_KEY)
    await cdn.origin.drain()
    assert (cdn.originals.opened, cdn.counters.snapshot()) == (0, {"fill-dropped": 1})
    cdn.renderer.admissions.open()
    cdn.renderer.gate.close()
    last = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version))
    await cdn.renderer.gate.arrival()
    last.cancel()
    await asyncio.wait([last])
    cdn.renderer.gate.open()
    await cdn.origin.drain()
    assert cdn.renditions.kept["800x600.webp/g/a.jpg"].body == body(version), "it had begun"


async def test_drain_waits_for_the_fills_in_progress() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    fill: asyncio.Task[tuple[Filled, bool]] = asyncio.create_task(cdn.origin.fill(RENDITION_KEY, version))
    await cdn.renderer.gate.arrival()
    draining = asyncio.create_task(cdn.origin.drain())
    fill.cancel()
    cdn.renderer.gate.open()
    await draining
    assert cdn.renditions.kept["800x600.webp/g/a.jpg"].body == body(version)


# ------------------------------------------------------------ a store whose puts fills do not wait for


async def _fill_before_its_put(cdn: InMemoryCdn) -> Filled:
    """A fill whose put waits at the gate."""
    cdn.renditions.begins_puts = True
    cdn.renditions.puts.close()
    filled, _ = await cdn.origin.fill(RENDITION_KEY, cdn.originals.put(KEY))
    assert cdn.renditions.kept == {}
    return filled


@pytest.mark.parametrize(
    ("error", "events"), [(None, {}), (StoreUnreachable("disk full"), {"rendition-not-stored": 1})]
)
async def test_fill_with_a_begun_put_is_answered_as_stored(
    error: StoreUnreachable | None, events: dict[str, int]
) -> None:
    cdn = InMemoryCdn()
    filled = await _fill_before_its_put(cdn)
    assert (filled.stored, list(filled.stages_ms)[-2:]) == (True, ["put", "head"])
    cdn.renditions.error = error
    draining = asyncio.create_task(cdn.origin.drain())
    await asyncio.wait([draining], timeout=0)
    assert not draining.done()
    cdn.renditions.puts.open()
    await draining
    snapshot = cdn.counters.snapshot()
    assert {name: snapshot[name] for name in snapshot if name.startswith("rendition")} == events
    assert list(cdn.renditions.kept.values()) == ([] if error else [filled.rendition])


async def test_warm_waits_for_the_begun_put_of_the_fill_that_it_shares() -> None:
    cdn = InMemoryCdn()
    filled = await _fill_before_its_put(cdn)
    shared = asyncio.Event()

    async def fill() -> Filled:
        await shared.wait()
        return filled

    cdn.origin._fills.begin(RENDITION_KEY, fill)
    warming = asyncio.ensure_future(anext(cdn.origin.warm(KEY, [RENDITION_KEY.target])))
    await ticks()
    shared.set()
    await ticks()
    assert not warming.done()
    cdn.renditions.error = StoreUnreachable("disk full")
    cdn.renditions.puts.open()
    with pytest.raises(StoreUnreachable):
        await warming
