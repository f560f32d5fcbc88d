"""Any colour to 8-bit sRGB (or grey): by the embedded profile where it says something else, exactly once."""

from __future__ import annotations

import collections
import hashlib
import threading
from typing import Final

import pyvips

from galerly_cdn.render.loaders import Image

PROFILE: Final = "icc-profile-data"
_CUBE_SIDE = 18
_SAME_STEPS = 2.0
_REMEMBERED = 64
_GREY_SPACES = frozenset({"b-w", "grey16"})


def profile_of(image: Image) -> bytes | None:
    """The embedded ICC profile's bytes."""
    return bytes(image.get(PROFILE)) if image.get_typeof(PROFILE) else None


def to_srgb(image: Image) -> Image:
    """8 bits, sRGB or grey, alpha kept. Relative colorimetric; profiles which say sRGB are left alone."""
    profile = profile_of(image)
    if profile is not None and converts(profile, image):
        return image.icc_transform("srgb", embedded=True, intent="relative", depth=8)
    if image.interpretation in _GREY_SPACES:
        return image.colourspace("b-w")
    return image.colourspace("srgb")


def converts(profile: bytes, image: Image) -> bool:
    """Whether going through `profile` changes the picture: usable, and not sRGB already."""
    bands = image.bands - image.hasalpha()
    key = (hashlib.sha256(profile).digest(), bands)
    with _lock:
        if key in _known:
            _known.move_to_end(key)
            return _known[key]
    answer = _differs(profile, bands)
    with _lock:
        _known[key] = answer
        if len(_known) > _REMEMBERED:
            _known.popitem(last=False)
    return answer


_known: collections.OrderedDict[tuple[bytes, int], bool] = collections.OrderedDict()
_lock = threading.Lock()


def _differs(profile: bytes, bands: int) -> bool:
    """Sends a cube of colours through the profile; a profile that cannot be used changes nothing."""
    cube = _cube(bands)
    if cube is None:
        return False
    try:
        probe = cube.copy()
        probe.set_type(pyvips.GValue.blob_type, PROFILE, profile)
        seen = probe.icc_transform("srgb", embedded=True, intent="relative", depth=8)
        if bands == 4:  # noqa: PLR2004 - inks are never sRGB
            seen.avg()
            return True
        return (seen.cast("short") - cube.cast("short")).abs().max() > _SAME_STEPS
    except pyvips.Error:
        return False


def _cube(bands: int) -> Image | None:
    if bands == 1:
        return pyvips.Image.identity().copy(interpretation="b-w")
    if bands not in {3, 4}:
        return None
    steps = pyvips.Image.xyz(_CUBE_SIDE, _CUBE_SIDE * _CUBE_SIDE)
    x, y = steps[0], steps[1]
    z = (y / _CUBE_SIDE).floor()
    colours = x.bandjoin([y - z * _CUBE_SIDE, z]) * (255 / (_CUBE_SIDE - 1))
    if bands == 4:  # noqa: PLR2004
        return colours.bandjoin(0).rint().cast("uchar").copy(interpretation="cmyk")
    return colours.rint().cast("uchar").copy(interpretation="srgb")
