"""Reads where the first frame of a GIF lies (GIF89a §18, §20)."""

from __future__ import annotations

import struct
from typing import Final

from galerly_cdn.render.originals.frame import Frame

_SCREEN_BYTES: Final = 13
_HAS_COLOR_TABLE: Final = 0x80
_EXTENSION: Final = 0x21
_IMAGE: Final = 0x2C
_MAX_BLOCKS: Final = 65_536


def first_frame(original: bytes) -> Frame | None:
    """Return the rectangle of the first image descriptor; None if there is none."""
    if len(original) < _SCREEN_BYTES:
        return None
    flags = original[10]
    position = _SCREEN_BYTES + (3 << (flags & 7) + 1 if flags & _HAS_COLOR_TABLE else 0)
    for _ in range(_MAX_BLOCKS):
        introducer = original[position : position + 1]
        if introducer == bytes([_EXTENSION]):
            position = _after_blocks(original, position + 2)
        elif introducer == bytes([_IMAGE]) and position + 9 <= len(original):
            return Frame(*struct.unpack("<4H", original[position + 1 : position + 9]))
        else:
            return None
    return None


def _after_blocks(original: bytes, position: int) -> int:
    """Return the position after a sequence of data sub-blocks (§15)."""
    while position < len(original) and original[position]:
        position += original[position] + 1
    return position + 1
