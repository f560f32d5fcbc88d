"""Tests of the worker pool: crashes, quarantine, recycling, queue, start, close and sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import select
import signal
import socket
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from galerly_cdn import errors
from galerly_cdn.render.pool import process
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.render.pool.protocol import WorkerLimits
from galerly_cdn.render.pool.supervisor import Worker
from galerly_cdn.render.pool.worker_state import Event, Phase
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.descriptors import open_descriptors
from tests.support.worker_pool import JOB, Barrier, HookedPool, file_with, hooked_pool, ticks

DEADLINE_S = 2.0


async def test_pool_inspects_and_renders_a_photograph() -> None:
    original = pictures.jpeg(640, 480)
    workers = WorkerPool(Settings(workers=1), print)
    ready = await workers.start()
    try:
        with file_with(original) as fd:
            facts = await workers.inspect(fd, len(original), "a")
            rendered, body = await workers.render(fd, len(original), JOB, "a")
        with file_with(b"<svg/>") as fd, pytest.raises(errors.UnsupportedFormat, match="SVG") as refused:
            await workers.render(fd, 6, JOB, "b")
        (worker,) = workers.worker_facts
    finally:
        await workers.close(1)
    assert (worker.phase, worker.responses) == (Phase.FREE, 3)
    assert worker.pid > 0
    assert worker.resident_bytes > 1_000_000
    assert refused.value.public.startswith("SVG files are not supported")
    assert {"jpeg", "heic", "raw"} <= set(ready.formats)
    assert ready.libvips
    assert {"memory", "file-size", "open-files", "core"} <= set(ready.limits)
    assert (facts.width_px, facts.height_px) == (640, 480)
    assert (rendered.width_px, rendered.height_px, rendered.length_bytes) == (640, 480, len(body))
    assert body.startswith(b"\xff\xd8\xff")


# --------------------------------------------------------------------------------------- hostile originals

CRASHES = [
    pytest.param("loop", {}, errors.RenderTimeout, "worker-killed", id="loops forever"),
    pytest.param("abort", {}, errors.WorkerDied, "worker-crashed", id="aborts"),
    pytest.param("segv", {}, errors.WorkerDied, "worker-crashed", id="segmentation fault"),
    pytest.param("exit", {}, errors.WorkerDied, "worker-crashed", id="exits"),
    pytest.param("garbage", {}, errors.WorkerDied, "worker-crashed", id="sends garbage"),
    pytest.param("huge header", {}, errors.WorkerDied, "worker-crashed", id="sends a huge header"),
    pytest.param("respond twice", {}, errors.WorkerDied, None, id="responds twice"),
    pytest.param("nothing", {"extra_bytes": 1}, errors.WorkerDied, None, id="reports a wrong length"),
    pytest.param(
        "raise", {"code": "no-such-original"}, errors.WorkerDied, None, id="reports an error of the store"
    ),
    pytest.param("raise unknown", {}, errors.WorkerDied, None, id="raises an unknown error"),
]
CLEAN_FAILURES = [
    pytest.param("allocate", {}, errors.TooMuchMemory, id="allocates 8 GiB"),
    pytest.param("raise", {"code": "undecodable"}, errors.Undecodable, id="is damaged"),
    pytest.param("raise", {"code": "too-many-pixels"}, errors.TooManyPixels, id="is over the pixel limit"),
    pytest.param("stdout", {}, None, id="writes to stdout"),
    pytest.param("stderr", {}, None, id="fills stderr"),
]


async def among_others(workers: HookedPool, do: str, script: dict[str, Any]) -> Exception | None:
    """Render one bad original under load and return its error; all other calls must succeed."""
    bad, *good = await asyncio.gather(
        workers.run_script(do, **script),
        *(workers.run_script("echo", text=n) for n in range(12)),
        return_exceptions=True,
    )
    assert good == [str(n).encode() for n in range(12)]
    return bad if isinstance(bad, Exception) else None


@pytest.mark.parametrize(("do", "script", "error", "event"), CRASHES)
async def test_original_that_ends_its_worker_costs_one_call(
    do: str, script: dict[str, Any], error: type[Exception], event: str | None
) -> None:
    async with hooked_pool(render_deadline_s=DEADLINE_S) as workers:
        assert type(await among_others(workers, do, script)) is error
        await workers.all_ready.wait()
        assert await among_others(workers, "nothing", {}) is None
        assert event is None or workers.counted[event] == 1


@pytest.mark.parametrize(("do", "script", "error"), CLEAN_FAILURES)
async def test_original_that_fails_without_a_crash_keeps_its_worker(
    do: str, script: dict[str, Any], error: type[Exception] | None
) -> None:
    async with hooked_pool(workers=1) as workers:
        before = await workers.run_script("nothing")
        result = await among_others(workers, do, script)
        assert (result and type(result)) is error
        assert await workers.run_script("nothing") == before
        assert not workers.counted


async def test_process_forked_by_a_worker_is_killed_with_it() -> None:
    """The child holds the socket open, so only the deadline detects the exit of the worker."""
    async with Barrier() as barrier, hooked_pool(workers=1, render_deadline_s=DEADLINE_S) as workers:
        with pytest.raises(errors.RenderTimeout):
            await workers.run_script("fork", barrier=barrier.path)
        await barrier.next_arrival()
        await barrier.disconnected.wait()
        assert await workers.run_script("echo", text="whole") == b"whole"


async def test_error_detail_has_the_exit_code_and_stderr_of_the_worker() -> None:
    async with hooked_pool(workers=1) as workers:
        with pytest.raises(errors.WorkerDied, match="exit -6"):
            await workers.run_script("abort")
        with pytest.raises(errors.WorkerDied, match="a defect in the worker"):
            await workers.run_script("raise unknown")


async def test_workers_killed_at_random_cost_only_their_calls() -> None:
    rng = random.Random(4)
    kills = 25
    loop = asyncio.get_running_loop()
    began_at_s = loop.time()
    async with hooked_pool(workers=3) as workers:
        start_s = loop.time() - began_at_s
        is_over = False
        succeeded, lost = 0, 0

        async def client(name: int) -> None:
            nonlocal succeeded, lost
            while not is_over:
                text = f"{name}-{succeeded}"
                try:
                    assert await workers.run_script("echo", text=text) == text.encode()
                    succeeded += 1
                except errors.WorkerDied:
                    lost += 1

        clients = [asyncio.create_task(client(name)) for name in range(6)]
        restored_s = []
        for kill in range(1, kills + 1):
            began_at_s = loop.time()
            os.kill(rng.choice(pids(workers)), signal.SIGKILL)
            await workers.wait_for_count("worker-crashed", kill)
            await workers.all_ready.wait()
            restored_s.append(loop.time() - began_at_s)
        is_over = True
        await asyncio.gather(*clients)
        assert len(pids(workers)) == 3
    assert lost <= kills < succeeded
    assert workers.counted == {"worker-crashed": kills}
    assert statistics.median(restored_s) < max(1, 3 * start_s), (
        "restoring takes as long as starting, also on a busy machine"
    )


# ----------------------------------------------------------------------------------- quarantine, recycling


async def test_original_that_crashes_two_workers_is_quarantined() -> None:
    now_s = 0.0
    async with hooked_pool(clock=lambda: now_s, quarantine_s=600) as workers:
        with pytest.raises(errors.WorkerDied):
            await workers.run_script("abort", "a@1")
        with pytest.raises(errors.Quarantined):
            await workers.run_script("abort", "a@1")
        await workers.wait_for_count("worker-crashed", 2)
        with pytest.raises(errors.Quarantined):
            await workers.run_script("nothing", "a@1")
        assert workers.counted["worker-crashed"] == 2
        assert workers.counted["quarantined"] == 2
        assert await workers.run_script("nothing", "a@2")
        now_s = 600.0
        assert await workers.run_script("nothing", "a@1")


async def test_worn_worker_is_closed_when_its_replacement_is_ready() -> None:
    async with hooked_pool(workers=1, worker_renders=3) as workers:
        served_by = [await workers.run_script("nothing") for _ in range(3)]
        assert len(set(served_by)) == 1
        while (successor := await workers.run_script("nothing")) in served_by:
            assert workers.all_ready.is_set()
        assert workers.counted["worker-recycled"] == 1
        assert int(successor) in pids(workers)
        assert workers.counted["worker-crashed"] == 0


async def test_worker_above_its_memory_limit_is_replaced() -> None:
    async with hooked_pool(workers=1, worker_rss_bytes=1) as workers:
        first = await workers.run_script("nothing")
        while await workers.run_script("nothing") == first:
            assert workers.all_ready.is_set()
        assert workers.counted["worker-recycled"] >= 1


async def test_worn_worker_that_dies_before_its_replacement_is_replaced_once() -> None:
    async with hooked_pool(workers=1, worker_renders=1) as workers:
        with pytest.raises(errors.WorkerDied):
            await asyncio.gather(workers.run_script("nothing"), workers.run_script("abort"))
        await workers.wait_for_count("worker-crashed", 1)
        await workers.all_ready.wait()
        assert len(pids(workers)) == 1


# ------------------------------------------------------------------------------------- queue and admission


async def test_queue_is_bounded_by_count() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1, queue_renders=2) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waiting = [asyncio.create_task(workers.run_script("echo", text=n)) for n in range(2)]
        await ticks()
        assert (workers.in_flight, workers.queued) == (1, 2)
        with pytest.raises(errors.QueueFull):
            await workers.run_script("nothing")
        assert workers.counted == {"queue-full": 1}
        barrier.release()
        assert await asyncio.gather(*waiting) == [b"0", b"1"]
        await held
        assert (workers.in_flight, workers.queued) == (0, 0)


async def test_render_if_free_waits_for_no_call_of_another() -> None:
    async def render_if_free(workers: HookedPool) -> bytes:
        content = json.dumps({"do": "echo", "text": "done"}).encode()
        with file_with(content) as fd:
            _, body = await workers.render_if_free(fd, len(content), JOB, "a check")
        return body

    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        assert await render_if_free(workers) == b"done"
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waiting = asyncio.create_task(workers.run_script("nothing"))
        await ticks()
        with pytest.raises(errors.QueueFull, match="every worker has a call"):
            await render_if_free(workers)
        assert not workers.counted
        barrier.release()
        await asyncio.gather(held, waiting)
        assert await render_if_free(workers) == b"done"


async def test_queue_is_bounded_by_bytes() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1, queue_bytes=1000) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waiting = asyncio.create_task(workers.run_script("nothing", pad="x" * 600))
        await ticks()
        with pytest.raises(errors.QueueFull):
            await workers.run_script("nothing", pad="x" * 600)
        small = asyncio.create_task(workers.run_script("nothing"))
        await ticks()
        assert workers.queued == 2
        barrier.release()
        await asyncio.gather(held, waiting, small)


async def test_queue_serves_the_longest_waiting_call_first() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        served: list[int] = []

        async def call(place: int) -> None:
            await workers.run_script("nothing")
            served.append(place)

        async with asyncio.TaskGroup() as group:
            for place in range(5):
                group.create_task(call(place))
            await ticks()
            barrier.release()
        assert served == [0, 1, 2, 3, 4]
        await held


async def test_originals_over_the_memory_budget_are_decoded_one_after_the_other() -> None:
    async with Barrier() as barrier, hooked_pool(workers=3, render_memory_bytes=100) as workers:
        calls = [
            asyncio.create_task(
                workers.run_script(
                    "wait", barrier=barrier.path, memory_bytes=weight, prepare_barrier=barrier.path
                )
            )
            for weight in (60, 1000)
        ]
        for _ in calls:
            await barrier.next_arrival()
        barrier.release()
        for _ in calls:
            await barrier.next_arrival()
            for _ in range(5):
                assert (await workers.inspect_script("nothing")).format == "script"
            assert barrier.arrivals.empty()
            barrier.release()
        await asyncio.gather(*calls)


async def test_deadline_does_not_include_waiting_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead_s = 0.0
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + ahead_s)
    async with hooked_pool(workers=2, render_memory_bytes=100) as workers:
        async with workers._budget.reserve(100):
            call = asyncio.create_task(workers.run_script("echo", text="late", memory_bytes=1))
            while not workers._budget._waiting:
                await workers.inspect_script("nothing")
            ahead_s += 3600
            await workers.inspect_script("nothing")
        assert await call == b"late"


async def test_deadline_includes_reading_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead_s = 0.0
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + ahead_s)
    async with Barrier() as barrier, hooked_pool(workers=1, render_deadline_s=1000) as workers:
        call = asyncio.create_task(
            workers.run_script("wait", barrier=barrier.path, prepare_barrier=barrier.path)
        )
        await barrier.next_arrival()
        ahead_s += 600
        barrier.release()
        await barrier.next_arrival()
        ahead_s += 600
        with pytest.raises(errors.RenderTimeout):
            await call


async def test_caller_who_leaves_frees_the_worker() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        before = await workers.run_script("nothing")
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waits = asyncio.create_task(workers.run_script("nothing"))
        await ticks()
        for call in (held, waits):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert (workers.in_flight, workers.queued) == (1, 0)
        barrier.release()
        assert await workers.run_script("nothing") == before
        assert not workers.counted


# -------------------------------------------------------------------------------- originals and descriptors


async def test_original_over_the_size_limit_is_not_read() -> None:
    async with hooked_pool(workers=1, max_original_bytes=100) as workers:
        with file_with(b"") as fd, pytest.raises(errors.TooManyBytes):
            await workers.render(fd, 101, JOB, "a")


@pytest.mark.parametrize("reported_bytes", [0, 13, 15, 1000])
async def test_original_of_another_length_is_unsettled(reported_bytes: int) -> None:
    async with hooked_pool(workers=1) as workers:
        with file_with(b'{"do": "nothing"}') as fd, pytest.raises(errors.Unsettled):
            await workers.render(fd, reported_bytes, JOB, "a")
        assert await workers.run_script("nothing")


async def test_descriptor_may_have_any_offset_and_keeps_it() -> None:
    async with hooked_pool(workers=1) as workers:
        content = b'{"do": "echo", "text": "read"}'
        with file_with(content) as fd:
            os.lseek(fd, 7, os.SEEK_SET)
            for _ in range(2):
                assert (await workers.render(fd, len(content), JOB, "a"))[1] == b"read"
            assert os.lseek(fd, 0, os.SEEK_CUR) == 7


async def test_large_rendition_arrives_complete() -> None:
    async with hooked_pool(workers=1) as workers:
        assert await workers.run_script("big", length_bytes=20_000_000) == b"x" * 20_000_000


# ---------------------------------------------------------------------------------------- start and close


async def test_worker_that_cannot_start_reports_the_reason() -> None:
    *interpreter, code = process.worker_command("tests.support.hooked_worker")
    code = code.replace("import main; main()", "import main_with_wrong_libvips as main; main()")
    workers = WorkerPool(Settings(workers=2), print, command=[*interpreter, code])
    with pytest.raises(errors.SettingsError, match="the wrong libvips is loaded; reinstall it"):
        await workers.start()


@pytest.mark.parametrize("command", [["/nonexistent"], [sys.executable, "-c", "exit('no such module')"]])
async def test_command_that_is_not_a_worker_reports_the_reason(command: list[str]) -> None:
    workers = WorkerPool(Settings(workers=2), print, command=command)
    with pytest.raises(errors.SettingsError, match=r"a render worker cannot start: .*[Nn]o such"):
        await workers.start()


async def test_worker_that_is_not_ready_in_time_reports_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galerly_cdn.render.pool.supervisor._START_TIMEOUT_S", 0.1)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    workers = WorkerPool(Settings(workers=1), print, command=command)
    with pytest.raises(
        errors.SettingsError,
        match=r"cannot start: it was not ready within 0\.1 s; the machine is too busy or too slow$",
    ):
        await workers.start()


async def test_worker_that_is_killed_while_it_starts_reports_that() -> None:
    command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    workers = WorkerPool(Settings(workers=1), print, command=command)
    with pytest.raises(errors.SettingsError, match="cannot start: exit -9: it was killed from outside"):
        await workers.start()


async def test_worker_that_starts_slowly_is_reported_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ready 40 s after its start by the event loop's clock."""
    loop = asyncio.get_running_loop()
    real, ahead_s = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead_s)
    async with Barrier() as barrier:
        *interpreter, code = process.worker_command("tests.support.hooked_worker")
        code = code.replace(
            "main; main()", f"main, wait_at_barrier as wait; wait({barrier.path!r}, {{}}); main()"
        )
        workers = WorkerPool(Settings(workers=1), print, command=[*interpreter, code])
        start = asyncio.create_task(workers.start())
        await barrier.next_arrival()
        ahead_s = 40.0
        await ticks()
        barrier.release()
        assert (await start).libvips == "0.0.0"
        await workers.close(1)
    assert "a render worker is not ready after 10 s" in caplog.text


