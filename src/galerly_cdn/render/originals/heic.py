"""Decodes HEIC with the native module of pi-heif (libheif and libde265), an optional dependency.

The wheel of libvips has no HEVC decoder. pi-heif's Python part needs Pillow, which would be 7 MB for nothing:
its native module `_pi_heif` is imported alone. libheif applies the file's cropping, rotation and mirroring
(`clap`, `irot`, `imir`), converts YCbCr to RGB, and joins tiles and alpha.

Cameras write the orientation in EXIF beside `irot` or `imir`, where it is only information (ISO/IEC
23008-12 Annex A). Samsung's phones write it in EXIF alone: it is applied if the picture has neither of these
properties.

The pixels are decoded as a whole and passed to libvips without a copy.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import hashlib
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyvips

from galerly_cdn.errors import TooManyPixels, Undecodable, UnsupportedFormat
from galerly_cdn.render.originals import heic_items
from galerly_cdn.render.originals.heic_damage import Checker

if TYPE_CHECKING:
    from galerly_cdn.render.originals.heic_items import Items

Image = pyvips.Image

INSTALL: Final = (
    "HEIC is not decoded here; install pip install 'galerly-cdn[heic]', or save the photograph as JPEG."
)
"""The public sentence while pi-heif is not installed."""
PRIMARIES, TRANSFER = "heic-primaries", "heic-transfer"
"""The image's fields with the code points of its `nclx` colour box (ITU-T H.273)."""
PAGES, GAIN_MAP = "n-pages", "heic-gain-map"
_ORIENTATION = "orientation"
_MAX_KNOWN = 256
_DERIVED = frozenset({b"grid", b"iden", b"iovl"})
_HEVC = b"hvc1"
_NCLX_BYTES = 11
"""An `nclx` colour box: three code points, and the range in the highest bit of its last byte."""
_BLACK, _WHITE = 16 / 255, 235 / 255
"""The limited range of luma (ITU-T H.273 §8.3), as a share of all steps."""


class _Nclx(NamedTuple):
    """The code points and the range of an `nclx` colour box."""

    primaries: int
    transfer: int
    is_full_range: bool


class _Library(NamedTuple):
    """The native module, and the check by libde265."""

    module: Any
    checker: Checker


@functools.cache
def _library() -> _Library | None:
    """Load pi-heif's native library; None if it is not installed. Call it before files are forbidden."""
    try:
        import _pi_heif  # noqa: PLC0415 - optional, and loaded only by workers

        return _Library(_pi_heif, Checker(ctypes.CDLL(_pi_heif.__file__)))
    except (ImportError, OSError, AttributeError):
        return None


def is_installed() -> bool:
    """Whether pi-heif is installed and its library can be loaded."""
    return _library() is not None


def read_header(original: bytes) -> Image:
    """Return an image with the sides and the metadata of the picture, and black pixels.

    Raises `Undecodable`, `TooManyPixels`, or `UnsupportedFormat` if pi-heif is not installed or the picture
    is not HEVC.
    """
    picture, items = _open(original)
    (width, height), mode = picture.size_mode
    try:
        black = Image.black(width, height, bands=_bands(mode)).cast(_sample_format(mode))
    except pyvips.Error as error:  # over libvips' largest side
        raise TooManyPixels(f"{width} × {height} px") from error
    return _described(black, picture, items)


def load(original: bytes) -> Image:
    """Decode the primary picture: upright, with straight alpha, in its own colours. Raises as `read_header`.

    Samples of more than 8 bits are 16 bits wide, with the significant bits at the top.
    """
    picture, items = _open(original)
    library = _library()
    assert library  # noqa: S101 - `_open` has checked it
    nclx, in_stream = _nclx(_color_boxes(items)), _checked(library.checker, items)
    is_full_range = nclx.is_full_range if nclx else in_stream  # ITU-T H.265 §E.3.1
    try:
        pixels = picture.data
    except (ArithmeticError, MemoryError, OSError, RuntimeError, SyntaxError, ValueError) as error:
        raise Undecodable(f"libheif: {error}") from error
    (width, height), mode = picture.size_mode
    if len(pixels) != width * height * _bands(mode) * (2 if ";16" in mode else 1):
        raise Undecodable(f"libheif returned {len(pixels)} bytes for {width} × {height} px, {mode}")
    image = Image.new_from_memory(pixels, width, height, _bands(mode), _sample_format(mode))
    # The view does not keep the picture alive, whose memory it shows (pi-heif 1.4).
    image._references.append(picture)  # noqa: SLF001 - pyvips passes references on to pictures made from this one
    image = _described(image, picture, items)
    if _bands(mode) == 1 and not is_full_range:
        image = _stretched(image)
    if mode.startswith("RGBa"):
        image = image.unpremultiply(max_alpha=65535 if ";16" in mode else 255).cast(_sample_format(mode))
    return image


def _checked(checker: Checker, items: Items) -> bool:
    """Check the coded data, once for each original; return whether its luma has the full range."""
    digest = hashlib.sha256(items.original).digest()
    if digest not in _known:
        _known[digest] = checker.check(items)
        if len(_known) > _MAX_KNOWN:
            _known.popitem(last=False)
    return _known[digest]


