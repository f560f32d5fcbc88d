"""Any colour to 8-bit sRGB (or grey): through a profile where it says something else, exactly once.

Relative colorimetric, without black point compensation. Going through a profile costs as much as
the resize, and most profiles met say sRGB: those are found by sending a cube of colours through.
"""

from __future__ import annotations

import collections
import functools
import hashlib
from typing import Final

import pyvips

from galerly_cdn.render.decoders import Image
from galerly_cdn.serialization import Value

PROFILE: Final = "icc-profile-data"
_CUBE_SIDE = 18
_SAME_STEPS = 2
_WIDE_LIGHT = 0.02
_REMEMBERED = 64
_GREY_SPACES = frozenset({"b-w", "grey16"})


class ProfileVerdict(Value, frozen=True):
    """What a profile does to the colours of a picture with so many bands."""

    converts: bool
    """Usable, and not sRGB already."""
    is_wide: bool
    """Holds colours outside sRGB."""


_NOTHING = ProfileVerdict(converts=False, is_wide=False)


def profile_of(image: Image) -> bytes | None:
    """The embedded ICC profile's bytes."""
    return image.get(PROFILE) if image.get_typeof(PROFILE) else None  # type: ignore[return-value]  # a blob


def with_profile(image: Image, profile: bytes) -> Image:
    """The same picture, its colours named by `profile`."""
    named = image.copy()
    named.set_type(pyvips.GValue.blob_type, PROFILE, profile)  # type: ignore[arg-type]  # a blob is bytes
    return named


def to_srgb(image: Image) -> Image:
    """8 bits, sRGB or grey, alpha kept."""
    profile = profile_of(image)
    if profile and profile_verdict(profile, image.bands - image.hasalpha()).converts:
        return image.icc_transform("srgb", embedded=True, intent="relative", depth=8)
    return image.colourspace("b-w" if image.interpretation in _GREY_SPACES else "srgb")


def profile_verdict(profile: bytes, bands: int) -> ProfileVerdict:
    """The verdict on a profile, remembered: the same camera sends the same one again."""
    key = (hashlib.sha256(profile).digest(), bands)
    if key not in _verdicts:
        _verdicts[key] = _examine(profile, bands)
        if len(_verdicts) > _REMEMBERED:
            _verdicts.popitem(last=False)
    return _verdicts.get(key, _NOTHING)


_verdicts: collections.OrderedDict[tuple[bytes, int], ProfileVerdict] = collections.OrderedDict()


def _examine(profile: bytes, bands: int) -> ProfileVerdict:
    """A profile that cannot be used (damaged, or for other bands) changes nothing."""
    cube = _cube(bands)
    if cube is None:
        return _NOTHING
    probe = with_profile(cube, profile)
    try:
        seen = probe.icc_transform("srgb", embedded=True, intent="relative", depth=8).copy_memory()
        if bands == 4:
            return ProfileVerdict(converts=True, is_wide=False)
        steps = (seen.cast("short") - cube.cast("short")).abs()
        light = probe.icc_import(embedded=True, intent="relative", pcs="xyz").colourspace("scrgb")
        differs = steps.max() > _SAME_STEPS  # type: ignore[operator]  # a number, unless its place is asked
        is_beyond = light.min() < -_WIDE_LIGHT or light.max() > 1 + _WIDE_LIGHT  # type: ignore[operator]  # likewise
    except pyvips.Error:
        return _NOTHING
    return ProfileVerdict(converts=differs, is_wide=differs and bands == 3 and is_beyond)


@functools.cache
def _cube(bands: int) -> Image | None:
    """Colours evenly spread: 256 greys, or 18 x 18 x 18 of three or four bands; else None."""
    if bands == 1:
        return Image.identity().copy(interpretation="b-w")
    if bands not in {3, 4}:
        return None
    steps = Image.xyz(_CUBE_SIDE, _CUBE_SIDE * _CUBE_SIDE)
    layer = (steps[1] / _CUBE_SIDE).floor()
    cube = steps[0].bandjoin(steps[1] - layer * _CUBE_SIDE).bandjoin(layer) * (255 / (_CUBE_SIDE - 1))
    if bands == 4:
        return cube.bandjoin(0).rint().cast("uchar").copy(interpretation="cmyk").copy_memory()
    return cube.rint().cast("uchar").copy(interpretation="srgb").copy_memory()
