"""Retries requests to a remote store within a budget, and stops them while it fails (circuit breaker).

Without a budget, retries multiply the load of a store that is half down. They are limited to a tenth of the
requests (Google's SRE book, "Handling Overload"), beyond a reserve of fifty. The only importer of tenacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import tenacity

from galerly_cdn.errors import StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


Result = TypeVar("Result")

TRIES = 4
"""Attempts of one request, including the first."""
_BACKOFF_S = 0.1
"""The longest wait before the first retry. It doubles for each further one, up to `_MAX_BACKOFF_S`."""
_MAX_BACKOFF_S = 2
_RETRIES_PER_REQUEST = 0.1
_MAX_BUDGET = 50.0


class RetryBudget:
    """The retry budget of one root: each request adds a tenth of a retry, each retry takes one."""

    def __init__(self) -> None:
        self._budget = _MAX_BUDGET

    async def run(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the last attempt, or its error. Only `StoreUnreachable` is retried."""
        self._budget = min(_MAX_BUDGET, self._budget + _RETRIES_PER_REQUEST)
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_random_exponential(multiplier=_BACKOFF_S, max=_MAX_BACKOFF_S),
            retry=tenacity.retry_if_exception(self._may_retry),
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except StoreUnreachable as error:
            # tenacity's frames and the error refer to each other, and so keep the request's body in memory.
            raise error.with_traceback(None) from error.__cause__

    def _may_retry(self, error: BaseException) -> bool:
        if not isinstance(error, StoreUnreachable) or self._budget < 1:
            return False
        self._budget -= 1
        return True


_FAILURES = 5
"""Consecutive failures that open the breaker; each includes its retries."""
_PROBE_INTERVAL_S = 1.0


class CircuitBreaker:
    """Opens after consecutive failures, allows one probe a second while open, closes at the first success.

    A probe that hangs does not delay the next one: the breaker closes within a second of the store's
    recovery, plus the time of one response. `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._next_probe_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests are rejected, except for probes."""
        return self._failures >= _FAILURES

    def allows_request(self) -> bool:
        """Whether a request may be sent now. While the breaker is open, an allowed request is the probe."""
        if not self.is_open:
            return True
        now_s = self._clock()
        if now_s < self._next_probe_s:
            return False
        self._next_probe_s = now_s + _PROBE_INTERVAL_S
        return True

    def record_success(self) -> None:
        """Record a response of the store, including an error such as 404."""
        self._failures = 0

    def record_failure(self) -> None:
        """Record that the store did not answer, was late, or throttled the request."""
        self._failures += 1
        if self._failures == _FAILURES:
            self._next_probe_s = self._clock() + _PROBE_INTERVAL_S
