"""Tests of the queue for workers, the memory budget and the quarantine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import QueueFull
from galerly_cdn.render.pool.scheduling import MemoryBudget, Quarantine, WorkQueue
from tests.support.worker_pool import ticks

if TYPE_CHECKING:
    import random

HOLD_S = 600.0


@given(st.lists(st.integers(0, 150), max_size=12), st.randoms(use_true_random=False))
def test_budget_is_never_exceeded_and_serves_everyone_in_order(sizes: list[int], rng: random.Random) -> None:
    """Holds for any request sizes and any cancelled calls."""

    async def run() -> None:
        budget = MemoryBudget(100)
        held: dict[int, int] = {}
        served: list[int] = []
        ends = [asyncio.Event() for _ in sizes]

        async def call(place: int) -> None:
            async with budget.reserve(sizes[place]):
                served.append(place)
                held[place] = sizes[place]
                assert sum(held.values()) <= 100 or len([w for w in held.values() if w]) == 1
                await ends[place].wait()
                del held[place]

        calls = [asyncio.create_task(call(place)) for place in range(len(sizes))]
        cancelled = {place for place in range(len(sizes)) if rng.random() < 0.2}
        await ticks()
        for place in range(len(sizes)):
            calls[place].cancel() if place in cancelled else ends[place].set()
            await ticks()
        await asyncio.gather(*calls, return_exceptions=True)
        assert served == sorted(served)
        assert set(range(len(sizes))) - cancelled <= set(served)
        assert budget._free_bytes == 100

    asyncio.run(run())


async def test_budget_call_cancelled_while_it_is_served_releases_its_bytes() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(10):
        cancelled_call = asyncio.create_task(enter(budget, 10))
        await ticks()
    cancelled_call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled_call
    await enter(budget, 10)


async def test_budget_call_cancelled_at_the_front_lets_a_smaller_one_pass() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(6):
        large = asyncio.create_task(enter(budget, 10))
        small = asyncio.create_task(enter(budget, 4))
        await ticks()
        assert not small.done()
        large.cancel()
        await small


async def test_queue_that_fails_its_waiting_calls_serves_later_ones() -> None:
    queue: WorkQueue[str] = WorkQueue(1, reserved=0)
    waits = asyncio.create_task(queue.acquire())
    await ticks()
    assert queue.waiting == 1
    queue.fail_waiting(QueueFull("no worker starts"))
    with pytest.raises(QueueFull):
        await waits
    assert queue.waiting == 0
    queue.release("worker")
    assert await queue.acquire() == "worker"


async def test_queue_call_cancelled_while_it_is_served_passes_the_worker_on() -> None:
    queue: WorkQueue[str] = WorkQueue(1, reserved=0)
    cancelled_call, next_one = (asyncio.create_task(queue.acquire()) for _ in range(2))
    await ticks()
    queue.release("worker")
    cancelled_call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled_call
    assert await next_one == "worker"


async def test_queue_gives_the_worker_used_last_first() -> None:
    queue: WorkQueue[str] = WorkQueue(1, reserved=0)
    queue.release("cold")
    queue.release("warm")
    assert await queue.acquire() == "warm"
    assert queue.remove("cold")
    assert not queue.remove("cold")


async def test_queue_serves_viewers_before_warming() -> None:
    queue: WorkQueue[str] = WorkQueue(9, reserved=0)
    calls = {"warm": asyncio.create_task(queue.acquire_for_warming())}
    await ticks()
    calls |= {name: asyncio.create_task(queue.acquire()) for name in ("first", "second")}
    await ticks()
    assert (queue.waiting, queue.warming) == (2, 1)
    for name in ("first", "second", "warm"):
        queue.release("worker")
        assert await calls.pop(name) == "worker"
        assert not any(call.done() for call in calls.values())
    assert (queue.waiting, queue.warming) == (0, 0)


async def test_warming_gets_a_worker_only_while_the_reserved_ones_are_free() -> None:
    queue: WorkQueue[str] = WorkQueue(9, reserved=1)
    queue.release("a")
    warm = asyncio.create_task(queue.acquire_for_warming())
    await ticks()
    assert not warm.done()
    assert await queue.acquire() == "a"
    queue.release("b")
    await ticks()
    assert not warm.done()
    queue.release("a")
    assert await warm == "a"
    assert await queue.acquire() == "b"


async def test_warming_calls_are_served_in_order() -> None:
    """A call does not overtake one that has been given a worker and has not run yet."""
    queue: WorkQueue[str] = WorkQueue(9, reserved=1)
    queue.release("a")
    first = asyncio.create_task(queue.acquire_for_warming())
    await ticks()
    queue.release("b")
    queue.release("c")
    assert await queue.acquire_for_warming() == "c"
    assert await first == "b"


async def test_offered_worker_can_be_reclaimed_until_a_viewer_takes_it() -> None:
    queue: WorkQueue[str] = WorkQueue(9, reserved=0)
    owner, other = object(), object()
    queue.offer("worker", owner)
    assert not queue.reclaim("worker", other)
    assert queue.reclaim("worker", owner)
    assert not queue.reclaim("worker", owner)
    queue.offer("worker", owner)
    queue.release("free")
    assert await queue.acquire() == "free"
    assert await queue.acquire() == "worker"
    assert not queue.reclaim("worker", owner)


async def test_offered_worker_goes_to_a_waiting_viewer_and_never_to_warming() -> None:
    queue: WorkQueue[str] = WorkQueue(9, reserved=0)
    warm, viewer = asyncio.create_task(queue.acquire_for_warming()), asyncio.create_task(queue.acquire())
    await ticks()
    queue.offer("worker", "owner")
    assert await viewer == "worker"
    queue.offer("worker", "owner")
    await ticks()
    assert not warm.done()
    assert queue.remove("worker")
    assert not queue.reclaim("worker", "owner")
    queue.release("worker")
    assert await warm == "worker"


async def test_waiting_warming_calls_are_bounded_and_can_be_failed() -> None:
    queue: WorkQueue[str] = WorkQueue(1, reserved=0)
    waits = asyncio.create_task(queue.acquire_for_warming())
    await ticks()
    with pytest.raises(QueueFull):
        await queue.acquire_for_warming()
    queue.fail_waiting(QueueFull("no worker starts"))
    with pytest.raises(QueueFull, match="no worker starts"):
        await waits
    assert queue.warming == 0


def test_two_crashes_within_the_time_quarantine_an_original() -> None:
    now_s = 0.0
    quarantine = Quarantine(HOLD_S, lambda: now_s)
    assert not quarantine.record_crash("a")
    assert not quarantine.contains("a")
    now_s = HOLD_S - 1
    assert quarantine.record_crash("a")
    assert quarantine.contains("a")
    assert not quarantine.contains("b")
    now_s += HOLD_S - 1
    assert quarantine.contains("a")
    now_s += 1
    assert not quarantine.contains("a")
    assert not quarantine.record_crash("a")


def test_crashes_far_apart_do_not_quarantine() -> None:
    now_s = 0.0
    quarantine = Quarantine(HOLD_S, lambda: now_s)
    assert not quarantine.record_crash("a")
    now_s = HOLD_S
    assert not quarantine.record_crash("a")


def test_quarantine_drops_the_oldest_record_over_its_limit() -> None:
    quarantine = Quarantine(HOLD_S, lambda: 0.0)
    for token in range(2000):
        quarantine.record_crash(str(token))
    assert len(quarantine._crashes) == 1024
    assert not quarantine.record_crash("0")
    assert quarantine.record_crash("1999")


async def enter(budget: MemoryBudget, weight_bytes: int) -> None:
    async with budget.reserve(weight_bytes):
        pass
