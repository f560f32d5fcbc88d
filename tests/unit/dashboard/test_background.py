"""Runs in the background: at most one, and how each ended."""

from __future__ import annotations

import asyncio
import logging

import pytest

from galerly_cdn.clock import Clock
from galerly_cdn.dashboard.background import AlreadyRunning, BackgroundRun, Phase
from galerly_cdn.errors import SettingsError, Unavailable


class Work:
    """Work that waits until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.ending = asyncio.Event(), asyncio.Event()

    async def run(self) -> str:
        self.begun.set()
        await self.ending.wait()
        return "made"


@pytest.fixture
def run() -> BackgroundRun[str]:
    return BackgroundRun(Clock(wall=lambda: 1000.0, monotonic=lambda: 5.0))


async def test_second_run_is_refused_while_one_runs(run: BackgroundRun[str]) -> None:
    work = Work()
    run.start(work.run)
    with pytest.raises(AlreadyRunning):
        run.start(work.run)
    work.ending.set()
    await run.wait()
    assert (run.phase, run.result, run.ended_s) == (Phase.DONE, "made", 1000.0)


async def test_stopped_run_keeps_the_result_of_the_one_before(run: BackgroundRun[str]) -> None:
    first = Work()
    first.ending.set()
    run.start(first.run)
    await run.wait()
    second = Work()
    run.start(second.run)
    await second.begun.wait()
    await run.stop()
    assert (run.phase, run.result) == (Phase.STOPPED, "made")


async def test_run_stopped_before_it_began_is_cleaned(run: BackgroundRun[str]) -> None:
    ended: list[str] = []
    work = Work()
    run.start(work.run, lambda: ended.append("cleaned"))
    await run.stop()
    assert (run.phase, ended, work.begun.is_set()) == (Phase.STOPPED, ["cleaned"], False)
    await run.stop()  # there is none


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (SettingsError(["one is wrong"]), "one is wrong"),
        (Unavailable(), "Try again in a moment."),
        (OSError(28, "No space left on device", "/tmp/x"), "/tmp/x: No space left on device"),
        (ValueError("s3cret"), "An internal error occurred (ValueError); the server's log has more."),
    ],
)
async def test_failed_run_says_why(
    run: BackgroundRun[str], error: Exception, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> str:
        raise error

    with caplog.at_level(logging.CRITICAL):
        run.start(fail)
        await run.wait()
    assert (run.phase, run.problem) == (Phase.FAILED, problem)
