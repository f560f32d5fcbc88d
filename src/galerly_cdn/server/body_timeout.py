"""How long may a client keep the application waiting for its body?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

WINDOW_S = 30.0
"""Time within which a body has to make progress: counted while it is waited for, so that an application
that is slow to take it (its store may be) is not held against the client."""
PROGRESS_BYTES = 64 * 1024
"""What has to come within each window, or else the rest: 2 kB/s, which any telephone reaches."""


class BodyTimeout:
    """Calls `on_late` when a body that is waited for stays away, or dribbles."""

    __slots__ = ("_came_bytes", "_left_s", "_loop", "_on_late", "_since_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_late: Callable[[], None]) -> None:
        self._loop = loop
        self._on_late = on_late
        self._timer: asyncio.TimerHandle | None = None
        self._since_s = 0.0
        self._left_s = WINDOW_S
        self._came_bytes = 0

    def wait(self) -> None:
        """The application waits: what is left of the window runs."""
        self._since_s = self._loop.time()
        self._timer = self._loop.call_later(self._left_s, self._on_late)

    def rest(self) -> None:
        """The application has got something, or gives up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left_s -= self._loop.time() - self._since_s

    def took(self, length_bytes: int) -> None:
        """So much has come; enough of it opens a new window."""
        self._came_bytes += length_bytes
        if self._came_bytes >= PROGRESS_BYTES:
            self._came_bytes = 0
            self._left_s = WINDOW_S
            if self._timer is not None:
                self._timer.cancel()
                self.wait()
