"""Computes the recipe: a digest of everything that determines a rendition's bytes except its original.

A change of the pipeline that changes the bytes of a rendition must raise `RENDERER`: the recipe changes,
and every stored rendition is made again. One of the PNG encoder alone raises `PNG_ENCODER`. A change of
facts or verdicts must raise `FACTS`. The server computes recipes, so this module does not load libvips.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from galerly_cdn.model import Format
from galerly_cdn.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.model import Job, Size

RENDERER: Final = 3

PNG_ENCODER: Final = 2
"""The revision of the arguments of the PNG encoder, which has no quality. To be raised when they change."""

FACTS: Final = 1
"""The revision of the fact records. To be raised when the same file gets other facts, or another verdict."""

MARGINS: Final = ((400, 2.0), (800, 1.4), (1 << 30, 1.2))
"""(Longest side in px of the size's box up to which the factor applies, factor); decision 0004."""

JPEG_MARGINS: Final = ((400, 2.0), (540, 1.4), (1200, 1.2), (1 << 30, 1.0))
"""The same for JPEG, which makes up for a smaller factor by a quality of 86; decision 0033."""


def margin(size: Size, form: Format) -> float:
    """Return how many times as large as the rendition the image must be that Lanczos scales down."""
    longest_px = max(size.width_px, size.height_px)
    margins = JPEG_MARGINS if form is Format.JPEG else MARGINS
    return next(factor for side_px, factor in margins if longest_px <= side_px)


def digest(job: Job, form: Format, libvips: str) -> str:
    """Return the recipe (16 hexadecimal digits) of a job for one picture, if it is encoded in `form`.

    The recipe does not depend on whether a URL names the format, nor on other pictures of the same job: a
    rendition made in a job differs from one made alone only within the tolerance that `margin` ensures.
    """
    (picture,) = job.pictures
    size = picture.target.size
    decisions = {
        "renderer": RENDERER,
        "libvips": libvips,
        "size": str(size),
        "format": form,
        "quality": picture.qualities[form] if form.has_quality else f"encoder {PNG_ENCODER}",
        "margin": margin(size, form),
        "keep_copyright": job.keep_copyright,
    }
    return hashlib.sha256(to_json(decisions)).hexdigest()[:16]


def facts_revision(libvips: str, formats: Iterable[str]) -> str:
    """Return the revision (16 hexadecimal digits) of fact records made by a libvips that decodes `formats`.

    The limits are not part of it: their refusals are computed from the facts and never stored.
    """
    decisions = {"facts": FACTS, "libvips": libvips, "formats": sorted(formats)}
    return hashlib.sha256(to_json(decisions)).hexdigest()[:16]
