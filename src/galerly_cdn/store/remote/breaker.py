"""Is a store that fails worth asking? Now and then one request finds out; the others fail at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FAILURES = 5
"""Failures in a row that open it; each has had its retries."""
_PROBE_EVERY_S = 1.0


class CircuitBreaker:
    """Opens after failures in a row, lets one probe a second through, closes at the first success.

    A probe that hangs holds up no other: a store that is back is noticed within a second and its own
    time to answer. `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._probe_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store is spared."""
        return self._failures >= _FAILURES

    def admits(self) -> bool:
        """Whether the store may be asked now; while it is open, who is told so is the probe."""
        if not self.is_open:
            return True
        now_s = self._clock()
        if now_s < self._probe_s:
            return False
        self._probe_s = now_s + _PROBE_EVERY_S
        return True

    def succeeded(self) -> None:
        """The store answered, whatever it said."""
        self._failures = 0

    def failed(self) -> None:
        """The store did not answer, or not in time, or asked to be spared."""
        self._failures += 1
        if self._failures == _FAILURES:
            self._probe_s = self._clock() + _PROBE_EVERY_S
