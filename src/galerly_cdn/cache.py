"""Hot things in memory, weighed in bytes; and one piece of work for any number who want it."""

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
    """The most recently used values whose weights fit into `limit_bytes`; the store is the truth."""

    def __init__(self, limit_bytes: int, weigh: Callable[[V], int]) -> None:
        self._values: cachetools.LRUCache[K, V] = cachetools.LRUCache(limit_bytes, getsizeof=weigh)

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; whether it is current is the caller's to judge."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value, over what was there; one heavier than the whole cache is not kept."""
        try:
            self._values[key] = value
        except ValueError:
            self._values.pop(key, None)

    def __contains__(self, key: K) -> bool:
        """Whether there is a value; it is no more recently used for that."""
        return key in self._values

    def drop(self, key: K) -> None:
        """Keep it no longer."""
        self._values.pop(key, None)

    @property
    def weight_bytes(self) -> int:
        """What is kept, in all."""
        return int(self._values.currsize)


class SingleFlight(Generic[K, V]):
    """Runs one piece of work for all who ask for its key while it is under way.

    The work is its own task: it survives whoever asked first. A failure is shared by those who
    waited; the next to ask tries again.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __contains__(self, key: K) -> bool:
        """Whether somebody has asked for it who is not answered yet."""
        task = self._tasks.get(key)
        return task is not None and not task.done()

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> tuple[V, bool]:
        """The work's result, and whether somebody else had started it (RFC 9211 `collapsed`)."""
        task, collapsed = self.begin(key, work)
        return await asyncio.shield(task), collapsed

    def begin(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> tuple[asyncio.Task[V], bool]:
        """The work as a task, under way already or from now on; a failure that nobody awaits is no fault."""
        task = self._tasks.get(key)
        collapsed = key in self
        if task is None or task.done():
            task = asyncio.create_task(work())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return task, collapsed

    def _forget(self, key: K, task: asyncio.Task[V]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # taken note of, even if every waiter has left

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))
