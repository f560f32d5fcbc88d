"""Tests the LRU cache in memory and single-flight execution."""

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
    """An error of the work."""


# the LRU cache


def test_least_recently_used_value_is_removed_first() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(10, len)
    memory.put("a", b"aaaa")
    memory.put("b", b"bbbb")
    assert memory.get("a") == b"aaaa"
    memory.put("c", b"cccc")
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == (b"aaaa", None, b"cccc")


def test_value_above_the_limit_is_not_kept_and_removes_the_old_one() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(10, len)
    memory.put("a", b"old")
    memory.put("a", b"far too long")
    assert memory.get("a") is None
    assert memory.weight_bytes == 0


def test_dropped_value_is_gone_and_weighs_nothing() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(10, len)
    memory.put("a", b"aaaa")
    memory.drop("a")
    memory.drop("a")
    assert memory.get("a") is None
    assert memory.weight_bytes == 0


def test_limit_of_zero_keeps_nothing() -> None:
    memory: MemoryCache[str, bytes] = MemoryCache(0, len)
    memory.put("a", b"a")
    assert memory.get("a") is None


operations = st.lists(st.tuples(st.sampled_from("gp"), st.sampled_from("abcdef"), st.integers(0, 12)))


@given(operations)
def test_memory_cache_equals_a_model_of_a_weighed_lru_cache(steps: list[tuple[str, str, int]]) -> None:
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


# single-flight execution


def blocked_work(
    release: asyncio.Event, started: Counter[str], key: str
) -> Callable[[], Coroutine[Any, Any, str]]:
    async def work() -> str:
        started[key] += 1
        await release.wait()
        return f"{key}{started[key]}"

    return work


async def _run_tasks() -> None:
    """Let every task run until it waits for something else."""
    for _ in range(5):
        await asyncio.get_running_loop().create_task(_nothing())


async def _nothing() -> None:
    pass


async def test_concurrent_runs_of_one_key_share_one_task() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiters = [asyncio.create_task(shared.run("k", blocked_work(release, started, "k"))) for _ in range(1000)]
    await _run_tasks()
    release.set()
    answers = await asyncio.gather(*waiters)
    assert started["k"] == 1
    assert [value for value, _ in answers] == ["k1"] * 1000
    assert Counter(collapsed for _, collapsed in answers) == {False: 1, True: 999}


async def test_runs_of_other_keys_do_not_wait() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    slow, quick, started = asyncio.Event(), asyncio.Event(), Counter[str]()
    quick.set()
    waiting = asyncio.create_task(shared.run("slow", blocked_work(slow, started, "slow")))
    await _run_tasks()
    assert await shared.run("quick", blocked_work(quick, started, "quick")) == ("quick1", False)
    slow.set()
    assert await waiting == ("slow1", False)


@pytest.mark.parametrize("leaver", [0, 1, 19])
async def test_cancelled_caller_does_not_cancel_the_others(leaver: int) -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiters = [asyncio.create_task(shared.run("k", blocked_work(release, started, "k"))) for _ in range(20)]
    await _run_tasks()
    waiters[leaver].cancel()
    await _run_tasks()
    release.set()
    await asyncio.wait(waiters)
    assert waiters.pop(leaver).cancelled()
    assert [waiter.result()[0] for waiter in waiters] == ["k1"] * 19
    assert started["k"] == 1


async def test_task_continues_after_all_callers_are_cancelled() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiter = asyncio.create_task(shared.run("k", blocked_work(release, started, "k")))
    await _run_tasks()
    waiter.cancel()
    await _run_tasks()
    late = asyncio.create_task(shared.run("k", blocked_work(release, started, "k")))
    await _run_tasks()
    release.set()
    assert await late == ("k1", True)


async def test_failure_is_shared_and_the_next_run_starts_again() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()

    async def fail() -> str:
        started["k"] += 1
        await release.wait()
        raise Fault

    waiters = [asyncio.create_task(shared.run("k", fail)) for _ in range(20)]
    await _run_tasks()
    release.set()
    answers = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Fault}
    assert started["k"] == 1
    assert await shared.run("k", blocked_work(release, started, "k")) == ("k2", False)


