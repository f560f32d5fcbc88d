"""Provides a byte-bounded LRU cache in memory, and single-flight execution of coroutines."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar

import cachetools

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Iterator
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

    def drop(self, key: K) -> bool:
        """Remove a value, if there is one; whether there was."""
        return self._values.pop(key, None) is not None

    @property
    def weight_bytes(self) -> int:
        """The total weight of the values."""
        return int(self._values.currsize)


class _Flight(Generic[V]):
    """A running task, and how many callers wait for it."""

    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.callers = 0
        self.is_droppable = False

    def drop_if_unwanted(self) -> bool:
        """Cancel the task if it is droppable and nobody waits for it; whether it was."""
        return self.is_droppable and not self.callers and self.task.cancel()


class SingleFlight(Generic[K, V]):
    """Runs one coroutine for all concurrent callers of its key.

    The coroutine runs in a task of its own: it continues if the caller that started it is cancelled, and,
    except within `droppable`, if all callers are. All waiting callers get its error; the next call starts
    again.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    def __contains__(self, key: K) -> bool:
        """Whether a task for this key is running."""
        flight = self._flights.get(key)
        return flight is not None and not flight.task.done()

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> tuple[V, bool]:
        """The result, and whether another caller had started the task (RFC 9211 `collapsed`)."""
        task, collapsed = self.begin(key, work)
        flight = self._flights[key]
        flight.callers += 1
        try:
            return await asyncio.shield(task), collapsed
        finally:
            flight.callers -= 1
            if flight.drop_if_unwanted():
                self._remove(key, task)  # the next call starts again

    def begin(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> tuple[asyncio.Task[V], bool]:
        """The running task, started if there is none, and whether there was one.

        An error that nobody awaits is not logged.
        """
        flight = self._flights.get(key)
        collapsed = key in self
        if flight is None or flight.task.done():
            flight = _Flight(asyncio.create_task(work()))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda done: self._end(key, done))
        return flight.task, collapsed

    @contextlib.contextmanager
    def droppable(self, key: K) -> Iterator[None]:
        """Let the key's task, which calls this, be cancelled during the context when nobody waits for it."""
        flight = self._flights[key]
        flight.is_droppable = True
        if flight.drop_if_unwanted():
            self._remove(key, flight.task)
        try:
            yield
        finally:
            flight.is_droppable = False

    def _end(self, key: K, task: asyncio.Task[V]) -> None:
        self._remove(key, task)
        if not task.cancelled():
            task.exception()  # marks the error as retrieved: asyncio logs it otherwise

    async def wait(self, key: K) -> None:
        """Wait for the task of this key, if one is running, whatever its result."""
        flight = self._flights.get(key)
        if flight is not None:
            await asyncio.wait([flight.task])

    def _remove(self, key: K, task: asyncio.Task[V]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]

    async def drain(self) -> None:
        """Wait until no task is running."""
        while self._flights:
            await asyncio.wait([flight.task for flight in self._flights.values()])
