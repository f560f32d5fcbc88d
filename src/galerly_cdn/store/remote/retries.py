"""Is what failed on the way asked again? A few times, at random intervals, while there is a budget for it.

Tries again cost a store that is half down as much as the questions themselves. So they are a part of those
at most (Google's SRE book, "Handling Overload": a tenth), beyond a few in reserve. tenacity's door.
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