async def test_failure_that_nobody_awaits_is_not_logged() -> None:
    """asyncio logs an exception that nobody has retrieved."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    shared: SingleFlight[str, str] = SingleFlight()
    release = asyncio.Event()

    async def fail() -> str:
        await release.wait()
        raise Fault

    waiter = asyncio.create_task(shared.run("k", fail))
    await _run_tasks()
    waiter.cancel()
    release.set()
    await shared.drain()
    await _run_tasks()
    assert reported == []


async def test_drain_waits_for_running_tasks_and_those_they_start() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()
    waiter = asyncio.create_task(shared.run("k", blocked_work(release, started, "k")))
    await _run_tasks()
    draining = asyncio.create_task(shared.drain())
    await _run_tasks()
    assert not draining.done()
    release.set()
    await draining
    assert await waiter == ("k1", False)


async def test_task_in_a_droppable_part_is_cancelled_when_its_last_caller_leaves() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, started = asyncio.Event(), Counter[str]()

    async def queued() -> str:
        started["queued"] += 1
        with shared.droppable("k"):
            await release.wait()
        return "done"

    callers = [asyncio.create_task(shared.run("k", queued)) for _ in range(3)]
    await _run_tasks()
    for caller in callers[:2]:
        caller.cancel()
    await _run_tasks()
    assert "k" in shared
    callers[2].cancel()
    next_call = asyncio.create_task(shared.run("k", queued))
    await _run_tasks()
    release.set()
    assert await next_call == ("done", False), "it does not join the task that is being cancelled"
    assert started["queued"] == 2
    await shared.drain()


async def test_task_whose_callers_left_before_its_droppable_part_is_cancelled_there() -> None:
    shared: SingleFlight[str, str] = SingleFlight()
    release, passed = asyncio.Event(), Counter[str]()

    async def work() -> str:
        await release.wait()
        with shared.droppable("k"):
            passed["entered"] += 1
            await asyncio.Event().wait()
        return ""

    caller = asyncio.create_task(shared.run("k", work))
    await _run_tasks()
    caller.cancel()
    await _run_tasks()
    release.set()
    await shared.drain()
    await _run_tasks()
    assert (passed["entered"], "k" in shared) == (1, False)


class Schedule:
    """Runs calls on a `SingleFlight`, and knows the result that each caller must get."""

    def __init__(self) -> None:
        self.shared: SingleFlight[str, int] = SingleFlight()
        self.running: dict[str, tuple[int, asyncio.Future[int]]] = {}
        self.started = 0
        self.waiters: list[tuple[asyncio.Task[tuple[int, bool]], int, bool]] = []
        self.failed: set[int] = set()

    async def call(self, key: str) -> None:
        expected = self.running[key][0] if key in self.running else self.started + 1
        was_running = key in self.running
        task = asyncio.create_task(self.shared.run(key, lambda: self._work(key)))
        self.waiters.append((task, expected, was_running))
        await _run_tasks()

    async def _work(self, key: str) -> int:
        self.started += 1
        number = self.started
        assert key not in self.running, "the work runs twice at the same time"
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
            # the next call may come before the waiting tasks have run

    async def cancel(self, index: int) -> None:
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
    st.tuples(st.just("call"), st.sampled_from("ab"))
    | st.tuples(st.sampled_from(["finish", "fail"]), st.sampled_from("ab"))
    | st.tuples(st.just("cancel"), st.integers(0, 20)),
    max_size=30,
)


@given(steps)
@example([("call", "a"), ("finish", "a"), ("call", "a"), ("call", "a")])
def test_any_interleaving_runs_work_once_and_keeps_results_apart(calls: list[tuple[str, Any]]) -> None:
    async def play() -> None:
        schedule = Schedule()
        for verb, argument in calls:
            match verb:
                case "call":
                    await schedule.call(argument)
                case "cancel":
                    await schedule.cancel(argument)
                case _:
                    await schedule.finish(argument, fails=verb == "fail")
        await schedule.close()

    asyncio.run(play())
