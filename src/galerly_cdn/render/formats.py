"""Detects an original's format from its magic bytes; its name and its declared type are not used."""

from __future__ import annotations

import enum
from typing import Final

from galerly_cdn.errors import UnsupportedFormat

MAGIC_BYTES = 512
"""The number of bytes at the start of an original that `detect_format` reads at most."""
_RAW = "image/x-dcraw"
MEDIA_TYPES_BY_EXTENSION: Final = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    **dict.fromkeys(("tif", "tiff"), "image/tiff"),
    **{name: f"image/{name}" for name in ("png", "webp", "gif", "avif", "heic", "heif")},
    "hif": "image/heif",
    "dng": "image/x-adobe-dng",
    **dict.fromkeys(("nef", "nrw"), "image/x-nikon-nef"),
    **{name: f"image/x-canon-{name}" for name in ("crw", "cr2", "cr3")},
    **{name: f"image/x-sony-{name}" for name in ("arw", "sr2", "srf")},
    "raf": "image/x-fuji-raf",
    "orf": "image/x-olympus-orf",
    "rw2": "image/x-panasonic-rw2",
    "pef": "image/x-pentax-pef",
    "srw": "image/x-samsung-srw",
    **dict.fromkeys(
        ("3fr", "dcr", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mos", "mrw", "rwl", "x3f"), _RAW
    ),
}
"""The file name extensions of photographs, in lower case and without the dot."""
_SYNOLOGY_THUMBNAILS = "@eaDir"
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"})
_ADVICE = "save the photograph as JPEG, PNG, WebP, AVIF or TIFF."
_OTHER_FORMATS: Final = (
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"BM", "BMP"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"\0\0\x01\0", "Windows icon (ICO)"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"qoif", "QOI"),
    (0, b"%PDF-", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"<svg", "SVG"),
    (0, b"PK\x03\x04", "ZIP"),
    (4, b"ftypqt", "QuickTime video"),
    (4, b"ftypmif1", "HEIF (other than HEIC and AVIF)"),
    (4, b"ftyp", "MP4 video"),
    (0, b"RIFF", "AVI or WAV"),
)
"""(Offset, magic bytes, name) of formats that are recognised to name them in the refusal."""


class OriginalFormat(enum.StrEnum):
    """The format of an original."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    TIFF = "tiff"
    AVIF = "avif"
    HEIC = "heic"
    RAW = "raw"
    """A camera's raw file; `detect_format` does not return it, because it reads only magic bytes."""

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
    raise _unsupported(original, f"magic bytes {original[:12].hex(' ')}")


def _unsupported(original: bytes, detail: str) -> UnsupportedFormat:
    """Return the error, with the format's name in its sentence if the format is recognised."""
    names = (name for offset, magic, name in _OTHER_FORMATS if original.startswith(magic, offset))
    name = next(names, None)
    return UnsupportedFormat(detail, f"{name} files are not supported; {_ADVICE}" if name else "")


def _detect_heif(original: bytes) -> OriginalFormat:
    """Return AVIF or HEIC by the brands in the file type box (ISO/IEC 14496-12 §4.3)."""
    length = min(int.from_bytes(original[:4], "big"), MAGIC_BYTES)
    brands = {original[8:12]} | {original[start : start + 4] for start in range(16, length, 4)}
    if brands & _AVIF_BRANDS:
        return OriginalFormat.AVIF
    if brands & _HEIC_BRANDS:
        return OriginalFormat.HEIC
    raise _unsupported(original, f"file type brands {sorted(brands)}")


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
