"""Finds a TIFF whose shown page has values outside the file, or deflated strips that fail their checksum.

libtiff stops at the last byte that it needs and does not compare the checksum (RFC 1950 §2.2), so a zeroed
part of a strip is shown.
"""

from __future__ import annotations

import zlib
from typing import Final

from galerly_cdn.errors import Undecodable
from galerly_cdn.render.originals import tiff
from galerly_cdn.render.originals import tiff_directory as tags

_DEFLATE: Final = frozenset({8, 32946})
_REVERSED_BITS: Final = 2
"""The fill order (tag 266) whose bytes zlib does not read."""
_STRUCTURE: Final = (
    *(tags.BITS, tags.STRIP_OFFSETS, tags.STRIP_BYTES, tags.TILE_OFFSETS, tags.TILE_BYTES),
    *(tags.COLOR_MAP, tags.SAMPLE_FORMAT),
)
_MAX_STRIPS: Final = 1_000_000
_STEP_BYTES: Final = 1 << 14


def check_structure(original: bytes) -> None:
    """Raise `Undecodable` if the values that describe the shown page are not all in the file.

    Metadata outside the file is no damage to the picture. Raises as `tiff.page_of` does.
    """
    directory = tiff.page_of(original).directory
    missing = [tag for tag in _STRUCTURE if not directory.is_inside(original, tag)]
    if missing:
        raise Undecodable(f"the TIFF ends before the values of its tags {missing}")


def check(original: bytes) -> None:
    """Raise `Undecodable` if a strip or tile of the shown page cannot be inflated.

    Costs as much as inflating the page; pages with another compression cost nothing. Raises as
    `tiff.page_of` does.
    """
    page = tiff.page_of(original)
    directory = page.directory
    if page.compression not in _DEFLATE or directory.first(tags.FILL_ORDER, 1) == _REVERSED_BITS:
        return
    is_tiled = tags.TILE_OFFSETS in directory.values
    blocks = (tags.TILE_OFFSETS, tags.TILE_BYTES) if is_tiled else (tags.STRIP_OFFSETS, tags.STRIP_BYTES)
    offsets, lengths = (map(int, directory.numbers(original, tag, _MAX_STRIPS)) for tag in blocks)
    strips = list(zip(offsets, lengths, strict=False))
    if sum(length for _, length in strips) > 2 * len(original):  # strips that overlap could take any time
        return
    left = 2 * _page_bytes(page) + _STEP_BYTES  # tiles at the edge hold more pixels than the page shows
    view = memoryview(original)
    for offset, length in strips:
        try:
            left -= _inflated_bytes(view[offset : offset + length], left)
        except zlib.error as error:
            raise Undecodable(f"the TIFF's strip at byte {offset}: {error}") from error


def _page_bytes(page: tiff.Page) -> int:
    width, height = page.directory.sides_px
    return width * height * page.samples * page.bits // 8


def _inflated_bytes(strip: memoryview, limit: int) -> int:
    """Inflate without keeping the result; stops beyond the limit, as what follows is not shown."""
    stream = zlib.decompressobj()
    count = 0
    for start in range(0, len(strip), _STEP_BYTES):
        count += len(stream.decompress(strip[start : start + _STEP_BYTES]))
        if stream.eof or count > limit:
            break
    return count
