"""Tests of connections that move between a server and its hit processes, and of the processes' ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.model import Size, Target
from galerly_cdn.render.pool.fork_server_process import worker_command
from galerly_cdn.server.processes import hit_processes
from galerly_cdn.server.processes.hit_processes import HitProcesses
from galerly_cdn.server.processes.messages import Start
from galerly_cdn.server.processes.shared_connection import MAX_UNUSED
from galerly_cdn.settings.locations import Locations
from galerly_cdn.settings.table import Settings
from tests.support.echo_hit_process import NEVER
from tests.support.raw_http import Echo, get, run, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from galerly_cdn.telemetry import AccessRecord
    from tests.support.raw_http import Served, Viewer

pytestmark = pytest.mark.timeout(60)
TARGET = Target(Size(150, 150))


async def until(is_true: Callable[[], bool]) -> None:
    """Let the server run until a condition holds."""
    while not is_true():  # noqa: ASYNC110 - of a server that has no events for it
        await asyncio.sleep(0)


class Running:
    """A server with hit processes, and what they told it."""

    def __init__(self, settings: Settings, number: int) -> None:
        self.events: Counter[str] = Counter()
        self.paths: list[str] = []
        self.echo = Echo()
        self.settings = settings
        self.processes = HitProcesses(
            worker_command("tests.support.echo_hit_process"),
            Start(settings=settings, locations=Locations("", "", is_writable=False), libvips="", formats=()),
            number,
            record=self._record,
            count=self._count,
        )
        self.served: Served
        self._stack = AsyncExitStack()

    def _record(self, record: AccessRecord, result: str) -> None:
        assert result == "hit"
        self.paths.append(record.path)

    def _count(self, event: str, times: int) -> None:
        self.events[event] += times

    async def until_ready(self, number: int = 1) -> None:
        """Return when so many processes are ready."""
        await until(lambda: sum(process.is_ready for process in self.processes._processes) >= number)

    @asynccontextmanager
    async def given(self) -> AsyncIterator[Viewer]:
        """A viewer whose connection a hit process serves."""
        before = self.processes._given
        async with self.served.viewer() as viewer:
            await viewer.send(get("/first"))
            await viewer.response()
            await until(lambda: self.processes._given > before)
            yield viewer


@asynccontextmanager
async def serving_with(number: int = 1, **settings: object) -> AsyncIterator[Running]:
    running = Running(Settings(port=0, **settings), number)  # type: ignore[arg-type]  # of the tests' settings
    async with serving(
        running.echo, running.settings, answer_hit=running.echo.answer_hit, processes=running.processes
    ) as running.served:
        await running.until_ready(number)
        yield running


async def ask(viewer: Viewer, path: str) -> tuple[dict[str, str], str]:
    """The headers of the response, and the path that it echoes."""
    await viewer.send(get(path))
    status, headers, body = await viewer.response()
    assert status == 200
    return headers, json.loads(body)["raw_path"]


def pid_of(running: Running) -> int:
    return running.processes._processes[0].pid


def test_connection_is_given_returned_and_given_again() -> None:
    async def scenario() -> None:
        async with serving_with() as running, running.given() as viewer:
            for _ in range(MAX_UNUSED + 1):
                headers, path = await ask(viewer, "/hit")
                assert (headers["x-process"], path) == (str(pid_of(running)), "/hit")
                headers, path = await ask(viewer, "/miss")
                assert ("x-process" in headers, path) == (False, "/miss")
                await until(lambda: running.processes._given == 1)
            assert len(running.processes._state.limit) == 1

    run(scenario())


def test_connection_without_hits_stays_with_the_server() -> None:
    async def scenario() -> None:
        async with serving_with() as running, running.given() as viewer:
            for _ in range(MAX_UNUSED):
                await ask(viewer, "/miss")
            for _ in range(3):
                await asyncio.sleep(0)
            assert running.processes._given == 0
            headers, _ = await ask(viewer, "/hit")
            assert "x-process" not in headers

    run(scenario())


def test_bytes_larger_than_a_packet_are_returned_whole() -> None:
    async def scenario() -> None:
        body = bytes(range(256)) * 1000
        async with serving_with() as running, running.given() as viewer:
            await viewer.send(get("/miss") * 3 + get("/last", f"Content-Length: {len(body)}") + body)
            paths = [json.loads((await viewer.response())[2])["raw_path"] for _ in range(4)]
            assert paths == ["/miss"] * 3 + ["/last"]
            assert await viewer.read_to_end() == b""

    run(scenario())


def test_records_of_a_stopped_server_are_complete() -> None:
    async def scenario() -> None:
        async with serving_with(2) as running:
            async with running.given() as one, running.given() as other:
                for _ in range(100):
                    await asyncio.gather(ask(one, "/one"), ask(other, "/other"))
            await until(lambda: running.processes._given == 0)
        assert Counter(running.paths) == {"/one": 100, "/other": 100}
        assert running.processes.memory_bytes == 0

    run(scenario())


def test_connections_of_all_processes_count_in_one_limit() -> None:
    async def scenario() -> None:
        async with serving_with(max_connections=2) as running, running.given() as viewer:
            async with running.served.viewer() as second:
                await ask(second, "/second")
                async with running.served.viewer() as third:
                    assert (await third.response())[0] == 503
            headers, _ = await ask(viewer, "/hit")
            assert "x-process" in headers

    run(scenario())


def test_killed_process_loses_its_connections_only_and_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hit_processes, "_RESTART_S", 0)

    async def scenario() -> None:
        async with serving_with() as running, running.given() as lost, running.served.viewer() as kept:
            await ask(kept, "/kept")
            killed = pid_of(running)
            os.kill(killed, signal.SIGKILL)
            assert await lost.read_to_end() == b""
            await ask(kept, "/kept")
            assert len(running.processes._state.limit) == 1
            await running.until_ready()
            assert pid_of(running) != killed
            assert running.events["hit-process-ended"] == 1
            async with running.given() as viewer:
                headers, _ = await ask(viewer, "/hit")
                assert headers["x-process"] == str(pid_of(running))

    run(scenario())


def test_process_that_is_killed_during_a_stop_makes_it_unclean() -> None:
    async def scenario() -> bool:
        async with serving_with() as running, running.given():
            process = pid_of(running)
            os.kill(process, signal.SIGSTOP)  # it keeps its connection
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: running.processes.is_draining)
            os.kill(process, signal.SIGKILL)
            return await running.served.result

    assert run(scenario()) is False


def test_stop_with_given_connections_is_clean() -> None:
    async def scenario() -> bool:
        async with serving_with() as running, running.given():
            os.kill(os.getpid(), signal.SIGTERM)
            return await running.served.result

    assert run(scenario()) is True


@contextmanager
def no_file_left(pid: int) -> Iterator[None]:
    """A process that can open no further file."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    first_free = next(fd for fd in itertools.count() if not os.path.lexists(f"/proc/{pid}/fd/{fd}"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("who", ["server", "process"])
