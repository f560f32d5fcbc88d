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
_OTHER_MEDIA_TYPE: Final = "application/octet-stream"
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"})
_OTHER_KINDS: Final = (
    (0, b"BM", "BMP"),
    (0, b"8BPS\0\1", "Photoshop PSD"),
    (0, b"8BPS\0\2", "Photoshop PSB"),
    (0, b"%PDF-", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"\0\0\2\0", "CUR"),
    (0, b"v/1\1", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"gimp xcf", "GIMP XCF"),
    (0, b"FORM", "IFF"),
    (0, b"P7\n", "PAM"),
    (0, b"P3\n", "PPM"),
    (0, b"P5\n", "PGM"),
    (0, b"P6\n", "PPM"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF raw"),
    (0, b"IIU\0", "Panasonic RW2 raw"),
    (0, b"IIRO", "Olympus ORF raw"),
    (0, b"IIRS", "Olympus ORF raw"),
    (0, b"MMOR", "Olympus ORF raw"),
    (0, b"FOVb", "Sigma X3F raw"),
    (0, b"\0MRM", "Minolta MRW raw"),
    (6, b"HEAPCCDR", "Canon CRW raw"),
    (8, b"AVI ", "AVI video"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\3\4", "ZIP"),
)
"""(Offset, bytes, name) of kinds that are refused by their names."""
_OTHER_BRANDS: Final = {
    b"crx ": "Canon CR3 raw",
    b"qt  ": "QuickTime video",
    b"isom": "MP4 video",
    b"iso2": "MP4 video",
    b"mp41": "MP4 video",
    b"mp42": "MP4 video",
    b"M4V ": "MP4 video",
    b"3gp4": "3GPP video",
    b"3gp5": "3GPP video",
    b"jxl ": "JPEG XL",
    b"vvic": "HEIF with VVC",
    b"jpeg": "HEIF with JPEG",
    b"j2ki": "HEIF with JPEG 2000",
    b"miaf": "HEIF",
    b"mif1": "HEIF",
}
"""File type brand → name, the more specific first."""
_MARKUP: Final = ((b"<svg", "SVG"), (b"<html", "HTML"), (b"<!doctype html", "HTML"), (b"<?xml", "XML"))
_ADVICE: Final = "save the photograph as JPEG, PNG, WebP, AVIF or TIFF."


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


def kind_of(format_name: str) -> OriginalFormat:
    """The kind of an original whose facts name this format: a camera's kind of file is `RAW`."""
    return OriginalFormat(format_name) if format_name in set(OriginalFormat) else OriginalFormat.RAW


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
    name = _name_of(original)
    raise _unsupported(name, name or f"magic bytes {original[:12].hex(' ')}")


def _unsupported(name: str | None, detail: str) -> UnsupportedFormat:
    """Return the error, with the format's name in its sentence if the format is recognised."""
    return UnsupportedFormat(detail, f"{name} files are not supported; {_ADVICE}" if name else "")


def _name_of(original: bytes) -> str | None:
    """Return the name of a kind that is not supported; None if it is not known."""
    for offset, magic, name in _OTHER_KINDS:
        if original[offset : offset + len(magic)] == magic:
            return name
    start = original[:MAGIC_BYTES].lower()
    return next((name for tag, name in _MARKUP if tag in start), None)


def _detect_heif(original: bytes) -> OriginalFormat:
    """Return AVIF or HEIC by the brands in the file type box (ISO/IEC 14496-12 §4.3)."""
    length = min(int.from_bytes(original[:4], "big"), MAGIC_BYTES)
    brands = {original[8:12]} | {original[start : start + 4] for start in range(16, length, 4)}
    if brands & _AVIF_BRANDS:
        return OriginalFormat.AVIF
    if brands & _HEIC_BRANDS:
        return OriginalFormat.HEIC
    name = next((name for brand, name in _OTHER_BRANDS.items() if brand in brands), None)
    described = f"file type brands {b' '.join(sorted(brands)).decode('ascii', 'replace')}"
    raise _unsupported(name, f"{name or 'unknown kind'}: {described}")


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


def media_type_of(format_name: str, key: str) -> str:
    """The media type of an original whose facts name this format; that of its extension for a raw file."""
    if format_name in set(OriginalFormat):
        return OriginalFormat(format_name).media_type
    return media_type_by_name(key) or _OTHER_MEDIA_TYPE