async def test_replacement_that_cannot_start_is_retried() -> None:
    async with hooked_pool(workers=1) as workers:
        begin = workers._supervisor._start_worker
        workers._supervisor._start_worker = functools.partial(
            Worker, ["/nonexistent"], WorkerLimits(2**31, 10)
        )
        with pytest.raises(errors.WorkerDied):
            await workers.run_script("abort")
        with pytest.raises(errors.QueueFull, match="no render worker starts"):
            await workers.run_script("nothing")
        await workers.wait_for_count("worker-failed", 2)
        workers._supervisor._start_worker = begin
        assert await workers.run_script("nothing")
        assert workers.all_ready.is_set()


async def test_drain_completes_accepted_calls_and_refuses_new_ones() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waits = asyncio.create_task(workers.run_script("echo", text="accepted"))
        await ticks()
        closing = asyncio.create_task(workers.close(60))
        await ticks()
        with pytest.raises(errors.Draining):
            await workers.run_script("nothing")
        assert not closing.done()
        barrier.release()
        await held
        assert await waits == b"accepted"
        await closing


async def test_calls_left_after_the_drain_are_refused() -> None:
    async with Barrier() as barrier, hooked_pool(workers=1) as workers:
        held = asyncio.create_task(workers.run_script("wait", barrier=barrier.path))
        await barrier.next_arrival()
        waits = asyncio.create_task(workers.run_script("nothing"))
        await ticks()
        await workers.close(0)
        for call in (held, waits):
            with pytest.raises(errors.Draining):
                await call
        assert (workers.in_flight, workers.queued) == (0, 0)