def test_returned_connection_without_a_free_file_is_lost_alone(who: str) -> None:
    async def scenario() -> None:
        async with (
            serving_with() as running,
            running.given() as lost,
            running.served.viewer(),
            running.given() as kept,
        ):
            await asyncio.gather(ask(lost, "/hit"), ask(kept, "/hit"))
            with no_file_left(os.getpid() if who == "server" else pid_of(running)):
                await lost.send(get("/miss"))
                assert await lost.read_to_end() == b""
            await until(lambda: running.processes._given == 1)
            headers, _ = await ask(kept, "/hit")
            assert headers["x-process"] == str(pid_of(running))

    run(scenario())


def test_given_connection_without_a_free_file_is_lost_alone() -> None:
    async def scenario() -> None:
        async with serving_with() as running, running.given() as kept, running.served.viewer() as lost:
            async with running.served.viewer():
                await ask(kept, "/hit")
                with no_file_left(pid_of(running)):
                    await ask(lost, "/first")
                    assert await lost.read_to_end() == b""
            await until(lambda: running.processes._given == 1)
            headers, _ = await ask(kept, "/hit")
            assert headers["x-process"] == str(pid_of(running))

    run(scenario())


def test_signals_of_a_service_manager_do_not_end_a_process() -> None:
    async def scenario() -> None:
        async with serving_with() as running, running.given() as viewer:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid_of(running), number)
            headers, _ = await ask(viewer, "/hit")
            assert headers["x-process"] == str(pid_of(running))

    run(scenario())


def test_forget_returns_what_was_in_memory_once_no_process_has_it() -> None:
    async def scenario() -> None:
        async with serving_with(2) as running:
            targets = [Target(Size(width, 150)) for width in range(1, 101)]
            removed = await asyncio.gather(
                *(running.processes.forget(key, targets) for key in ("g/a", "g/b"))
            )
            assert removed == [set(map(str, targets[50:]))] * 2
        assert [running.events[f"forgotten {key}"] for key in ("g/a", "g/b")] == [200, 200]

    run(scenario())


def test_process_that_does_not_forget_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hit_processes, "ANSWER_S", 0.1)
    monkeypatch.setattr(hit_processes, "_RESTART_S", 0)

    async def scenario() -> None:
        async with serving_with() as running, running.given() as viewer:
            stuck = pid_of(running)
            await running.processes.forget(NEVER, [TARGET])
            assert await viewer.read_to_end() == b""
            await running.until_ready()
            assert pid_of(running) != stuck

    run(scenario())


def test_stopped_process_takes_no_connection_that_it_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server keeps what does not fit into the channel, and its stop kills the process."""
    monkeypatch.setattr(hit_processes, "ANSWER_S", 0.1)

    async def scenario() -> None:
        async with serving_with() as running:
            process = running.processes._processes[0]
            os.kill(process.pid, signal.SIGSTOP)
            process._channel.send(running.processes._start)
            while process._channel.unsent == 0:
                process._channel.send(running.processes._start)
            async with running.served.viewer() as viewer:
                for _ in range(3):
                    headers, _ = await ask(viewer, "/hit")
                    assert "x-process" not in headers

    run(scenario())
