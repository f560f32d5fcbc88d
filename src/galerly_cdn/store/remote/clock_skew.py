"""Compares this machine's clock with a remote store's, when the store refuses signed requests.

S3 refuses requests whose time differs by more than 15 minutes from its own (Amazon S3 API Reference,
`RequestTimeTooSkewed`); other servers call it AccessDenied. The store's time is in the header Date of every
response, also of one that refuses (RFC 9110 §6.6.1).
"""

from __future__ import annotations

import asyncio
import logging
import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LIMIT_S = 300.0
"""Less is no reason for a refusal, and may be a slow response."""
_LIFETIME_S = 60.0
"""How long a comparison holds; a refused store is asked for its time once in this period."""
_log = logging.getLogger(__name__)


class ClockSkew:
    """The difference of the clocks. `fetch_date` returns the header Date of a response; empty for none.

    `clock` is monotonic, `wall` is this machine's time; both in seconds.
    """

    def __init__(
        self, fetch_date: Callable[[], Awaitable[str]], clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._fetch_date = fetch_date
        self._clock = clock
        self._wall = wall
        self._measured_s = -math.inf
        self._text = ""
        self._has_logged = False
        self._lock = asyncio.Lock()

    async def explanation(self) -> str:
        """What explains a refusal, with the difference in minutes; empty if the clocks agree.

        The first one is logged.
        """
        async with self._lock:
            if self._clock() - self._measured_s >= _LIFETIME_S:
                self._text = skew_text(await self._fetch_date(), self._wall())
                self._measured_s = self._clock()
        if self._text and not self._has_logged:
            self._has_logged = True
            _log.warning("the store refuses requests: %s", self._text)
        return self._text


def skew_text(date: str, now_s: float) -> str:
    """How far this machine's clock is off by the header Date; empty below `_LIMIT_S`, or without a date."""
    try:
        ahead_s = now_s - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return ""
    if abs(ahead_s) < _LIMIT_S:
        return ""
    direction = "ahead of" if ahead_s > 0 else "behind"
    return f"this machine's clock is {abs(ahead_s) / 60:.0f} minutes {direction} the store's; correct it"