_known: collections.OrderedDict[bytes, bool] = collections.OrderedDict()


def _open(original: bytes) -> tuple[Any, Items]:
    """Return libheif's handle of the primary picture, and the items of the file."""
    library = _library()
    if library is None:
        raise UnsupportedFormat("pi-heif is not installed", INSTALL)
    items = heic_items.read(original)
    _check_codec(items)
    try:
        pictures = library.module.load_file(original, 0, False, False, True, True, "", False)
    except SyntaxError as error:  # libheif's "unsupported feature"
        raise UnsupportedFormat(f"libheif: {error}") from error
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise Undecodable(f"libheif: {error}") from error
    primary = next((one for one in pictures if one is not None and one.primary), None)
    if primary is None or min(primary.size_mode[0]) <= 0:
        raise Undecodable("libheif cannot read the primary picture")
    return primary, items


def _check_codec(items: Items) -> None:
    """Raise `UnsupportedFormat` if the picture is not coded with HEVC."""
    codecs = {items.types.get(item, b"") for item in items.coded_items()}
    if others := codecs - {_HEVC} - _DERIVED:
        name = min(others).decode("ascii", "replace")
        raise UnsupportedFormat(
            f"HEIF with {name}", f"HEIF pictures with the codec {name} are not supported; save it as JPEG."
        )


def _described(image: Image, picture: Any, items: Items) -> Image:  # noqa: ANN401 - the module has no types
    """Return the image with its interpretation and the file's metadata, as libvips' loaders name them."""
    bits = picture.bit_depth
    spaces = ("grey16", "b-w") if image.bands == 1 else ("rgb16", "srgb")
    image = image.copy(interpretation=spaces[0] if bits > 8 else spaces[1])
    # Not by pi-heif's `metadata`: it ends the process at an item whose type is not UTF-8 (1.4).
    if exif := items.metadata(b"Exif"):
        image.set_type(pyvips.GValue.blob_type, "exif-data", _exif(exif))  # type: ignore[arg-type]  # a blob is bytes
        has_orientation = any(items.property_of(items.primary, kind) for kind in (b"irot", b"imir"))
        if has_orientation and image.get_typeof(_ORIENTATION):
            image.set_type(pyvips.GValue.gint_type, _ORIENTATION, 1)
    if xmp := items.metadata(b"application/rdf+xml"):
        image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)  # type: ignore[arg-type]  # likewise
    colors = _color_boxes(items)
    if profile := next((one[4:] for one in colors if one[:4] in {b"prof", b"rICC"}), b""):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)  # type: ignore[arg-type]  # likewise
    numbers = {"bits-per-sample": bits, PAGES: _pages(items), GAIN_MAP: int(items.has_gain_map())}
    if nclx := _nclx(colors):
        numbers |= {PRIMARIES: nclx.primaries, TRANSFER: nclx.transfer}
    for name, number in numbers.items():
        image.set_type(pyvips.GValue.gint_type, name, number)
    return image


def _pages(items: Items) -> int:
    """The number of pictures that a viewer could show: neither tiles, thumbnails, auxiliary nor hidden."""
    parts = {one for kind, _, to in items.references if kind == b"dimg" for one in to}
    others = {one for kind, one, _ in items.references if kind in {b"auxl", b"thmb"}}
    pictures = {item for item, kind in items.types.items() if kind == _HEVC or kind in _DERIVED}
    return max(len(pictures - parts - others - items.hidden | {items.primary}), 1)


def _exif(data: bytes) -> bytes:
    """Return an EXIF block with its identifier; before it is its offset (ISO/IEC 23008-12 §A.2.1)."""
    start = 4 + int.from_bytes(data[:4], "big")
    return b"Exif\0\0" + data[start:]


def _color_boxes(items: Items) -> list[bytes]:
    """The colour boxes of the picture, then those of its first tile: a grid may have none of its own."""
    owners = (items.primary, *items.coded_items()[:1])
    return [content for item in owners for kind, content in items.properties.get(item, ()) if kind == b"colr"]


def _nclx(colors: list[bytes]) -> _Nclx | None:
    """The first colour box with code points (ISO/IEC 14496-12 §12.1.5); None if there is none."""
    for content in colors:
        if content[:4] == b"nclx" and len(content) >= _NCLX_BYTES:
            primaries, transfer, _, flags = struct.unpack(">HHHB", content[4:_NCLX_BYTES])
            return _Nclx(primaries, transfer, bool(flags & 0x80))
    return None


def _stretched(image: Image) -> Image:
    """Stretch limited-range luma to all steps; libheif does so only when it converts to RGB."""
    steps = 65535 if image.format == "ushort" else 255
    scaled = (image - _BLACK * steps) * (1 / (_WHITE - _BLACK))
    return scaled.rint().cast(image.format)


def _bands(mode: str) -> int:
    return {"RGB": 3, "RGBA": 4, "RGBa": 4}.get(mode.partition(";")[0], 1)


def _sample_format(mode: str) -> str:
    return "ushort" if ";16" in mode else "uchar"
