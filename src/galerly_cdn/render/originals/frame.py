"""Defines where the first frame of an animation lies on its canvas."""

from __future__ import annotations

from galerly_cdn.serialization import Value


class Frame(Value, frozen=True):
    """A rectangle in pixels of the canvas."""

    left_px: int
    top_px: int
    width_px: int
    height_px: int
