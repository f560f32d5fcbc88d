"""Tests the progress of many items that are found while the first ones are processed."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.cli.progress import Progress, Result
from galerly_cdn.errors import (
    CdnInterrupted,
    NoSuchOriginal,
    QueueFull,
    StoreRefused,
    StoreUnreachable,
    Undecodable,
)
from tests.support.worker_pool import ticks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def test_first_result_is_printed_before_the_next_items_are_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    is_first_done = asyncio.Event()

    async def found() -> AsyncIterator[dict[str, str]]:
        yield {"a": "a", "b": "b"}
        await is_first_done.wait()
        assert capsys.readouterr().out == "done a\ndone b\n"
        yield {"c": "c"}

    async def process(item: str) -> Result:
        if item == "b":
            asyncio.get_running_loop().call_soon(is_first_done.set)
        return Result([], f"done {item}")

    async with asyncio.timeout(10):
        await Progress(as_json=False).run(found(), process)
    captured = capsys.readouterr()
    assert captured.out == "done c\n"
    assert captured.err.endswith("3 of 3 done.\n")


async def test_total_grows_as_items_are_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    async def found() -> AsyncIterator[dict[str, str]]:
        yield {"a": "a", "b": "b"}
        yield {"c": "c"}

    async def process(item: str) -> Result:
        return Result([], item)

    await Progress(as_json=False).run(found(), process)
    errors = capsys.readouterr().err
    assert "\r0 of 2+ " in errors
    assert "\r0 of 3+ " in errors
    assert "\r3 of 3 " in errors


async def test_error_while_items_are_found_is_raised_after_the_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def found() -> AsyncIterator[dict[str, str]]:
        yield {"a": "a", "b": "b"}
        raise StoreUnreachable

    async def process(item: str) -> Result:
        return Result([], item)

    with pytest.raises(StoreUnreachable):
        await Progress(as_json=False).run(found(), process)
    assert "of 2+ done." in capsys.readouterr().err


async def test_without_a_terminal_a_line_tells_the_progress_every_30_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now_s = 0.0

    async def process(item: int) -> Result:
        nonlocal now_s
        now_s = 4.0 * item
        if item == 9:
            raise NoSuchOriginal
        return Result([], f"{item}")

    progress = Progress(as_json=False, clock=lambda: now_s)
    await progress.run({f"{number}": number for number in range(20)}, process)
    assert capsys.readouterr().err.splitlines() == [
        "9 of 20, 0 failed.",
        "17 of 20, 1 failed.",
        f"galerly-cdn: 9: {NoSuchOriginal.public}",
        "19 of 20 done.",
    ]


async def test_items_of_a_long_listing_are_found_as_they_are_processed() -> None:
    found = processed = most = 0

    async def listing() -> AsyncIterator[dict[str, int]]:
        nonlocal found
        for _ in range(60):
            found += 1000
            yield {f"{number}": number for number in range(found - 1000, found)}

    async def process(_item: int) -> Result:
        nonlocal processed, most
        processed += 1
        most = max(most, found - processed)
        return Result([], "")

    await Progress(as_json=False).run(listing(), process)
    assert processed == 60_000
    assert most < 13_000


EXIT_CODES = {
    "all done": ([None, None], 0),
    "a photograph that cannot be shown": ([None, Undecodable()], 1),
    "a store that refuses": ([StoreRefused()], 1),
    "a file that cannot be read": ([OSError(errno.EACCES, "no")], 1),
    "a store that cannot be reached": ([StoreUnreachable(), None], 75),
    "both": ([Undecodable(), StoreUnreachable()], 75),
    "a full queue": ([QueueFull()], 75),
    "an answer that broke off": ([CdnInterrupted()], 75),
    "a front that was not refreshed": (["not refreshed", None], 1),
    "a front that was not refreshed, and a full queue": (["not refreshed", QueueFull()], 75),
}


@pytest.mark.parametrize(("errors", "exit_code"), EXIT_CODES.values(), ids=EXIT_CODES)
async def test_exit_code_tells_whether_a_repetition_may_do_more(
    errors: list[Exception | str | None], exit_code: int
) -> None:
    """A text is a warning."""

    async def process(error: Exception | str | None) -> Result:
        if isinstance(error, Exception):
            raise error
        return Result([], "", [error] if error else [])

    progress = Progress(as_json=False)
    await progress.run({f"{number}": error for number, error in enumerate(errors)}, process)
    assert progress.exit_code == exit_code


async def test_store_that_stays_unreachable_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[int] = []

    async def process(item: int) -> Result:
        tried.append(item)
        if item == 12:
            return Result([], "")
        raise StoreUnreachable

    with pytest.raises(StoreUnreachable):
        await Progress(as_json=False).run({f"{number}": number for number in range(1000)}, process)
    assert 12 + 16 < len(tried) < 12 + 16 + 10
    assert "1 of 1000 done." in capsys.readouterr().err


@pytest.mark.parametrize("is_listing", [True, False])
async def test_sigterm_ends_the_command_after_the_items_in_hand(
    capsys: pytest.CaptureFixture[str], *, is_listing: bool
) -> None:
    asked, begun, goes_on = asyncio.Event(), 0, asyncio.Event()

    async def listing() -> AsyncIterator[dict[str, int]]:
        yield {f"{number}": number for number in range(10_100)}  # more than are queued
        await asyncio.Event().wait()

    async def process(_item: int) -> Result:
        nonlocal begun
        begun += 1
        if begun == 8:
            asked.set()
        await goes_on.wait()
        return Result([], "done")

    progress = Progress(as_json=False)
    items = listing() if is_listing else {f"{number}": number for number in range(100)}
    running = asyncio.create_task(progress.run(items, process))
    await asked.wait()
    signal.raise_signal(signal.SIGTERM)
    await ticks()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    goes_on.set()
    async with asyncio.timeout(10):
        await running
    assert (begun, progress.exit_code) == (8, 75)
    captured = capsys.readouterr()
    assert captured.out.split() == ["done"] * 8
    assert "ended by SIGTERM" in captured.err


@pytest.mark.parametrize(
    "command",
    ["terminal.end_at_sigterm()", "asyncio.run(Progress(as_json=False).run({'a': 1}, process))"],
)
async def test_sigterm_ends_the_first_process_of_a_container(command: str) -> None:
    """Linux ends it by no signal for which it has no handler: it would run on until it is killed."""
    program = f"""
import asyncio, os, signal
from galerly_cdn.cli import terminal
from galerly_cdn.cli.progress import Progress

async def process(_):
    signal.raise_signal(signal.SIGTERM)
    for _ in range(10):
        await asyncio.sleep(0)
    signal.raise_signal(signal.SIGTERM)

os.getpid = lambda: 1
{command}
signal.raise_signal(signal.SIGTERM)
"""
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await ended.wait() == 128 + signal.SIGTERM


async def test_sigterm_during_the_last_items_changes_nothing() -> None:
    async def process(_item: int) -> Result:
        signal.raise_signal(signal.SIGTERM)
        await ticks()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        return Result([], "done")

    progress = Progress(as_json=False)
    await progress.run({"a": 1}, process)
    assert progress.exit_code == 0
