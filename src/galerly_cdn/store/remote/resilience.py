"""Retries within a budget, and a circuit breaker, for requests to a remote store.

Retries cost a store that is half down as much as the requests themselves. They are at most a tenth of the
requests (Google's SRE book, "Handling Overload") beyond a few in reserve. The only importer of tenacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import tenacity

from galerly_cdn.errors import StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


Answer = TypeVar("Answer")

TRIES = 4
"""Of one question, the first included."""
_BACKOFF_S = 0.1
"""The longest wait before the first retry; it doubles, up to `_LONGEST_S`."""
_LONGEST_S = 2
_SHARE = 0.1
_RESERVE = 50.0


class RetryBudget:
    """The budget of one root."""

    def __init__(self) -> None:
        self._budget = _RESERVE

    async def run(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, of the last try. Raises what that raised; `StoreUnreachable` alone is tried again."""
        self._budget = min(_RESERVE, self._budget + _SHARE)
        trying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_random_exponential(multiplier=_BACKOFF_S, max=_LONGEST_S),
            retry=tenacity.retry_if_exception(self._is_paid_for),
            reraise=True,
        )
        try:
            return await trying(ask)
        except StoreUnreachable as error:
            # tenacity's frames and the error hold each other, and with them what was to be stored.
            raise error.with_traceback(None) from error.__cause__

    def _is_paid_for(self, error: BaseException) -> bool:
        if not isinstance(error, StoreUnreachable) or self._budget < 1:
            return False
        self._budget -= 1
        return True


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
