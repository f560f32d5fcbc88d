"""Tests of warming in the worker pool: order, viewers first, failures, callers who leave."""

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
from galerly_cdn.render.pool.worker_state import Event, Phase
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.color_difference import opened as opened_picture
from tests.support.descriptors import open_descriptors
from tests.support.in_memory_cdn import FACTS
from tests.support.render_jobs import job_for, target
from tests.support.worker_pool import JOB, Barrier, HookedPool, file_with, hooked_pool, ticks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

THREE = (1, 2, 3)


@contextlib.asynccontextmanager
async def warming(
    workers: HookedPool,
    do: str | dict[str, str] = "nothing",
    sizes: tuple[int, ...] = THREE,
    **script: Any,  # noqa: ANN401 - JSON
) -> AsyncIterator[AsyncGenerator[tuple[Rendered, bytes], None]]:
    """Start a warm of an original that runs the hook `do`, with a picture for each size."""
    content = json.dumps({"do": do} | script).encode()
    job = JOB.of(Picture(Target(Size(side, side)), {Format.JPEG: 85}) for side in sizes)
    with file_with(content) as fd:
        async with contextlib.aclosing(workers.warm(fd, len(content), job, f"{do} {script}")) as warm:
            yield warm


async def all_of(
    workers: HookedPool,
    do: str | dict[str, str] = "nothing",
    sizes: tuple[int, ...] = THREE,
    **script: Any,  # noqa: ANN401 - JSON
) -> list[tuple[int, bytes]]:
    """Return the width and body of every picture of a warm."""
    async with warming(workers, do, sizes, **script) as warm:
        return [(rendered.width_px, body) async for rendered, body in warm]


async def test_warm_makes_every_rendition_of_a_photograph() -> None:
    original = pictures.jpeg(640, 480)
    targets = [target(box, form) for box in ("300x300", "100x100") for form in (None, Format.WEBP)]
    workers = WorkerPool(Settings(workers=1), print)
    await workers.start()
    try:
        with file_with(original) as fd:
            made = [one async for one in workers.warm(fd, len(original), job_for(*targets), "a")]
    finally:
        await workers.close(1)
    assert [one.target for one, _ in made] == targets
    for rendered, body in made:
        picture = opened_picture(body)
        assert picture.size == (rendered.width_px, rendered.height_px)
        assert picture.format == rendered.format.upper()


# ------------------------------------------------------------------------------------------- viewers first


async def test_viewer_gets_the_worker_at_once_while_the_caller_handles_a_picture() -> None:
    async with hooked_pool(workers=1) as workers, warming(workers) as warm:
        made = [(await anext(warm))[0].width_px]
        assert (workers.in_flight, workers.queued) == (0, 0)
        assert await workers.run_script("echo", text="viewer") == b"viewer"
        made += [rendered.width_px async for rendered, _ in warm]
        assert made == [1, 2, 3]
        assert workers.counted == {"warm-interrupted": 1}


async def test_viewer_waits_only_until_the_current_picture_is_made() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        warm = asyncio.create_task(all_of(workers, "wait", barrier=barrier.path))
        assert (await barrier.next_arrival())["picture"] == 1
        viewers = [
            asyncio.create_task(workers.run_script("wait", barrier=barrier.path, name=name)) for name in "ab"
        ]
        await ticks()
        assert workers.queued == 2
        order = []
        for _ in range(4):
            barrier.release()
            script = await barrier.next_arrival()
            order.append(script.get("name") or script["picture"])
        barrier.release()
        assert order == ["a", "b", 2, 3]
        assert [side for side, _ in await warm] == [1, 2, 3]
        await asyncio.gather(*viewers)


async def test_warm_makes_progress_between_any_number_of_viewers() -> None:
    """A warm makes one picture each time it has the worker."""
    async with hooked_pool(workers=1) as workers, warming(workers, sizes=tuple(range(1, 9))) as warm:
        made = []
        async for rendered, _ in warm:
            made.append(rendered.width_px)
            assert await workers.run_script("echo", text="viewer") == b"viewer"
        assert made == [*range(1, 9)]
        assert workers.counted == {"warm-interrupted": 7}


async def test_warm_waits_for_viewers_who_come_later() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        served: list[object] = []

        async def warm() -> None:
            served.extend(await all_of(workers, "echo", (1,), text="warm"))

        async def view(place: int) -> None:
            served.append(await workers.run_script("echo", text=place))

        async with asyncio.TaskGroup() as group:
            group.create_task(warm())
            await ticks()
            for place in range(3):
                group.create_task(view(place))
            await ticks()
            assert (workers.in_flight, workers.queued) == (1, 3)
            barrier.release()
        assert served == [b"0", b"1", b"2", (1, b"warm")]
        await held


