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
            async with budget.share(weights[place]):
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
    async with budget.share(10):
        leaver = asyncio.create_task(enter(budget, 10))
        await ticks()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await enter(budget, 10)


async def test_who_leaves_the_front_of_the_queue_lets_a_lighter_one_pass() -> None:
    budget = MemoryBudget(10)
    async with budget.share(6):
        heavy = asyncio.create_task(enter(budget, 10))
        light = asyncio.create_task(enter(budget, 4))
        await ticks()
        assert not light.done()
        heavy.cancel()
        await light


async def test_a_refused_turn_ends_the_waiting() -> None:
    turns: WorkQueue[str] = WorkQueue(1, 10, 1, kept=0)
    waits = asyncio.create_task(turns.take(10))
    await ticks()
    assert turns.waiting == 1
    turns.refuse(QueueFull("no worker starts"))
    with pytest.raises(QueueFull):
        await waits
    assert turns.waiting == 0
    turns.give("worker")
    assert await turns.take(10) == "worker"


async def test_who_leaves_the_queue_as_the_turn_comes_passes_the_worker_on() -> None:
    turns: WorkQueue[str] = WorkQueue(2, 10, 1, kept=0)
    leaver, next_one = (asyncio.create_task(turns.take(1)) for _ in range(2))
    await ticks()
    turns.give("worker")
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert await next_one == "worker"


async def test_the_worker_used_last_is_used_first() -> None:
    turns: WorkQueue[str] = WorkQueue(1, 10, 1, kept=0)
    turns.give("cold")
    turns.give("warm")
    assert await turns.take(0) == "warm"
    assert turns.withdraw("cold")
    assert not turns.withdraw("cold")


async def test_who_warms_waits_behind_every_viewer() -> None:
    turns: WorkQueue[str] = WorkQueue(9, 9, 9, kept=0)
    calls = {"warm": asyncio.create_task(turns.take_to_warm())}
    await ticks()
    calls |= {name: asyncio.create_task(turns.take(1)) for name in ("first", "second")}
    await ticks()
    assert (turns.waiting, turns.warming) == (2, 1)
    for name in ("first", "second", "warm"):
        turns.give("worker")
        assert await calls.pop(name) == "worker"
        assert not any(call.done() for call in calls.values())
    assert (turns.waiting, turns.warming) == (0, 0)


async def test_a_warm_begins_only_while_so_many_others_are_free() -> None:
    turns: WorkQueue[str] = WorkQueue(9, 9, 9, kept=1)
    turns.give("a")
    warm = asyncio.create_task(turns.take_to_warm())
    await ticks()
    assert not warm.done()
    assert await turns.take(1) == "a"
    turns.give("b")
    await ticks()
    assert not warm.done()
    turns.give("a")
    assert await warm == "a"
    assert await turns.take(1) == "b"


async def test_those_who_warm_are_served_in_the_order_of_asking() -> None:
    """Nobody overtakes who was handed a worker and has not run yet."""
    turns: WorkQueue[str] = WorkQueue(9, 9, 9, kept=1)
    turns.give("a")
    first = asyncio.create_task(turns.take_to_warm())
    await ticks()
    turns.give("b")
    turns.give("c")
    assert await turns.take_to_warm() == "c"
    assert await first == "b"


async def test_what_is_lent_can_be_claimed_back_until_somebody_takes_it() -> None:
    turns: WorkQueue[str] = WorkQueue(9, 9, 9, kept=0)
    me, other = object(), object()
    turns.lend("worker", me)
    assert not turns.claim("worker", other)
    assert turns.claim("worker", me)
    assert not turns.claim("worker", me)
    turns.lend("worker", me)
    turns.give("free")
    assert await turns.take(1) == "free"
    assert await turns.take(1) == "worker"
    assert not turns.claim("worker", me)


async def test_what_is_lent_goes_to_a_viewer_who_waits_and_never_to_a_warm() -> None:
    turns: WorkQueue[str] = WorkQueue(9, 9, 9, kept=0)
    warm, viewer = asyncio.create_task(turns.take_to_warm()), asyncio.create_task(turns.take(1))
    await ticks()
    turns.lend("worker", "me")
    assert await viewer == "worker"
    turns.lend("worker", "me")
    await ticks()
    assert not warm.done()
    assert turns.withdraw("worker")
    assert not turns.claim("worker", "me")
    turns.give("worker")
    assert await warm == "worker"


async def test_those_who_wait_to_warm_are_bounded_and_can_be_refused() -> None:
    turns: WorkQueue[str] = WorkQueue(0, 0, 1, kept=0)
    waits = asyncio.create_task(turns.take_to_warm())
    await ticks()
    with pytest.raises(QueueFull):
        await turns.take_to_warm()
    turns.refuse(QueueFull("no worker starts"))
    with pytest.raises(QueueFull, match="no worker starts"):
        await waits
    assert turns.warming == 0


def test_two_strikes_within_the_time_hold_an_original() -> None:
    now_s = 0.0
    quarantine = Quarantine(HOLD_S, lambda: now_s)
    assert not quarantine.strike("a")
    assert not quarantine.holds("a")
    now_s = HOLD_S - 1
    assert quarantine.strike("a")
    assert quarantine.holds("a")
    assert not quarantine.holds("b")
    now_s += HOLD_S - 1
    assert quarantine.holds("a")
    now_s += 1
    assert not quarantine.holds("a")
    assert not quarantine.strike("a")


def test_strikes_far_apart_are_chance() -> None:
    now_s = 0.0
    quarantine = Quarantine(HOLD_S, lambda: now_s)
    assert not quarantine.strike("a")
    now_s = HOLD_S
    assert not quarantine.strike("a")


def test_the_quarantine_forgets_the_oldest_of_very_many() -> None:
    quarantine = Quarantine(HOLD_S, lambda: 0.0)
    for token in range(2000):
        quarantine.strike(str(token))
    assert len(quarantine._strikes) == 1024
    assert not quarantine.strike("0")
    assert quarantine.strike("1999")


async def enter(budget: MemoryBudget, weight_bytes: int) -> None:
    async with budget.share(weight_bytes):
        pass
