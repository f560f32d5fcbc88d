"""Tests of `Filler.warm`: what it renders, interruptions, replaced originals, viewers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.app.renderer import open_renderer
from galerly_cdn.app.stores import command_telemetry
from galerly_cdn.errors import (
    GalerlyError,
    NoSuchOriginal,
    QueueFull,
    StoreRefused,
    StoreUnreachable,
    TooMuchMemory,
    Unsettled,
)
from galerly_cdn.fill import RenditionKey, Warmed
from galerly_cdn.settings import locations
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.in_memory_cdn import InMemoryCdn, MemoryOriginals
from tests.support.worker_pool import ticks

if TYPE_CHECKING:
    from pathlib import Path

    from galerly_cdn.model import Head, Rendition, Target

KEY = "g/a.jpg"
TARGETS = InMemoryCdn().settings.size_rules[2].targets + InMemoryCdn().settings.size_rules[1].targets
WEBP = TARGETS[2]


async def warm(cdn: InMemoryCdn, targets: tuple[Target, ...] = TARGETS) -> list[Warmed]:
    return [one async for one in cdn.origin.warm(KEY, targets)]


def kept(cdn: InMemoryCdn) -> dict[Target, Rendition]:
    return {one.record.target: one for one in cdn.renditions.kept.values()}


def body(version: str, target: Target) -> bytes:
    return f"{version} {KEY} at {target}".encode()


def test_targets_to_warm_are_those_that_accept_may_choose() -> None:
    assert [str(one) for one in TARGETS[:3]] == ["800x600", "800x600.avif", "800x600.webp"]
    recipes = InMemoryCdn().listed.recipes
    assert all(one in recipes for rule in InMemoryCdn().settings.size_rules for one in rule.targets)


async def test_warm_renders_missing_targets_in_one_job_and_stores_them() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    warmed = await warm(cdn)
    assert {one.target for one in warmed} == set(TARGETS)
    assert [one.target for one in warmed] == [*reversed(TARGETS)], "the renderer's order"
    assert {one.key for one in warmed} == {KEY}
    assert not any(one.was_there for one in warmed)
    assert all(one.duration_ms > 0 for one in warmed)
    assert (len(cdn.renderer.jobs), cdn.originals.opened) == (1, 1)
    assert {target: one.body for target, one in kept(cdn).items()} == {
        target: body(version, target) for target in TARGETS
    }
    for one in warmed:
        record = kept(cdn)[one.target].record
        assert (record.key, record.version, record.recipe) == (KEY, version, cdn.digest)
        assert one.length_bytes == record.length_bytes == len(body(version, one.target))
        assert record.md5 == hashlib.md5(body(version, one.target)).hexdigest()
    assert cdn.counters.snapshot() == {"render": len(TARGETS)}


async def test_request_for_warmed_target_is_a_hit() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    await warm(cdn)
    for accept in ("image/avif,image/webp", "image/webp", "*/*"):
        answer = await cdn.ask(f"/resize/800x600/{KEY}", accept=accept)
        assert "hit" in answer.headers["cache-status"]
    assert cdn.renderer.renders == len(TARGETS)


async def test_warm_yields_current_renditions_without_rendering_them() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    await cdn.origin.fill(RenditionKey(KEY, WEBP), version)
    warmed = await warm(cdn)
    assert [one.target for one in warmed if one.was_there] == [WEBP]
    assert warmed[0].length_bytes == len(body(version, WEBP))
    assert cdn.renderer.renders == len(TARGETS)
    opened = cdn.originals.opened
    assert all(one.was_there for one in await warm(cdn))
    assert (cdn.renderer.renders, cdn.originals.opened) == (len(TARGETS), opened)


@pytest.mark.parametrize("what", ["version", "recipe"])
async def test_warm_renders_stale_renditions_again(what: str) -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    await warm(cdn)
    if what == "version":
        version = cdn.originals.put(KEY)
    else:
        cdn = InMemoryCdn(originals=cdn.originals, renditions=cdn.renditions, digest="recipe-2")
    assert not any(one.was_there for one in await warm(cdn))
    assert {(one.record.version, one.record.recipe) for one in kept(cdn).values()} == {(version, cdn.digest)}


async def test_warm_without_targets_opens_nothing() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    assert await warm(cdn, ()) == []
    assert cdn.originals.opened == 0


async def test_warm_with_real_workers_stores_what_viewers_get(tmp_path: Path) -> None:
    """Viewers request the same targets at the same time, and get the pictures that are stored."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(pictures.jpeg(900, 600))
    settings = Settings(workers=1, renditions=str(tmp_path / "renditions"), access_log=False)
    targets = list(settings.warm_targets)
    roots = locations.resolve_locations(settings, str(folder))
    async with open_renderer(settings, roots, command_telemetry()) as rendering:
        version = (await rendering.stores.originals.head("a.jpg")).version
        viewers = [
            asyncio.create_task(rendering.filler.fill(RenditionKey("a.jpg", one), version)) for one in targets
        ]
        warmed = [one async for one in rendering.filler.warm("a.jpg", targets)]
        seen = [(await viewer)[0].rendition for viewer in viewers]
        again = [one async for one in rendering.filler.warm("a.jpg", targets)]
    assert {one.target for one in warmed} == set(targets)
    assert all(one.was_there for one in again)
    assert [one.target for one in again] == targets
    assert [one.length_bytes for one in again] == [len(one.body) for one in seen]


