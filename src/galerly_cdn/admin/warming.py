"""Warms renditions: a gallery's while a client reads the response, an upload's in the background.

The worker pool gives viewers priority (`WorkerPool.warm`); this module keeps the workers busy with a bounded
number of originals at a time.
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

_MAX_QUEUED = 10_000
"""Uploads that can wait to be warmed. The renditions of further uploads are made on request."""


class Warmer:
    """Warms `concurrency` originals at a time. `count` counts the events `warm-dropped` and `warm-failed`."""

    def __init__(self, library: StoreLibrary, concurrency: int, count: Callable[[str], None]) -> None:
        self._library = library
        self._concurrency = concurrency
        self._count = count
        self._queue: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def warm_gallery(self, gallery: str, after: str, request_id: str) -> AsyncGenerator[Value, None]:
        """Yield a `Warmed` for every rendition of the gallery's originals whose keys sort after `after`.

        Originals are in the order of their keys. An original that cannot be rendered yields a `Failed`, and
        the next one follows. Raises `StoreRefused` and `Unavailable`, after the values yielded before.
        """
        running: deque[asyncio.Task[list[Value]]] = deque()
        try:
            async for key in self._library.keys(gallery, after):
                running.append(asyncio.create_task(self._warm_original(key, request_id)))
                if len(running) == self._concurrency:
                    for value in await running.popleft():
                        yield value
            while running:
                for value in await running.popleft():
                    yield value
        finally:
            await _cancel(running)

    def enqueue(self, key: str) -> None:
        """Warm an uploaded original in the background, after those queued before it."""
        if len(self._queue) >= _MAX_QUEUED:
            self._count("warm-dropped")
            return
        self._queue[key] = None
        if len(self._tasks) < self._concurrency:
            task = asyncio.create_task(self._warm_queued())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Drop the queue and cancel the background tasks; missing renditions are made on request."""
        self._queue.clear()
        await _cancel(self._tasks)

    async def _warm_original(self, key: str, request_id: str) -> list[Value]:
        values: list[Value] = []
        try:
            async for warmed in self._library.warm(key):
                values.append(warmed)  # noqa: PERF401 - values before an error are returned too
        except (StoreRefused, Unavailable):
            raise
        except GalerlyError as error:
            values.append(Failed(key, responses.problem(error, request_id)))
        return values

    async def _warm_queued(self) -> None:
        while self._queue:
            key = next(iter(self._queue))
            del self._queue[key]
            try:
                async for _ in self._library.warm(key):
                    pass
            except GalerlyError:
                self._count("warm-failed")


async def _cancel(tasks: deque[asyncio.Task[list[Value]]] | set[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until they have ended."""
    cancelled: list[asyncio.Task[Any]] = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
