"""Finds a TIFF page whose structure lies outside the file, or whose deflated strips fail their checksum.

libtiff stops at the last byte that it needs and does not compare the checksum (RFC 1950 §2.2), so a zeroed
part of a strip is shown.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from galerly_cdn.errors import Undecodable

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFLATE: Final = frozenset({8, 32946})
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 256, 257, 258, 259
_FILL_ORDER, _STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES = 266, 273, 277, 279
_TILE_OFFSETS, _TILE_BYTES = 324, 325
_COLOR_MAP, _SAMPLE_FORMAT = 320, 339
_STRUCTURE: Final = (
    *(_BITS, _STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES),
    *(_COLOR_MAP, _SAMPLE_FORMAT),
)
_SIZES: Final = {3: 2, 4: 4, 16: 8}
"""The bytes of a value by its type: SHORT, LONG, LONG8."""
_MAX_DIRECTORIES: Final = 64
_MAX_STRIPS: Final = 1_000_000
_STEP_BYTES: Final = 1 << 14

ByteOrder = Literal["little", "big"]


class Directory(NamedTuple):
    """An image file directory (TIFF 6.0 §2): where the entry of each tag is."""

    original: bytes
    order: ByteOrder
    offset_bytes: int
    entries: dict[int, int]

    def values(self, tag: int, most: int = 1) -> tuple[int, ...]:
        """Return the first values of a tag; none if it is missing, damaged, or no whole number."""
        at = self.entries.get(tag)
        if at is None:
            return ()
        size = _SIZES.get(self._number(at + 2, 2), 0)
        count = self._number(at + 4, self.offset_bytes)
        start = at + 4 + self.offset_bytes
        if size * count > self.offset_bytes:
            start = self._number(start, self.offset_bytes)
        end = start + size * min(count, most)
        if not size or end > len(self.original):
            return ()
        return tuple(self._number(place, size) for place in range(start, end, size))

    def is_inside(self, tag: int) -> bool:
        """Whether every value of a tag is inside the file; a missing tag is."""
        at = self.entries.get(tag)
        if at is None:
            return True
        length = _SIZES.get(self._number(at + 2, 2), 0) * self._number(at + 4, self.offset_bytes)
        start = self._number(at + 4 + self.offset_bytes, self.offset_bytes)
        return length <= self.offset_bytes or start + length <= len(self.original)

    def value(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return next(iter(self.values(tag)), default)

    def _number(self, start: int, size: int) -> int:
        return int.from_bytes(self.original[start : start + size], self.order)


def check_structure(original: bytes) -> None:
    """Raise `Undecodable` if the values that describe the first full-size page are not all in the file.

    Metadata outside the file is no damage to the picture.
    """
    page = _page(original)
    missing = [tag for tag in _STRUCTURE if page and not page.is_inside(tag)]
    if missing:
        raise Undecodable(f"the TIFF ends before the values of its tags {missing}")


def check(original: bytes) -> None:
    """Raise `Undecodable` if a strip or tile of the first full-size page cannot be inflated.

    Costs as much as inflating the page; pages with another compression cost nothing.
    """
    page = _page(original)
    if page is None or page.value(_COMPRESSION, 1) not in _DEFLATE or page.value(_FILL_ORDER, 1) == 2:
        return
    tags = (_TILE_OFFSETS, _TILE_BYTES) if _TILE_OFFSETS in page.entries else (_STRIP_OFFSETS, _STRIP_BYTES)
    offsets, lengths = (page.values(tag, _MAX_STRIPS) for tag in tags)
    if sum(lengths) > 2 * len(original):  # strips that overlap could take any time
        return
    left = 2 * _page_bytes(page) + _STEP_BYTES  # tiles at the edge hold more pixels than the page shows
    view = memoryview(original)
    for offset, length in zip(offsets, lengths, strict=False):
        try:
            left -= _inflated_bytes(view[offset : offset + length], left)
        except zlib.error as error:
            raise Undecodable(f"the TIFF's strip at byte {offset}: {error}") from error


def directories(original: bytes) -> Iterator[Directory]:
    """Yield the image file directories of a TIFF or BigTIFF, in the order of their chain."""
    order: ByteOrder = "little" if original[:2] == b"II" else "big"
    is_big = int.from_bytes(original[2:4], order) == 43
    count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if is_big else (2, 12, 4)
    position = 8 if is_big else 4
    for _ in range(_MAX_DIRECTORIES):
        start = int.from_bytes(original[position : position + offset_bytes], order)
        if not 0 < start < len(original):
            return
        first = start + count_bytes
        position = first + int.from_bytes(original[start:first], order) * entry_bytes
        if position > len(original):
            return
        places = range(first, position, entry_bytes)
        entries = {int.from_bytes(original[at : at + 2], order): at for at in places}
        yield Directory(original, order, offset_bytes, entries)


def _page(original: bytes) -> Directory | None:
    return next((one for one in directories(original) if not one.value(_SUBFILE_TYPE, 0) & 1), None)


def _page_bytes(page: Directory) -> int:
    bits = max(page.values(_BITS, page.value(_SAMPLES, 1)), default=1)
    return page.value(_WIDTH, 0) * page.value(_HEIGHT, 0) * page.value(_SAMPLES, 1) * bits // 8


def _inflated_bytes(strip: memoryview, limit: int) -> int:
    """Inflate without keeping the result; stops beyond the limit, as what follows is not shown."""
    stream = zlib.decompressobj()
    count = 0
    for start in range(0, len(strip), _STEP_BYTES):
        count += len(stream.decompress(strip[start : start + _STEP_BYTES]))
        if stream.eof or count > limit:
            break
    return count
