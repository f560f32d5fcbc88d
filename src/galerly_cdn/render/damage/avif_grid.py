"""Finds damaged tiles of an AVIF that is a grid: libheif leaves them black and reports nothing.

Each tile is an item of its own (ISO/IEC 23008-12 §6.6.2.3). It is decoded alone when the file names it as the
primary item, and an error is then reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from galerly_cdn.errors import Undecodable
from galerly_cdn.render import decoders
from galerly_cdn.render.formats import OriginalFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_TILES: Final = 2000
_FULL_BOX_BYTES: Final = 4


class Primary(NamedTuple):
    """The primary item, and where its number is stored in the file."""

    item: int
    position: int
    length: int


class Reference(NamedTuple):
    """An entry of the `iref` box: `dimg` names a grid's tiles, `auxl` the picture of an alpha plane."""

    kind: bytes
    item: int
    others: tuple[int, ...]


def check(original: bytes) -> None:
    """Raise `Undecodable` if a tile of the primary item, or of its alpha plane, cannot be decoded.

    Costs one decode for a grid, and nothing for other pictures.
    """
    boxes = dict(_meta_boxes(original))
    if not {b"pitm", b"iref"} <= boxes.keys():
        return
    primary = primary_item(original, *boxes[b"pitm"])
    tiles = tile_items(primary.item, list(references(original, *boxes[b"iref"])))
    if len(tiles) > _MAX_TILES:
        raise Undecodable(f"the AVIF has {len(tiles)} tiles, more than {_MAX_TILES}")
    if tiles and tiles[-1] >= 1 << 8 * primary.length:
        raise Undecodable(f"the AVIF's tile, item {tiles[-1]}, cannot be the primary item")
    for tile in tiles:
        end = primary.position + primary.length
        number = tile.to_bytes(primary.length, "big")
        _decode(original[: primary.position] + number + original[end:], tile)


def tile_items(primary: int, found: list[Reference]) -> list[int]:
    """Return the items that the primary item and its auxiliary pictures are made of."""
    auxiliary = {one.item for one in found if one.kind == b"auxl" and primary in one.others}
    grids = [one for one in found if one.kind == b"dimg" and one.item in {primary, *auxiliary}]
    return sorted({tile for grid in grids for tile in grid.others})


def primary_item(original: bytes, start: int, end: int) -> Primary:
    """Read the `pitm` box (ISO/IEC 14496-12 §8.11.4); its item's number has 2 or 4 bytes."""
    length = 4 if original[start : start + 1] > b"\0" else 2
    position = start + _FULL_BOX_BYTES
    return Primary(int.from_bytes(original[position : min(position + length, end)], "big"), position, length)


def references(original: bytes, start: int, end: int) -> Iterator[Reference]:
    """Yield the entries of the `iref` box (ISO/IEC 14496-12 §8.11.12)."""
    length = 4 if original[start : start + 1] > b"\0" else 2
    for kind, first, last in _boxes(original, start + _FULL_BOX_BYTES, end):
        numbers = [
            int.from_bytes(original[at : at + length], "big")
            for at in (first, *range(first + length + 2, last, length))
        ]
        yield Reference(kind, numbers[0], tuple(numbers[1:]))


def _meta_boxes(original: bytes) -> Iterator[tuple[bytes, tuple[int, int]]]:
    for name, start, end in _boxes(original, 0, len(original)):
        if name == b"meta":
            for inner, first, last in _boxes(original, start + _FULL_BOX_BYTES, end):
                yield inner, (first, last)


def _boxes(original: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each box, and where its content begins and ends (ISO/IEC 14496-12 §4.2)."""
    while position + 8 <= end:
        length = int.from_bytes(original[position : position + 4], "big")
        start = position + 8
        if length == 1:  # the length follows in 64 bits
            length = int.from_bytes(original[start : start + 8], "big")
            start += 8
        last = end if length == 0 else min(position + length, end)
        if last < start:
            return
        yield original[position + 4 : position + 8], start, last
        position = last


def _decode(original: bytes, tile: int) -> None:
    try:
        decoders.load(original, OriginalFormat.AVIF).getpoint(0, 0)  # libheif decodes all for the first row
    except (Undecodable, decoders.Error) as error:
        raise Undecodable(f"the AVIF's tile, item {tile}, cannot be decoded") from error