# interruptions


async def test_warm_stores_each_picture_before_it_renders_the_next() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    stored = []
    async for one in cdn.origin.warm(KEY, TARGETS):
        stored.append(one.target)
        assert set(kept(cdn)) == set(stored)
        assert cdn.renderer.renders == len(stored)


async def test_interrupted_warm_ends_the_job_and_can_be_resumed() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    async with contextlib.aclosing(cdn.origin.warm(KEY, TARGETS)) as warming:
        first = await anext(warming)
        await anext(warming)
    assert (cdn.renderer.warms_ended, cdn.renderer.renders) == (1, 2)
    warmed = await warm(cdn)
    assert first.target in {one.target for one in warmed if one.was_there}
    assert sum(one.was_there for one in warmed) == 2
    assert cdn.renderer.renders == len(TARGETS)


async def test_warm_cancelled_during_put_leaves_the_picture_stored() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renditions.puts.close()
    warming = asyncio.create_task(warm(cdn))
    await cdn.renditions.puts.arrival()
    warming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await warming
    assert cdn.renderer.warms_ended == 1
    cdn.renditions.puts.open()
    await cdn.origin.drain()
    assert list(kept(cdn)) == [TARGETS[-1]]


@pytest.mark.parametrize("error", [TooMuchMemory(), QueueFull()], ids=lambda one: one.code)
async def test_failed_picture_ends_the_warm_and_keeps_the_earlier_ones(error: GalerlyError) -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    warming = cdn.origin.warm(KEY, TARGETS)
    await anext(warming)
    cdn.renderer.error = error
    with pytest.raises(type(error)):
        await anext(warming)
    assert len(kept(cdn)) == 1
    cdn.renderer.error = None
    assert sum(one.was_there for one in await warm(cdn)) == 1


async def test_store_that_fails_to_put_ends_the_warm() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renditions.error = StoreUnreachable("disk full")
    with pytest.raises(StoreUnreachable):
        await warm(cdn)
    assert (cdn.renderer.renders, cdn.renderer.warms_ended) == (1, 1)


@pytest.mark.parametrize(
    "error", [NoSuchOriginal(), StoreRefused(), StoreUnreachable()], ids=lambda one: one.code
)
async def test_warm_of_original_that_cannot_be_read_renders_nothing(error: GalerlyError) -> None:
    cdn = InMemoryCdn()
    cdn.originals.error = error
    with pytest.raises(type(error)):
        await warm(cdn)
    assert cdn.renderer.jobs == []


# replaced originals


async def test_warm_starts_again_if_the_original_is_replaced() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    warmed = []
    new = ""
    async for one in cdn.origin.warm(KEY, TARGETS):
        warmed.append(one)
        if len(warmed) == 2:
            new = cdn.originals.put(KEY)
    assert {target: one.body for target, one in kept(cdn).items()} == {
        target: body(new, target) for target in TARGETS
    }
    assert {one.target for one in warmed[2:]} == set(TARGETS), "each is yielded again"
    assert len(cdn.renderer.jobs) == 2
    assert cdn.counters.snapshot()["original-changed"] == 1


