"""Caches the heads of originals in a remote store.

- A head is cached for `fresh_s`: a replacement by another writer may go unnoticed for that long.
- A key that is requested all the time is refreshed in the background before that, so that no viewer waits.
- Concurrent requests for one key are one request to the store.
- While the store is unreachable or late, or refuses our credentials, the last known head is returned with its
  age: a slow store does not delay a picture that is cached.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

from galerly_cdn.cache import MemoryCache, SingleFlight
from galerly_cdn.errors import NoSuchOriginal, StoreRefused, StoreUnreachable
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Head

_MAX_ENTRIES = 100_000
_REFRESH_AFTER = 0.75
"""The fraction of `fresh_s` after which the next request refreshes the head in the background."""
_MAX_WAIT_S = 0.25
"""How long a request waits for a late store if an older head is known; then it returns that one."""
_NO_WAIT_S = 5.0
"""After a failed or late response: how long requests with a known head do not wait for the store at all."""


class _Entry(NamedTuple):
    head: Head | None
    """None: there was no such original."""
    requested_s: float
    """When the store was requested for it."""
    failed_s: float = -math.inf
    """When a later request for it failed."""


class HeadRequest(Protocol):
    """Requests a head from the store."""

    async def __call__(self, key: str, *, is_optional: bool) -> Head:
        """The head. Raises `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`.

        With `is_optional` an older head is known, and the request is not worth a retry.
        """
        ...


class HeadCache:
    """Calls `request` at most once in `fresh_s` for each key.

    While that fails, it returns heads up to `stale_s` old. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        request: HeadRequest,
        clock: Callable[[], float],
        *,
        fresh_s: float,
        stale_s: float,
    ) -> None:
        self._request_head = request
        self._clock = clock
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._entries: MemoryCache[str, _Entry] = MemoryCache(_MAX_ENTRIES, lambda _: 1)
        self._requests: SingleFlight[str, _Entry] = SingleFlight()
        self._started_s: dict[str, float] = {}
        """When the request in progress for each key was started."""
        self._no_wait_until_s = -math.inf

    def fresh(self, key: str) -> Head | None:
        """The cached head, if it is less than `fresh_s` old; None also for a missing original."""
        entry = self._entries.get(key)
        return entry.head if entry and self._is_fresh(key, entry, self._clock()) else None

    async def get(self, key: str) -> Head:
        """The head. Its `stale_s` is its age if the store could not be requested, else 0.

        Raises as the request does.
        """
        entry = self._entries.get(key)
        now_s = self._clock()
        age_s = now_s - entry.requested_s if entry else math.inf
        if entry and self._is_fresh(key, entry, now_s):
            return _head_of(entry)
        if entry is None or entry.head is None or age_s >= self._stale_s:
            return await self._wait_for_head(key)
        max_wait_s = _MAX_WAIT_S - (now_s - self._started_s.get(key, now_s))
        if now_s < self._no_wait_until_s or max_wait_s <= 0:
            if now_s - entry.failed_s >= self._fresh_s:
                self._start_request(key)
            return replaced(entry.head, stale_s=age_s)
        try:
            async with asyncio.timeout(max_wait_s):
                return await self._wait_for_head(key)
        except (TimeoutError, StoreRefused, StoreUnreachable):
            self._stop_waiting()
            return replaced(entry.head, stale_s=age_s)

    async def refresh(self, key: str) -> Head:
        """The head that the store returns now, whatever is cached. Raises as the request does."""
        return _head_of(await self._request(key, is_optional=False))

    def put(self, key: str, head: Head | None) -> None:
        """Cache the head of an original that this process stored, or None for one that it deleted."""
        self._put(key, _Entry(head, self._clock()))

    def _is_fresh(self, key: str, entry: _Entry, now_s: float) -> bool:
        """Whether the entry is less than `fresh_s` old. One that soon will not be is refreshed."""
        age_s = now_s - entry.requested_s
        if age_s >= self._fresh_s:
            return False
        if age_s >= _REFRESH_AFTER * self._fresh_s and now_s - entry.failed_s >= self._fresh_s:
            self._start_request(key)
        return True

    def _start_request(self, key: str) -> asyncio.Task[_Entry]:
        entry = self._entries.get(key)
        is_optional = bool(entry and entry.head and self._clock() - entry.requested_s < self._stale_s)
        task, _ = self._requests.begin(key, lambda: self._request(key, is_optional=is_optional))
        return task

    async def _wait_for_head(self, key: str) -> Head:
        """A head that was requested at most `fresh_s` before this call: an older one may be outdated."""
        called_s = self._clock()
        while True:
            entry = await asyncio.shield(self._start_request(key))
            if entry.requested_s >= called_s - self._fresh_s:
                return _head_of(entry)

    async def _request(self, key: str, *, is_optional: bool) -> _Entry:
        requested_s = self._started_s[key] = self._clock()
        head: Head | None = None
        try:
            head = await self._request_head(key, is_optional=is_optional)
        except NoSuchOriginal:
            pass
        except (StoreRefused, StoreUnreachable):
            self._stop_waiting()
            if entry := self._entries.get(key):
                self._entries.put(key, entry._replace(failed_s=self._clock()))
            raise
        finally:
            self._started_s.pop(key, None)
        if self._clock() - requested_s > _MAX_WAIT_S:
            self._stop_waiting()
        return self._put(key, _Entry(head, requested_s))

    def _stop_waiting(self) -> None:
        self._no_wait_until_s = self._clock() + _NO_WAIT_S

    def _put(self, key: str, new: _Entry) -> _Entry:
        """The newer of the cached entry and this one.

        A response to a request that was sent before this process changed the original is outdated.
        """
        entry = self._entries.get(key)
        if entry and entry.requested_s > new.requested_s:
            return entry
        self._entries.put(key, new)
        return new


def _head_of(entry: _Entry) -> Head:
    if entry.head is None:
        raise NoSuchOriginal
    return entry.head
