"""Gathers what an original's own structure says beside the header that libvips reports."""

from __future__ import annotations

from typing import Final

from galerly_cdn.errors import TooManyPixels, UnsupportedFormat
from galerly_cdn.render import icc
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.originals import gif, heif, jpeg, png
from galerly_cdn.render.originals.frame import Frame
from galerly_cdn.serialization import Value

MAX_SIDE_PX: Final = 65_535
_EXTENDED_WEBP: Final = b"VP8X\x0a\0\0\0"
"""The header of a WebP's chunk with the sides of its canvas (RFC 9649 §2.7)."""


class Structure(Value, frozen=True):
    """Facts that libvips does not report."""

    colors: icc.NamedColors | None = None
    """The colours that the header names and that take the place of a profile; None if there are none."""
    unreported_profile: bytes | None = None
    """The profile that libvips drops: one for RGB in a grey PNG."""
    frame: Frame | None = None
    """Where the first frame lies; None if the format has no frames, or libvips decodes it by itself."""
    is_frame_separate: bool = False
    """Whether libvips decodes another picture than the first frame: `originals.png.as_still` holds it."""
    is_grey: bool = False
    """Whether libvips decodes one plane as three equal bands, without expanding its range."""
    has_limited_range: bool = False
    """Whether the grey plane has 16 for black and 235 for white, in 8 bits."""
    has_limited_alpha: bool = False
    is_animated: bool = False
    has_gain_map: bool = False

    def frame_on(self, width_px: int, height_px: int) -> Frame | None:
        """Return the first frame's place on a canvas of these sides; None if it covers the canvas."""
        frame = self.frame
        if frame is None or frame == Frame(0, 0, width_px, height_px):
            return None
        is_inside = frame.left_px + frame.width_px <= width_px and frame.top_px + frame.height_px <= height_px
        return frame if is_inside and min(frame.width_px, frame.height_px) > 0 else None


def refuse_unsupported(original: bytes, kind: OriginalFormat) -> None:
    """Raise `UnsupportedFormat` for kinds of a supported format that libvips does not decode.

    Raises `TooManyPixels` for sides that libvips refuses as damage.
    """
    if kind is OriginalFormat.AVIF and heif.is_only_a_sequence(original):
        raise UnsupportedFormat("AVIF image sequence without a still image")
    process = jpeg.unsupported_process(original) if kind is OriginalFormat.JPEG else None
    if process:
        raise UnsupportedFormat(process)
    sides_px = png.sides(original) if kind is OriginalFormat.PNG else None
    if kind is OriginalFormat.WEBP and original[12:20] == _EXTENDED_WEBP:
        sides_px = (
            1 + int.from_bytes(original[24:27], "little"),
            1 + int.from_bytes(original[27:30], "little"),
        )
    if sides_px:
        check_sides(*sides_px)


def check_sides(width_px: int, height_px: int) -> None:
    """Raise `TooManyPixels` for a side over that of a JPEG (T.81 B.2.2): each row takes a decoder long."""
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise TooManyPixels(f"{width_px} × {height_px} px: a side is over {MAX_SIDE_PX} px")


def read(original: bytes, kind: OriginalFormat, profile: bytes | None) -> Structure:
    """Return the facts; `profile` is the profile that libvips reports.

    Raises `UnsupportedFormat` for an image sequence without a still image, `Undecodable` for an animation
    without a first frame.
    """
    match kind:
        case OriginalFormat.PNG:
            return _png(original, profile)
        case OriginalFormat.GIF:
            return Structure(frame=gif.first_frame(original))
        case OriginalFormat.AVIF:
            return _heif(original, profile)
        case OriginalFormat.JPEG:
            return Structure(has_gain_map=jpeg.has_gain_map(original))
        case _:
            return Structure()


def _png(original: bytes, profile: bytes | None) -> Structure:
    chunks = png.chunks_before_pixels(original)
    unreported = None if profile else png.embedded_profile(chunks)
    frame = png.separate_frame(original, chunks)
    return Structure(
        colors=icc.png_colors(chunks, has_profile=bool(profile or unreported)),
        unreported_profile=unreported,
        frame=frame,
        is_frame_separate=frame is not None,
        is_animated=b"acTL" in chunks,
    )


def _heif(original: bytes, profile: bytes | None) -> Structure:
    meta = heif.meta_of(original)
    if meta is None:
        return Structure()
    alpha = heif.alpha_item(meta)
    is_grey = heif.is_monochrome(meta)
    points = None if profile else heif.code_points(original, meta)
    return Structure(
        colors=icc.named_colors(*points) if points else None,
        is_grey=is_grey,
        has_limited_range=is_grey and not heif.is_full_range(original, meta, meta.primary),
        has_limited_alpha=alpha is not None and not heif.is_full_range(original, meta, alpha),
        is_animated=original[4:12] == b"ftypavis",
        has_gain_map=heif.has_gain_map(meta),
    )
