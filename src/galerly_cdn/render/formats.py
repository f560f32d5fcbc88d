"""Detects an original's format from its magic bytes; its name and its declared type are not used."""

from __future__ import annotations

import enum
from typing import Final

from galerly_cdn.errors import UnsupportedFormat

MAGIC_BYTES = 512
"""The number of bytes at the start of an original that `detect_format` reads at most."""
MEDIA_TYPES_BY_EXTENSION: Final = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    **dict.fromkeys(("tif", "tiff"), "image/tiff"),
    **{name: f"image/{name}" for name in ("png", "webp", "gif", "avif", "heic", "heif")},
}
"""The file name extensions of photographs, in lower case and without the dot."""
_SYNOLOGY_THUMBNAILS = "@eaDir"
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"})


class OriginalFormat(enum.StrEnum):
    """The format of an original."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    TIFF = "tiff"
    AVIF = "avif"
    HEIC = "heic"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


def detect_format(original: bytes) -> OriginalFormat:
    """Return the format. Raises `UnsupportedFormat` for everything outside the allow-list."""
    if original.startswith(b"\xff\xd8\xff"):
        return OriginalFormat.JPEG
    if original.startswith(b"\x89PNG\r\n\x1a\n"):
        return OriginalFormat.PNG
    if original[:4] == b"RIFF" and original[8:12] == b"WEBP":
        return OriginalFormat.WEBP
    if original.startswith((b"GIF87a", b"GIF89a")):
        return OriginalFormat.GIF
    if original.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return OriginalFormat.TIFF
    if original[4:8] == b"ftyp":
        return _detect_heif(original)
    raise UnsupportedFormat(f"magic bytes {original[:12].hex(' ')}")


def _detect_heif(original: bytes) -> OriginalFormat:
    """Return AVIF or HEIC by the brands in the file type box (ISO/IEC 14496-12 §4.3)."""
    length = min(int.from_bytes(original[:4], "big"), MAGIC_BYTES)
    brands = {original[8:12]} | {original[start : start + 4] for start in range(16, length, 4)}
    if brands & _AVIF_BRANDS:
        return OriginalFormat.AVIF
    if brands & _HEIC_BRANDS:
        return OriginalFormat.HEIC
    raise UnsupportedFormat(f"file type brands {sorted(brands)}")


def is_photograph_name(key: str) -> bool:
    """Whether listings count a key as a photograph: a picture's extension, or none.

    Only listings for people use it; whether an original is rendered depends on its content. Keys below
    `@eaDir`, where Synology's file server keeps thumbnails, are not counted.
    """
    *folders, name = key.split("/")
    stem, _, extension = name.rpartition(".")
    has_extension = bool(stem and extension)
    return _SYNOLOGY_THUMBNAILS not in folders and (not has_extension or media_type_by_name(name) is not None)


def media_type_by_name(key: str) -> str | None:
    """A photograph's media type by its file name extension; None for other extensions."""
    stem, _, extension = key.rpartition("/")[2].rpartition(".")
    return MEDIA_TYPES_BY_EXTENSION.get(extension.lower()) if stem else None
