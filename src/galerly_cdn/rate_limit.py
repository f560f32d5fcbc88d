"""Rate-limits renders and failed look-ups per client (GCRA).

Two operations cost more than a hit: starting a fill, and looking up an original that does not exist. Each has
a limit of its own: a client that has used up its fills still gets every picture that is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.cache import MemoryCache
from galerly_cdn.errors import NoSuchOriginal, TooManyMisses
from galerly_cdn.http.client_address import rate_limit_key
from galerly_cdn.http.urls import is_local_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Head
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals

_WINDOW_S = 60.0
_ROUNDING_S = 1e-6
"""The error of sums of fractions of a second is smaller than this."""
_MAX_CLIENTS = 16_384
"""Clients that are remembered. The least recent one is forgotten, and starts again with its full limit."""
_ALL_CLIENTS = ""


class RateLimit:
    """Limits events per minute and key; a whole minute's events may come at once.

    GCRA, a token bucket stored as one time for each key: the theoretical arrival time. Each event moves it by
    the minute's share of one event, and it may lie at most a minute in the future.
    """

    def __init__(self, per_minute: int) -> None:
        """With `per_minute` 0 there is no limit."""
        self._interval_s = _WINDOW_S / per_minute if per_minute else 0.0
        self._arrival_s: MemoryCache[str, float] = MemoryCache(_MAX_CLIENTS, lambda _: 1)

    def is_exceeded(self, key: str, now_s: float) -> bool:
        """Whether one more event would exceed the limit."""
        ahead_s = (self._arrival_s.get(key) or 0.0) - now_s
        return ahead_s > _WINDOW_S - self._interval_s + _ROUNDING_S

    def record(self, key: str, now_s: float) -> None:
        """Count one event."""
        self._arrival_s.put(key, max(self._arrival_s.get(key) or 0.0, now_s) + self._interval_s)


class MissLimiter:
    """Looks up originals for viewers and admits fills, within the limits. `now` is monotonic, in seconds."""

    def __init__(self, originals: Originals, settings: Settings, now: Callable[[], float]) -> None:
        self._originals = originals
        self._now = now
        self._fills = RateLimit(settings.misses_per_minute_per_client)
        self._fills_of_all = RateLimit(settings.misses_per_minute)
        self._lookups = RateLimit(settings.misses_per_minute_per_client)

    async def head(self, key: str, client: str, *, is_hot: bool, remembered: bool = True) -> Head:
        """The original's head. Raises as the store does; `TooManyMisses` after too many failed look-ups.

        A client over its limit is refused before the store is requested, unless the picture is in memory
        (`is_hot`): then the original exists.
        """
        if not is_hot:
            self._check(self._lookups, _limit_key(client), "look-ups")
        try:
            return await self._originals.head(key, remembered=remembered)
        except NoSuchOriginal:
            if (limit_key := _limit_key(client)) is not None:
                self._lookups.record(limit_key, self._now())
            raise

    def known_head(self, key: str, client: str, *, is_hot: bool) -> Head | None:
        """The head that `head` would return, if that needs no waiting; None also where it would raise."""
        if not is_hot:
            limit_key = _limit_key(client)
            if limit_key is not None and self._lookups.is_exceeded(limit_key, self._now()):
                return None
        return self._originals.known_head(key)

    def start_fill(self, client: str) -> None:
        """Count a fill for this viewer. Raises `TooManyMisses` instead if it would exceed a limit."""
        limit_key = _limit_key(client)
        if limit_key is None:
            return
        self._check(self._fills, limit_key, "fills")
        self._check(self._fills_of_all, _ALL_CLIENTS, "fills")
        now_s = self._now()
        self._fills.record(limit_key, now_s)
        self._fills_of_all.record(_ALL_CLIENTS, now_s)

    def _check(self, limit: RateLimit, limit_key: str | None, operations: str) -> None:
        if limit_key is not None and limit.is_exceeded(limit_key, self._now()):
            raise TooManyMisses(f"{limit_key or 'all clients'}: too many {operations} in a minute")


def _limit_key(client: str) -> str | None:
    """The key under which a viewer's address is limited; None for this machine, which has no limit."""
    return None if is_local_client(client) else rate_limit_key(client)
