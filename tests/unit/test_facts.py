"""Tests of fact records: what makes them, what uses them, and what must never become one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn import errors
from galerly_cdn.errors import (
    GalerlyError,
    NoSuchOriginal,
    StoreUnreachable,
    TooManyPixels,
    Undecodable,
    Unrenderable,
    UnsupportedFormat,
)
from galerly_cdn.fill import RenditionKey
from galerly_cdn.model import Refusal, Size, Target
from galerly_cdn.render import recipe
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support.fact_records import FACTS, good, header_only, refused
from tests.support.in_memory_cdn import (
    REVISION,
    CountingRenderer,
    Gate,
    InMemoryCdn,
    MemoryOriginals,
    MemoryRenditions,
    original_facts,
)
from tests.support.worker_pool import ticks

if TYPE_CHECKING:
    from galerly_cdn.model import FactRecord, RecipeEntry, Rendered
    from galerly_cdn.store.interfaces import Original

KEY = "g/a.jpg"
URLS = ("/resize/800x600/g/a.jpg", "/resize/800x600.webp/g/a.jpg", "/resize/tiny/g/a.jpg")
TARGETS = (Target(Size(800, 600)), Target(Size(150, 150)))


def another_process(cdn: InMemoryCdn) -> InMemoryCdn:
    """A CDN over the same stores, with empty memories."""
    return InMemoryCdn(originals=cdn.originals, renditions=cdn.renditions)


async def ask_all(cdn: InMemoryCdn) -> list[tuple[int, str]]:
    answers = [await cdn.ask(url) for url in URLS]
    await cdn.origin.drain()
    return [(one.status, one.code if one.status != 200 else "") for one in answers]


# -------------------------------------------------------------------------------- what is learnt


async def test_first_render_stores_one_good_record_and_later_ones_use_it() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    assert await ask_all(cdn) == [(200, "")] * 3
    record = good(KEY, version, REVISION)
    assert cdn.renditions.facts_written == [replaced(record, facts=cdn.renderer.facts)]
    assert [bool(known and known.is_good) for known in cdn.renderer.known] == [False, True, True]
    assert cdn.renditions.facts_read == 1
    other = another_process(cdn)
    cdn.renditions.kept.clear()
    assert await ask_all(other) == [(200, "")] * 3
    assert [bool(known and known.is_good) for known in other.renderer.known] == [True, True, True]
    assert (cdn.renditions.facts_read, len(cdn.renditions.facts_written)) == (2, 1)


async def test_hit_reads_no_record() -> None:
    cdn = InMemoryCdn(settings=Settings(memory_cache_bytes=0))
    cdn.originals.put(KEY)
    await ask_all(cdn)
    reads = cdn.renditions.facts_read
    assert await ask_all(cdn) == [(200, "")] * 3
    other = another_process(cdn)
    assert await ask_all(other) == [(200, "")] * 3
    assert (cdn.renditions.facts_read, other.renderer.renders) == (reads, 0)


@pytest.mark.parametrize(
    "error", [Undecodable("VipsJpeg: /home/ada"), UnsupportedFormat("x", "A HEIC file.")]
)
async def test_verdict_answers_every_size_and_format_without_another_render(error: Unrenderable) -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renderer.error = error
    assert await ask_all(cdn) == [(415, error.code)] * 3
    assert (cdn.renderer.renders, cdn.originals.opened) == (1, 1)
    other = another_process(cdn)  # renders whatever it is given
    assert await ask_all(other) == [(415, error.code)] * 3
    assert other.renderer.renders == 0
    answer = await other.ask(URLS[0])
    assert error.public in answer.body.decode()
    assert "VipsJpeg" not in answer.body.decode()
    with pytest.raises(type(error)):
        async for _ in other.origin.warm(KEY, TARGETS):
            pass
    assert other.renderer.renders == 0


@pytest.mark.parametrize("facts", [None, FACTS], ids=["no header", "with facts"])
async def test_verdict_holds_for_its_version_only(facts: None) -> None:
    cdn = InMemoryCdn()
    old = cdn.originals.put(KEY)
    cdn.renderer.facts = facts
    cdn.renderer.error = Undecodable()
    assert await ask_all(cdn) == [(415, "undecodable")] * 3
    assert cdn.renditions.records[KEY].version == old
    assert cdn.renditions.records[KEY].facts == facts
    cdn.renderer.error, cdn.renderer.facts = None, FACTS
    new = cdn.originals.put(KEY)
    assert await ask_all(cdn) == [(200, "")] * 3
    assert cdn.renditions.records[KEY] == good(KEY, new, REVISION)


TRANSIENT = [
    kind
    for _, kind in sorted(errors.by_code().items())
    if kind not in {Undecodable, UnsupportedFormat} and kind is not errors.RangeNotSatisfiable
]


@pytest.mark.parametrize(
    "kind", [one for one in TRANSIENT if not issubclass(one, errors.CommandError)], ids=lambda one: one.code
)
async def test_other_error_is_never_a_verdict(kind: type[GalerlyError]) -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renderer.error = kind("whatever")
    for target in TARGETS:
        with pytest.raises(kind):
            await cdn.origin.fill(RenditionKey(KEY, target), version)
        with contextlib.suppress(kind):
            async for _ in cdn.origin.warm(KEY, [target]):
                pass
    await cdn.origin.drain()
    assert not any(one.is_decided for one in cdn.renditions.records.values())
    cdn.renderer.error = None
    assert await ask_all(cdn) == [(200, "")] * 3


async def test_warm_learns_as_a_viewer_does() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    async for _ in cdn.origin.warm(KEY, TARGETS):
        pass
    await cdn.origin.drain()
    assert cdn.renditions.facts_written == [replaced(good(KEY, version, REVISION), facts=cdn.renderer.facts)]
    cdn.renderer.error = Undecodable()
    version = cdn.originals.put(KEY)
    with pytest.raises(Undecodable):
        async for _ in cdn.origin.warm(KEY, TARGETS):
            pass
    await cdn.origin.drain()
    assert cdn.renditions.records[KEY].version == version
    assert cdn.renditions.records[KEY].refusal is not None


async def test_refusal_replaces_a_good_record_and_is_not_replaced_by_facts() -> None:
    facts = original_facts(store := MemoryRenditions())
    facts.learn(KEY, "v1", FACTS, is_good=True)
    facts.learn(KEY, "v1", FACTS)
    assert facts.remembered(KEY, "v1") == good(KEY, "v1", REVISION)
    facts.learn_refusal(KEY, "v1", FACTS, Undecodable("late"))
    record = facts.learn(KEY, "v1", FACTS, is_good=True)
    assert record.refusal == Refusal("undecodable", Undecodable.public, "late")
    await facts.drain()
    assert store.records[KEY] == record


# -------------------------------------------------------------------------------- limits


async def test_refusal_by_a_limit_is_computed_and_ends_with_the_setting() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    large = replaced(FACTS, width_px=20_000, height_px=10_000, is_progressive=False, coefficient_bytes=0)
    cdn.renderer.facts = large
    cdn.renderer.error = TooManyPixels("over")
    assert await ask_all(cdn) == [(415, "too-many-pixels")] * 3
    assert cdn.renderer.renders == 1
    assert cdn.renditions.records[KEY] == replaced(header_only(KEY, version, REVISION), facts=large)
    strict = another_process(cdn)
    assert await ask_all(strict) == [(415, "too-many-pixels")] * 3
    assert strict.renderer.renders == 0
    generous = InMemoryCdn(Settings(max_megapixels=300), originals=cdn.originals, renditions=cdn.renditions)
    assert await ask_all(generous) == [(200, "")] * 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"width_px": 10_001, "height_px": 10_001}, "too-many-pixels"),
        ({"width_px": 10, "height_px": 10, "frames": 1_000_001}, "too-many-pixels"),
        ({"frames": 257, "width_px": 1, "height_px": 1}, "too-many-frames"),
        ({"coefficient_bytes": 10**12}, "too-much-memory"),
    ],
)
def test_every_limit_is_checked_by_the_facts(change: dict[str, int], code: str) -> None:
    facts = original_facts(MemoryRenditions())
    for record in (good(KEY), refused(KEY, facts=FACTS)):
        refusal = facts.refusal(replaced(record, facts=replaced(FACTS, **change)))
        assert refusal is not None
        assert refusal.code == code
    assert facts.refusal(good(KEY)) is None
    assert facts.refusal(refused(KEY)) is not None


# -------------------------------------------------------------------------------- what is stored


@pytest.mark.parametrize(
    "record",
    [
        refused(KEY, "v0", REVISION),
        refused(KEY, "v1", "another release"),
        refused(KEY, "v1", REVISION, refusal=Refusal("quarantined", "", "")),
        refused(KEY, "v1", REVISION, refusal=Refusal("of a later release", "", "")),
        refused(KEY, "v1", REVISION, refusal=Refusal("internal", "", "")),
    ],
    ids=["version", "revision", "transient", "unknown", "not a refusal"],
)
async def test_record_that_does_not_apply_is_made_anew(record: FactRecord) -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renditions.records[KEY] = record
    assert await ask_all(cdn) == [(200, "")] * 3
    assert cdn.renditions.records[KEY].is_good
    assert cdn.renditions.records[KEY].version == "v1"
    assert cdn.renditions.records[KEY].revision == REVISION


def test_revision_depends_on_release_libvips_and_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = {
        recipe.facts_revision("8.18.0", ["jpeg", "png"]),
        recipe.facts_revision("8.18.1", ["jpeg", "png"]),
        recipe.facts_revision("8.18.0", ["jpeg", "png", "heic"]),
    }
    assert recipe.facts_revision("8.18.0", {"png", "jpeg"}) in revisions
    monkeypatch.setattr(recipe, "FACTS", recipe.FACTS + 1)
    revisions.add(recipe.facts_revision("8.18.0", ["jpeg", "png"]))
    assert len(revisions) == 4


async def test_store_that_fails_costs_only_the_record() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renditions.error = StoreUnreachable()
    assert await ask_all(cdn) == [(200, "")] * 3
    assert cdn.counters.snapshot()["facts-not-stored"] == 1
    cdn.renditions.error = None
    assert cdn.renditions.records == {}


async def test_answer_does_not_wait_for_the_record_to_be_written() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.fact_puts.close()
    assert (await cdn.ask(URLS[0])).status == 200
    assert cdn.renditions.records == {}
    draining = asyncio.create_task(cdn.origin.drain())
    await cdn.renditions.fact_puts.arrival()
    assert not draining.done()
    cdn.renditions.fact_puts.open()
    await draining
    assert cdn.renditions.records[KEY].version == version


async def test_removed_record_is_not_written_by_a_write_in_progress() -> None:
    facts = original_facts(store := MemoryRenditions())
    store.fact_puts.close()
    facts.learn(KEY, "v1", FACTS, is_good=True)
    await store.fact_puts.arrival()
    facts.learn_refusal(KEY, "v1", FACTS, Undecodable())
    removal = asyncio.create_task(facts.remove(KEY))
    await asyncio.wait([removal], timeout=0)
    store.fact_puts.open()
    await removal
    assert store.records == {}
    assert facts.remembered(KEY, "v1") is None


async def test_records_of_one_key_are_written_one_after_the_other_and_the_last_stays() -> None:
    facts = original_facts(store := MemoryRenditions())
    store.fact_puts.close()
    facts.learn(KEY, "v1", FACTS)
    await store.fact_puts.arrival()
    for version in ("v2", "v3", "v4"):
        facts.learn(KEY, version, FACTS, is_good=True)
    facts.learn("g/other", "v1", FACTS)
    await store.fact_puts.arrival()  # of the other key, which need not wait
    store.fact_puts.open()
    await facts.drain()
    assert [one.version for one in store.facts_written if one.key == KEY] == ["v1", "v4"]


async def test_concurrent_reads_of_one_record_are_one_request() -> None:
    cdn = InMemoryCdn()
    version = cdn.originals.put(KEY)
    cdn.renditions.records[KEY] = good(KEY, version, REVISION)
    found = await asyncio.gather(*(cdn.facts.find(KEY, version) for _ in range(50)))
    assert found == [good(KEY, version, REVISION)] * 50
    assert cdn.renditions.facts_read == 1


async def test_record_of_a_picture_in_the_own_format_is_read_beside_the_list_of_recipes() -> None:
    class SlowList(MemoryRenditions):
        gate = Gate(is_open=False)

        async def entries(self, after: int = 0) -> tuple[RecipeEntry, ...]:
            await self.gate.passed()
            return await super().entries(after)

    renditions = SlowList()
    cdn = InMemoryCdn(renditions=renditions)
    cdn.originals.put(KEY)
    asked = asyncio.create_task(cdn.ask(f"/resize/tiny/{KEY}"))
    await renditions.gate.arrival()
    await ticks()
    assert (renditions.facts_read, cdn.renderer.renders) == (1, 0)
    renditions.gate.open()
    assert (await asked).status == 200
    assert renditions.facts_read == 1, "it is not sought again"


async def test_record_read_from_the_store_does_not_replace_what_was_learnt_meanwhile() -> None:
    class SlowRenditions(MemoryRenditions):
        gate = Gate(is_open=False)

        async def facts(self, key: str) -> FactRecord | None:
            found = self.records.get(key)
            await self.gate.passed()
            return found

    store = SlowRenditions()
    store.records[KEY] = header_only(KEY, "v1", REVISION)
    facts = original_facts(store)
    reading = asyncio.create_task(facts.find(KEY, "v1"))
    await store.gate.arrival()
    facts.learn_refusal(KEY, "v1", FACTS, Undecodable())
    store.gate.open()
    found = await reading
    assert found is not None
    assert found.refusal is not None
    await facts.drain()


# -------------------------------------------------------------------------------- races


class VersionedRenderer(CountingRenderer):
    """Refuses the versions in `damaged`; holds the renders of each version at its own gate."""

    def __init__(self, *damaged: str) -> None:
        super().__init__()
        self.damaged = damaged
        self.gates: dict[str, Gate] = {}

    async def _render(self, fd: int, length_bytes: int, target: Target, token: str) -> tuple[Rendered, bytes]:
        version = token.partition(" ")[0]
        if version in self.gates:
            await self.gates[version].passed()
        self.error = Undecodable() if version in self.damaged else None
        return await super()._render(fd, length_bytes, target, token)


@pytest.mark.parametrize("damaged", ["v1", "v2", "neither"])
@pytest.mark.parametrize("first", ["v1", "v2"])
async def test_two_fills_of_one_key_replaced_meanwhile_leave_the_record_of_the_new_version(
    first: str, damaged: str
) -> None:
    """Whichever of the two versions is rendered first, and whichever is damaged."""
    renderer = VersionedRenderer(damaged)
    cdn = InMemoryCdn(renderer=renderer)
    gates = renderer.gates = {version: Gate(is_open=False) for version in ("v1", "v2")}
    old = cdn.originals.put(KEY)
    fills = [asyncio.create_task(cdn.origin.fill(RenditionKey(KEY, TARGETS[0]), old))]
    await gates["v1"].arrival()
    new = cdn.originals.put(KEY)
    assert (old, new) == ("v1", "v2")
    fills.append(asyncio.create_task(cdn.origin.fill(RenditionKey(KEY, TARGETS[1]), new)))
    await gates["v2"].arrival()
    order = fills if first == "v1" else fills[::-1]
    gates[first].open()
    if first == "v2":
        await asyncio.wait([order[0]])
    for gate in gates.values():
        gate.open()
    await asyncio.gather(*fills, return_exceptions=True)
    await cdn.origin.drain()
    record = cdn.renditions.records[KEY]
    assert (record.version, record.is_good) == (new, damaged != "v2")
    assert cdn.facts.remembered(KEY, old) is None or cdn.facts.remembered(KEY, new) is None
    renders = renderer.renders
    expected = (415, "undecodable") if damaged == "v2" else (200, "")
    assert set(await ask_all(another_process(cdn) if damaged == "v2" else cdn)) == {expected}
    assert damaged != "v2" or renderer.renders == renders


async def test_refusal_of_a_replaced_version_is_not_recorded() -> None:
    cdn = InMemoryCdn()
    old = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    cdn.renderer.error = Undecodable()
    fill = asyncio.create_task(cdn.origin.fill(RenditionKey(KEY, TARGETS[0]), old))
    await cdn.renderer.gate.arrival()
    cdn.originals.put(KEY)
    cdn.renderer.gate.open()
    with pytest.raises(Undecodable):
        await fill
    await cdn.origin.drain()
    assert cdn.renditions.records == {}


@pytest.mark.parametrize("error", [NoSuchOriginal(), StoreUnreachable()], ids=lambda one: one.code)
async def test_refusal_whose_version_cannot_be_confirmed_is_not_recorded(error: GalerlyError) -> None:
    cdn = InMemoryCdn()
    old = cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    cdn.renderer.error = Undecodable()
    fill = asyncio.create_task(cdn.origin.fill(RenditionKey(KEY, TARGETS[0]), old))
    await cdn.renderer.gate.arrival()
    cdn.originals.error = error
    cdn.renderer.gate.open()
    with pytest.raises(Undecodable):
        await fill
    await cdn.origin.drain()
    assert cdn.renditions.records == {}


async def test_known_refusal_ends_the_download_of_the_original() -> None:
    class SlowOriginals(MemoryOriginals):
        gate = Gate(is_open=False)
        was_cancelled = False

        async def open(self, key: str) -> Original:
            try:
                await self.gate.passed()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
            return await super().open(key)

    class SlowRenditions(MemoryRenditions):
        gate = Gate(is_open=False)

        async def facts(self, key: str) -> FactRecord | None:
            await self.gate.passed()
            return await super().facts(key)

    originals, renditions = SlowOriginals(), SlowRenditions()
    cdn = InMemoryCdn(originals=originals, renditions=renditions)
    version = originals.put(KEY)
    renditions.records[KEY] = refused(KEY, version, REVISION)
    asking = asyncio.create_task(cdn.ask("/resize/800x600.webp/g/a.jpg"))
    await originals.gate.arrival()
    await renditions.gate.arrival()
    renditions.gate.open()
    assert (await asking).status == 415
    assert (originals.was_cancelled, originals.opened) == (True, 0)
