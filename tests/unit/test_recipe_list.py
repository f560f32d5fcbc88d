"""Several processes share a store: they agree on recipes, and render a target once after each change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import StoreRefused, StoreUnreachable
from galerly_cdn.model import RecipeEntry
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import InMemoryCdn, MemoryOriginals, MemoryRenditions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.in_memory_cdn import Answer

KEY = "g/a.jpg"
PATH = "/resize/800x600/g/a.jpg"
SETTINGS = Settings(memory_cache_bytes=0, misses_per_minute=0, misses_per_minute_per_client=0)


class Fleet:
    """Processes over one store, by the digest that they give to every recipe."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.originals = MemoryOriginals()
        self.renditions = MemoryRenditions()
        self.processes: dict[str, InMemoryCdn] = {}
        self.originals.put(KEY)

    async def start(self, digest: str) -> InMemoryCdn:
        """Start a process, as `serve` does."""
        started = InMemoryCdn(
            self.settings, digest=digest, originals=self.originals, renditions=self.renditions
        )
        self.processes[digest] = started
        await started.listed.refresh()
        return started

    def wait(self, duration_s: float) -> None:
        for one in self.processes.values():
            one.now_s += duration_s

    @property
    def renders(self) -> int:
        return sum(one.renderer.renders for one in self.processes.values())

    async def alternate(self, digests: str, count: int = 10) -> list[Answer]:
        """Request one picture from each process in turn; every answer has to be 200."""
        answers = [await self.processes[digest].ask(PATH) for _ in range(count) for digest in digests]
        assert {answer.status for answer in answers} == {200}
        return answers

    def stored_recipe(self, target: str = "800x600") -> str:
        return self.renditions.kept[f"{target}/{KEY}"].record.recipe


async def test_first_process_lists_its_recipes() -> None:
    fleet = Fleet()
    process = await fleet.start("A")
    (entry,) = fleet.renditions.listed
    assert entry.number == 1
    assert len(entry.recipes) == 9 * 4
    assert set(entry.recipes.values()) == {"A"}
    assert entry.at_s == 1_700_000_000.0
    assert entry.release
    assert process.listed.warnings == ()
    await process.listed.refresh()
    await fleet.start("A")
    assert fleet.renditions.listed == [entry]


async def test_alternating_processes_of_two_recipes_render_once_more() -> None:
    fleet = Fleet()
    await fleet.start("A")
    await fleet.alternate("A")
    await fleet.start("B")
    assert fleet.renders == 1
    answers = await fleet.alternate("AB", 50)
    assert fleet.renders == 2
    assert fleet.stored_recipe() == "B"
    assert len({answer.headers["etag"] for answer in answers[1:]}) == 1


