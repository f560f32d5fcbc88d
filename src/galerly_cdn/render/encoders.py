"""Encodes pictures: one encoder and its arguments for each format. Decision 0004 gives the measurements.

Changing an argument changes the bytes of renditions: raise `recipe.RENDERER` with it, or for PNG alone
`recipe.PNG_ENCODER`. Every function here matches on `Format` without a default, so that the type checker
names it when a format is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyvips

from galerly_cdn.model import Format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.render.decoders import Image

KEEP_NOTHING: Final = int(pyvips.ForeignKeep.NONE)
KEEP_EXIF: Final = int(pyvips.ForeignKeep.EXIF)
_PNG_FILTERS: Final = int(
    pyvips.ForeignPngFilter.NONE | pyvips.ForeignPngFilter.SUB | pyvips.ForeignPngFilter.AVG
)
"""libpng chooses one for each line. They suit flat areas, graphics and photographs; see decision 0033."""


def encode(image: Image, form: Format, qualities: Mapping[Format, int], keep: int = KEEP_NOTHING) -> bytes:
    """Return the encoded picture: 8 bits a sample, JPEG and AVIF with 4:2:0 chroma subsampling.

    `keep` is a `pyvips.ForeignKeep`: the metadata to write. The pixels are evaluated here, so a damaged
    original raises `decoders.Error` here.
    """
    match form:
        case Format.JPEG:
            # Quantisation table 3 is 4 to 8 % smaller than the standard's at the same SSIMULACRA2.
            return image.jpegsave_buffer(
                Q=qualities[form], interlace=True, optimize_coding=True, quant_table=3, keep=keep
            )
        case Format.WEBP:
            return image.webpsave_buffer(Q=qualities[form], effort=4, keep=keep)
        case Format.AVIF:
            # Effort 4, the default, costs eight times as much for 6 % fewer bytes.
            return image.heifsave_buffer(
                Q=qualities[form], compression="av1", effort=0, subsample_mode="on", bitdepth=8, keep=keep
            )
        case Format.PNG:
            return image.pngsave_buffer(compression=5, filter=_PNG_FILTERS, keep=keep)


def has_alpha(form: Format) -> bool:
    """Return whether the format can hold an alpha channel."""
    match form:
        case Format.JPEG:
            return False
        case Format.WEBP | Format.AVIF | Format.PNG:
            return True
