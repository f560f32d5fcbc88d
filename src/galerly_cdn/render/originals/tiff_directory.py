"""Reads the image file directories of a TIFF (TIFF 6.0 §2, BigTIFF, TIFF Technical Note 1).

The reader is limited in everything that a hostile file may repeat: directories, entries and values. Each
position is read once, so that a loop of links ends, and a position outside the file ends the list.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from galerly_cdn.errors import Undecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of a TIFF and of a BigTIFF, in both byte orders."""
MAX_DIRECTORIES = 256
_MAX_ENTRIES = 256
_MAX_VALUES = 64

SUBFILE, OLD_SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
FILL_ORDER, MAKE, STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES, PLANAR = 266, 271, 273, 274, 277, 279, 284
COLOR_MAP, TILE_WIDTH, TILE_OFFSETS, TILE_BYTES, SUB_IFDS = 320, 322, 324, 325, 330
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT = 332, 338, 339
COEFFICIENTS, SUBSAMPLING, REFERENCE, DNG_VERSION = 529, 530, 532, 50706
_TAGS: Final = (
    {SUBFILE, OLD_SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC}
    | {FILL_ORDER, MAKE, STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES, PLANAR}
    | {COLOR_MAP, TILE_WIDTH, TILE_OFFSETS, TILE_BYTES, SUB_IFDS}
    | {INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT}
    | {COEFFICIENTS, SUBSAMPLING, REFERENCE, DNG_VERSION}
)
_RATIONALS: Final = frozenset({5, 10})
_CODES: Final = dict(enumerate("BBHIIbBhiifdI", 1)) | {16: "Q", 17: "q", 18: "Q"}
"""Field type → the code of its numbers in `struct`; a rational is two numbers, text is bytes."""


