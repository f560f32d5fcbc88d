"""Counts the pixels in a GIF's first frame: libnsgif shows a frame with missing rows without an error.

A damaged code of the LZW data is nearly always another valid code, for a string of another length, so the
number of pixels shows the damage. The strings themselves are not built.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from galerly_cdn.errors import Undecodable
from galerly_cdn.render.originals import gif

_MAX_CODE_BITS: Final = 12
_TABLE_ENTRIES: Final = 1 << _MAX_CODE_BITS
_MAX_DATA_BYTES: Final = 8 << 20
"""Data beyond this are not counted: a frame of this length takes some seconds."""


class Frame(NamedTuple):
    """An image block (GIF89a §20 and §22): its sides, the bits of a root code, and the LZW data."""

    width_px: int
    height_px: int
    root_bits: int
    data: bytes


def check(original: bytes) -> None:
    """Raise `Undecodable` if the first frame is incomplete, or has not the pixels that its sides say."""
    frame = first_frame(original)
    if len(frame.data) > _MAX_DATA_BYTES:
        return
    wanted = frame.width_px * frame.height_px
    count = pixel_count(frame, wanted)
    if count != wanted:
        raise Undecodable(f"the GIF's first frame has {count} pixels, its header says {wanted}")


def first_frame(original: bytes) -> Frame:
    """Return the first image block. Raises `Undecodable` if there is none, or if the file ends inside it."""
    image = gif.first_image(original)
    if image is None:
        raise Undecodable("the GIF has no image block")
    try:
        return Frame(
            width_px=image.frame.width_px,
            height_px=image.frame.height_px,
            root_bits=original[image.data_start],
            data=_sub_blocks(original, image.data_start + 1),
        )
    except IndexError as error:
        raise Undecodable("the GIF ends inside its first frame") from error


def _sub_blocks(original: bytes, position: int) -> bytes:
    parts = []
    while length := original[position]:
        parts.append(original[position + 1 : position + 1 + length])
        position += length + 1
    return b"".join(parts)


def pixel_count(frame: Frame, wanted: int) -> int:  # noqa: C901 - one loop: calls would double its time
    """Return how many pixels the data describe (GIF89a appendix F); counting stops beyond `wanted`.

    Raises `Undecodable` for a code that the table does not hold.
    """
    if not 1 <= frame.root_bits < _MAX_CODE_BITS:
        raise Undecodable(f"the GIF's codes begin with {frame.root_bits} bits")
    clear = 1 << frame.root_bits
    lengths = [1] * _TABLE_ENTRIES  # of the strings in the table, by code
    known, bits, limit, previous = clear + 2, frame.root_bits + 1, 2 * clear, 0
    count = held = held_bits = 0
    for byte in frame.data:
        held |= byte << held_bits
        held_bits += 8
        while held_bits >= bits:
            code = held & (limit - 1)
            held >>= bits
            held_bits -= bits
            if code < clear:
                length = 1
            elif code == clear:
                known, bits, limit, previous = clear + 2, frame.root_bits + 1, 2 * clear, 0
                continue
            elif code == clear + 1 or count > wanted:
                return count
            elif code < known:
                length = lengths[code]
            elif code == known and previous:
                length = previous + 1
            else:
                raise Undecodable(f"the GIF's first frame has code {code}, its table {known}")
            if previous and known < _TABLE_ENTRIES:
                lengths[known] = previous + 1
                known += 1
                if known == limit and known < _TABLE_ENTRIES:
                    bits += 1
                    limit *= 2
            previous = length
            count += length
    return count
