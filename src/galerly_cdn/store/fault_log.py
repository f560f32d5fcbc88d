"""Logs the faults of a store that no answer shows: a rendition that was not stored, or could not be read.

The viewer gets the picture all the same, so the access log has no error. A store that fails does so at each
request: each kind of fault is logged at most once a minute.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from galerly_cdn.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.errors import GalerlyError

_log = logging.getLogger(__name__)

_INTERVAL_S = 60.0


class FaultLog:
    """Counts faults by `count`, and logs them. `clock` is monotonic, in seconds."""

    def __init__(
        self, count: Callable[[str], None], clock: Callable[[], float] = SYSTEM_CLOCK.monotonic
    ) -> None:
        self._count = count
        self._clock = clock
        self._next_s: dict[tuple[str, str], float] = {}
        self._unlogged: dict[tuple[str, str], int] = {}

    def add(self, event: str, error: GalerlyError) -> None:
        """Count an event; log it with the error's code and detail, unless both were logged this minute."""
        self._count(event)
        kind = event, error.code
        now_s = self._clock()
        if now_s < self._next_s.get(kind, -math.inf):
            self._unlogged[kind] = self._unlogged.get(kind, 0) + 1
            return
        self._next_s[kind] = now_s + _INTERVAL_S
        before = self._unlogged.pop(kind, 0)
        more = f" ({before} more since the last line)" if before else ""
        _log.warning("%s: %s: %s%s", event, error.code, error.detail or error.public, more)
