"""Reads an original's creator and copyright notice, and writes both, and nothing else, to a rendition.

Each is read from EXIF, else from IPTC, else from XMP.
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
_MAX_CHARACTERS = 500
_MAX_XMP_BYTES = 1 << 18
_IPTC_BYLINE, _IPTC_COPYRIGHT = 80, 116
_XMP_ITEM: Final = r"<dc:{name}\b[^>]*>\s*<rdf:\w+>\s*<rdf:li\b[^>]*>([^<]{{1,2000}})<"


class CopyrightNotice(Value, frozen=True):
    """The creator and the copyright notice; empty if the original has none."""

    creator: str = ""
    copyright: str = ""


EMPTY: Final = CopyrightNotice()


def read_notice(image: Image) -> CopyrightNotice:
    """Return the first text found in EXIF, IPTC (IIM 4.2, 2:80 and 2:116) and XMP (Dublin Core)."""
    iptc = _iptc(_blob(image, "iptc-data"))
    xmp = _blob(image, "xmp-data")[:_MAX_XMP_BYTES].decode("utf-8", "replace")
    return CopyrightNotice(
        creator=_first(_exif(image, _ARTIST), iptc.get(_IPTC_BYLINE, ""), _xmp(xmp, "creator")),
        copyright=_first(_exif(image, _COPYRIGHT), iptc.get(_IPTC_COPYRIGHT, ""), _xmp(xmp, "rights")),
    )


def with_notice_only(image: Image, notice: CopyrightNotice) -> Image:
    """Return the same pixels with only the notice as metadata.

    The pixels are copied to a new image, so that no other field of the original can be kept by mistake.
    """
    pixels = image.write_to_memory()
    copy = pyvips.Image.new_from_memory(pixels, image.width, image.height, image.bands, image.format)
    copy = copy.copy(interpretation=image.interpretation)
    fields = {_ARTIST: notice.creator, _COPYRIGHT: notice.copyright, _COLOR_SPACE: _SRGB}
    for field, text in fields.items():
        if text:
            copy.set_type(pyvips.GValue.gstr_type, field, text)
    return copy


def _first(*texts: str) -> str:
    """Return the first text that is not empty, on one printable line of bounded length."""
    for text in texts:
        if line := " ".join("".join(c if c.isprintable() else " " for c in text).split()):
            return line[:_MAX_CHARACTERS]
    return ""


def _blob(image: Image, field: str) -> bytes:
    return image.get(field) if image.get_typeof(field) else b""  # type: ignore[return-value]  # a blob


def _exif(image: Image, field: str) -> str:
    """Return the text of a field; libvips gives it as `text (text, ASCII, 5 components, 5 bytes)`."""
    if not image.get_typeof(field):
        return ""
    return str(image.get(field)).rpartition(" (")[0]


def _iptc(block: bytes) -> dict[int, str]:
    """Return the texts of record 2 by dataset number; the block may be wrapped in Photoshop resources."""
    texts: dict[int, str] = {}
    start = block.find(b"\x1c\x02")
    while start >= 0 and start + 5 <= len(block) and block[start] == 0x1C:
        length = int.from_bytes(block[start + 3 : start + 5], "big")
        if block[start + 1] == 2:
            texts.setdefault(block[start + 2], _decoded(block[start + 5 : start + 5 + length]))
        start += 5 + length
    return texts


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _xmp(packet: str, name: str) -> str:
    item = re.search(_XMP_ITEM.format(name=name), packet)
    return html.unescape(item[1]) if item else ""
