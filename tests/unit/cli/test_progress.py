"""Tests the progress of many items that are found while the first ones are processed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.cli.progress import Progress, Result
from galerly_cdn.errors import StoreUnreachable

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
