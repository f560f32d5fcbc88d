"""Finds damaged tiles of an AVIF that is a grid: libheif leaves them black and reports nothing.

Each tile is an item of its own (ISO/IEC 23008-12 §6.6.2.3). It is decoded alone when the file names it as the
primary item, and an error is then reported.
"""

from __future__ import annotations

from typing import Final

from galerly_cdn.errors import Undecodable
from galerly_cdn.render import decoders
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.originals import heif

_MAX_TILES: Final = 2000
_NOT_SHOWN_ALONE: Final = "'pitm' box references an unsupported or non-existing image"


def check(original: bytes) -> None:
    """Raise `Undecodable` if a tile of the primary item, or of its alpha plane, cannot be decoded.

    Costs one decode for a grid, and nothing for other pictures.
    """
    meta, place = heif.meta_of(original), heif.primary_place(original)
    tiles = heif.tiles_of(meta) if meta else []
    if not tiles or place is None:
        return
    if len(tiles) > _MAX_TILES:
        raise Undecodable(f"the AVIF has {len(tiles)} tiles, more than {_MAX_TILES}")
    if tiles[-1] >= 1 << 8 * place.length:
        raise Undecodable(f"the AVIF's tile, item {tiles[-1]}, cannot be the primary item")
    for tile in tiles:
        number = tile.to_bytes(place.length, "big")
        _decode(original[: place.start] + number + original[place.start + place.length :], tile)


def _decode(original: bytes, tile: int) -> None:
    try:
        decoders.load(original, OriginalFormat.AVIF).getpoint(0, 0)  # libheif decodes all for the first row
    except (Undecodable, decoders.Error) as error:
        # libheif shows no tile alone that has an alpha plane of its own: it is not checked
        if _NOT_SHOWN_ALONE not in str(error.__cause__ or error):
            raise Undecodable(f"the AVIF's tile, item {tile}, cannot be decoded") from error