async def test_warm_leaves_one_of_several_workers_to_viewers() -> None:
    async with Barrier() as barrier, hooked_pool(workers=2) as workers:
        warms = [
            asyncio.create_task(all_of(workers, "wait", (side,), barrier=barrier.path)) for side in THREE
        ]
        for _ in warms:
            await barrier.next_arrival()
            assert await workers.run_script("echo", text="viewer") == b"viewer"
            await ticks()
            assert barrier.arrivals.empty()
            barrier.release()
        assert [side for made in await asyncio.gather(*warms) for side, _ in made] == [1, 2, 3]
        assert not workers.counted


async def test_warm_reserves_memory_for_one_picture_at_a_time() -> None:
    async with (
        hooked_pool(workers=2, render_memory_bytes=100) as workers,
        warming(workers, memory_bytes=100) as warm,
    ):
        await anext(warm)
        assert await workers.run_script("echo", text="viewer", memory_bytes=100) == b"viewer"
        assert [rendered.width_px async for rendered, _ in warm] == [2, 3]


async def test_warm_queue_has_its_own_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galerly_cdn.render.pool.pool._MAX_WARMING", 2)
    async with Barrier() as barrier, hooked_pool(workers=1, queue_renders=1) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waiting = [asyncio.create_task(all_of(workers, sizes=(side,))) for side in (1, 2)]
        await ticks()
        with pytest.raises(errors.QueueFull):
            await all_of(workers)
        viewer = asyncio.create_task(workers.run_script("nothing"))
        await ticks()
        with pytest.raises(errors.QueueFull):
            await workers.run_script("nothing")
        barrier.release()
        await asyncio.gather(held, viewer, *waiting)
        assert workers.counted == {"queue-full": 2}


# ------------------------------------------------------------------------------------------------ failures

FAILURES = [
    pytest.param("abort", {}, errors.WorkerDied, id="its worker dies"),
    pytest.param("exit", {}, errors.WorkerDied, id="its worker ends"),
    pytest.param("loop", {}, errors.RenderTimeout, id="it loops forever"),
    pytest.param("garbage", {}, errors.WorkerDied, id="its worker sends garbage"),
    pytest.param("nothing", {"repeat_target": True}, errors.WorkerDied, id="its worker repeats a picture"),
    pytest.param(
        "raise", {"code": "too-much-memory"}, errors.TooMuchMemory, id="it is refused for its memory"
    ),
    pytest.param("allocate", {}, errors.TooMuchMemory, id="it allocates 8 GiB"),
]


@pytest.mark.parametrize(("do", "script", "error"), FAILURES)
async def test_pictures_made_before_a_failure_are_valid(
    do: str, script: dict[str, Any], error: type[errors.GalerlyError]
) -> None:
    async with hooked_pool(workers=1, render_deadline_s=2.0) as workers:
        async with warming(workers, {"1": "nothing", "2": do, "3": "nothing"}, **script) as warm:
            assert (await anext(warm))[0].width_px == 1
            with pytest.raises(error):
                await anext(warm)
        await workers.all_ready.wait()
        assert (workers.in_flight, workers.queued) == (0, 0)
        assert [side for side, _ in await all_of(workers)] == [1, 2, 3]


async def test_picture_that_crashes_two_workers_quarantines_its_original() -> None:
    async with hooked_pool(workers=1) as workers:
        do = {"1": "nothing", "2": "abort", "3": "nothing"}
        for error in (errors.WorkerDied, errors.Quarantined):
            with pytest.raises(error):
                await all_of(workers, do)
        await workers.wait_for_count("worker-crashed", 2)
        with pytest.raises(errors.Quarantined):
            await all_of(workers, do, (3,))
        assert workers.counted["worker-crashed"] == 2


async def test_worker_that_dies_between_two_pictures_costs_a_decode() -> None:
    async with hooked_pool(workers=1) as workers, warming(workers) as warm:
        await anext(warm)
        (only,) = workers._supervisor.serving
        only.kill(Event.CRASH)
        await workers.wait_for_count("worker-crashed", 1)
        assert [rendered.width_px async for rendered, _ in warm] == [2, 3]


async def test_worker_that_has_ended_is_not_offered() -> None:
    async with hooked_pool(workers=1) as workers:
        (only,) = workers._supervisor.serving
        only.kill(Event.CRASH)
        await workers.wait_for_count("worker-crashed", 1)
        workers._supervisor.offer(only, "a call")
        assert not workers._queue.reclaim(only, "a call")


