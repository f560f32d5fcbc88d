"""Measures the visible difference of two pictures: CIEDE2000, computed by libvips."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyvips
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def opened(data: bytes) -> Image.Image:
    """Return the rendition, decoded by Pillow."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def steps(one: Image.Image, other: Image.Image) -> NDArray[np.float32]:
    """Return the difference at every pixel of two pictures of equal sides: height × width."""
    assert one.size == other.size
    lab_one, lab_other = (_lab(np.asarray(picture.convert("RGB"))) for picture in (one, other))
    return np.ndarray(
        buffer=lab_one.dE00(lab_other).cast("float").write_to_memory(), dtype=np.float32, shape=one.size[::-1]
    )


def difference(one: Image.Image, other: Image.Image) -> tuple[float, float]:
    """Return the mean and the 99.9th percentile of the difference of two pictures of equal sides.

    The maximum is not used, because single pixels beside hard edges are not significant.
    """
    each = steps(one, other)
    return float(each.mean()), float(np.percentile(each, 99.9))


def share_above(one: Image.Image, other: Image.Image, limit: float) -> float:
    """Return the share of the pixels (0 to 1) whose difference is above `limit`."""
    return float((steps(one, other) > limit).mean())


def assert_alike(one: Image.Image, other: Image.Image, *, mean: float, worst: float) -> None:
    """Assert limits for both: a colour cast exceeds `mean`, a wrong corner exceeds `worst`."""
    measured_mean, measured_worst = difference(one, other)
    assert measured_mean <= mean, measured_mean
    assert measured_worst <= worst, measured_worst


def _lab(pixels: NDArray[np.uint8]) -> pyvips.Image:
    height, width, _ = pixels.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).tobytes(), width, height, 3, "uchar")
    return image.copy(interpretation="srgb").colourspace("lab")
