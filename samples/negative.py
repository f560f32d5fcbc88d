"""Turns painted linear light into image files: tone curve, grain, EXIF tags, and stored rotation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyvips import GValue, Image, Operation

_SHOULDER = 0.7
_GAMMA = 2.2
_QUALITY = 93
_DEFLATE = 3
_TILE_PX = 1000
_TINT = 0.45
# The rotation of an upright picture before it is stored, by EXIF orientation.
_STORED_ROTATION = {1: "d0", 3: "d180", 6: "d270", 8: "d90"}


@dataclass(frozen=True)
class Finish:
    """How a picture is stored: EXIF orientation, ICC profile, progressive, grain (8-bit levels), tags."""

    orientation: int = 1
    profile: str = "srgb"
    progressive: bool = False
    grain: float = 3.2
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


def develop(light: Image, width: int, height: int, finish: Finish) -> Image:
    """Convert linear `light` to `width` × `height` 8-bit pixels. A fourth band is coverage (alpha)."""
    colour = light.extract_band(0, n=3)
    bright = 1 - ((colour - _SHOULDER) * (-1 / (1 - _SHOULDER))).exp() * (1 - _SHOULDER)
    toned = (colour > _SHOULDER).ifthenelse(bright, colour).clamp() ** (1 / _GAMMA) * 255
    large = _enlarged(toned, width, height)
    pixels = (large + _grain(width, height, finish.grain)).cast("uchar")
    if light.bands > 3:
        alpha = _enlarged(light[3] * 255, width, height)
        pixels = (alpha > 0).ifthenelse(pixels, 0).bandjoin(alpha)
    return pixels.copy(interpretation="srgb", xres=300 / 25.4, yres=300 / 25.4)


def _grain(width: int, height: int, sigma: float) -> Image:
    """Film grain, mostly grey, in whole 8-bit levels: one tile, repeated."""
    layers = [Image.gaussnoise(_TILE_PX, _TILE_PX, sigma=sigma, mean=0, seed=seed) for seed in range(4)]
    tile = layers[0] + layers[1].bandjoin(layers[2]).bandjoin(layers[3]) * _TINT
    across, down = width // _TILE_PX + 1, height // _TILE_PX + 1
    return tile.rint().cast("short").copy_memory().replicate(across, down).crop(0, 0, width, height)


def _enlarged(image: Image, width: int, height: int) -> Image:
    image = (image + 0.5).cast("uchar").copy_memory()
    return image.resize(width / image.width, vscale=height / image.height, kernel="cubic").crop(
        0, 0, width, height
    )


def save(pixels: Image, path: Path, finish: Finish) -> None:
    """Rotate and tag `pixels`, and write them atomically in the format of the suffix of `path`."""
    stored = pixels.rot(_STORED_ROTATION[finish.orientation]).copy()
    stored.set_type(GValue.gint_type, "orientation", finish.orientation)
    stored.set_type(GValue.blob_type, "icc-profile-data", Operation.call("profile_load", finish.profile))
    for name, value in finish.tags.items():
        stored.set_type(GValue.gstr_type, name, value)
    temporary = path.with_name(f".{path.name}.part")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix == ".png":
            stored.pngsave(str(temporary), compression=_DEFLATE)
        else:
            stored.jpegsave(str(temporary), Q=_QUALITY, interlace=finish.progressive)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
