"""Repeats what failed only because the machine or the store is busy: 503, and 504 for a render that is late.

A server repeats for its workers alone, so that an upload waits its turn. A command repeats every such
failure, and says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from galerly_cdn.errors import (
    CdnInterrupted,
    CdnUnreachable,
    GalerlyError,
    QueueFull,
    RenderFailed,
    RenderTimeout,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Wait = Callable[[float], Awaitable[None]]

T = TypeVar("T")

BUSY: tuple[type[GalerlyError], ...] = (Unavailable, RenderFailed)
RENDERERS_BUSY: tuple[type[GalerlyError], ...] = (QueueFull, RenderTimeout)
"""An original that is late on its own account is quarantined the second time, which is not repeated."""
TEMPORARY: tuple[type[GalerlyError], ...] = (Unavailable, CdnUnreachable, CdnInterrupted)
"""What may pass by itself: the same command can do more when it is run again."""
_MAX_WAIT_S = 10.0


class Retries:
    """Repeats calls until none has succeeded for `deadline_s`.

    `clock` is monotonic, `wait` sleeps; both in seconds.
    """

    def __init__(
        self,
        kinds: tuple[type[GalerlyError], ...],
        deadline_s: float,
        clock: Callable[[], float],
        *,
        wait: Wait = asyncio.sleep,  # noqa: TID251 - it waits for the machine to be less busy
    ) -> None:
        self._kinds = kinds
        self._deadline_s = deadline_s
        self._clock = clock
        self._wait = wait
        self._succeeded_s = clock()

    async def run(
        self,
        call: Callable[[], Awaitable[T]],
        on_wait: Callable[[GalerlyError, float], None] = lambda _error, _wait_s: None,
    ) -> T:
        """The result of `call`, or the error that is not repeated any more.

        `on_wait` is called with the error and the seconds before each repetition.
        """
        wait_s = 0.0
        started_s = self._clock()
        while True:
            try:
                result = await call()
            except self._kinds as error:
                wait_s = min(_MAX_WAIT_S, max(2 * wait_s, error.retry_after_s or 1.0))
                last_s = max(started_s, self._succeeded_s)
                if self._clock() + wait_s > last_s + self._deadline_s:
                    raise
                on_wait(error, wait_s)
                await self._wait(wait_s)
            else:
                self._succeeded_s = self._clock()
                return result
