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
def test_the_budget_is_never_exceeded_and_always_reached(weights: list[int], chance: random.Random) -> None:
    """Whatever the weights and whoever leaves, all get through in the order of asking."""

    async def run() -> None:
        budget = MemoryBudget(100)
        held: dict[int, int] = {}
        admitted: list[int] = []
        ends = [asyncio.Event() for _ in weights]

        async def call(place: int) -> None:
            async with budget.reserve(weights[place]):
                admitted.append(place)
                held[place] = weights[place]
                assert sum(held.values()) <= 100 or len([w for w in held.values() if w]) == 1
                await ends[place].wait()
                del held[place]

        calls = [asyncio.create_task(call(place)) for place in range(len(weights))]
        leaving = {place for place in range(len(weights)) if chance.random() < 0.2}
        await ticks()
        for place in range(len(weights)):
            calls[place].cancel() if place in leaving else ends[place].set()
            await ticks()
        await asyncio.gather(*calls, return_exceptions=True)
        assert admitted == sorted(admitted)
        assert set(range(len(weights))) - leaving <= set(admitted)
        assert budget._free_bytes == 100

    asyncio.run(run())


async def test_who_leaves_the_budget_as_the_turn_comes_gives_it_back() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(10):
        leaver = asyncio.create_task(enter(budget, 10))
        await ticks()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await enter(budget, 10)


async def test_who_leaves_the_front_of_the_queue_lets_a_lighter_one_pass() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(6):
        heavy = asyncio.create_task(enter(budget, 10))
        light = asyncio.create_task(enter(budget, 4))
        await ticks()
        assert not light.done()
        heavy.cancel()
        await light


async def test_a_refused_turn_ends_the_waiting() -> None:
    queue: WorkQueue[str] = WorkQueue(1, 10, 1, reserved=0)
    waits = asyncio.create_task(queue.acquire(10))
    await ticks()
    assert queue.waiting == 1
    queue.fail_waiting(QueueFull("no worker starts"))
    with pytest.raises(QueueFull):
        await waits
    assert queue.waiting == 0
    queue.release("worker")
    assert await queue.acquire(10) == "worker"


async def test_who_leaves_the_queue_as_the_turn_comes_passes_the_worker_on() -> None:
    queue: WorkQueue[str] = WorkQueue(2, 10, 1, reserved=0)
    leaver, next_one = (asyncio.create_task(queue.acquire(1)) for _ in range(2))
    await ticks()
    queue.release("worker")
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert await next_one == "worker"


async def test_the_worker_used_last_is_used_first() -> None:
    queue: WorkQueue[str] = WorkQueue(1, 10, 1, reserved=0)
    queue.release("cold")
    queue.release("warm")
    assert await queue.acquire(0) == "warm"
    assert queue.remove("cold")
    assert not queue.remove("cold")


async def test_who_warms_waits_behind_every_viewer() -> None:
    queue: WorkQueue[str] = WorkQueue(9, 9, 9, reserved=0)
    calls = {"warm": asyncio.create_task(queue.acquire_for_warming())}
    await ticks()
    calls |= {name: asyncio.create_task(queue.acquire(1)) for name in ("first", "second")}
    await ticks()
    assert (queue.waiting, queue.warming) == (2, 1)
    for name in ("first", "second", "warm"):
        queue.release("worker")
        assert await calls.pop(name) == "worker"
        assert not any(call.done() for call in calls.values())
    assert (queue.waiting, queue.warming) == (0, 0)


async def test_a_warm_begins_only_while_so_many_others_are_free() -> None:
    queue: WorkQueue[str] = WorkQueue(9, 9, 9, reserved=1)
    queue.release("a")
    warm = asyncio.create_task(queue.acquire_for_warming())
    await ticks()
    assert not warm.done()
    assert await queue.acquire(1) == "a"
    queue.release("b")
    await ticks()
    assert not warm.done()
    queue.release("a")
    assert await warm == "a"
    assert await queue.acquire(1) == "b"


async def test_those_who_warm_are_served_in_the_order_of_asking() -> None:
    """Nobody overtakes who was handed a worker and has not run yet."""
    queue: WorkQueue[str] = WorkQueue(9, 9, 9, reserved=1)
    queue.release("a")
    first = asyncio.create_task(queue.acquire_for_warming())
    await ticks()
    queue.release("b")
    queue.release("c")
    assert await queue.acquire_for_warming() == "c"
    assert await first == "b"


async def test_what_is_lent_can_be_claimed_back_until_somebody_takes_it() -> None:
    queue: WorkQueue[str] = WorkQueue(9, 9, 9, reserved=0)
    me, other = object(), object()
    queue.offer("worker", me)
    assert not queue.reclaim("worker", other)
    assert queue.reclaim("worker", me)
    assert not queue.reclaim("worker", me)
    queue.offer("worker", me)
    queue.release("free")
    assert await queue.acquire(1) == "free"
    assert await queue.acquire(1) == "worker"
    assert not queue.reclaim("worker", me)


async def test_what_is_lent_goes_to_a_viewer_who_waits_and_never_to_a_warm() -> None:
    queue: WorkQueue[str] = WorkQueue(9, 9, 9, reserved=0)
    warm, viewer = asyncio.create_task(queue.acquire_for_warming()), asyncio.create_task(queue.acquire(1))
    await ticks()
    queue.offer("worker", "me")
    assert await viewer == "worker"
    queue.offer("worker", "me")
    await ticks()
    assert not warm.done()
    assert queue.remove("worker")
    assert not queue.reclaim("worker", "me")
    queue.release("worker")
    assert await warm == "worker"


async def test_those_who_wait_to_warm_are_bounded_and_can_be_refused() -> None:
    queue: WorkQueue[str] = WorkQueue(0, 0, 1, reserved=0)
    waits = asyncio.create_task(queue.acquire_for_warming())
    await ticks()
    with pytest.raises(QueueFull):
        await queue.acquire_for_warming()
    queue.fail_waiting(QueueFull("no worker starts"))
    with pytest.raises(QueueFull, match="no worker starts"):
        await waits
    assert queue.warming == 0


def test_two_strikes_within_the_time_hold_an_original() -> None:
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


def test_strikes_far_apart_are_chance() -> None:
    now_s = 0.0
    quarantine = Quarantine(HOLD_S, lambda: now_s)
    assert not quarantine.record_crash("a")
    now_s = HOLD_S
    assert not quarantine.record_crash("a")


def test_the_quarantine_forgets_the_oldest_of_very_many() -> None:
    quarantine = Quarantine(HOLD_S, lambda: 0.0)
    for token in range(2000):
        quarantine.record_crash(str(token))
    assert len(quarantine._crashes) == 1024
    assert not quarantine.record_crash("0")
    assert quarantine.record_crash("1999")


async def enter(budget: MemoryBudget, weight_bytes: int) -> None:
    async with budget.reserve(weight_bytes):
        pass
