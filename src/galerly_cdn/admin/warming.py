"""What makes pictures before anybody asks: a gallery's while somebody watches, an upload's in the background.

The workers let viewers go first (`Workers.warm`); here it is only seen to that they are kept busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from galerly_cdn.admin.responses import Failed
from galerly_cdn.errors import GalerlyError, StoreRefused, Unavailable
from galerly_cdn.http import responses

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from galerly_cdn.library import StoreLibrary
    from galerly_cdn.serialization import Value

_MAX_WAITING = 10_000
"""Uploads that may wait to be warmed; what comes beyond is made when somebody asks for it."""


class Warmer:
    """Warms `at_once` originals at a time. `count` hears of `warm-dropped` and `warm-failed`."""

    def __init__(self, archive: StoreLibrary, at_once: int, count: Callable[[str], None]) -> None:
        self._archive = archive
        self._at_once = at_once
        self._count = count
        self._waiting: dict[str, None] = {}
        self._runners: set[asyncio.Task[None]] = set()

    async def gallery(self, gallery: str, after: str, request_id: str) -> AsyncGenerator[Value, None]:
        """Every picture of a gallery, its originals in the order of their keys, those after `after`.

        An original that cannot be shown is told as `Failed`, and the next one warmed. Raises what the
        store raises once it cannot be relied on: what was told before is there.
        """
        under_way: deque[asyncio.Task[list[Value]]] = deque()
        try:
            async for key in self._archive.keys(gallery, after):
                under_way.append(asyncio.create_task(self._warmed(key, request_id)))
                if len(under_way) == self._at_once:
                    for one in await under_way.popleft():
                        yield one
            while under_way:
                for one in await under_way.popleft():
                    yield one
        finally:
            await _ended(under_way)

    def soon(self, key: str) -> None:
        """Warm an upload as soon as others before it are warm."""
        if len(self._waiting) >= _MAX_WAITING:
            self._count("warm-dropped")
            return
        self._waiting[key] = None
        if len(self._runners) < self._at_once:
            runner = asyncio.create_task(self._run())
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    async def close(self) -> None:
        """Leave what waits to those who ask for it."""
        self._waiting.clear()
        await _ended(self._runners)

    async def _warmed(self, key: str, request_id: str) -> list[Value]:
        told: list[Value] = []
        try:
            async for one in self._archive.warm(key):
                told.append(one)  # noqa: PERF401 - what came before a failure is told
        except (StoreRefused, Unavailable):
            raise
        except GalerlyError as error:
            told.append(Failed(key, responses.problem(error, request_id)))
        return told

    async def _run(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            del self._waiting[key]
            try:
                async for _ in self._archive.warm(key):
                    pass
            except GalerlyError:
                self._count("warm-failed")


async def _ended(tasks: deque[asyncio.Task[list[Value]]] | set[asyncio.Task[None]]) -> None:
    """Cancel, and wait until nothing of it runs any more."""
    left: list[asyncio.Task[Any]] = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
