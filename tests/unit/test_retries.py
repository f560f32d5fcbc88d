"""Tests the repetition of what failed because the machine or the store is busy."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import (
    GalerlyError,
    QueueFull,
    RenderTimeout,
    StoreRefused,
    StoreUnreachable,
    Undecodable,
)
from galerly_cdn.retries import BUSY, Retries

if TYPE_CHECKING:
    from collections.abc import Iterable


class Busy:
    """Raises the errors one after the other, then returns. Its clock advances by the waits."""

    def __init__(self, errors: Iterable[GalerlyError], kinds: tuple[type[GalerlyError], ...] = BUSY) -> None:
        self.errors: deque[GalerlyError] = deque(errors)
        self.now_s = 0.0
        self.told: list[tuple[str, float]] = []
        self.retries = Retries(kinds, 120.0, lambda: self.now_s, wait=self.wait)

    async def wait(self, wait_s: float) -> None:
        self.now_s += wait_s

    async def call(self) -> str:
        if self.errors:
            raise self.errors.popleft()
        return "done"

    async def run(self) -> str:
        return await self.retries.run(self.call, lambda error, wait_s: self.told.append((error.code, wait_s)))


@pytest.mark.parametrize("error", [QueueFull(), RenderTimeout(), StoreUnreachable()])
async def test_busy_call_is_repeated_and_announced(error: GalerlyError) -> None:
    busy = Busy([error] * 6)
    assert await busy.run() == "done"
    assert busy.told == [(error.code, wait_s) for wait_s in (1, 2, 4, 8, 10, 10)]


@pytest.mark.parametrize("error", [Undecodable(), StoreRefused()])
async def test_other_error_is_raised_at_once(error: GalerlyError) -> None:
    busy = Busy([error])
    with pytest.raises(type(error)):
        await busy.run()
    assert busy.told == []


async def test_calls_are_repeated_until_none_has_succeeded_for_the_deadline() -> None:
    busy = Busy([QueueFull()] * 1000)
    with pytest.raises(QueueFull):
        await busy.run()
    assert 110 <= busy.now_s <= 120
    busy.errors.clear()
    busy.errors.extend([QueueFull()] * 3)
    assert await busy.run() == "done"


async def test_only_the_given_kinds_are_repeated() -> None:
    busy = Busy([RenderTimeout()], (QueueFull,))
    with pytest.raises(RenderTimeout):
        await busy.run()
