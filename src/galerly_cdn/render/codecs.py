"""Format → the arguments of its decoder and encoder; and the recipe, which digests them all.

Every figure is argued in decision 0004. Who changes what the pipeline makes of the same original
raises `RENDERER`: the recipe changes, and every rendition is made anew.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pyvips

from galerly_cdn.model import Format, Job, Size, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.render.loaders import Image

RENDERER: Final = 1

MARGINS: Final = ((400, 2.0), (1 << 30, 1.4))
"""Longest side of the box up to which a factor applies, and that factor."""

KEEP_NOTHING: Final = int(pyvips.ForeignKeep.NONE)
KEEP_EXIF: Final = int(pyvips.ForeignKeep.EXIF)


def margin(size: Size) -> float:
    """How many times larger than the rendition shrink-on-load must leave the picture."""
    longest = max(size.width_px, size.height_px)
    return next(factor for side, factor in MARGINS if longest <= side)


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


def recipe(job: Job, libvips: str) -> str:
    """Digest (16 hexadecimal digits) of everything that decides a rendition's bytes beside the original."""
    forms = (job.target.format,) if job.target.format else (Format.JPEG, Format.PNG)
    decisions = {
        "renderer": RENDERER,
        "libvips": libvips,
        "target": str(job.target),
        "qualities": {form: job.qualities[form] for form in forms if form is not Format.PNG},
        "margin": margin(job.target.size),
        "keep_copyright": job.keep_copyright,
    }
    return hashlib.sha256(to_json(decisions)).hexdigest()[:16]
