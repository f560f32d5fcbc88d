"""How many misses may a viewer cause? So many that no honest page meets the limit, and no sweep of keys pays.

Two things cost more than a hit: a fill that starts, and a look-up of an original that is not there. Each has
an allowance of its own, so that whoever fills much is refused no picture that exists already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.cache import MemoryCache
from galerly_cdn.errors import NoSuchOriginal, TooManyMisses
from galerly_cdn.http.client_address import rate_limit_key
from galerly_cdn.http.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Head
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals

_WINDOW_S = 60.0
_ROUNDING_S = 1e-6
"""Sums of fractions of a second are inexact by less."""
_MAX_KNOWN = 16_384
"""Holders that are remembered; the least recent is forgotten, and owes nothing."""
_EVERYBODY = ""


class RateLimit:
    """So many a minute for each who spends, all at once if need be: GCRA, a token bucket kept as one time.

    Each one spent takes its share of a minute to be paid off; nobody may owe more than a minute.
    """

    def __init__(self, per_minute: int) -> None:
        """0 is no limit."""
        self._share_s = _WINDOW_S / per_minute if per_minute else 0.0
        self._paid_s: MemoryCache[str, float] = MemoryCache(_MAX_KNOWN, lambda _: 1)

    def is_spent(self, who: str, now_s: float) -> bool:
        """Whether there is nothing left for one more."""
        owed_s = (self._paid_s.get(who) or 0.0) - now_s
        return owed_s > _WINDOW_S - self._share_s + _ROUNDING_S

    def spend(self, who: str, now_s: float) -> None:
        """Take one."""
        self._paid_s.put(who, max(self._paid_s.get(who) or 0.0, now_s) + self._share_s)


class MissLimiter:
    """Looks originals up for viewers, and lets fills start. `now` is monotonic, in seconds."""

    def __init__(self, originals: Originals, settings: Settings, now: Callable[[], float]) -> None:
        self._originals = originals
        self._now = now
        self._fills = RateLimit(settings.misses_per_minute_per_client)
        self._fills_of_all = RateLimit(settings.misses_per_minute)
        self._lookups = RateLimit(settings.misses_per_minute_per_client)

    async def head(self, key: str, client: str, *, is_hot: bool, remembered: bool = True) -> Head:
        """The original's head. Raises as the store does; `TooManyMisses` for who asked in vain too often.

        They are refused before the store is asked, unless the picture is hot: that costs it nothing.
        """
        if not is_hot:
            self._check(self._lookups, _payer(client), "look-ups")
        try:
            return await self._originals.head(key, remembered=remembered)
        except NoSuchOriginal:
            if (payer := _payer(client)) is not None:
                self._lookups.spend(payer, self._now())
            raise

    def start_fill(self, client: str) -> None:
        """Return if a fill may start for this viewer. Raises `TooManyMisses`."""
        payer = _payer(client)
        if payer is None:
            return
        self._check(self._fills, payer, "fills")
        self._check(self._fills_of_all, _EVERYBODY, "fills")
        now_s = self._now()
        self._fills.spend(payer, now_s)
        self._fills_of_all.spend(_EVERYBODY, now_s)

    def _check(self, allowance: RateLimit, payer: str | None, what: str) -> None:
        if payer is not None and allowance.is_spent(payer, self._now()):
            raise TooManyMisses(f"{what} of {payer or 'all'}")


def _payer(client: str) -> str | None:
    """Whose allowance a viewer's address spends; None for this machine, which has no limit."""
    return None if is_loopback(client) else rate_limit_key(client)
