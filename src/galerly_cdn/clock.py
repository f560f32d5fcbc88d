"""The clocks that the composition passes to everything that needs the time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(NamedTuple):
    """Two functions that return seconds."""

    wall: Callable[[], float]
    """Since the epoch; it can be set back."""
    monotonic: Callable[[], float]
    """Since an arbitrary moment; for durations and deadlines."""


SYSTEM_CLOCK = Clock(wall=time.time, monotonic=time.monotonic)  # noqa: TID251 - handed down from here
