"""Provides a byte-bounded LRU cache in memory, and single-flight execution of coroutines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

import cachetools

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable
    from typing import Any

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class MemoryCache(Generic[K, V]):
    """Keeps the most recently used values whose weights add up to at most `limit_bytes`.

    `weigh` returns a value's weight, in bytes.
    """

    def __init__(self, limit_bytes: int, weigh: Callable[[V], int]) -> None:
        self._values: cachetools.LRUCache[K, V] = cachetools.LRUCache(limit_bytes, getsizeof=weigh)

    def get(self, key: K) -> V | None:
        """The value, which becomes the most recently used. The caller checks whether it is current."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value, in place of the key's former one. A value heavier than the limit is not kept."""
        try:
            self._values[key] = value
        except ValueError:
            self._values.pop(key, None)

    def __contains__(self, key: K) -> bool:
        """Whether there is a value. This does not count as a use."""
        return key in self._values

    def drop(self, key: K) -> None:
        """Remove a value, if there is one."""
        self._values.pop(key, None)

    @property
    def weight_bytes(self) -> int:
        """The total weight of the values."""
        return int(self._values.currsize)


class SingleFlight(Generic[K, V]):
    """Runs one coroutine for all concurrent callers of its key.

    The coroutine runs in a task of its own: it continues if the caller that started it is cancelled. All
    waiting callers get its error; the next call starts again.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __contains__(self, key: K) -> bool:
        """Whether a task for this key is running."""
        task = self._tasks.get(key)
        return task is not None and not task.done()

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> tuple[V, bool]:
        """The result, and whether another caller had started the task (RFC 9211 `collapsed`)."""
        task, collapsed = self.begin(key, work)
        return await asyncio.shield(task), collapsed

    def begin(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> tuple[asyncio.Task[V], bool]:
        """The running task, started if there is none, and whether there was one.

        An error that nobody awaits is not logged.
        """
        task = self._tasks.get(key)
        collapsed = key in self
        if task is None or task.done():
            task = asyncio.create_task(work())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._remove(key, done))
        return task, collapsed

    def _remove(self, key: K, task: asyncio.Task[V]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # marks the error as retrieved: asyncio logs it otherwise

    async def wait(self, key: K) -> None:
        """Wait for the task of this key, if one is running, whatever its result."""
        task = self._tasks.get(key)
        if task is not None:
            await asyncio.wait([task])

    async def drain(self) -> None:
        """Wait until no task is running."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))
