"""Reads where the first frame of a GIF lies (GIF89a §18, §20)."""

from __future__ import annotations

import struct
from typing import Final

from galerly_cdn.render.originals.frame import Frame

_SCREEN_BYTES: Final = 13
_HAS_COLOR_TABLE: Final = 0x80
_EXTENSION: Final = b"\x21"
_IMAGE: Final = b"\x2c"
_MAX_BLOCKS: Final = 1 << 18


def first_frame(original: bytes) -> Frame | None:
    """Return the rectangle of the first image descriptor; None if there is none."""
    if len(original) < _SCREEN_BYTES:
        return None
    flags = original[10]
    position = _SCREEN_BYTES + (3 << (flags & 7) + 1 if flags & _HAS_COLOR_TABLE else 0)
    is_in_extension = False
    for _ in range(_MAX_BLOCKS):
        first = original[position : position + 1]
        if is_in_extension:  # a data sub-block (§15), or the terminator
            is_in_extension = first not in {b"", b"\0"}
            position += 1 + (first[0] if first else 0)
        elif first == _EXTENSION:
            is_in_extension = True
            position += 2
        elif first == _IMAGE and position + 9 <= len(original):
            return Frame(*struct.unpack("<4H", original[position + 1 : position + 9]))
        else:
            return None
    return None
