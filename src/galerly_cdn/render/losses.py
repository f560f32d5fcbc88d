"""Lists the words for what a rendition loses of its original, with one sentence for each."""

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
    "raw": "The sensor’s data: the rendition shows the JPEG that the camera embedded in its raw file.",
    "wide-gamut": "Colours outside sRGB.",
    "xmp": "Editing and rights data (XMP).",
}
"""Word → sentence, sorted by word."""


def in_order(words: set[str]) -> tuple[str, ...]:
    """Return the words, sorted. Raises `KeyError` for a word that is not in `LOSSES`."""
    for word in words:
        LOSSES[word]
    return tuple(sorted(words))
