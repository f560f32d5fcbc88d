"""Who made the picture and who holds its rights: read from EXIF, else IPTC, else XMP.

The two lines a photographer may want to travel with every rendition, and nothing else beside them.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

import pyvips

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.render.decoders import Image

_ARTIST, _COPYRIGHT = "exif-ifd0-Artist", "exif-ifd0-Copyright"
_COLOR_SPACE, _SRGB = "exif-ifd2-ColorSpace", "1"
_MAX_LETTERS = 500
_MAX_XMP_BYTES = 1 << 18
_IPTC_BYLINE, _IPTC_COPYRIGHT = 80, 116
_XMP_ITEM: Final = r"<dc:{name}\b[^>]*>\s*<rdf:\w+>\s*<rdf:li\b[^>]*>([^<]{{1,2000}})<"


class CopyrightNotice(Value, frozen=True):
    """Creator and copyright line; empty where the original names none."""

    creator: str = ""
    copyright: str = ""


EMPTY: Final = CopyrightNotice()


def read_notice(image: Image) -> CopyrightNotice:
    """The first of EXIF, IPTC (IIM 4.2, 2:80 and 2:116) and XMP (Dublin Core) that says something."""
    iptc = _iptc(_blob(image, "iptc-data"))
    xmp = _blob(image, "xmp-data")[:_MAX_XMP_BYTES].decode("utf-8", "replace")
    return CopyrightNotice(
        creator=_first(_exif(image, _ARTIST), iptc.get(_IPTC_BYLINE, ""), _xmp(xmp, "creator")),
        copyright=_first(_exif(image, _COPYRIGHT), iptc.get(_IPTC_COPYRIGHT, ""), _xmp(xmp, "rights")),
    )


def with_notice_only(image: Image, credit: CopyrightNotice) -> Image:
    """The same pixels with these two lines for metadata: nothing else can slip through."""
    pixels = image.write_to_memory()
    bare = pyvips.Image.new_from_memory(pixels, image.width, image.height, image.bands, image.format)
    bare = bare.copy(interpretation=image.interpretation)
    lines = {_ARTIST: credit.creator, _COPYRIGHT: credit.copyright, _COLOR_SPACE: _SRGB}
    for field, text in lines.items():
        if text:
            bare.set_type(pyvips.GValue.gstr_type, field, text)
    return bare


def _first(*lines: str) -> str:
    for line in lines:
        if clean := " ".join("".join(c if c.isprintable() else " " for c in line).split()):
            return clean[:_MAX_LETTERS]
    return ""


def _blob(image: Image, field: str) -> bytes:
    return image.get(field) if image.get_typeof(field) else b""  # type: ignore[return-value]  # a blob


def _exif(image: Image, field: str) -> str:
    """libvips writes a value as `text (text, ASCII, 5 components, 5 bytes)`."""
    if not image.get_typeof(field):
        return ""
    return str(image.get(field)).rpartition(" (")[0]


def _iptc(block: bytes) -> dict[int, str]:
    """The texts of record 2, by dataset; the block may be wrapped in Photoshop resources."""
    found: dict[int, str] = {}
    at = block.find(b"\x1c\x02")
    while at >= 0 and at + 5 <= len(block) and block[at] == 0x1C:
        length = int.from_bytes(block[at + 3 : at + 5], "big")
        text = block[at + 5 : at + 5 + length]
        if block[at + 1] == 2:
            found.setdefault(block[at + 2], _text(text))
        at += 5 + length
    return found


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _xmp(packet: str, name: str) -> str:
    found = re.search(_XMP_ITEM.format(name=name), packet)
    return html.unescape(found[1]) if found else ""
