"""Format → the arguments of its decoder and encoder; and the recipe, which digests them all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from galerly_cdn.model import Format, Job, Size, to_json

if TYPE_CHECKING:
    from galerly_cdn.render.loaders import Image

RENDERER: Final = 1
"""Raised by whoever changes what the pipeline makes of the same original: every rendition is remade."""

MARGINS: Final = ((400, 2.0), (800, 2.0), (65535, 2.0))
"""Longest side of the box up to which a factor applies, and that factor: what shrink-on-load leaves."""


def margin(size: Size) -> float:
    """How many times larger than the rendition shrink-on-load must leave the picture (decision 0004)."""
    longest = max(size.width_px, size.height_px)
    return next((factor for side, factor in MARGINS if longest <= side), MARGINS[-1][1])


def encode(image: Image, form: Format, quality: int, *, keep: int) -> bytes:
    """The picture's bytes. Raises `loaders.Error` if its original turns out damaged."""
    match form:
        case Format.JPEG:
            # quant_table 3 (mozjpeg's "ImageMagick" table): 4-8 % smaller at the same SSIMULACRA2.
            data = image.jpegsave_buffer(Q=quality, interlace=True, optimize_coding=True, quant_table=3, keep=keep)
        case Format.WEBP:
            data = image.webpsave_buffer(Q=quality, effort=4, keep=keep)
        case Format.AVIF:
            data = image.heifsave_buffer(
                Q=quality, compression="av1", effort=0, subsample_mode="on", bitdepth=8, keep=keep
            )
        case Format.PNG:
            data = image.pngsave_buffer(compression=6, filter="all", keep=keep)
    return bytes(data)


def recipe(job: Job, libvips: str) -> str:
    """Digest (16 hexadecimal digits) of everything beside the original that decides a rendition's bytes."""
    forms = [job.target.format] if job.target.format else [Format.JPEG, Format.PNG]
    decides = {
        "renderer": RENDERER,
        "libvips": libvips,
        "target": str(job.target),
        "qualities": {form: job.qualities.get(form) for form in forms if form is not Format.PNG},
        "margin": margin(job.target.size),
        "keep_copyright": job.keep_copyright,
    }
    return hashlib.sha256(to_json(decides)).hexdigest()[:16]
