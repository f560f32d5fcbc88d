"""What is this original, and may it be decoded? Answered from its header, before any pixel.

A good header proves nothing: it may promise more than the file holds, so limits are checked on what
it promises, and damage further down is found by decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from galerly_cdn.errors import TooManyFrames, TooManyPixels, TooMuchMemory, Undecodable, UnsupportedFormat
from galerly_cdn.model import Facts, Format, Limits
from galerly_cdn.render import color, decoders, icc, losses, markers
from galerly_cdn.render.formats import OriginalFormat, detect_format
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.render.decoders import Image

_STREAMED_ROWS = 256
_CODEC_PIXEL_BYTES = 10
"""What libheif and its codec hold of each pixel beside the picture itself; measured."""
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
_METADATA: Final = {"exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data", "icc": color.PROFILE}


class Header(Value, frozen=True):
    """An original's header. `width_px` and `height_px` are as stored, before the orientation."""

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
    """The colours named without a profile, where they are not sRGB."""
    metadata: tuple[str, ...]
    loses: tuple[str, ...]

    @property
    def upright_px(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (self.height_px, self.width_px) if self.is_sideways else (self.width_px, self.height_px)

    @property
    def is_sideways(self) -> bool:
        """Whether the upright picture has the stored one's sides exchanged."""
        return self.orientation >= 5

    @property
    def own_format(self) -> Format:
        """The format of a rendition for which none was asked."""
        return Format.PNG if self.has_alpha else Format.JPEG


def read(original: bytes) -> Header:
    """Raises `UnsupportedFormat` or `Undecodable`."""
    kind = detect_format(original)
    if kind not in decoders.decodable_formats():
        raise UnsupportedFormat(f"libvips {decoders.version()} cannot decode {kind}")
    image = decoders.load(original, kind)
    frame = _frame(original, image) if kind is OriginalFormat.JPEG else None
    chunks = markers.png_chunks(original) if kind is OriginalFormat.PNG else {}
    is_progressive = frame.is_progressive if frame else bool(image.get_typeof("interlaced"))
    coefficient_bytes = frame.coefficient_bytes if frame else 0
    profile = color.profile_of(image)
    colors = None if profile else _named_colors(image, kind, original, chunks)
    metadata = _metadata(image)
    lost = {*metadata, *_lost_colors(image, profile, colors), *_lost_pictures(image, kind, original, chunks)}
    return Header(
        kind=kind,
        width_px=image.width,
        height_px=image.height,
        orientation=_orientation(image),
        frames=_frames(image, kind),
        bits=_bits(image),
        bands=image.bands,
        has_alpha=bool(image.hasalpha()),
        is_progressive=is_progressive,
        coefficient_bytes=coefficient_bytes,
        decode_bytes=coefficient_bytes + _decode_bytes(image, kind, whole=is_progressive),
        profile=icc.description(profile) if profile else str(colors) if colors else None,
        colors=colors,
        metadata=metadata,
        loses=losses.in_order(lost),
    )


def check(header: Header, limits: Limits) -> None:
    """Raises `TooManyPixels`, `TooManyFrames` or `TooMuchMemory` if the header promises too much."""
    if header.width_px * header.height_px * header.frames > limits.max_pixels:
        raise TooManyPixels(
            f"{header.width_px}x{header.height_px}x{header.frames} over {limits.max_pixels} px"
        )
    if header.frames > limits.max_frames:
        raise TooManyFrames(f"{header.frames} frames over {limits.max_frames}")
    if header.coefficient_bytes > limits.max_coefficient_bytes:
        raise TooMuchMemory(
            f"{header.coefficient_bytes} B of coefficients over {limits.max_coefficient_bytes}"
        )


def inspect(original: bytes) -> Facts:
    """What the header says, in public words. Raises as `read` does."""
    header = read(original)
    width_px, height_px = header.upright_px
    return Facts(
        format=header.kind.value,
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
    )


def _frame(original: bytes, image: Image) -> markers.JpegFrame:
    """The frame header libvips opened; what only one of the two readers understands is refused."""
    frame = markers.jpeg_frame(original)
    if frame is None or (frame.width_px, frame.height_px) != (image.width, image.height):
        raise Undecodable("the frame header cannot be read")
    return frame


def _number(image: Image, field: str, otherwise: int) -> int:
    return int(image.get(field)) if image.get_typeof(field) else otherwise  # type: ignore[arg-type]  # a number


def _orientation(image: Image) -> int:
    """1 to 8; anything else a broken writer left there means upright (as `vips_autorot` reads it)."""
    found = _number(image, "orientation", 1)
    return found if 1 <= found <= 8 else 1


def _frames(image: Image, kind: OriginalFormat) -> int:
    """The further pages of a TIFF or HEIF are never touched, so they are no frames."""
    return _number(image, "n-pages", 1) if kind in {OriginalFormat.GIF, OriginalFormat.WEBP} else 1


def _bits(image: Image) -> int:
    return _number(image, "bits-per-sample", 8 * _sample_bytes(image))


def _sample_bytes(image: Image) -> int:
    return {"uchar": 1, "char": 1, "ushort": 2, "short": 2}.get(str(image.format), 4)


def _decode_bytes(image: Image, kind: OriginalFormat, *, whole: bool) -> int:
    """Rows where the decoder streams, the picture where it does not; twice with planes beside."""
    row_bytes = image.width * image.bands * _sample_bytes(image)
    match kind:
        case OriginalFormat.JPEG:
            return row_bytes * min(image.height, _STREAMED_ROWS)
        case OriginalFormat.PNG:
            return row_bytes * (image.height if whole else min(image.height, _STREAMED_ROWS))
        case OriginalFormat.TIFF:
            return row_bytes * image.height
        case OriginalFormat.AVIF | OriginalFormat.HEIC:
            return (2 * row_bytes + _CODEC_PIXEL_BYTES * image.width) * image.height
        case _:
            return 2 * row_bytes * image.height


def _named_colors(
    image: Image, kind: OriginalFormat, original: bytes, chunks: dict[bytes, bytes]
) -> icc.NamedColors | None:
    """Colours named without a profile: cICP, nclx, or a camera's Adobe RGB (EXIF 2.32 §4.6.5)."""
    if kind is OriginalFormat.PNG:
        return icc.png_colors(chunks)
    if kind in {OriginalFormat.AVIF, OriginalFormat.HEIC}:
        return icc.heif_colors(original)
    space = _text(image, "exif-ifd2-ColorSpace")
    interoperability = _text(image, "exif-ifd4-InteroperabilityIndex")
    if interoperability.startswith(_UNCALIBRATED_INTEROPERABILITY) or space.startswith(
        f"{_ADOBE_COLOR_SPACE} "
    ):
        return icc.ADOBE_RGB if image.bands == 3 else None
    return None


def _text(image: Image, field: str) -> str:
    return str(image.get(field)) if image.get_typeof(field) else ""


def _metadata(image: Image) -> tuple[str, ...]:
    """Asked by name: listing the fields fails on a PNG comment whose keyword is not UTF-8."""
    found = {kind for kind, field in _METADATA.items() if image.get_typeof(field)}
    if any(image.get_typeof(f"exif-ifd3-GPS{field}") for field in _GPS_FIELDS):
        found.add("gps")
    return tuple(sorted(found))


def _lost_colors(image: Image, profile: bytes | None, colors: icc.NamedColors | None) -> set[str]:
    found = set()
    if _bits(image) > 8:
        found.add("bit-depth")
    if image.interpretation == "cmyk":
        found.add("cmyk")
    if colors and colors.transfer in icc.HDR_TRANSFERS:
        found.add("hdr-transfer")
    effective = profile or (icc.profile_bytes(colors) if colors else None)
    if effective and color.profile_verdict(effective, image.bands - image.hasalpha()).is_wide:
        found.add("wide-gamut")
    return found


def _lost_pictures(
    image: Image, kind: OriginalFormat, original: bytes, chunks: dict[bytes, bytes]
) -> set[str]:
    found = set()
    if _frames(image, kind) > 1 or b"acTL" in chunks or original[4:12] == b"ftypavis":
        found.add("animation")
    elif _number(image, "n-pages", 1) > 1:
        found.add("pages")
    if kind is OriginalFormat.JPEG and markers.has_gain_map(original):
        found.add("hdr-gain-map")
    return found
