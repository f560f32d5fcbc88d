"""Format → the arguments of its encoder. Every figure is argued in decision 0004.

Who changes one raises `recipe.RENDERER`.
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


def encode(image: Image, form: Format, qualities: Mapping[Format, int], keep: int = KEEP_NOTHING) -> bytes:
    """The picture's bytes: 8 bits, JPEG and AVIF 4:2:0. Raises `loaders.Error` if its original is damaged."""
    match form:
        case Format.JPEG:
            # Table 3 is 4 to 8 % smaller than the standard's at the same SSIMULACRA2.
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
            return image.pngsave_buffer(compression=6, filter=int(pyvips.ForeignPngFilter.SUB), keep=keep)
