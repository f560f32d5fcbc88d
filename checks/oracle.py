"""Renders reference pictures with Pillow and LittleCMS: full decode, upright, sRGB, on white.

HEIC is opened with pi-heif's plugin for Pillow. It turns a picture as `irot` and `imir` say, and then sets
the orientation in EXIF to 1; a picture without these boxes is turned here.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pi_heif
from PIL import ExifTags, Image, ImageCms, ImageOps

if TYPE_CHECKING:
    from pathlib import Path

Image.MAX_IMAGE_PIXELS = None
pi_heif.register_heif_opener()
_BOXES_BYTES = 64 * 1024
"""The boxes of a HEIC file are at its beginning."""


def upright(path: Path | io.BytesIO) -> Image.Image:
    """The original as RGB or RGBA in sRGB, 8 bits a sample. Raises what Pillow raises."""
    with Image.open(path) as original:
        original.load()
        profile = original.info.get("icc_profile")
        boxes = _start(path) if original.format == "HEIF" else b"irot"
        if b"irot" not in boxes and b"imir" not in boxes:
            original.getexif()[ExifTags.Base.Orientation] = original.info["original_orientation"] or 1
        picture = ImageOps.exif_transpose(original)
    return _srgb(_eight_bits(picture), profile)


def _start(path: Path | io.BytesIO) -> bytes:
    if isinstance(path, io.BytesIO):
        return path.getvalue()[:_BOXES_BYTES]
    with path.open("rb") as file:
        return file.read(_BOXES_BYTES)


def fitted(picture: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """Fitted into a box with `thumbnail` (Lanczos), from every pixel."""
    small = picture.copy()
    small.thumbnail((width_px, height_px), Image.Resampling.LANCZOS, reducing_gap=None)
    return small


def on_white(picture: Image.Image) -> Image.Image:
    """Composited on white, without alpha."""
    if "A" not in picture.getbands():
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Convert to 8 bits. Pillow keeps 16-bit grey as integers, which `convert` would clip, not scale."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.uint32)
        return Image.fromarray((deep >> 8).astype(np.uint8))
    if picture.mode in {"RGB", "RGBA", "CMYK", "L", "LA"}:
        return picture
    has_alpha = "A" in picture.getbands() or "transparency" in picture.info
    return picture.convert("RGBA" if has_alpha else "RGB")


def _srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert with the embedded profile, relative colorimetric; alpha is not converted."""
    alpha = picture.getchannel("A") if "A" in picture.getbands() else None
    colors = picture if picture.mode in {"CMYK", "L"} else picture.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else None
        converted = source and ImageCms.profileToProfile(
            colors, source, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
        )
    except (ImageCms.PyCMSError, OSError):  # a profile for another colour model, or an invalid one
        converted = None
    result = converted or colors.convert("RGB")
    if alpha is not None:
        result.putalpha(alpha)
    return result