async def test_older_process_serves_the_newer_rendition_and_says_so() -> None:
    fleet = Fleet()
    older = await fleet.start("A")
    await fleet.start("B")
    await fleet.alternate("B", 1)
    assert older.listed.warnings == ()
    await older.listed.refresh()
    warning = "".join(older.listed.warnings)
    assert "this process is older: entry 2 " in warning
    assert "galerly-cdn store rollback" in warning
    assert (await older.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit; detail=store"
    assert older.renderer.renders == 0


async def test_older_process_makes_what_is_missing_and_replaces_only_other_versions() -> None:
    fleet = Fleet()
    await fleet.start("A")
    await fleet.start("B")
    assert len(await fleet.alternate("A", 3)) == 3
    assert (fleet.stored_recipe(), fleet.renders) == ("A", 1)
    await fleet.alternate("BA", 3)
    assert (fleet.stored_recipe(), fleet.renders) == ("B", 2)
    fleet.originals.put(KEY)
    await fleet.alternate("AB", 3)
    assert (fleet.stored_recipe(), fleet.renders) == ("B", 4)


async def test_rolled_back_recipe_is_current_for_all() -> None:
    fleet = Fleet()
    older, newer = await fleet.start("A"), await fleet.start("B")
    await fleet.alternate("BA")
    entry = await older.listed.rollback()
    assert entry is not None
    assert entry == fleet.renditions.listed[2]
    assert set(entry.recipes.values()) == {"A"}
    assert await older.listed.rollback() is None
    before = fleet.renders
    await fleet.alternate("AB", 50)
    assert fleet.renders == before + 1
    assert fleet.stored_recipe() == "A"
    assert older.listed.warnings == ()
    assert newer.listed.warnings != ()


async def test_rollback_raises_what_the_store_raises() -> None:
    process = InMemoryCdn()
    process.renditions.list_error = StoreRefused()
    with pytest.raises(StoreRefused):
        await process.listed.rollback()


async def test_rendition_in_memory_is_served_until_the_list_was_read_again() -> None:
    fleet = Fleet(Settings())
    older = await fleet.start("A")
    await fleet.alternate("A", 2)
    await fleet.start("B")
    await fleet.alternate("B", 1)
    reads = fleet.renditions.lists_read
    assert (await older.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"
    assert fleet.renditions.lists_read == reads
    fleet.wait(10.1)
    await older.ask(PATH)  # begins to read the list, and does not wait for it
    await older.listed.drain()
    assert fleet.renditions.lists_read == reads + 1
    for status in ("hit; detail=store", "hit"):  # then the newer one is in memory
        assert (await older.ask(PATH)).headers["cache-status"] == f"galerly-cdn; {status}"
    assert fleet.renders == 2


@pytest.mark.parametrize("memory_cache_bytes", [0, 1 << 20])
async def test_list_is_read_again_after_ten_seconds_of_requests(memory_cache_bytes: int) -> None:
    fleet = Fleet(replaced(SETTINGS, memory_cache_bytes=memory_cache_bytes))
    older, newer = await fleet.start("A"), await fleet.start("B")
    await fleet.alternate("BA", 2)
    await newer.listed.refresh()
    await InMemoryCdn(digest="A", renditions=fleet.renditions).listed.rollback()
    fleet.wait(10.1)
    await fleet.alternate("AB", 1)
    await older.listed.drain()
    assert older.listed.warnings == ()
    await fleet.alternate("AB", 3)
    assert (fleet.stored_recipe(), fleet.renders) == ("A", 2)


async def test_older_process_serves_from_memory_what_the_store_has_lost() -> None:
    fleet = Fleet(Settings())
    older = await fleet.start("A")
    await fleet.alternate("A", 1)
    await fleet.start("B")
    await older.listed.refresh()
    fleet.renditions.kept.clear()
    assert (await older.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"
    assert fleet.renders == 1


async def test_fill_by_a_process_that_did_not_know_the_newer_recipe_keeps_its_rendition() -> None:
    fleet = Fleet()
    older, newer = await fleet.start("A"), await fleet.start("B")
    await older.listed.refresh()
    older.renderer.gate.close()
    late = asyncio.create_task(older.ask(PATH))
    await older.renderer.gate.arrival()
    newest = await fleet.start("C")
    assert (await newest.ask(PATH)).status == 200
    older.renderer.gate.open()
    assert (await late).status == 200
    assert fleet.stored_recipe() == "C"
    await fleet.alternate("ABC")
    assert fleet.renders == 2
    assert newer.renderer.renders == 0


@pytest.mark.parametrize("error", [StoreRefused(), StoreUnreachable()])
async def test_process_goes_on_with_what_it_knows_while_the_list_fails(
    error: StoreRefused | StoreUnreachable,
) -> None:
    fleet = Fleet()
    fleet.renditions.list_error = error
    process = await fleet.start("A")
    await fleet.alternate("A", 3)
    assert fleet.renders == 1
    assert process.counters.snapshot()["recipes-unreadable"] >= 1
    fleet.renditions.list_error = None
    await fleet.start("B")
    fleet.wait(1.1)
    await fleet.alternate("BA", 20)
    assert fleet.stored_recipe() == "A"  # it was not listed before, so it is newer than B
    assert fleet.renders <= 3


async def test_list_that_was_deleted_is_begun_anew() -> None:
    fleet = Fleet()
    await fleet.start("A")
    await fleet.alternate("A", 1)
    fleet.renditions.listed.clear()
    fleet.renditions.kept.clear()
    await fleet.start("B")
    await fleet.alternate("BA", 10)
    assert fleet.stored_recipe() in {"A", "B"}
    before = fleet.renders
    await fleet.alternate("BA", 10)
    assert fleet.renders == before


async def test_append_whose_number_is_taken_is_repeated_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet()
    entries = fleet.renditions.entries
    others = iter([RecipeEntry(1, {"800x600.jpeg": "X"}), RecipeEntry(2, {"800x600.jpeg": "Y"})])

    async def read_before_another_appends(after: int = 0) -> tuple[RecipeEntry, ...]:
        found = await entries(after)
        fleet.renditions.listed.extend(one for one in [next(others, None)] if one)
        return found

    monkeypatch.setattr(fleet.renditions, "entries", read_before_another_appends)
    await fleet.start("A")
    assert [one.recipes["800x600.jpeg"] for one in fleet.renditions.listed] == ["X", "Y", "A"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["start", "ask", "roll back"]), st.sampled_from("ABC")),
        st.tuples(st.sampled_from(["wait", "replace", "lose", "fail", "recover"]), st.just("")),
    ),
    max_size=25,
)


