"""Reads an original's header, before any pixel is decoded.

A valid header does not prove that the file is valid: it may announce more pixels than the file holds.
Limits are therefore checked on what it announces (`refusals`), and damage after it is found by decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from galerly_cdn.errors import Undecodable, UnsupportedFormat
from galerly_cdn.model import Facts, Format, own_format
from galerly_cdn.render import color, decoders, icc, losses, structure
from galerly_cdn.render.damage import completeness
from galerly_cdn.render.formats import OriginalFormat, detect_format
from galerly_cdn.render.originals import heic, jpeg, raw, tiff
from galerly_cdn.render.structure import Structure
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from galerly_cdn.render.decoders import Image

_STREAMED_ROWS = 256
_CODEC_PIXEL_BYTES = 10
"""Memory of libheif and its codec for each pixel, in addition to the image; measured."""
_HEVC_SAMPLES_PER_PIXEL = 4
"""Planes that libheif and libde265 hold beside the image; 4:4:4 with 8 bits had a peak of 10 B/px in all."""
_UNCALIBRATED_INTEROPERABILITY: Final = "R03"
_ADOBE_COLOR_SPACE: Final = "2"
_GPS_FIELDS: Final = (
    "VersionID",
    "Latitude",
    "Longitude",
    "Altitude",
    "TimeStamp",
    "DateStamp",
    "ImgDirection",
    "DestLatitude",
    "DestLongitude",
    "ProcessingMethod",
    "AreaInformation",
)
_METADATA: Final = {"exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}


class Header(Value, frozen=True):
    """An original's header. `width_px` and `height_px` are the stored sides, before orientation."""

    kind: OriginalFormat
    width_px: int
    height_px: int
    orientation: int
    frames: int
    bits: int
    bands: int
    has_alpha: bool
    is_progressive: bool
    coefficient_bytes: int
    decode_bytes: int
    profile: str | None
    colors: icc.NamedColors | None
    """The colours that the header names and that take the place of a profile; None if there are none."""
    structure: Structure
    metadata: tuple[str, ...]
    loses: tuple[str, ...]
    layout: jpeg.Layout | None = None
    """Of a JPEG."""
    raw_kind: str = ""
    """The kind of a raw file ("Nikon NEF"); the other fields are then those of its embedded JPEG."""

    @property
    def upright_px(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return (self.height_px, self.width_px) if self.is_sideways else (self.width_px, self.height_px)

    @property
    def is_sideways(self) -> bool:
        """Whether the orientation (EXIF 5 to 8) exchanges width and height."""
        return self.orientation >= 5

    @property
    def own_format(self) -> Format:
        """The format of a rendition if the request names none."""
        return own_format(has_alpha=self.has_alpha)


def read(original: bytes) -> Header:
    """Read the header. Raises `UnsupportedFormat`, `Undecodable`, or `TooManyPixels` for a long side."""
    raw_kind = tiff.raw_kind(original)
    return _read_raw(original, raw_kind) if raw_kind else _read(original)


def picture_of(original: bytes, header: Header) -> bytes:
    """Return the bytes that are decoded: the original, or the JPEG that a raw file embeds."""
    return raw.preview(original, header.raw_kind) if header.raw_kind else original


def _read_raw(original: bytes, kind: str) -> Header:
    """Read the header of the embedded JPEG. Raises `UnsupportedFormat` if it is missing or too small."""
    header = _read(raw.preview(original, kind))
    if max(header.upright_px) < raw.MIN_PREVIEW_PX:
        raise raw.too_small(kind, *header.upright_px)
    return replaced(header, raw_kind=kind, loses=losses.in_order({*header.loses, "raw"}))


def _accepted_kind(original: bytes) -> OriginalFormat:
    """Return the format after all checks that open no decoder. Raises as `read` does."""
    kind = detect_format(original)
    if kind not in decoders.decodable_formats():
        public = heic.INSTALL if kind is OriginalFormat.HEIC else ""
        raise UnsupportedFormat(f"libvips {decoders.version()} cannot decode {kind}", public)
    structure.refuse_unsupported(original, kind)
    completeness.check(original, kind)
    return kind


def _read(original: bytes) -> Header:
    kind = _accepted_kind(original)
    image = decoders.load_header(original, kind)
    structure.check_sides(image.width, image.height)
    facts = structure.read(original, kind, color.profile_of(image))
    layout = _layout(original, image) if kind is OriginalFormat.JPEG else None
    frame = layout.frame if layout else None
    is_progressive = frame.is_progressive if frame else bool(image.get_typeof("interlaced"))
    coefficient_bytes = frame.coefficient_bytes if frame else 0
    profile = color.profile_of(image) or facts.unreported_profile
    colors = facts.colors or (None if profile else _other_colors(image))
    has_alpha = bool(image.hasalpha()) or facts.frame_on(image.width, image.height) is not None
    color_bands = 1 if facts.is_grey else image.bands - image.hasalpha()
    metadata = _metadata(image, profile)
    effective = icc.profile_bytes(colors) if colors else profile
    is_wide = effective is not None and color.profile_verdict(effective, color_bands).is_wide
    lost = {*metadata, *_lost_colors(image, colors, is_wide=is_wide), *_lost_pictures(image, kind, facts)}
    return Header(
        kind=kind,
        width_px=image.width,
        height_px=image.height,
        orientation=_orientation(image),
        frames=_frames(image, kind),
        bits=_bits(image),
        bands=color_bands + has_alpha,
        has_alpha=has_alpha,
        is_progressive=is_progressive,
        coefficient_bytes=coefficient_bytes,
        decode_bytes=coefficient_bytes + _decode_bytes(image, kind, is_interlaced=is_progressive),
        profile=str(colors) if colors else icc.description(profile) if profile else None,
        colors=colors,
        structure=facts,
        metadata=metadata,
        loses=losses.in_order(lost),
        layout=layout,
    )


def inspect(original: bytes) -> Facts:
    """Return the facts in the header. Raises as `read` does."""
    return facts_of(read(original))


def facts_of(header: Header) -> Facts:
    """Return what the server and API users learn of a header."""
    width_px, height_px = header.upright_px
    return Facts(
        format=header.raw_kind or header.kind.value,
        width_px=width_px,
        height_px=height_px,
        orientation=header.orientation,
        frames=header.frames,
        bits=header.bits,
        bands=header.bands,
        has_alpha=header.has_alpha,
        is_progressive=header.is_progressive,
        profile=header.profile,
        metadata=header.metadata,
        loses=header.loses,
        decode_bytes=header.decode_bytes,
        coefficient_bytes=header.coefficient_bytes,
    )


def _layout(original: bytes, image: Image) -> jpeg.Layout:
    """Return the layout; raise `Undecodable` if this parser and libvips disagree about the frame header."""
    layout = jpeg.read_layout(original)
    if layout is None or (layout.frame.width_px, layout.frame.height_px) != (image.width, image.height):
        raise Undecodable("the JPEG frame header cannot be read")
    return layout


def _number(image: Image, field: str, default: int) -> int:
    return int(image.get(field)) if image.get_typeof(field) else default  # type: ignore[arg-type]  # a number


def _orientation(image: Image) -> int:
    """Return the EXIF orientation, 1 to 8; invalid values mean upright, as in `vips_autorot`."""
    orientation = _number(image, "orientation", 1)
    return orientation if 1 <= orientation <= 8 else 1


def _frames(image: Image, kind: OriginalFormat) -> int:
    """Return the number of frames; further pages of a TIFF or HEIF are not counted, as none is decoded."""
    return _number(image, "n-pages", 1) if kind in {OriginalFormat.GIF, OriginalFormat.WEBP} else 1


def _bits(image: Image) -> int:
    return _number(image, "bits-per-sample", 8 * _sample_bytes(image))


def _sample_bytes(image: Image) -> int:
    return {"uchar": 1, "char": 1, "ushort": 2, "short": 2}.get(str(image.format), 4)


def _decode_bytes(image: Image, kind: OriginalFormat, *, is_interlaced: bool) -> int:
    """Return the memory that decoding takes: some rows if the decoder streams, otherwise the whole image.

    Decoders that hold planes beside the image take it twice.
    """
    row_bytes = image.width * image.bands * _sample_bytes(image)
    match kind:
        case OriginalFormat.JPEG:
            return row_bytes * min(image.height, _STREAMED_ROWS)
        case OriginalFormat.PNG:
            return row_bytes * (image.height if is_interlaced else min(image.height, _STREAMED_ROWS))
        case OriginalFormat.TIFF:
            return row_bytes * image.height
        case OriginalFormat.AVIF:
            return (2 * row_bytes + _CODEC_PIXEL_BYTES * image.width) * image.height
        case OriginalFormat.HEIC:
            planes_bytes = _HEVC_SAMPLES_PER_PIXEL * _sample_bytes(image) * image.width
            return (2 * row_bytes + planes_bytes) * image.height
        case _:
            return 2 * row_bytes * image.height


def _other_colors(image: Image) -> icc.NamedColors | None:
    """Return the colours of a HEIC's boxes, or a camera's Adobe RGB (EXIF 2.32 §4.6.5)."""
    if image.get_typeof(heic.PRIMARIES):
        return icc.named_colors(_number(image, heic.PRIMARIES, 2), _number(image, heic.TRANSFER, 2))
    space = _text(image, "exif-ifd2-ColorSpace")
    interoperability = _text(image, "exif-ifd4-InteroperabilityIndex")
    if interoperability.startswith(_UNCALIBRATED_INTEROPERABILITY) or space.startswith(
        f"{_ADOBE_COLOR_SPACE} "
    ):
        return icc.ADOBE_RGB if image.bands == 3 else None
    return None


def _text(image: Image, field: str) -> str:
    return str(image.get(field)) if image.get_typeof(field) else ""


def _metadata(image: Image, profile: bytes | None) -> tuple[str, ...]:
    """Return the kinds of metadata in the original.

    Fields are looked up by name: listing them fails on a PNG comment whose keyword is not UTF-8.
    """
    kinds = {kind for kind, field in _METADATA.items() if image.get_typeof(field)}
    if profile:
        kinds.add("icc")
    if any(image.get_typeof(f"exif-ifd3-GPS{field}") for field in _GPS_FIELDS):
        kinds.add("gps")
    return tuple(sorted(kinds))


def _lost_colors(image: Image, colors: icc.NamedColors | None, *, is_wide: bool) -> set[str]:
    lost = {"wide-gamut"} if is_wide else set()
    if _bits(image) > 8:
        lost.add("bit-depth")
    if image.interpretation == "cmyk":
        lost.add("cmyk")
    if colors and colors.transfer in icc.HDR_TRANSFERS:
        lost.add("hdr-transfer")
    return lost


def _lost_pictures(image: Image, kind: OriginalFormat, facts: Structure) -> set[str]:
    lost = set()
    if _frames(image, kind) > 1 or facts.is_animated:
        lost.add("animation")
    elif _number(image, "n-pages", 1) > 1:
        lost.add("pages")
    if facts.has_gain_map or _number(image, heic.GAIN_MAP, 0):
        lost.add("hdr-gain-map")
    return lost
