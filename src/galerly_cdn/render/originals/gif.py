"""Reads where the first frame of a GIF lies (GIF89a §18, §20, §22)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from galerly_cdn.render.originals.frame import Frame

_SCREEN_BYTES: Final = 13
_DESCRIPTOR_BYTES: Final = 9
_HAS_COLOR_TABLE: Final = 0x80
_EXTENSION: Final = b"\x21"
_IMAGE: Final = b"\x2c"
_MAX_BLOCKS: Final = 1 << 18


class Image(NamedTuple):
    """The first image block: its frame, and the position of its LZW data (§22)."""

    frame: Frame
    data_start: int


def first_frame(original: bytes) -> Frame | None:
    """Return the rectangle of the first image descriptor; None if there is none."""
    image = first_image(original)
    return image.frame if image else None


def first_image(original: bytes) -> Image | None:
    """Return the first image block; None if the file ends before its descriptor does, or has none."""
    if len(original) < _SCREEN_BYTES:
        return None
    position = _SCREEN_BYTES + _color_table_bytes(original[10])
    is_in_extension = False
    for _ in range(_MAX_BLOCKS):
        first = original[position : position + 1]
        if is_in_extension:  # a data sub-block (§15), or the terminator
            is_in_extension = first not in {b"", b"\0"}
            position += 1 + (first[0] if first else 0)
        elif first == _EXTENSION:
            is_in_extension = True
            position += 2
        elif first == _IMAGE and position + 1 + _DESCRIPTOR_BYTES <= len(original):
            *rectangle, flags = struct.unpack_from("<4HB", original, position + 1)
            start = position + 1 + _DESCRIPTOR_BYTES + _color_table_bytes(flags)
            return Image(Frame(*rectangle), start)
        else:
            return None
    return None


def _color_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & _HAS_COLOR_TABLE else 0