class Directory(NamedTuple):
    """One image file directory, reduced to the tags that concern the page and its samples."""

    number: int
    """The number of the top-level directory, from 0; for a child, that of its parent."""
    child: int
    """The number among its parent's SubIFDs, from 0; -1 for a top-level directory."""
    values: Mapping[int, tuple[float, ...]]
    """Tag → its first numbers."""
    places: Mapping[int, tuple[int, str]]
    """Tag → the position in the file of its first number, and the code of its numbers in `struct`."""
    counts: Mapping[int, int]
    """Tag → how many numbers it has."""

    def first(self, tag: int, default: int) -> int:
        """Return the first number of a tag."""
        return int(self.values.get(tag, (default,))[0])

    def numbers(self, original: bytes, tag: int, most: int) -> tuple[float, ...]:
        """Return the first `most` numbers of a tag, of which `values` has only 64; none if one is missing."""
        count = min(self.counts.get(tag, 0), most)
        if not count or not self.is_inside(original, tag):
            return ()
        position, code = self.places[tag]
        return struct.unpack_from(f"{code[0]}{count}{code[1]}", original, position)

    def is_inside(self, original: bytes, tag: int) -> bool:
        """Whether every number of a tag is inside the file; a missing tag is."""
        position, code = self.places.get(tag, (0, "<B"))
        return position + self.counts.get(tag, 0) * struct.calcsize(code) <= len(original)

    @property
    def sides_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.first(WIDTH, 0), self.first(LENGTH, 0)

    @property
    def maker(self) -> str:
        """The camera's maker."""
        return bytes(map(int, self.values.get(MAKE, ()))).partition(b"\0")[0].decode("latin-1").strip()

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture and not a transparency mask."""
        return min(self.sides_px) > 0 and not self.first(SUBFILE, 0) & 4

    @property
    def is_reduced(self) -> bool:
        """Whether it is a reduced copy of another picture in the file (TIFF 6.0 §8)."""
        return bool(self.first(SUBFILE, 0) & 1) or self.first(OLD_SUBFILE, 0) == 2


def directory_groups(original: bytes) -> tuple[tuple[Directory, ...], ...]:
    """Return each top-level directory with its children after it. Raises `Undecodable` if there is none."""
    file = _File(original)
    groups: list[tuple[Directory, ...]] = []
    seen: set[int] = set()
    position = file.first
    while position and _is_new(position, seen):
        parent = file.directory(position, len(groups), -1)
        if parent is None:
            break
        starts = [int(start) for start in parent.values.get(SUB_IFDS, ())]
        children = (
            file.directory(start, len(groups), child)
            for child, start in enumerate(starts)
            if _is_new(start, seen)
        )
        groups.append((parent, *(child for child in children if child)))
        position = file.next_directory(position)
    if not groups:
        raise Undecodable("the TIFF has no readable directory")
    return tuple(groups)


def _is_new(position: int, seen: set[int]) -> bool:
    """Return whether the position was not read yet and the limit is not reached; remember it."""
    is_new = position not in seen and len(seen) < MAX_DIRECTORIES
    seen.add(position)
    return is_new


class _File:
    """Reads numbers at positions in one file."""

    def __init__(self, original: bytes) -> None:
        self._original = original
        self._order = ">" if original.startswith(b"MM") else "<"
        is_big = original[2:4] in {b"+\0", b"\0+"}
        self._word, self._count, self._count_bytes = ("Q", "Q", 8) if is_big else ("I", "H", 2)
        self._entry_bytes = 20 if is_big else 12
        self._word_bytes = 8 if is_big else 4
        self.first = self._one(self._word, 8 if is_big else 4)

    def directory(self, position: int, number: int, child: int) -> Directory | None:
        """Return the directory at a position; None if it is not wholly in the file."""
        entries = self._one(self._count, position)
        start = position + self._count_bytes
        if not entries or start + entries * self._entry_bytes > len(self._original):
            return None
        values: dict[int, tuple[float, ...]] = {}
        places: dict[int, tuple[int, str]] = {}
        counts: dict[int, int] = {}
        for at in range(start, start + min(entries, _MAX_ENTRIES) * self._entry_bytes, self._entry_bytes):
            tag, kind = map(int, self._numbers("HH", at))
            if tag in _TAGS and tag not in values and (code := _CODES.get(kind)):
                count = self._one(self._word, at + 4) * (2 if kind in _RATIONALS else 1)
                place = self._place(at + 4 + self._word_bytes, count, code)
                numbers = self._numbers(f"{min(count, _MAX_VALUES)}{code}", place)
                values[tag] = _ratios(numbers) if kind in _RATIONALS else numbers
                places[tag] = (place, self._order + code)
                counts[tag] = count
        filled = {tag: numbers for tag, numbers in values.items() if numbers}
        return Directory(number, child, filled, places, counts)

    def next_directory(self, position: int) -> int:
        """Return the position of the directory after the one at `position`; 0 after the last."""
        entries = self._one(self._count, position)
        return self._one(self._word, position + self._count_bytes + entries * self._entry_bytes)

    def _place(self, field: int, count: int, code: str) -> int:
        """Return where the values are: in the entry's field if they fit, otherwise where it points to."""
        fits = count * struct.calcsize("=" + code) <= self._word_bytes
        return field if fits else self._one(self._word, field)

    def _one(self, code: str, at: int) -> int:
        return int((*self._numbers(code, at), 0)[0])

    def _numbers(self, codes: str, at: int) -> tuple[float, ...]:
        """Return the numbers at a position; none if they are not wholly in the file."""
        kinds = self._order + codes
        is_inside = 0 <= at <= len(self._original) - struct.calcsize(kinds)
        return struct.unpack_from(kinds, self._original, at) if is_inside else ()


def _ratios(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Return the quotients of pairs of numbers; 0 for a quotient by zero."""
    return tuple(
        top / bottom if bottom else 0.0 for top, bottom in zip(numbers[::2], numbers[1::2], strict=False)
    )
