"""Faults that say nothing about an original: stalled workers, and workers that are killed from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from galerly_cdn import errors
from galerly_cdn.render.pool import process
from tests.support import exhaustive
from tests.support.worker_pool import JOB, Barrier, HookedPool, LoopClock, hooked_pool, ticks

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

DEADLINE_S = 50.0
"""No healthy render is late, however busy the machine is; `LoopClock.skip` ends it for a stalled worker."""
HEALTHY = st.sampled_from(["a@1", "b@1"])
FROM_OUTSIDE = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
CRASHES = ["abort", "segv", "exit", "garbage", "raise unknown", "exceed the CPU limit"]


async def end_worker_of(workers: HookedPool, token: str, number: int, clock: LoopClock) -> bytes:
    """Render an original, and send a signal to its worker while it renders. A stalled worker becomes late."""
    async with Barrier() as barrier:
        call = asyncio.create_task(workers.run_script("wait", token, barrier=barrier.path))
        arrival = await barrier.next_arrival()
        os.kill(arrival["pid"], number)
        if number == signal.SIGSTOP:
            clock.skip(DEADLINE_S)
        return await call


@pytest.mark.parametrize("number", FROM_OUTSIDE, ids=lambda number: number.name)
async def test_original_whose_workers_are_killed_from_outside_is_rendered_later(number: int) -> None:
    async with hooked_pool(render_deadline_s=DEADLINE_S) as workers:
        clock = LoopClock(asyncio.get_running_loop())
        for _ in range(3):
            with pytest.raises(errors.WorkerDied, match=f"exit -{number}"):
                await end_worker_of(workers, "a@1", number, clock)
        assert await workers.run_script("echo", "a@1", text="whole") == b"whole"
        assert workers.counted == {"worker-crashed": 3}


async def test_original_whose_workers_are_stopped_is_rendered_later() -> None:
    async with hooked_pool(render_deadline_s=DEADLINE_S) as workers:
        clock = LoopClock(asyncio.get_running_loop())
        for _ in range(3):
            with pytest.raises(errors.RenderTimeout):
                await end_worker_of(workers, "a@1", signal.SIGSTOP, clock)
        assert await workers.run_script("echo", "a@1", text="whole") == b"whole"
        assert workers.counted["quarantined"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process and leaves its exit code")
async def test_late_worker_that_runs_on_while_it_is_killed_is_no_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine the server may lose its core between two steps of killing a worker."""
    kill = os.killpg

    async with Barrier() as barrier, hooked_pool(render_deadline_s=DEADLINE_S) as workers:

        def kill_after_a_pause(group: int, number: int) -> None:
            """A worker that has lost its connection by now gets the time to end by itself."""
            for worker in workers._supervisor._workers:
                if worker.pid == group and is_disconnected(worker._process._socket):
                    os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT)
            kill(group, number)

        monkeypatch.setattr(os, "killpg", kill_after_a_pause)
        clock = LoopClock(asyncio.get_running_loop())
        for _ in range(3):
            call = asyncio.create_task(
                workers.run_script("wait for disconnection", "a@1", barrier=barrier.path)
            )
            await barrier.next_arrival()
            clock.skip(DEADLINE_S)
            with pytest.raises(errors.RenderTimeout):
                await call