async def test_deadline_applies_to_each_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead_s = 0.0
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + ahead_s)
    async with Barrier() as barrier, hooked_pool(workers=1, render_deadline_s=1000) as workers:
        warm = asyncio.create_task(all_of(workers, "wait", barrier=barrier.path))
        for _ in THREE:
            await barrier.next_arrival()
            ahead_s += 600
            await ticks()
            barrier.release()
        assert len(await warm) == 3
        assert not workers.counted


def test_cpu_limit_applies_to_each_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    limits_s: list[float] = []
    monkeypatch.setattr(sandbox, "extend_cpu_limit", limits_s.append)
    made = iter([(Rendered(target(f"{side}x1"), Format.JPEG, side, 1, 1, ""), b".") for side in (1, 2)])
    renderer = worker.Renderer(
        lambda: ("", ()), lambda *_: (FACTS, made), lambda _: pytest.fail("no inspection")
    )

    def serve(server: socket.socket) -> None:
        with pytest.raises(EOFError):
            worker.serve(server, renderer, 7.0, lambda: 0)

    server_end, worker_end = socket.socketpair()
    with file_with(b"x") as fd, worker_end:
        thread = threading.Thread(target=serve, args=(worker_end,))
        thread.start()
        with server_end:
            socket.send_fds(
                server_end,
                [protocol.encode_frame(protocol.Request(1, job_for(target("1x1"), target("2x1"))))],
                [fd],
            )
            assert isinstance(protocol.receive_message(server_end)[0], protocol.MemoryNeeded)
            for times in (2, 3):
                protocol.send_message(server_end, protocol.Continue())
                head = server_end.recv(protocol.HEADER.size, socket.MSG_WAITALL)
                server_end.recv(sum(protocol.decode_lengths(head)), socket.MSG_WAITALL)
                assert limits_s == [7.0] * times
        thread.join()


# ---------------------------------------------------------------------------------------- callers who leave


async def test_caller_who_leaves_between_two_pictures_frees_the_worker() -> None:
    async with hooked_pool(workers=1) as workers:
        async with warming(workers) as warm:
            _, before = await anext(warm)
        await ticks()
        (only,) = workers._supervisor.serving
        assert only.state.phase is Phase.FREE, "the job must be abandoned"
        assert [body for _, body in await all_of(workers, sizes=(4, 5))] == [before, before]
        assert not workers.counted


async def test_caller_who_leaves_during_a_picture_frees_the_worker_when_it_is_made() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        before = await workers.run_script("nothing")
        cancelled_call = asyncio.create_task(all_of(workers, "wait", barrier=barrier.path))
        await barrier.next_arrival()
        cancelled_call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled_call
        waits = asyncio.create_task(all_of(workers, sizes=(4,)))
        await ticks()
        assert workers.in_flight == 1
        barrier.release()
        assert await waits == [(4, before)]
        assert not workers.counted


async def test_caller_who_leaves_after_a_viewer_took_the_worker_does_not_disturb_the_viewer() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        async with warming(workers) as warm:
            await anext(warm)
            viewer = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
            await barrier.next_arrival()
        await ticks()
        barrier.release()
        await viewer
        assert not workers.counted


async def test_drain_ends_a_warm_after_the_current_picture() -> None:
    async with (
        Barrier() as barrier,
        hooked_pool(workers=1) as workers,
        warming(workers, "wait", barrier=barrier.path) as warm,
    ):
        first = asyncio.ensure_future(anext(warm))
        await barrier.next_arrival()
        closing = asyncio.create_task(workers.close(60))
        await ticks()
        assert not closing.done()
        barrier.release()
        assert (await first)[0].width_px == 1
        with pytest.raises(errors.Draining):
            await anext(warm)
        await closing


async def test_drain_starts_no_further_picture() -> None:
    async with Barrier() as barrier, hooked_pool(workers=2) as workers, warming(workers) as warm:
        await anext(warm)
        viewer = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        closing = asyncio.create_task(workers.close(60))
        await ticks()
        with pytest.raises(errors.Draining):
            await anext(warm)
        assert not closing.done()
        barrier.release()
        await asyncio.gather(viewer, closing)


async def test_warm_that_waits_when_the_drain_is_over_is_refused() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waits = asyncio.create_task(all_of(workers))
        await ticks()
        await workers.close(0)
        for call in (held, waits):
            with pytest.raises(errors.Draining):
                await call
        assert (workers.in_flight, workers.queued) == (0, 0)


async def test_warm_leaves_no_descriptor_and_no_offer() -> None:
    async with hooked_pool() as workers:
        await all_of(workers)
        before = open_descriptors()
        for _ in range(20):
            await asyncio.gather(*(all_of(workers) for _ in range(4)), workers.run_script("nothing"))
            async with warming(workers) as warm:
                await anext(warm)
        await ticks()
        assert open_descriptors() <= before
        assert not workers._queue._offered
