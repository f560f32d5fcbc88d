"""Tests of the admission of viewers' calls: the expected wait, the look-ahead and the refusals."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import Draining, QueueFull
from galerly_cdn.render.pool.admission import Admission, Bounds, Place, RenderTimes, Work
from tests.support.worker_pool import ticks

MIB = 1024 * 1024
WORK = Work("tiny", 6 * MIB)
MANY = Bounds(10**6, 10**12, 10**6)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def learned(clock: Clock, workers: int, max_wait_s: float, seconds: float, work: Work = WORK) -> Admission:
    """An admission that has seen renders of `work` take `seconds`."""
    admission = Admission(workers, MANY._replace(max_wait_s=max_wait_s), clock)
    admission._times.record(work, seconds)
    return admission


async def start(admission: Admission, work: Work = WORK) -> Place:
    place = await admission.enter(work)
    admission.start(place)
    return place


async def wait(admission: Admission, work: Work = WORK) -> asyncio.Task[Place]:
    task = asyncio.create_task(admission.enter(work))
    await ticks()
    return task


def test_expected_time_is_that_of_recent_renders_by_weight() -> None:
    times = RenderTimes()
    assert 0.1 < times.rate_s("tiny") * WORK.weight_bytes < 1, "without a render, an assumption"
    times.record(WORK, 4.0)
    assert times.rate_s("tiny") * WORK.weight_bytes == pytest.approx(4)
    assert times.rate_s("tiny") * Work("tiny", 14 * MIB).weight_bytes == pytest.approx(8)
    assert times.rate_s("other") == pytest.approx(times.rate_s("tiny")), "a new kind takes as long as all do"
    for _ in range(200):
        times.record(WORK, 1.0)
    assert times.rate_s("tiny") * WORK.weight_bytes == pytest.approx(1, rel=0.01), (
        "the old ones are forgotten"
    )


def test_expected_time_knows_the_cost_of_a_kind_and_the_pace_of_the_machine() -> None:
    times = RenderTimes()
    heavy = Work("avif", WORK.length_bytes)

    def expected_s(work: Work) -> float:
        return times.rate_s(work.kind) * work.weight_bytes

    for _ in range(100):
        times.record(WORK, 0.1)
        times.record(heavy, 0.8)
    assert expected_s(WORK) == pytest.approx(0.1, rel=0.1)
    assert expected_s(heavy) == pytest.approx(0.8, rel=0.1)
    for _ in range(30):
        times.record(heavy, 2.4)
    assert expected_s(WORK) == pytest.approx(0.3, rel=0.25), "the machine has become slower for all"


async def test_nobody_waits_while_a_worker_is_free_however_long_a_render_takes() -> None:
    clock = Clock()
    admission = learned(clock, workers=2, max_wait_s=5, seconds=60)
    await start(admission)
    assert admission.expected_wait_s() == 0
    await start(admission)
    assert admission.expected_wait_s() == pytest.approx(60)
    clock.now_s = 57.0
    assert admission.expected_wait_s() == pytest.approx(3, rel=1e-3)
    clock.now_s = 62.0
    assert admission.expected_wait_s() == pytest.approx(2, rel=1e-3), "late by 2 s: as much again"


async def test_call_that_would_wait_too_long_is_refused_at_once_with_the_expected_time() -> None:
    admission = learned(Clock(), workers=2, max_wait_s=5, seconds=1)
    for _ in range(2):
        await start(admission)
    tasks = [await wait(admission) for _ in range(7)]
    with pytest.raises(QueueFull) as refused:
        await admission.enter(WORK)
    assert dict(refused.value.headers()) == {b"retry-after": b"5"}, "9 s of work, 2 workers"
    tasks.pop().cancel()
    await ticks()
    tasks.append(await wait(admission))
    admission.fail_waiting(Draining())
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(end, Draining) for end in ends) == 3, "the others were admitted"


async def test_heavy_originals_fill_the_queue_sooner() -> None:
    heavy = Work("tiny", 14 * MIB)  # twice the weight
    accepted = {}
    for work in (WORK, heavy):
        admission = learned(Clock(), workers=1, max_wait_s=20, seconds=1)
        await start(admission, work)
        tasks = []
        while admission.expected_wait_s() <= 16:
            tasks.append(await wait(admission, work))
        accepted[work] = len(tasks)
        admission.fail_waiting(Draining())
        await asyncio.gather(*tasks, return_exceptions=True)
    assert accepted == {WORK: 16, heavy: 8}


@pytest.mark.parametrize(("workers", "places"), [(1, 5), (2, 6), (8, 24)])
async def test_only_the_workers_and_a_few_more_hold_their_originals(workers: int, places: int) -> None:
    admission = Admission(workers, MANY, Clock())
    tasks = [await wait(admission) for _ in range(100)]
    assert sum(task.done() for task in tasks) == places
    assert admission.waiting == 100 - places
    admission.leave(tasks[0].result())
    await ticks()
    assert [task.done() for task in tasks] == [True] * (places + 1) + [False] * (99 - places)
    admission.leave(tasks[0].result())  # a second time
    await ticks()
    assert admission.waiting == 99 - places
    admission.fail_waiting(Draining())
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_slow_store_is_part_of_the_expected_wait() -> None:
    """The workers are idle: each call holds its place for 10 s, most of it for its download."""
    clock = Clock()
    admission = learned(clock, workers=1, max_wait_s=30, seconds=0.1)
    for _ in range(100):
        place = await admission.enter(WORK)
        clock.now_s += 9.9
        admission.start(place)
        clock.now_s += 0.1
        admission.leave(place)
    tasks = [await wait(admission) for _ in range(5)]
    assert admission.expected_wait_s() == pytest.approx(10 / 5, rel=0.05)
    tasks += [await wait(admission) for _ in range(9)]
    assert admission.expected_wait_s() == pytest.approx(10 * 10 / 5, rel=0.05)
    admission.fail_waiting(Draining())
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_call_that_has_waited_as_long_as_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The renders ahead of it take far longer than those before them."""
    loop = asyncio.get_running_loop()
    real, ahead_s = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead_s)
    clock = Clock()
    admission = learned(clock, workers=1, max_wait_s=1000, seconds=1)
    for _ in range(5):
        await start(admission)
    task = await wait(admission)
    ahead_s = 999.0
    await ticks()
    assert not task.done()
    ahead_s = 1001.0
    with pytest.raises(QueueFull, match="it waited 1000 s"):
        await task
    assert admission.waiting == 0


