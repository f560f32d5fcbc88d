"""Converts the samples of a TIFF page, as libvips passes them on, to forms that the pipeline knows.

The forms are those of libvips: 8 or 16 bits of grey, RGB or CMYK, float RGB and grey from 0 to 1, and float
Lab; alpha follows the colours and has the maximum that libvips assumes for the interpretation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyvips

from galerly_cdn.render.originals import tiff

if TYPE_CHECKING:
    from galerly_cdn.render.originals.tiff import Page

_LAB_MAX: Final = {
    (tiff.CIELAB, 8): 255,
    (tiff.CIELAB, 16): 65535,
    (tiff.ICCLAB, 8): 255,
    (tiff.ICCLAB, 16): 65280,
}
"""(Photometric interpretation, bits) → the code of L* = 100 (TIFF 6.0 §23; ICC.1:2001-04 §6.3.4.2)."""


def normalised(image: pyvips.Image, page: Page) -> pyvips.Image:
    """Return the page's picture in a form of the pipeline; most kinds are returned unchanged."""
    if page.is_subsampled:
        return image.extract_band(0, n=3)  # libtiff adds an opaque alpha
    image = _without_other_extras(image, page)
    if page.is_ycbcr_code:
        return _rgb_of_ycbcr(image, page)
    if page.is_lab_code:
        image = _lab_of_codes(image, page)
    elif image.format == "uint":
        deep = image.cast("ushort", shift=True)
        image = deep.copy(interpretation="grey16" if page.is_grey else "rgb16")
    elif page.photometric == tiff.SEPARATED and page.bits == 16 and page.alpha is not None:
        image = image.cast("uchar", shift=True)  # libvips assumes that the maximum of alpha in CMYK is 255
    elif page.sample_format == tiff.FLOAT and (page.is_grey or page.photometric == tiff.RGB):
        image = _limited(image, page)
    return _divided_by_alpha(image) if page.divides_by_alpha else image


def _without_other_extras(image: pyvips.Image, page: Page) -> pyvips.Image:
    """Return the colours and alpha without further samples, which TIFF 6.0 §18 does not make visible."""
    extras = len(page.extras)
    colors = image.bands - extras
    if extras == 0 or (extras == 1 and page.alpha == 0):
        return image
    visible = image.extract_band(0, n=colors)
    if page.alpha is None:
        return visible
    return visible.bandjoin(image.extract_band(colors + page.alpha)).copy(interpretation=image.interpretation)


def _rgb_of_ycbcr(image: pyvips.Image, page: Page) -> pyvips.Image:
    """Convert Y, Cb and Cr to RGB by the file's coefficients and reference black and white (TIFF 6.0 §21)."""
    red, green, blue = page.coefficients
    codes = page.reference
    scales = [full / (codes[2 * at + 1] - codes[2 * at]) for at, full in enumerate((255, 127, 127))]
    offsets = [-scale * codes[2 * at] for at, scale in enumerate(scales)]
    of_red, of_blue = 2 - 2 * red, 2 - 2 * blue
    matrix = [
        [1, 0, of_red],
        [1, -blue * of_blue / green, -red * of_red / green],
        [1, of_blue, 0],
    ]
    components = image.extract_band(0, n=3).linear(scales, offsets)
    converted = components.recomb(pyvips.Image.new_from_array(matrix)).rint().cast("uchar")
    whole = converted if page.alpha is None else converted.bandjoin(image.extract_band(3))
    return whole.copy(interpretation="srgb")


def _lab_of_codes(image: pyvips.Image, page: Page) -> pyvips.Image:
    """Convert codes of L*, a* and b* (CIELab: a* and b* are signed) to float Lab; alpha becomes 0 to 255."""
    chroma = image.extract_band(1, n=2)
    step = 1 << (page.bits - 8)
    if page.photometric == tiff.CIELAB:
        chroma = chroma.copy(format="short" if page.bits == 16 else "char") / step
    else:
        chroma = chroma / step - 128
    light = image.extract_band(0) * (100 / _LAB_MAX[page.photometric, page.bits])
    lab = light.bandjoin(chroma)
    if page.alpha is not None:
        lab = lab.bandjoin(image.extract_band(3) / (257 if page.bits == 16 else 1))
    return lab.cast("float").copy(interpretation="lab")


def _limited(image: pyvips.Image, page: Page) -> pyvips.Image:
    """Limit float samples to 0 to 1; what is no number becomes 0, because scaling would spread it.

    Grey is inverted here if 0 is white, and its alpha is scaled to 255, because libvips does neither.
    """
    image = (image > 0).ifthenelse(image, 0)  # also what is no number
    image = (image < 1).ifthenelse(image, 1)
    if page.is_grey:
        inverts = page.photometric == tiff.WHITE_IS_ZERO
        scales, offsets = ([-1.0], [1.0]) if inverts else ([1.0], [0.0])
        if page.alpha is not None:
            scales, offsets = [*scales, 255.0], [*offsets, 0.0]
        image = image.linear(scales, offsets)
    return image.cast("float").copy(interpretation="b-w" if page.is_grey else "scrgb")


def _divided_by_alpha(image: pyvips.Image) -> pyvips.Image:
    divided = image.unpremultiply()
    rounded = divided if image.format == "float" else divided.rint()
    return rounded.cast(image.format).copy(interpretation=image.interpretation)
