"""What decides a rendition's bytes beside its original? The recipe: a digest of all of it.

Who changes what the pipeline makes of the same original raises `RENDERER`: the recipe changes, and
every rendition is made anew. The server asks this, so nothing here loads libvips.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from galerly_cdn.model import Format
from galerly_cdn.serialization import to_json

if TYPE_CHECKING:
    from galerly_cdn.model import Job, Size

RENDERER: Final = 1

MARGINS: Final = ((400, 2.0), (800, 1.4), (1 << 30, 1.2))
"""Longest side of the box up to which a factor applies, and that factor."""


def margin(size: Size) -> float:
    """How many times larger than the rendition the picture must be that Lanczos makes it from."""
    longest = max(size.width_px, size.height_px)
    return next(factor for side, factor in MARGINS if longest <= side)


def digest(job: Job, libvips: str) -> str:
    """Digest (16 hexadecimal digits) of all that decides a rendition's bytes beside the original.

    `job` has one picture. Which others are made with it decides nothing: they differ within what
    `margin` allows.
    """
    (picture,) = job.pictures
    target = picture.target
    forms = (target.format,) if target.format else (Format.JPEG, Format.PNG)
    decisions = {
        "renderer": RENDERER,
        "libvips": libvips,
        "target": str(target),
        "qualities": {form: picture.qualities[form] for form in forms if form is not Format.PNG},
        "margin": margin(target.size),
        "keep_copyright": job.keep_copyright,
    }
    return hashlib.sha256(to_json(decisions)).hexdigest()[:16]