async def test_call_whose_worker_is_killed_by_close_before_its_request_is_refused() -> None:
    async with hooked_pool(workers=1) as workers:
        worker = await workers._queue.acquire()
        waits = asyncio.create_task(workers.run_script("nothing"))
        await ticks()
        workers._queue.release(worker)
        workers._is_closing = workers._is_closed = True
        worker.kill(Event.DISCARD)
        with pytest.raises(errors.Draining):
            await asyncio.wait_for(waits, 10)


async def test_close_twice_or_before_start_is_allowed() -> None:
    await WorkerPool(Settings(), print).close(1)
    async with hooked_pool(workers=1) as workers:
        await workers.close(1)


async def test_replacement_needed_while_the_pool_closes_is_not_started() -> None:
    async with hooked_pool(workers=1) as workers:
        workers._supervisor.serving[0].kill(Event.CRASH)
        await workers.wait_for_count("worker-crashed", 1)
    assert not workers._supervisor._workers


async def test_closed_pool_leaves_no_descriptor_and_no_process() -> None:
    async with hooked_pool(workers=2, worker_renders=20) as workers:
        await asyncio.gather(*(workers.run_script("nothing") for _ in range(20)))
        await workers.all_ready.wait()
    before = open_descriptors(), children()
    for _ in range(5):
        async with hooked_pool(workers=2, worker_renders=7) as workers:
            for kind in ("nothing", "abort", "nothing"):
                await asyncio.gather(*(workers.run_script(kind) for _ in range(10)), return_exceptions=True)
    assert open_descriptors() <= before[0]
    assert children() == before[1]