async def test_call_whose_caller_leaves_gives_up_its_place() -> None:
    admission = Admission(1, MANY, Clock())
    first, *others = [await wait(admission) for _ in range(7)]
    others[-1].cancel()
    await asyncio.wait([others[-1]])
    assert admission.waiting == 1
    others[-2].cancel()
    admission.leave(first.result())  # the place is given to the call that is being cancelled
    await asyncio.wait([others[-2]])
    assert (admission.waiting, len(admission._admitted)) == (0, 4)
    assert not (await wait(admission)).exception()


async def test_oldest_wait_is_that_of_the_first_call_without_a_worker() -> None:
    clock = Clock()
    admission = Admission(1, MANY, clock)
    assert admission.oldest_wait_s() == 0
    first = await start(admission)
    clock.now_s = 1
    admitted = [await admission.enter(WORK) for _ in range(4)]
    clock.now_s = 3
    waiting = await wait(admission)
    clock.now_s = 7
    assert admission.oldest_wait_s() == 6, "an admitted call that has no worker yet"
    for place in admitted:
        admission.start(place)
    assert admission.oldest_wait_s() == 4, "a call that waits to be admitted"
    admission.leave(first)
    admission.start(await waiting)
    assert admission.oldest_wait_s() == 0


class Calls:
    """Calls that enter, leave and are cancelled."""

    def __init__(self) -> None:
        self.admission = Admission(1, MANY, Clock())
        self.tasks: list[asyncio.Task[Place]] = []
        self.admitted: list[int] = []

    async def call(self, number: int) -> Place:
        place = await self.admission.enter(Work(number % 3, number))
        self.admitted.append(number)
        return place

    def act(self, do: str, number: int) -> None:
        if do == "enter":
            self.tasks.append(asyncio.create_task(self.call(len(self.tasks))))
        elif self.tasks and do == "cancel":
            self.tasks[number % len(self.tasks)].cancel()
        elif self.tasks:
            self.leave(self.tasks[number % len(self.tasks)])

    def leave(self, task: asyncio.Task[Place]) -> None:
        if task.done() and not task.cancelled():
            self.admission.leave(task.result())

    async def finish(self) -> None:
        await ticks()
        for _ in self.tasks:
            for task in self.tasks:
                self.leave(task)
            await ticks()


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "cancel"]), st.integers(0, 50)), max_size=60))
def test_any_sequence_admits_in_order_and_loses_no_place(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        calls = Calls()
        for do, number in steps:
            calls.act(do, number)
            if number % 2:
                await ticks()
            assert len(calls.admission._admitted) <= 5
        await calls.finish()
        assert all(task.done() for task in calls.tasks)
        assert calls.admitted == sorted(calls.admitted)
        admission = calls.admission
        assert (admission.waiting, admission._waiting_bytes, admission._admitted) == (0, 0, set())
        assert not admission._waiting_weights

    asyncio.run(run())
