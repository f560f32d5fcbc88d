"""A job for several pictures: one after the other, behind all viewers, and never more than one at stake."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn import errors
from galerly_cdn.model import Format, Picture, Rendered, Size, Target
from galerly_cdn.render.pool import protocol, sandbox, worker
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.color_difference import opened as opened_picture
from tests.support.render_jobs import jobs, target
from tests.support.worker_pool import JOB, Meeting, Pool, open_descriptors, opened, pool, ticks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

THREE = (1, 2, 3)


@contextlib.asynccontextmanager
async def warming(
    workers: Pool,
    do: str | dict[str, str] = "work",
    sizes: tuple[int, ...] = THREE,
    **script: Any,  # noqa: ANN401 - JSON
) -> AsyncIterator[AsyncGenerator[tuple[Rendered, bytes], None]]:
    """A warm of an original that says `do`, a picture for each size."""
    content = json.dumps({"do": do} | script).encode()
    job = JOB.of(Picture(Target(Size(side, side)), {Format.JPEG: 85}) for side in sizes)
    with opened(content) as fd:
        async with contextlib.aclosing(workers.warm(fd, len(content), job, f"{do} {script}")) as warm:
            yield warm


async def all_of(
    workers: Pool,
    do: str | dict[str, str] = "work",
    sizes: tuple[int, ...] = THREE,
    **script: Any,  # noqa: ANN401 - JSON
) -> list[tuple[int, bytes]]:
    """The pictures of a warm, by their width, and their bodies."""
    async with warming(workers, do, sizes, **script) as warm:
        return [(rendered.width_px, body) async for rendered, body in warm]


async def test_one_photograph_becomes_all_its_renditions() -> None:
    original = pictures.jpeg(640, 480)
    targets = [target(box, form) for box in ("300x300", "100x100") for form in (None, Format.WEBP)]
    workers = WorkerPool(Settings(workers=1), print)
    await workers.start()
    try:
        with opened(original) as fd:
            made = [one async for one in workers.warm(fd, len(original), jobs(*targets), "a")]
    finally:
        await workers.close(1)
    assert [one.target for one, _ in made] == targets
    for rendered, body in made:
        picture = opened_picture(body)
        assert picture.size == (rendered.width_px, rendered.height_px)
        assert picture.format == rendered.format.upper()


# -------------------------------------------------------------------------------------- viewers go first


async def test_a_viewer_has_the_worker_at_once_while_the_caller_has_a_picture() -> None:
    async with pool(workers=1) as workers, warming(workers) as warm:
        made = [(await anext(warm))[0].width_px]
        assert (workers.in_flight, workers.queued) == (0, 0)
        assert await workers.do("say", say="viewer") == b"viewer"
        made += [rendered.width_px async for rendered, _ in warm]
        assert made == [1, 2, 3]
        assert workers.counted == {"warm-interrupted": 1}


async def test_a_viewer_waits_for_no_more_than_the_picture_being_made() -> None:
    async with Meeting() as meeting, pool(workers=1) as workers:
        warm = asyncio.create_task(all_of(workers, "meet", at=meeting.at))
        assert (await meeting.arrival())["picture"] == 1
        viewers = [asyncio.create_task(workers.do("meet", at=meeting.at, name=name)) for name in "ab"]
        await ticks()
        assert workers.queued == 2
        order = []
        for _ in range(4):
            meeting.let_go()
            script = await meeting.arrival()
            order.append(script.get("name") or script["picture"])
        meeting.let_go()
        assert order == ["a", "b", 2, 3]
        assert [side for side, _ in await warm] == [1, 2, 3]
        await asyncio.gather(*viewers)


async def test_however_often_viewers_come_a_warm_gets_on() -> None:
    """Every time it has the worker it makes a picture."""
    async with pool(workers=1) as workers, warming(workers, sizes=tuple(range(1, 9))) as warm:
        made = []
        async for rendered, _ in warm:
            made.append(rendered.width_px)
            assert await workers.do("say", say="viewer") == b"viewer"
        assert made == [*range(1, 9)]
        assert workers.counted == {"warm-interrupted": 7}


async def test_who_warms_waits_behind_viewers_who_come_later() -> None:
    async with Meeting() as meeting, pool(workers=1) as workers:
        held = asyncio.create_task(workers.do("meet", at=meeting.at))
        await meeting.arrival()
        served: list[object] = []

        async def warm() -> None:
            served.extend(await all_of(workers, "say", (1,), say="warm"))

        async def view(place: int) -> None:
            served.append(await workers.do("say", say=place))

        async with asyncio.TaskGroup() as group:
            group.create_task(warm())
            await ticks()
            for place in range(3):
                group.create_task(view(place))
            await ticks()
            assert (workers.in_flight, workers.queued) == (1, 3)
            meeting.let_go()
        assert served == [b"0", b"1", b"2", (1, b"warm")]
        await held


async def test_one_of_several_workers_is_kept_for_viewers() -> None:
    async with Meeting() as meeting, pool(workers=2) as workers:
        warms = [asyncio.create_task(all_of(workers, "meet", (side,), at=meeting.at)) for side in THREE]
        for _ in warms:
            await meeting.arrival()
            assert await workers.do("say", say="viewer") == b"viewer"
            await ticks()
            assert meeting.arrivals.empty()
            meeting.let_go()
        assert [side for made in await asyncio.gather(*warms) for side, _ in made] == [1, 2, 3]
        assert not workers.counted


async def test_a_warm_holds_memory_for_one_picture_at_a_time() -> None:
    async with (
        pool(workers=2, render_memory_bytes=100) as workers,
        warming(workers, weight_bytes=100) as warm,
    ):
        await anext(warm)
        assert await workers.do("say", say="viewer", weight_bytes=100) == b"viewer"
        assert [rendered.width_px async for rendered, _ in warm] == [2, 3]


async def test_the_warm_queue_is_bounded_apart_from_the_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galerly_cdn.render.pool.pool._MAX_WARMING", 2)
    async with Meeting() as meeting, pool(workers=1, queue_renders=1) as workers:
        held = asyncio.create_task(workers.do("meet", at=meeting.at))
        await meeting.arrival()
        waiting = [asyncio.create_task(all_of(workers, sizes=(side,))) for side in (1, 2)]
        await ticks()
        with pytest.raises(errors.QueueFull):
            await all_of(workers)
        viewer = asyncio.create_task(workers.do("work"))
        await ticks()
        with pytest.raises(errors.QueueFull):
            await workers.do("work")
        meeting.let_go()
        await asyncio.gather(held, viewer, *waiting)
        assert workers.counted == {"queue-full": 2}


# ------------------------------------------------------------------------------------------ what goes wrong

FAILURES = [
    pytest.param("abort", {}, errors.WorkerDied, id="its worker dies"),
    pytest.param("exit", {}, errors.WorkerDied, id="its worker ends"),
    pytest.param("spin", {}, errors.RenderTimeout, id="it never ends"),
    pytest.param("garble", {}, errors.WorkerDied, id="garbage is answered"),
    pytest.param("work", {"lie_target": True}, errors.WorkerDied, id="a picture nobody asked for"),
    pytest.param("raise", {"code": "too-much-memory"}, errors.TooMuchMemory, id="it takes too much memory"),
    pytest.param("hog", {}, errors.TooMuchMemory, id="it takes 8 GiB"),
]


@pytest.mark.parametrize(("do", "script", "error"), FAILURES)
async def test_what_was_made_before_a_failure_holds(
    do: str, script: dict[str, Any], error: type[errors.GalerlyError]
) -> None:
    async with pool(workers=1, render_deadline_s=2.0) as workers:
        async with warming(workers, {"1": "work", "2": do, "3": "work"}, **script) as warm:
            assert (await anext(warm))[0].width_px == 1
            with pytest.raises(error):
                await anext(warm)
        await workers.whole.wait()
        assert (workers.in_flight, workers.queued) == (0, 0)
        assert [side for side, _ in await all_of(workers)] == [1, 2, 3]


async def test_a_picture_that_ends_two_workers_is_tried_no_more() -> None:
    async with pool(workers=1) as workers:
        do = {"1": "work", "2": "abort", "3": "work"}
        for error in (errors.WorkerDied, errors.Quarantined):
            with pytest.raises(error):
                await all_of(workers, do)
        await workers.reach("worker-died", 2)
        with pytest.raises(errors.Quarantined):
            await all_of(workers, do, (3,))
        assert workers.counted["worker-died"] == 2


async def test_a_worker_that_dies_between_two_pictures_costs_a_decode() -> None:
    async with pool(workers=1) as workers, warming(workers) as warm:
        await anext(warm)
        (only,) = workers._crew._serving
        only.kill()
        await workers.reach("worker-died", 1)
        assert [rendered.width_px async for rendered, _ in warm] == [2, 3]


async def test_a_worker_that_ended_as_it_answered_is_not_lent() -> None:
    async with pool(workers=1) as workers:
        (only,) = workers._crew._serving
        only.kill()
        await workers.reach("worker-died", 1)
        workers._crew.lend(only, "a call")
        assert not workers._turns.claim(only, "a call")


async def test_every_picture_has_the_whole_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead_s = 0.0
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + ahead_s)
    async with Meeting() as meeting, pool(workers=1, render_deadline_s=1000) as workers:
        warm = asyncio.create_task(all_of(workers, "meet", at=meeting.at))
        for _ in THREE:
            await meeting.arrival()
            ahead_s += 600
            await ticks()
            meeting.let_go()
        assert len(await warm) == 3
        assert not workers.counted


def test_every_picture_has_the_whole_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []
    monkeypatch.setattr(sandbox, "extend_cpu_limit", allowed.append)
    made = iter([(Rendered(target(f"{side}x1"), Format.JPEG, side, 1, 1, ""), b".") for side in (1, 2)])
    renderer = worker.Renderer(lambda: ("", ()), lambda *_: (1, made), lambda _: pytest.fail("no inspection"))

    def serve(server: socket.socket) -> None:
        with pytest.raises(EOFError):
            worker.serve(server, renderer, 7.0, lambda: 0)

    ours, theirs = socket.socketpair()
    with opened(b"x") as fd, theirs:
        thread = threading.Thread(target=serve, args=(theirs,))
        thread.start()
        with ours:
            socket.send_fds(
                ours, [protocol.frame(protocol.Request(1, jobs(target("1x1"), target("2x1"))))], [fd]
            )
            assert isinstance(protocol.receive_message(ours)[0], protocol.MemoryNeeded)
            for times in (2, 3):
                protocol.send_message(ours, protocol.Continue())
                head = ours.recv(protocol.HEAD.size, socket.MSG_WAITALL)
                ours.recv(sum(protocol.lengths(head)), socket.MSG_WAITALL)
                assert allowed == [7.0] * times
        thread.join()


# ---------------------------------------------------------------------------------------- callers who leave


async def test_who_leaves_between_two_pictures_frees_the_worker() -> None:
    async with pool(workers=1) as workers:
        async with warming(workers) as warm:
            _, before = await anext(warm)
        await ticks()
        (only,) = workers._crew._serving
        assert not only.is_paused, "it was told to forget the job"
        assert [body for _, body in await all_of(workers, sizes=(4, 5))] == [before, before]
        assert not workers.counted


async def test_who_leaves_during_a_picture_frees_the_worker_when_it_is_made() -> None:
    async with Meeting() as meeting, pool(workers=1) as workers:
        before = await workers.do("work")
        leaver = asyncio.create_task(all_of(workers, "meet", at=meeting.at))
        await meeting.arrival()
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        waits = asyncio.create_task(all_of(workers, sizes=(4,)))
        await ticks()
        assert workers.in_flight == 1
        meeting.let_go()
        assert await waits == [(4, before)]
        assert not workers.counted


async def test_who_leaves_after_a_viewer_took_the_worker_takes_nothing_from_the_viewer() -> None:
    async with Meeting() as meeting, pool(workers=1) as workers:
        async with warming(workers) as warm:
            await anext(warm)
            viewer = asyncio.create_task(workers.do("meet", at=meeting.at))
            await meeting.arrival()
        await ticks()
        meeting.let_go()
        await viewer
        assert not workers.counted


async def test_a_drain_ends_a_warm_after_the_picture_being_made() -> None:
    async with (
        Meeting() as meeting,
        pool(workers=1) as workers,
        warming(workers, "meet", at=meeting.at) as warm,
    ):
        first = asyncio.ensure_future(anext(warm))
        await meeting.arrival()
        closing = asyncio.create_task(workers.close(60))
        await ticks()
        assert not closing.done()
        meeting.let_go()
        assert (await first)[0].width_px == 1
        with pytest.raises(errors.Draining):
            await anext(warm)
        await closing


async def test_during_a_drain_no_further_picture_is_begun() -> None:
    async with Meeting() as meeting, pool(workers=2) as workers, warming(workers) as warm:
        await anext(warm)
        viewer = asyncio.create_task(workers.do("meet", at=meeting.at))
        await meeting.arrival()
        closing = asyncio.create_task(workers.close(60))
        await ticks()
        with pytest.raises(errors.Draining):
            await anext(warm)
        assert not closing.done()
        meeting.let_go()
        await asyncio.gather(viewer, closing)


async def test_a_warm_that_waits_when_the_drain_is_over_is_refused() -> None:
    async with Meeting() as meeting, pool(workers=1) as workers:
        held = asyncio.create_task(workers.do("meet", at=meeting.at))
        await meeting.arrival()
        waits = asyncio.create_task(all_of(workers))
        await ticks()
        await workers.close(0)
        for call in (held, waits):
            with pytest.raises(errors.Draining):
                await call
        assert (workers.in_flight, workers.queued) == (0, 0)


async def test_warming_leaves_nothing_behind() -> None:
    async with pool() as workers:
        await all_of(workers)
        before = open_descriptors()
        for _ in range(20):
            await asyncio.gather(*(all_of(workers) for _ in range(4)), workers.do("work"))
            async with warming(workers) as warm:
                await anext(warm)
        await ticks()
        assert open_descriptors() == before
        assert not workers._turns._lent