def children() -> set[int]:
    """Return the process ids of this process's children, zombies included.

    Another test's server may still run, and its threads start and end meanwhile.
    """
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pids.update(map(int, (task / "children").read_text().split()))
    return pids


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and pidfd are Linux")
async def test_workers_end_when_their_server_is_killed(tmp_path: Path) -> None:
    server = tmp_path / "server.py"
    server.write_text(
        "import asyncio, sys\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from tests.support.worker_pool import hooked_pool\n"
        "async def main():\n"
        "    async with hooked_pool(workers=2) as workers:\n"
        "        spinning = asyncio.create_task(workers.run_script('wait', barrier=sys.argv[1]))\n"
        "        print(*[worker.pid for worker in workers._supervisor.serving], flush=True)\n"
        "        await spinning\n"
        "asyncio.run(main())\n"
    )
    async with Barrier() as barrier:
        process = await asyncio.create_subprocess_exec(
            sys.executable, server, barrier.path, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        worker_pids = (await process.stdout.readline()).split()
        await barrier.next_arrival()
        ends = [os.pidfd_open(int(pid)) for pid in worker_pids]
        process.kill()
        await process.wait()
        for end in ends:
            assert await asyncio.to_thread(select.select, [end], [], [], 10) == ([end], [], [])
            os.close(end)
        assert len(worker_pids) == 2


async def test_worker_does_not_inherit_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "credentials")
    async with hooked_pool(workers=1) as workers:
        environment = json.loads(await workers.run_script("environment"))
    added = {"LC_CTYPE", "COVERAGE_PROCESS_CONFIG"}  # by Python itself, and by a run that measures coverage
    assert set(environment) - added == set(process.ENVIRONMENT)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's scheduling policies")
