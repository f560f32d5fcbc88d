"""Memory stays within its bytes; work wanted by many is done once."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from galerly_cdn.cache import MemoryCache, SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any


class Fault(Exception):
    """What a piece of work may end in."""


# memory


def test_a_value_is_kept_and_the_least_recently_used_goes_first() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(10, len)
    memory.put("a", b"aaaa")
    memory.put("b", b"bbbb")
    assert memory.get("a") == b"aaaa"
    memory.put("c", b"cccc")
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == (b"aaaa", None, b"cccc")


def test_a_value_too_heavy_is_not_kept_and_replaces_what_was_there() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(10, len)
    memory.put("a", b"old")
    memory.put("a", b"far too heavy")
    assert memory.get("a") is None
    assert memory.weight_bytes == 0


def test_what_is_dropped_is_gone_and_weighs_nothing() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(10, len)
    memory.put("a", b"aaaa")
    memory.drop("a")
    memory.drop("a")
    assert memory.get("a") is None
    assert memory.weight_bytes == 0


def test_no_memory_keeps_nothing() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(0, len)
    memory.put("a", b"a")
    assert memory.get("a") is None


operations = st.lists(st.tuples(st.sampled_from("gp"), st.sampled_from("abcdef"), st.integers(0, 12)))


@given(operations)
def test_memory_is_a_least_recently_used_cache_weighed_in_bytes(steps: list[tuple[str, str, int]]) -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(20, len)
    model: OrderedDict[str, bytes] = OrderedDict()
    for verb, key, weight in steps:
        if verb == "p":
            memory.put(key, bytes(weight))
            model.pop(key, None)
            model[key] = bytes(weight)
            while sum(map(len, model.values())) > 20:
                model.popitem(last=False)
        else:
            if key in model:
                model.move_to_end(key)
            assert memory.get(key) == model.get(key)
        assert memory.weight_bytes == sum(map(len, model.values())) <= 20


# coalescing


def held(release: asyncio.Event, started: Counter[str], key: str) -> Callable[[], Coroutine[Any, Any, str]]:
    async def work() -> str:
        started[key] += 1
        await release.wait()
        return f"{key}{started[key]}"

    return work


async def _settle() -> None:
    """Let every task run until it waits for something else."""
    for _ in range(5):
        await asyncio.get_running_loop().create_task(_nothing())


async def _nothing() -> None:
    pass


async def test_a_thousand_share_one_piece_of_work() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiters = [asyncio.create_task(shared.run("k", held(release, started, "k"))) for _ in range(1000)]
    await _settle()
    release.set()
    answers = await asyncio.gather(*waiters)
    assert started["k"] == 1
    assert [value for value, _ in answers] == ["k1"] * 1000
    assert Counter(collapsed for _, collapsed in answers) == {False: 1, True: 999}


async def test_other_keys_do_not_wait() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    slow, quick, started = asyncio.Event(), asyncio.Event(), Counter[str]()
    quick.set()
    waiting = asyncio.create_task(shared.run("slow", held(slow, started, "slow")))
    await _settle()
    assert await shared.run("quick", held(quick, started, "quick")) == ("quick1", False)
    slow.set()
    assert await waiting == ("slow1", False)


@pytest.mark.parametrize("leaver", [0, 1, 19])
async def test_whoever_leaves_the_others_are_answered(leaver: int) -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiters = [asyncio.create_task(shared.run("k", held(release, started, "k"))) for _ in range(20)]
    await _settle()
    waiters[leaver].cancel()
    await _settle()
    release.set()
    await asyncio.wait(waiters)
    assert waiters.pop(leaver).cancelled()
    assert [waiter.result()[0] for waiter in waiters] == ["k1"] * 19
    assert started["k"] == 1


async def test_the_work_goes_on_when_all_have_left() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiter = asyncio.create_task(shared.run("k", held(release, started, "k")))
    await _settle()
    waiter.cancel()
    await _settle()
    late = asyncio.create_task(shared.run("k", held(release, started, "k")))
    await _settle()
    release.set()
    assert await late == ("k1", True)


async def test_a_failure_is_shared_once_and_then_tried_again() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()

    async def fail() -> str:
        started["k"] += 1
        await release.wait()
        raise Fault

    waiters = [asyncio.create_task(shared.run("k", fail)) for _ in range(20)]
    await _settle()
    release.set()
    answers = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Fault}
    assert started["k"] == 1
    assert await shared.run("k", held(release, started, "k")) == ("k2", False)


async def test_a_failure_nobody_waits_for_is_no_warning() -> None:
    """asyncio complains of exceptions nobody took note of; warnings are errors here."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    shared: SingleFlight[str, str] = SingleFlight()
    release = asyncio.Event()

    async def fail() -> str:
        await release.wait()
        raise Fault

    waiter = asyncio.create_task(shared.run("k", fail))
    await _settle()
    waiter.cancel()
    release.set()
    await shared.drain()
    await _settle()
    assert complaints == []


async def test_drain_waits_for_what_is_under_way_and_for_what_that_starts() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiter = asyncio.create_task(shared.run("k", held(release, started, "k")))
    await _settle()
    draining = asyncio.create_task(shared.drain())
    await _settle()
    assert not draining.done()
    release.set()
    await draining
    assert await waiter == ("k1", False)


class Room:
    """The coalescer under a schedule; knows what every waiter must get."""

    def __init__(self) -> None:
        self.shared: SingleFlight[str, int] = SingleFlight()
        self.running: dict[str, tuple[int, asyncio.Future[int]]] = {}
        self.works = 0
        self.waiters: list[tuple[asyncio.Task[tuple[int, bool]], int, bool]] = []
        self.failed: set[int] = set()

    async def ask(self, key: str) -> None:
        expected = self.running[key][0] if key in self.running else self.works + 1
        was_running = key in self.running
        task = asyncio.create_task(self.shared.run(key, lambda: self._work(key)))
        self.waiters.append((task, expected, was_running))
        await _settle()

    async def _work(self, key: str) -> int:
        self.works += 1
        number = self.works
        assert key not in self.running, "the same work twice at once"
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.running[key] = (number, future)
        return await future

    async def finish(self, key: str, *, fails: bool) -> None:
        if key in self.running:
            number, future = self.running.pop(key)
            if fails:
                self.failed.add(number)
                future.set_exception(Fault())
            else:
                future.set_result(number)
            # no settling: whoever asks next may do so before anybody has noticed

    async def leave(self, index: int) -> None:
        if self.waiters:
            self.waiters[index % len(self.waiters)][0].cancel()

    async def close(self) -> None:
        for key in list(self.running):
            await self.finish(key, fails=False)
        await self.shared.drain()
        for task, expected, was_running in self.waiters:
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, Fault):
                assert expected in self.failed
            elif not isinstance(outcome, asyncio.CancelledError):
                assert outcome == (expected, was_running)


steps = st.lists(
    st.tuples(st.just("ask"), st.sampled_from("ab"))
    | st.tuples(st.sampled_from(["finish", "fail"]), st.sampled_from("ab"))
    | st.tuples(st.just("leave"), st.integers(0, 20)),
    max_size=30,
)


@given(steps)
@example([("ask", "a"), ("finish", "a"), ("ask", "a"), ("ask", "a")])
def test_no_interleaving_does_work_twice_or_mixes_answers_up(schedule: list[tuple[str, Any]]) -> None:
    async def play() -> None:
        room = Room()
        for verb, what in schedule:
            match verb:
                case "ask":
                    await room.ask(what)
                case "leave":
                    await room.leave(what)
                case _:
                    await room.finish(what, fails=verb == "fail")
        await room.close()

    asyncio.run(play())
