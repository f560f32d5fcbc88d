"""Tests the fork server: whose child a worker is, what it inherits, and what ends with what."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from pathlib import Path

import pytest

from galerly_cdn import errors
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.render.pool.fork_server_process import ForkServerProcess
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.settings.table import Settings
from tests.support.worker_pool import HookedPool, hooked_pool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

MODULE = "tests.support.hooked_worker"


def fork_server_of(workers: WorkerPool) -> ForkServerProcess:
    process = workers._supervisor._fork_server._process
    assert process is not None
    return process


def pids(workers: WorkerPool) -> set[int]:
    return {worker.pid for worker in workers._supervisor.serving}


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descriptors_of(pid: int) -> list[str]:
    return [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]


async def killed(pid: int) -> None:
    """Kill a process and wait for its end; it is not reaped."""
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(select.select, [end], [], [], 10)
    os.close(end)


async def test_workers_are_children_of_the_server_and_share_one_fork_server() -> None:
    async with hooked_pool(workers=3) as workers:
        fork_server = fork_server_of(workers).popen.pid
        for pid in (*pids(workers), fork_server):
            status = status_of(pid)
            assert (status["PPid"], status["Threads"]) == (str(os.getpid()), "1")
            assert os.getpgid(pid) == pid
        assert fork_server not in pids(workers)


async def test_process_that_has_loaded_libvips_can_fork() -> None:
    """It has one thread: libvips and the decoders start theirs at their first operation."""
    workers = WorkerPool(Settings(workers=1), print)
    await workers.start()
    assert fork_server_of(workers).popen.pid not in pids(workers)
    await workers.close(1)


async def test_worker_inherits_no_descriptor_of_the_fork_server() -> None:
    """With its socket a decoder that is taken over could start processes without limits."""
    async with hooked_pool(workers=2) as workers:
        for pid in pids(workers):
            targets = descriptors_of(pid)
            sockets = [one for one in targets if one.startswith("socket:")]
            pipes = [one for one in targets if one.startswith("pipe:")]
            others = [one for one in targets if one not in {*sockets, *pipes, "/dev/null"}]
            assert (len(sockets), len(pipes)) == (1, 1)
            assert [one.rpartition("/")[2] for one in others if "measured" not in one] == ["statm"]


async def test_killed_fork_server_takes_no_worker_with_it_and_is_replaced() -> None:
    async with hooked_pool(workers=1) as workers:
        before = fork_server_of(workers).popen.pid
        (worker,) = pids(workers)
        await killed(before)
        assert await workers.run_script("nothing") == str(worker).encode()
        await killed(worker)
        await workers.wait_for_count("worker-crashed", 1)
        await workers.all_ready.wait()
        assert await workers.run_script("nothing")
        assert fork_server_of(workers).popen.pid != before


async def test_recycled_worker_is_replaced_from_the_same_fork_server() -> None:
    async with hooked_pool(workers=1, worker_renders=1) as workers:
        before = fork_server_of(workers).popen.pid
        worn = await workers.run_script("nothing")
        while await workers.run_script("nothing") == worn:
            pass
        assert fork_server_of(workers).popen.pid == before


async def test_worker_that_ends_unexpectedly_is_replaced_from_a_new_fork_server() -> None:
    """The memory of forked workers has one layout, which a crash may have made known."""
    async with hooked_pool(workers=1) as workers:
        before = fork_server_of(workers).popen.pid
        with pytest.raises(errors.WorkerDied):
            await workers.run_script("abort")
        await workers.run_script("nothing")
        assert fork_server_of(workers).popen.pid != before


async def test_close_ends_the_fork_server() -> None:
    async with hooked_pool(workers=1) as workers:
        process = fork_server_of(workers)
    assert process.popen.returncode is not None


@pytest.mark.parametrize(
    "statement",
    [
        "import platform; platform.machine = lambda: 'unknown'",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import os; os.listdir = lambda _: open('/nonexistent')",
    ],
    ids=["machine without a known number of clone", "second thread", "no /proc"],
)
async def test_process_that_cannot_fork_becomes_the_worker(statement: str) -> None:
    *interpreter, code = fork_server_process.worker_command(MODULE)
    code = code.replace(f"from {MODULE}", f"{statement}; from {MODULE}")
    counted: list[str] = []
    workers = HookedPool(Settings(workers=2), counted.append, command=[*interpreter, code])
    await workers.start()
    await workers.all_ready.wait()
    assert workers._supervisor._fork_server._process is None
    assert len(pids(workers)) == 2
    assert int(await workers.run_script("nothing")) in pids(workers)
    await workers.close(1)
    assert counted == []


async def test_process_that_was_started_before_serves_the_pool() -> None:
    with ForkServerProcess(fork_server_process.worker_command(MODULE)) as started:
        workers = HookedPool(
            Settings(workers=1), print, command=fork_server_process.worker_command(MODULE), started=started
        )
        await workers.start()
        assert fork_server_of(workers) is started
        await workers.close(1)
    assert started.popen.returncode is not None


def test_process_that_no_pool_has_used_ends_with_its_context() -> None:
    with ForkServerProcess(fork_server_process.worker_command(MODULE)) as started:
        pass
    assert started.popen.returncode == -signal.SIGKILL