@given(STEPS, st.sampled_from([0, 1 << 20]))
def test_processes_agree_after_any_steps_and_render_no_recipe_twice(
    steps: Sequence[tuple[str, str]], memory_cache_bytes: int
) -> None:
    asyncio.run(_take(steps, memory_cache_bytes))


async def _take(steps: Sequence[tuple[str, str]], memory_cache_bytes: int) -> None:
    fleet = Fleet(replaced(SETTINGS, memory_cache_bytes=memory_cache_bytes))
    await fleet.start("A")
    await fleet.start("B")
    for step, digest in steps:
        await _take_step(fleet, step, digest)
    fleet.renditions.list_error = None
    for one in fleet.processes.values():
        await one.listed.refresh()  # what is not listed yet is appended
    fleet.wait(11)
    digests = "".join(fleet.processes)
    before = fleet.renders
    answers = await fleet.alternate(digests, 4)
    assert fleet.renders <= before + len(digests)  # each in the order of the ranks, the lowest first
    version = (await fleet.originals.head(KEY)).version
    assert {answer.body.split()[0] for answer in answers} == {version.encode()}
    if not memory_cache_bytes:  # what was lost from the store may still be in memory
        assert len({answer.headers["etag"] for answer in answers[len(digests) :]}) == 1
        assert fleet.stored_recipe() == fleet.renditions.listed[-1].recipes["800x600.jpeg"]
    for one in fleet.processes.values():
        await one.origin.drain()


async def _take_step(fleet: Fleet, step: str, digest: str) -> None:
    process = fleet.processes.get(digest)
    if step == "start":
        await fleet.start(digest)
    elif step == "wait":
        fleet.wait(3)
    elif step == "replace":
        fleet.originals.put(KEY)
    elif step == "lose":
        fleet.renditions.kept.clear()
    elif step in {"fail", "recover"}:
        fleet.renditions.list_error = StoreUnreachable() if step == "fail" else None
    elif process is not None and step == "ask":
        await fleet.alternate(digest, 1)
    elif process is not None and fleet.renditions.list_error is None:
        await process.listed.rollback()


# the same picture under two targets

JPEG = "/resize/800x600.jpeg/g/a.jpg"


@pytest.mark.parametrize(("first", "second"), [(PATH, JPEG), (JPEG, PATH)])
async def test_picture_of_the_own_format_is_copied_to_the_other_target(first: str, second: str) -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    rendered, copied = await cdn.ask(first), await cdn.ask(second)
    assert (copied.status, copied.body, copied.headers["etag"]) == (
        200,
        rendered.body,
        rendered.headers["etag"],
    )
    assert copied.headers["cache-status"] == "galerly-cdn; fwd=uri-miss; detail=copy; stored"
    assert copied.headers["server-timing"].startswith("copy")
    assert cdn.renderer.renders == 1
    assert cdn.counters.snapshot() == {"render": 1, "copy": 1}
    assert set(cdn.renditions.kept) == {f"800x600/{KEY}", f"800x600.jpeg/{KEY}"}
    assert (await cdn.ask(second)).headers["cache-status"] == "galerly-cdn; hit"


async def test_picture_is_not_copied_from_another_format_version_or_recipe() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    await cdn.ask(PATH)
    await cdn.ask("/resize/800x600.png/g/a.jpg")
    await cdn.ask("/resize/800x600.webp/g/a.jpg")
    assert cdn.renderer.renders == 3
    cdn.originals.put(KEY)
    await cdn.ask(JPEG)
    assert cdn.renderer.renders == 4
    newer = InMemoryCdn(digest="recipe-2", originals=cdn.originals, renditions=cdn.renditions)
    await newer.ask(PATH)
    assert newer.renderer.renders == 1


async def test_own_rendition_is_rendered_while_its_format_is_unknown() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renderer.facts = None
    await cdn.ask(JPEG)
    await cdn.ask(PATH)
    assert cdn.renderer.renders == 2


async def test_named_format_waits_for_the_own_rendition_in_the_making() -> None:
    cdn = InMemoryCdn()
    cdn.originals.put(KEY)
    cdn.renderer.gate.close()
    own = asyncio.create_task(cdn.ask(PATH))
    await cdn.renderer.gate.arrival()
    named = asyncio.create_task(cdn.ask(JPEG))
    cdn.renderer.gate.open()
    assert (await own).body == (await named).body
    assert cdn.renderer.renders == 1