async def test_warm_starts_again_if_the_original_is_replaced_during_put() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renditions.puts.close()
    warming = asyncio.create_task(warm(cdn))
    await cdn.renditions.puts.arrival()
    new = cdn.originals.put(KEY)
    cdn.renditions.puts.open()
    await warming
    assert {one.record.version for one in kept(cdn).values()} == {new}
    assert set(kept(cdn)) == set(TARGETS)


class ReplacedBeforeOpen(MemoryOriginals):
    """Originals that are replaced between the first `head` and `open`, `times` times."""

    times = 1

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        head = await super().head(key, remembered=remembered)
        if self.times and not self.opened:
            self.times -= 1
            self.put(key)
        return head


async def test_warm_of_original_replaced_before_opening_renders_the_new_version() -> None:
    cdn = InMemoryCdn(originals=ReplacedBeforeOpen())
    cdn.originals.put(KEY)
    await warm(cdn)
    assert {one.record.version for one in kept(cdn).values()} == {"v2"}
    assert set(kept(cdn)) == set(TARGETS)


async def test_warm_of_original_replaced_at_every_attempt_raises_unsettled() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    warming = cdn.origin.warm(KEY, TARGETS)
    for _ in range(5):
        await anext(warming)
        cdn.originals.put(KEY)
        await anext(warming)
    with pytest.raises(Unsettled):
        await anext(warming)


async def test_warm_of_original_removed_meanwhile_raises_no_such_original() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    warming = cdn.origin.warm(KEY, TARGETS)
    await anext(warming)
    cdn.originals.remove(KEY)
    with pytest.raises(NoSuchOriginal):
        await anext(warming)


# viewers at the same time


async def test_request_during_put_of_warmed_picture_shares_it() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.puts.close()
    warming = asyncio.create_task(warm(cdn, (WEBP,)))
    await cdn.renditions.puts.arrival()
    viewer = asyncio.create_task(cdn.origin.fill(RenditionKey(KEY, WEBP), version))
    cdn.renditions.puts.open()
    filled, collapsed = await viewer
    assert (filled.rendition.body, collapsed) == (body(version, WEBP), True)
    await warming
    assert cdn.renderer.renders == 1


async def test_warm_yields_the_rendition_that_a_viewers_fill_stored_first() -> None:
    """Warming renders the same picture while the viewer's is being stored, and discards its own."""
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.puts.close()
    viewer = asyncio.create_task(cdn.origin.fill(RenditionKey(KEY, WEBP), version))
    await cdn.renditions.puts.arrival()
    cdn.renderer.gate.close()
    warming = asyncio.create_task(warm(cdn, (WEBP,)))
    for _ in range(2):
        await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    await ticks()
    cdn.renditions.puts.open()
    filled, collapsed = await viewer
    assert [one.target for one in await warming] == [WEBP]
    assert (kept(cdn)[WEBP] is filled.rendition, collapsed, cdn.renderer.renders) == (True, False, 2)


async def test_warm_does_not_overwrite_a_picture_that_a_fill_stored_meanwhile() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    warming = cdn.origin.warm(KEY, TARGETS)
    await anext(warming)
    filled, _ = await cdn.origin.fill(RenditionKey(KEY, WEBP), version)
    assert {one.target async for one in warming} == set(TARGETS[:-1])
    assert kept(cdn)[WEBP] is filled.rendition


async def test_request_that_joins_a_warm_never_gets_an_old_picture() -> None:
    """The original is replaced while the warmed picture is being stored."""
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renditions.puts.close()
    warming = asyncio.create_task(warm(cdn, (WEBP,)))
    await cdn.renditions.puts.arrival()
    new = cdn.originals.put(KEY)
    viewer = asyncio.create_task(cdn.origin.fill(RenditionKey(KEY, WEBP), new))
    cdn.renditions.puts.open()
    filled, _ = await viewer
    assert filled.rendition.body == body(new, WEBP)
    assert [one.length_bytes for one in await warming][-1] == len(body(new, WEBP))
