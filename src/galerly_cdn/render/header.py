"""What is this original, and may it be decoded? Answered from its header, before any pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from galerly_cdn.errors import TooManyFrames, TooManyPixels, TooMuchMemory, UnsupportedFormat
from galerly_cdn.model import Facts, Format, Limits, Value
from galerly_cdn.render import color, jpeg, loaders, losses
from galerly_cdn.render.loaders import Kind

if TYPE_CHECKING:
    from galerly_cdn.render.loaders import Image

MAX_SIDE_PX: Final = 65535
_FULL_FRAME = frozenset({Kind.WEBP, Kind.AVIF, Kind.HEIC, Kind.GIF, Kind.TIFF})
_STREAM_ROWS = 256
_ORIENTATION = "orientation"
_SIDEWAYS = 5
_BITS_8 = 8


class Header(Value, frozen=True):
    """An original's header. `width_px` and `height_px` as stored, before the orientation."""

    kind: Kind
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
    metadata: tuple[str, ...]
    loses: tuple[str, ...]

    @property
    def is_sideways(self) -> bool:
        """Whether the upright picture has the stored one's sides exchanged."""
        return self.orientation >= _SIDEWAYS

    @property
    def upright_px(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (self.height_px, self.width_px) if self.is_sideways else (self.width_px, self.height_px)

    @property
    def own(self) -> Format:
        """The format of a rendition for which none was asked."""
        return Format.PNG if self.has_alpha else Format.JPEG


def read(original: bytes) -> Header:
    """Raises `UnsupportedFormat` or `Undecodable`."""
    kind = loaders.sniff(original)
    if kind not in loaders.decodable():
        raise UnsupportedFormat(f"{kind} cannot be decoded by libvips {loaders.version()}")
    image = loaders.load(original, kind)
    frame = jpeg.frame(original) if kind is Kind.JPEG else None
    coefficient_bytes = frame.coefficient_bytes if frame else 0
    is_progressive = frame.is_progressive if frame else bool(image.get_typeof("interlaced"))
    metadata = _metadata(image)
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
        decode_bytes=_decode_bytes(image, kind, coefficient_bytes, whole=is_progressive),
        profile=_profile_name(image),
        metadata=metadata,
        loses=losses.ordered({*metadata, *_losses(image, kind, original)}),
    )


def check(header: Header, limits: Limits) -> None:
    """Raises `TooManyPixels`, `TooManyFrames` or `TooMuchMemory`: what the header admits to is too much."""
    pixels = header.width_px * header.height_px
    if pixels * header.frames > limits.max_pixels:
        raise TooManyPixels(f"{header.width_px}x{header.height_px}x{header.frames} over {limits.max_pixels}")
    if header.frames > limits.max_frames:
        raise TooManyFrames(f"{header.frames} frames over {limits.max_frames}")
    if header.coefficient_bytes > limits.max_coefficient_bytes:
        raise TooMuchMemory(f"{header.coefficient_bytes} B of coefficients over {limits.max_coefficient_bytes}")


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


def _field(image: Image, name: str) -> int | None:
    return int(image.get(name)) if image.get_typeof(name) else None


def _orientation(image: Image) -> int:
    found = _field(image, _ORIENTATION) or 1
    return found if 1 <= found <= 8 else 1  # noqa: PLR2004 - TIFF 6.0 names eight


def _frames(image: Image, kind: Kind) -> int:
    """Frames that decoding must hold or skip; the further pages of a TIFF or HEIF are never touched."""
    return (_field(image, "n-pages") or 1) if kind in {Kind.GIF, Kind.WEBP} else 1


def _bits(image: Image) -> int:
    return _field(image, "bits-per-sample") or {"ushort": 16, "short": 16}.get(image.format, _BITS_8)


def _decode_bytes(image: Image, kind: Kind, coefficient_bytes: int, *, whole: bool) -> int:
    pixel_bytes = image.bands * {"uchar": 1, "ushort": 2}.get(image.format, 4)
    if kind in _FULL_FRAME or (kind is Kind.PNG and whole):
        return image.width * image.height * pixel_bytes
    return coefficient_bytes + image.width * min(image.height, _STREAM_ROWS) * pixel_bytes


def _profile_name(image: Image) -> str | None:
    profile = color.profile_of(image)
    return None if profile is None else "icc"


def _metadata(image: Image) -> tuple[str, ...]:
    fields = set(image.get_fields())
    kinds = {"exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data", "icc": color.PROFILE}
    found = {kind for kind, field in kinds.items() if field in fields}
    if any(field.startswith("exif-ifd3-") for field in fields):
        found.add("gps")
    return tuple(sorted(found))


def _losses(image: Image, kind: Kind, original: bytes) -> set[str]:
    found = set()
    if _bits(image) > _BITS_8:
        found.add("bit-depth")
    pages = _field(image, "n-pages") or 1
    if pages > 1:
        found.add("animation" if kind in {Kind.GIF, Kind.WEBP} else "pages")
    if image.interpretation == "cmyk":
        found.add("cmyk")
    profile = color.profile_of(image)
    if profile and color.converts(profile, image):
        found.add("wide-gamut")
    if kind is Kind.JPEG and jpeg.has_gain_map(original):
        found.add("hdr-gain-map")
    return found