async def test_worker_has_a_lower_priority_than_its_server() -> None:
    """In the server's session: the kernel would give another one an equal share (sched(7), autogroup)."""
    async with hooked_pool(workers=1) as workers:
        (pid,) = pids(workers)
        niceness = os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)
        assert (niceness, os.sched_getscheduler(pid)) == (10, os.SCHED_BATCH)
        assert (os.getsid(pid), os.getpgid(pid)) == (os.getsid(0), pid)
        assert "low-priority" in workers.ready.limits


@pytest.mark.skipif(sys.platform != "linux", reason="tries Linux's limits")
async def test_sandbox_enforces_the_limits_that_the_worker_reports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with hooked_pool(workers=1) as workers:
            port = listener.getsockname()[1]
            raised = json.loads(await workers.run_script("try forbidden", port=port, path=__file__))
            in_force = set(workers.ready.limits)
    assert {"memory", "file-size", "open-files", "core"} <= in_force
    assert raised.pop("core") == "(0, 0)"
    assert raised.pop("library") == "utf-16-be"
    assert raised.pop("memory") == "MemoryError"
    assert set(raised) == in_force & {"file-size", "open-files", "no-network", "no-files"}


def pids(workers: WorkerPool) -> list[int]:
    return [worker.pid for worker in workers._supervisor.serving]