def is_disconnected(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


async def test_original_that_the_disk_does_not_return_is_not_quarantined(tmp_path: Path) -> None:
    """A descriptor that cannot be read raises an `OSError`, as a faulty disk does."""
    async with hooked_pool() as workers:
        fd = os.open(tmp_path / "original", os.O_WRONLY | os.O_CREAT)
        try:
            for _ in range(3):
                with pytest.raises(errors.DiskError, match="Bad file descriptor"):
                    await workers.render(fd, 10, JOB, "a@1")
        finally:
            os.close(fd)
        assert not workers.counted


@pytest.mark.parametrize("do", CRASHES)
async def test_original_that_crashes_two_workers_is_refused(do: str) -> None:
    async with hooked_pool() as workers:
        for error in (errors.WorkerDied, errors.Quarantined):
            with pytest.raises(error):
                await workers.run_script(do, "bad@1")


async def test_process_that_exits_while_its_child_holds_the_connection_is_a_crash() -> None:
    async with Barrier() as barrier, hooked_pool(render_deadline_s=DEADLINE_S) as workers:
        clock = LoopClock(asyncio.get_running_loop())
        for error in (errors.RenderTimeout, errors.Quarantined):
            call = asyncio.create_task(workers.run_script("fork", "bad@1", barrier=barrier.path))
            await barrier.next_arrival()
            clock.skip(DEADLINE_S)
            with pytest.raises(error):
                await call


@pytest.mark.parametrize(
    ("share", "last_error"),
    [(0.0, errors.RenderTimeout), (0.8, errors.RenderTimeout), (1, errors.Quarantined)],
)
async def test_late_render_counts_against_its_original_by_its_cpu_time(
    monkeypatch: pytest.MonkeyPatch, share: float, last_error: type[Exception]
) -> None:
    """The clock of the process is faked: how much of a core a render gets depends on the machine."""
    readings = iter([5.0, 5.0 + share * DEADLINE_S] * 3)
    async with Barrier() as barrier, hooked_pool(render_deadline_s=DEADLINE_S) as workers:
        monkeypatch.setattr(process.WorkerProcess, "cpu_s", lambda _: next(readings))
        clock = LoopClock(asyncio.get_running_loop())
        for error in (errors.RenderTimeout, last_error):
            call = asyncio.create_task(workers.run_script("wait", "a@1", barrier=barrier.path))
            await barrier.next_arrival()
            clock.skip(DEADLINE_S)
            with pytest.raises(error):
                await call


@pytest.mark.skipif(sys.platform != "linux", reason="reads the clock of another process")
async def test_cpu_time_of_a_worker_grows_while_it_works_and_not_while_it_waits() -> None:
    async with hooked_pool(workers=1) as workers:
        (worker,) = workers._supervisor.serving
        await workers.run_script("nothing")
        idle_s = worker.cpu_s()
        assert idle_s > 0
        assert worker.cpu_s() == idle_s
        await workers.run_script("big", length_bytes=20_000_000)
        assert worker.cpu_s() > idle_s


class Faults(RuleBasedStateMachine):
    """Renders healthy originals among faults. `strikes` counts the crashes of the one that is not healthy."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.parts = AsyncExitStack()
        self.strikes = 0
        self.now_s = 0.0

    @initialize(size=st.integers(1, 3))
    def start(self, size: int) -> None:
        pool = hooked_pool(
            clock=lambda: self.now_s,
            workers=size,
            render_deadline_s=DEADLINE_S,
            quarantine_s=60,
            worker_renders=5,
        )
        self.clock = LoopClock(self.runner.get_loop())
        self.workers = self.run(self.parts.enter_async_context(pool))

    workers: HookedPool

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - any result
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.parts.aclose())
        self.runner.close()

    @rule(token=HEALTHY)
    def render(self, token: str) -> None:
        assert self.run(self.workers.run_script("echo", token, text=token)) == token.encode()

    @rule(token=HEALTHY, number=st.sampled_from([*FROM_OUTSIDE, signal.SIGSTOP]))
    def signal_the_worker_during_a_render(self, token: str, number: int) -> None:
        error = errors.RenderTimeout if number == signal.SIGSTOP else errors.WorkerDied
        self.run(self.workers.all_ready.wait())
        with pytest.raises(error):
            self.run(end_worker_of(self.workers, token, number, self.clock))
        self.render(token)

    @rule(token=HEALTHY, number=st.sampled_from([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]))
    def signal_every_worker_before_as_many_renders(self, token: str, number: int) -> None:
        async def render_until_served() -> bytes:
            while True:
                try:
                    return await self.workers.run_script("echo", token, text=token)
                except errors.RenderFailed:
                    continue

        async def signal_and_render() -> set[bytes]:
            """Each worker that was free gets one of the calls, so that none of them stays stopped.

            No start is in progress: the clock would be set past its end, too.
            """
            await self.workers.all_ready.wait()
            for worker in self.workers._supervisor.serving:
                os.kill(worker.pid, number)
            calls = [asyncio.create_task(render_until_served()) for _ in range(self.workers.capacity)]
            await ticks()
            if number == signal.SIGSTOP:
                self.clock.skip(DEADLINE_S)
            return set(await asyncio.gather(*calls))

        assert self.run(signal_and_render()) == {token.encode()}

    @rule(do=st.sampled_from(["abort", "segv", "exit"]))
    def crash(self, do: str) -> None:
        with pytest.raises(errors.WorkerDied if self.strikes == 0 else errors.Quarantined):
            self.run(self.workers.run_script(do, "bad@1"))
        self.strikes += 1

    @rule()
    def let_the_quarantine_end(self) -> None:
        self.now_s += 60
        self.strikes = 0


@pytest.mark.exhaustive
@pytest.mark.timeout(300)  # Hypothesis shortens a failing sequence before it reports it
def test_any_sequence_of_faults_refuses_no_healthy_original() -> None:
    run_state_machine_as_test(
        Faults,
        settings=settings(max_examples=exhaustive.count(20, sample=4), stateful_step_count=12, deadline=None),
    )
