"""Converts colours to 8-bit sRGB, or grey to 8-bit grey, through the ICC profile if it is not sRGB.

The rendering intent is relative colorimetric, without black point compensation. A conversion through a
profile costs as much as the resize, and most embedded profiles are sRGB. Those are recognised, and
skipped, by converting a cube of colours and comparing the result.
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
_SAME_TOLERANCE = 2
"""Largest difference (0 to 255) of a converted cube at which a profile counts as sRGB."""
_GAMUT_TOLERANCE = 0.02
"""Linear light outside 0 to 1 by which a colour is outside sRGB."""
_MAX_VERDICTS = 64
_NEUTRAL_TOLERANCE = 1
"""Largest difference (0 to 255) between red, green and blue of a grey that a profile leaves grey."""
_LIMITED_BLACK, _LIMITED_STEPS = 16, 219
_GREY_SPACES = frozenset({"b-w", "grey16"})
_FLOAT_SPACES = frozenset({"b-w", "scrgb"})
_RGB_PROFILE = b"RGB "


class ProfileVerdict(Value, frozen=True):
    """The effect of a profile on images with a given number of bands."""

    is_usable: bool
    """Whether it is a profile for images with this number of bands."""
    converts: bool
    """Whether the profile is usable and is not sRGB."""
    is_wide: bool
    """Whether the profile has colours outside the sRGB gamut."""
    is_neutral: bool = False
    """Whether the profile is for RGB, the image is grey, and it stays grey."""


_NO_EFFECT = ProfileVerdict(is_usable=False, converts=False, is_wide=False)


def profile_of(image: Image) -> bytes | None:
    """Return the embedded ICC profile; None if there is none."""
    return image.get(PROFILE) if image.get_typeof(PROFILE) else None  # type: ignore[return-value]  # a blob


def with_profile(image: Image, profile: bytes) -> Image:
    """Return the image with `profile` embedded."""
    copy = image.copy()
    copy.set_type(pyvips.GValue.blob_type, PROFILE, profile)  # type: ignore[arg-type]  # a blob is bytes
    return copy


def to_srgb(image: Image) -> Image:
    """Convert an image to 8-bit sRGB (3 bands) or grey (1 band); an alpha band is kept."""
    if image.interpretation == "lab":
        return image.icc_export(output_profile="srgb", intent="relative", depth=8)
    profile = profile_of(image)
    if image.format == "float" and image.interpretation in _FLOAT_SPACES:
        return _float_to_srgb(image, profile)
    verdict = profile_verdict(profile, image.bands - image.hasalpha()) if profile else _NO_EFFECT
    if profile and verdict.converts:
        converted = _transformed(_as_rgb(image) if _is_rgb_of_grey(image, profile) else image)
        if not verdict.is_neutral:
            return converted
        return as_grey(converted).bandjoin(converted[3]) if converted.hasalpha() else as_grey(converted)
    return image.colourspace("b-w" if image.interpretation in _GREY_SPACES else "srgb")


def _float_to_srgb(image: Image, profile: bytes | None) -> Image:
    """Convert float RGB or grey of 0 to 1, and its alpha. Grey may have a profile of grey or of RGB."""
    is_grey = image.interpretation in _GREY_SPACES
    colors = image.extract_band(0, n=1 if is_grey else 3)
    verdict = profile_verdict(profile, colors.bands) if profile else _NO_EFFECT
    is_rgb_of_grey = profile is not None and _is_rgb_of_grey(colors, profile)
    if is_grey and (is_rgb_of_grey or not verdict.is_usable):
        colors = colors.bandjoin(colors).bandjoin(colors)
        verdict = profile_verdict(profile, 3) if profile else _NO_EFFECT
        converted = _float_colors_to_srgb(colors, verdict).extract_band(1)
    else:
        converted = _float_colors_to_srgb(colors, verdict)
    if image.hasalpha():
        alpha = image.extract_band(image.bands - 1)
        converted = converted.bandjoin((alpha if is_grey else alpha * 255).rint().cast("uchar"))
    return converted.copy(interpretation="b-w" if converted.bands < 3 else "srgb")


def _float_colors_to_srgb(colors: Image, verdict: ProfileVerdict) -> Image:
    """Convert through the profile if it is usable; otherwise the samples are linear light.

    libvips casts float samples to 8 bits before it applies a profile (its pull request 5123), so that 0 to 1
    would be black. They are scaled to 16 bits, and pass through XYZ, which is more exact than one step.
    """
    if not verdict.is_usable:
        return colors.copy(interpretation="scrgb").colourspace("srgb")
    if not verdict.converts:
        return (colors * 255).rint().cast("uchar")
    space = "grey16" if colors.bands == 1 else "rgb16"
    deep = (colors * 65535).rint().cast("ushort").copy(interpretation=space)
    light = deep.icc_import(embedded=True, intent="relative", pcs="xyz")
    return light.icc_export(output_profile="srgb", intent="relative", depth=8)


def profile_verdict(profile: bytes, bands: int) -> ProfileVerdict:
    """Return the effect of a profile on `bands` colour bands; cached, because cameras repeat profiles."""
    key = (hashlib.sha256(profile).digest(), bands)
    if key not in _verdicts:
        _verdicts[key] = _examine(profile, bands)
        if len(_verdicts) > _MAX_VERDICTS:
            _verdicts.popitem(last=False)
    return _verdicts.get(key, _NO_EFFECT)


_verdicts: collections.OrderedDict[tuple[bytes, int], ProfileVerdict] = collections.OrderedDict()


def _transformed(image: Image) -> Image:
    return image.icc_transform("srgb", embedded=True, intent="relative", depth=8)


def _is_rgb_of_grey(image: Image, profile: bytes) -> bool:
    """Whether the image is grey and the profile, by its data colour space (ICC.1:2022 §7.2.6), for RGB."""
    return image.bands - image.hasalpha() == 1 and profile[16:20] == _RGB_PROFILE


def _as_rgb(grey: Image) -> Image:
    """Return a grey image as RGB of three equal bands; an alpha band is kept."""
    space = "rgb16" if grey.format == "ushort" else "srgb"
    rgb = grey[0].bandjoin(grey[0]).bandjoin(grey[0])
    return (rgb.bandjoin(grey[1]) if grey.hasalpha() else rgb).copy(interpretation=space)


def as_grey(neutral: Image) -> Image:
    """Return the colours of an image with three equal bands as one band, without alpha."""
    space = "grey16" if neutral.format == "ushort" else "b-w"
    return neutral[1].copy(interpretation=space)


def with_full_range(band: Image) -> Image:
    """Expand samples of limited range, 16 to 235 at 8 bits, to the whole range (H.273 §8.3)."""
    unit, largest = (256, 65535) if band.format == "ushort" else (1, 255)
    factor = largest / (_LIMITED_STEPS * unit)
    return (band * factor - _LIMITED_BLACK * unit * factor).rint().cast(band.format)


def _examine(profile: bytes, bands: int) -> ProfileVerdict:
    """Convert the cube. A profile that is damaged, or for another number of bands, has no effect.

    libvips replaces such a profile by its own, and attaches that to what it imports. In a grey image, a
    profile for RGB converts greys, as in Chromium.
    """
    cube = _cube(bands)
    if cube is None:
        return _NO_EFFECT
    is_rgb_of_grey = _is_rgb_of_grey(cube, profile)
    if is_rgb_of_grey:
        cube = _as_rgb(cube)
    probe = with_profile(cube, profile)
    try:
        converted = _transformed(probe).copy_memory()
        imported = probe.icc_import(embedded=True, intent="relative", pcs="xyz")
        is_usable = profile_of(imported) == profile
        if bands == 4:
            return ProfileVerdict(is_usable=is_usable, converts=True, is_wide=False)
        steps = (converted.cast("short") - cube.cast("short")).abs()
        light = imported.colourspace("scrgb")
        differs = steps.max() > _SAME_TOLERANCE  # type: ignore[operator]  # a number, because no position is requested
        is_beyond = light.min() < -_GAMUT_TOLERANCE or light.max() > 1 + _GAMUT_TOLERANCE  # type: ignore[operator]  # likewise
        is_neutral = is_rgb_of_grey and _spread(converted) <= _NEUTRAL_TOLERANCE
    except pyvips.Error:
        return _NO_EFFECT
    return ProfileVerdict(
        is_usable=is_usable,
        converts=differs,
        is_wide=differs and bands == 3 and is_beyond,
        is_neutral=is_neutral,
    )


def _spread(image: Image) -> float:
    """Return the largest difference between the bands of a pixel."""
    shorts = image.cast("short")
    return (shorts - shorts.bandmean()).abs().max()  # type: ignore[return-value]  # a number, because no position is requested


@functools.cache
def _cube(bands: int) -> Image | None:
    """Return evenly spaced colours, 256 of 1 band or 18³ of 3 or 4 bands; None for other numbers."""
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
