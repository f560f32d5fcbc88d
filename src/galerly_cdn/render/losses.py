"""What a rendition may lose of its original: the whole vocabulary, one sentence each."""

from __future__ import annotations

from typing import Final

LOSSES: Final = {
    "alpha": "Transparency: laid on white, because JPEG has none.",
    "animation": "Movement: the rendition shows the first frame.",
    "bit-depth": "Fine steps: the original has more than 8 bits a channel.",
    "cmyk": "Printing inks: converted to screen colours.",
    "exif": "Camera data (EXIF).",
    "gps": "The place it was taken (EXIF GPS).",
    "hdr-gain-map": "The gain map that brightens it on HDR screens.",
    "hdr-transfer": "HDR brightness (PQ or HLG): shown at standard range.",
    "icc": "The embedded colour profile: converted to sRGB instead.",
    "iptc": "Caption and rights fields (IPTC).",
    "pages": "Further pages or pictures in the same file.",
    "wide-gamut": "Colours outside sRGB.",
    "xmp": "Editing and rights data (XMP).",
}
"""In the order in which they are told: sorted."""


def in_order(found: set[str]) -> tuple[str, ...]:
    """The words found, sorted. Raises `KeyError` for one that is not in the vocabulary."""
    for word in found:
        LOSSES[word]
    return tuple(sorted(found))
