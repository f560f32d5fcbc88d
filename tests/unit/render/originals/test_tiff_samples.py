"""Tests of the samples of TIFF originals: colours and alpha of every kind, in every layout.

The right values are those of the 8-bit picture that a file is made from, unless a test names another oracle.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from galerly_cdn.errors import UnsupportedFormat
from galerly_cdn.model import Format
from galerly_cdn.render import header, icc, pipeline
from tests.support import pictures, tiffs
from tests.support.color_difference import opened
from tests.support.render_jobs import job
from tests.support.tiffs import Page, tiff

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PIXELS = pictures.pixels(97, 61)
GREY = PIXELS[..., 1:2]
ALPHA = np.tile(np.linspace(255, 0, 97).astype(np.uint8), (61, 1))[..., None]
OPAQUE = np.full_like(ALPHA, 255)
BT709 = (0.2125, 0.7154, 0.0721)
STUDIO = (16, 235, 128, 240, 128, 240)


def shown(original: bytes, form: Format = Format.PNG) -> Image.Image:
    """Return the rendition in the original's own size."""
    return opened(pipeline.render(original, job("97x97", form))[1])


def off(picture: Image.Image, expected: NDArray[Any]) -> float:
    """Return the mean absolute difference of the colours."""
    colors = np.asarray(picture.convert("RGB")).astype(float)
    return float(np.abs(colors - expected).mean())


def alpha_of(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGBA").getchannel("A"))[..., None]


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return L*, a* and b* (D50) of an sRGB picture by Pillow's lcms, in steps of 8 bits."""
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        "RGB",
        "LAB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    converted = ImageCms.applyTransform(Image.fromarray(rgb), to_lab)
    assert converted
    codes = np.asarray(converted)
    return np.dstack([codes[..., 0] / 2.55, codes[..., 1:].view(np.int8).astype(float)])


LAB = lab(PIXELS)
CIELAB_8 = np.dstack([np.rint(LAB[..., :1] * 2.55), LAB[..., 1:] % 256]).astype(np.uint8)
CIELAB_16 = np.dstack([np.rint(LAB[..., :1] * 655.35), LAB[..., 1:] * 256 % 65536]).astype(np.uint16)
ICCLAB_8 = np.dstack([np.rint(LAB[..., :1] * 2.55), LAB[..., 1:] + 128]).astype(np.uint8)
ICCLAB_16 = np.dstack([np.rint(LAB[..., :1] * 652.8), (LAB[..., 1:] + 128) * 256]).astype(np.uint16)


def linear(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return linear light of sRGB codes (IEC 61966-2-1)."""
    share = rgb / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(np.float32)


def scaled(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (rgb / 255).astype(np.float32)


SRGB: dict[int, bytes] = {tiffs.ICC: pictures.srgb_profile()}
COLOR_KINDS: dict[str, tuple[NDArray[Any], int, dict[int, Any], float]] = {
    "8-bit RGB": (PIXELS, tiffs.RGB, {}, 0),
    "16-bit RGB": (PIXELS.astype(np.uint16) * 257, tiffs.RGB, {}, 0),
    "32-bit integer RGB": (PIXELS.astype(np.uint32) * 0x1010101, tiffs.RGB, {}, 0),
    "float RGB": (linear(PIXELS), tiffs.RGB, {}, 0.6),
    "half float RGB": (linear(PIXELS).astype(np.float16), tiffs.RGB, {}, 0.6),
    "float RGB, sRGB profile": (scaled(PIXELS), tiffs.RGB, SRGB, 0),
    "half float RGB, sRGB profile": (scaled(PIXELS).astype(np.float16), tiffs.RGB, SRGB, 0.1),
    "float RGB, damaged profile": (linear(PIXELS), tiffs.RGB, {tiffs.ICC: b"damaged"}, 0.6),
    "YCbCr": (tiffs.ycbcr(PIXELS), tiffs.YCBCR, {tiffs.SUBSAMPLING: [1, 1]}, 0.6),
    "YCbCr of BT.709": (
        tiffs.ycbcr(PIXELS, BT709, STUDIO),
        tiffs.YCBCR,
        {tiffs.SUBSAMPLING: [1, 1], tiffs.COEFFICIENTS: BT709, tiffs.REFERENCE: STUDIO},
        0.7,
    ),
    "8-bit CIELab": (CIELAB_8, tiffs.CIELAB, {}, 1.5),
    "16-bit CIELab": (CIELAB_16, tiffs.CIELAB, {}, 1.5),
    "8-bit ICCLab": (ICCLAB_8, tiffs.ICCLAB, {}, 1.5),
    "16-bit ICCLab": (ICCLAB_16, tiffs.ICCLAB, {}, 1.5),
    "8-bit grey": (GREY, tiffs.BLACK_IS_ZERO, {}, 0),
    "16-bit grey": (GREY.astype(np.uint16) * 257, tiffs.BLACK_IS_ZERO, {}, 0),
    "32-bit integer grey": (GREY.astype(np.uint32) * 0x1010101, tiffs.BLACK_IS_ZERO, {}, 0),
    "float grey": (linear(GREY), tiffs.BLACK_IS_ZERO, {}, 0.6),
    "half float grey": (linear(GREY).astype(np.float16), tiffs.BLACK_IS_ZERO, {}, 0.6),
    "float grey, sRGB profile": (scaled(GREY), tiffs.BLACK_IS_ZERO, SRGB, 0),
    "float grey, damaged profile": (linear(GREY), tiffs.BLACK_IS_ZERO, {tiffs.ICC: b"damaged"}, 0.6),
    "8-bit inverted grey": (255 - GREY, tiffs.WHITE_IS_ZERO, {}, 0),
    "16-bit inverted grey": ((255 - GREY).astype(np.uint16) * 257, tiffs.WHITE_IS_ZERO, {}, 0),
    "32-bit inverted grey": ((255 - GREY).astype(np.uint32) * 0x1010101, tiffs.WHITE_IS_ZERO, {}, 0),
    "float inverted grey": (1 - linear(GREY), tiffs.WHITE_IS_ZERO, {}, 0.6),
}
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "II": ({}, {}),
    "MM": ({"rows": 16}, {"order": ">"}),
    "BigTIFF": ({"rows": 7}, {"big": True}),
    "BigTIFF, MM": ({}, {"order": ">", "big": True}),
    "planes": ({"rows": 16, "separate": True}, {}),
    "tiles": ({"tile_px": 32}, {"order": ">"}),
    "LZW": ({"rows": 20, "compression": tiffs.LZW}, {}),
    "deflate": ({"tile_px": 48, "compression": tiffs.DEFLATE}, {}),
    "PackBits": ({"rows": 20, "compression": tiffs.PACKBITS}, {"order": ">"}),
}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (kind, layout)
        for kind in COLOR_KINDS
        for layout in LAYOUTS
        if (kind[:4], layout) != ("half", "planes")
    ],
)
def test_colors_of_each_kind_are_right_in_each_layout(kind: str, layout: str) -> None:
    samples, photometric, more, tolerance = COLOR_KINDS[kind]
    of_page, of_file = LAYOUTS[layout]
    picture = shown(tiff(Page(samples, photometric, tags=more, **of_page), **of_file))
    assert picture.mode == ("L" if samples.shape[2] == 1 else "RGB")
    assert off(picture, GREY if samples.shape[2] == 1 else PIXELS) <= tolerance


def with_alpha(samples: NDArray[Any], alpha: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the samples with alpha of 0 to 255 scaled to the range of their type."""
    maximum = 1.0 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
    return np.dstack([samples, (alpha * (maximum / 255)).astype(samples.dtype)])


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (kind, layout)
        for kind in COLOR_KINDS
        for layout in ("II", "MM", "planes", "tiles")
        if layout != "planes" or not ("grey" in kind or "half" in kind)
    ],
)
def test_unassociated_alpha_of_each_kind_is_kept(kind: str, layout: str) -> None:
    samples, photometric, more, tolerance = COLOR_KINDS[kind]
    of_page, of_file = LAYOUTS[layout]
    original = tiff(Page(with_alpha(samples, ALPHA), photometric, tags=more, **of_page), **of_file)
    picture = shown(original)
    assert header.read(original).has_alpha
    assert np.abs(alpha_of(picture).astype(int) - ALPHA).max() <= 1
    assert off(picture, GREY if samples.shape[2] == 1 else PIXELS) <= tolerance


@pytest.mark.parametrize("kind", COLOR_KINDS)
def test_extra_samples_that_are_not_alpha_are_not_shown(kind: str) -> None:
    samples, photometric, more, tolerance = COLOR_KINDS[kind]
    extra = with_alpha(with_alpha(samples, ALPHA), 255 - ALPHA)
    original = tiff(Page(extra, photometric, tags={**more, tiffs.EXTRA_SAMPLES: [0, 0]}))
    assert not header.read(original).has_alpha
    assert off(shown(original), GREY if samples.shape[2] == 1 else PIXELS) <= tolerance


@pytest.mark.parametrize("kind", ["8-bit RGB", "16-bit RGB", "8-bit grey", "8-bit CIELab", "float RGB"])
def test_alpha_after_another_extra_sample_is_found(kind: str) -> None:
    samples, photometric, more, tolerance = COLOR_KINDS[kind]
    extra = with_alpha(with_alpha(samples, 255 - ALPHA), ALPHA)
    picture = shown(tiff(Page(extra, photometric, tags={**more, tiffs.EXTRA_SAMPLES: [0, 2]})))
    assert np.abs(alpha_of(picture).astype(int) - ALPHA).max() <= 1
    assert off(picture, GREY if samples.shape[2] == 1 else PIXELS) <= tolerance


PREMULTIPLIED = [
    kind for kind in COLOR_KINDS if "ICCLab" not in kind and "inverted" not in kind and "YCbCr" not in kind
]


@pytest.mark.parametrize("opacity", [255, 128])
@pytest.mark.parametrize("kind", PREMULTIPLIED)
def test_associated_alpha_is_divided_out(kind: str, opacity: int) -> None:
    samples, photometric, more, tolerance = COLOR_KINDS[kind]
    share = opacity / 255
    is_signed = photometric == tiffs.CIELAB
    codes = samples.astype(float)
    if is_signed:
        codes[..., 1:] = samples[..., 1:].view(np.int8 if samples.dtype == np.uint8 else np.int16)
    small = codes * share
    small = (
        small.astype(samples.dtype)
        if samples.dtype.kind == "f"
        else np.rint(small).astype(np.int64).astype(samples.dtype)
    )
    original = tiff(
        Page(
            with_alpha(small, np.full_like(ALPHA, opacity)),
            photometric,
            tags={**more, tiffs.EXTRA_SAMPLES: [1]},
        )
    )
    picture = shown(original)
    assert np.abs(alpha_of(picture).astype(int) - opacity).max() <= 1
    assert off(picture, GREY if samples.shape[2] == 1 else PIXELS) <= tolerance + (1.5 if share < 1 else 0)


def test_single_extra_sample_without_a_description_is_alpha() -> None:
    original = tiff(Page(np.dstack([PIXELS, ALPHA]), tags={tiffs.EXTRA_SAMPLES: None}))
    reference = opened(original)
    assert reference.mode == "RGBA"  # Pillow
    assert np.array_equal(np.asarray(shown(original)), np.asarray(reference))


@pytest.mark.parametrize("compression", [tiffs.NONE, tiffs.LZW, tiffs.DEFLATE])
@pytest.mark.parametrize(("across", "down"), [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)])
def test_subsampled_ycbcr_is_as_libtiff_in_pillow_shows_it(across: int, down: int, compression: int) -> None:
    block = tiffs.subsampled(tiffs.ycbcr(PIXELS), across, down)
    more = {tiffs.SUBSAMPLING: [across, down]}

    def made(compression: int) -> bytes:
        blocks = (tiffs.compressed(block, compression),)
        return tiff(Page(PIXELS, tiffs.YCBCR, compression, more, blocks=blocks))

    picture = shown(made(compression))
    reference = opened(made(tiffs.LZW)).convert("RGB")  # Pillow passes only compressed YCbCr to libtiff
    assert picture.mode == "RGB"
    assert off(picture, np.asarray(reference)) <= 0.1
    assert off(picture, PIXELS) <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tile_px", [0, 32])
def test_subsampled_ycbcr_is_upright_in_every_orientation(orientation: int, tile_px: int) -> None:
    stored = np.asarray(pictures.turned(Image.fromarray(PIXELS), orientation))
    ycc = tiffs.ycbcr(stored)
    height, width, _ = ycc.shape
    if tile_px:
        whole = np.pad(ycc, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="edge")
        tiles = [
            whole[top : top + 32, left : left + 32]
            for top in range(0, height, 32)
            for left in range(0, width, 32)
        ]
        units = [tiffs.subsampled(tile, 2, 2) for tile in tiles]
    else:
        units = [tiffs.subsampled(ycc, 2, 2)]
    blocks = tuple(tiffs.compressed(block, tiffs.LZW) for block in units)
    more = {tiffs.SUBSAMPLING: [2, 2], tiffs.ORIENTATION: orientation}
    picture = shown(tiff(Page(stored, tiffs.YCBCR, tiffs.LZW, more, tile_px=tile_px, blocks=blocks)))
    assert picture.size == (97, 61)
    assert off(picture, PIXELS) <= 2.5


@pytest.mark.parametrize(
    ("colors", "decode"),
    [
        pytest.param(icc.NamedColors(9, 8), lambda signal: signal, id="linear BT.2020"),
        pytest.param(icc.NamedColors(12, 13), None, id="P3 with sRGB's curve"),
        pytest.param(icc.ADOBE_RGB, None, id="Adobe RGB"),
    ],
)
def test_float_is_converted_through_its_profile_as_by_lcms(
    colors: icc.NamedColors, decode: Callable[[Any], Any] | None
) -> None:
    """The oracle is Pillow's lcms on the same picture in 8 bits; linear light needs 16 bits, by libvips."""
    profile = icc.profile_bytes(colors)
    samples = linear(PIXELS) if decode else scaled(PIXELS)
    picture = shown(tiff(Page(samples, tags={tiffs.ICC: profile})))
    if decode:
        deep = tiff(Page(np.rint(samples * 65535).astype(np.uint16), tags={tiffs.ICC: profile}))
        expected = np.asarray(shown(deep))
    else:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(
            Image.fromarray(PIXELS), source, target, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
        )
        assert converted
        expected = np.asarray(converted)
    assert off(picture, expected) <= 0.7
    assert off(picture, PIXELS) > 3, "the profile must change the colours"


def grey_profile() -> bytes:
    """Return a grey profile of gamma 1.8 (ICC.1:2022 §8.3.4: a white point and a curve)."""
    rgb = bytearray(icc.profile_bytes(icc.NamedColors(1, 8)))
    rgb[16:20] = b"GRAY"
    at = rgb.index(b"rTRC")
    rgb[at : at + 4] = b"kTRC"
    curve = rgb.index(b"para", 200)
    rgb[curve + 12 : curve + 16] = round(1.8 * 65536).to_bytes(4, "big")
    return bytes(rgb)


def test_float_grey_is_converted_through_its_profile_as_16_bits_are() -> None:
    more = {tiffs.ICC: grey_profile()}
    deep = GREY.astype(np.uint16) * 257
    expected = shown(tiff(Page(deep, tiffs.BLACK_IS_ZERO, tags=more)))
    picture = shown(tiff(Page(scaled(GREY), tiffs.BLACK_IS_ZERO, tags=more)))
    assert off(picture, np.asarray(expected.convert("RGB"))) <= 0.7
    assert off(picture, GREY) > 3, "the profile must change the colours"


@pytest.mark.parametrize("kind", ["YCbCr", "32-bit integer RGB", "half float RGB, sRGB profile"])
def test_profile_of_each_kind_is_applied_as_to_8_bits(kind: str) -> None:
    samples, photometric, more, _ = COLOR_KINDS[kind]
    profile = {tiffs.ICC: icc.profile_bytes(icc.ADOBE_RGB)}
    expected = shown(tiff(Page(PIXELS, tags=profile)))
    assert off(shown(tiff(Page(samples, photometric, tags={**more, **profile}))), np.asarray(expected)) <= 0.8


@pytest.mark.parametrize("kind", ["8-bit CIELab", "16-bit ICCLab"])
def test_profile_of_rgb_in_a_lab_original_is_ignored(kind: str) -> None:
    samples, photometric, _, _ = COLOR_KINDS[kind]
    profile = {tiffs.ICC: icc.profile_bytes(icc.ADOBE_RGB)}
    assert off(shown(tiff(Page(samples, photometric, tags=profile))), PIXELS) <= 1.5


def test_float_samples_outside_the_range_and_without_a_number_do_not_spread() -> None:
    samples = linear(PIXELS)
    samples[20, 20:23] = [np.nan, np.inf, -np.inf]
    samples[40, 40] = 1e30
    picture = np.asarray(shown(tiff(Page(samples)))).astype(int)
    differs = np.abs(picture - PIXELS).max(axis=2) > 3
    assert set(zip(*np.nonzero(differs), strict=True)) <= {(20, 20), (20, 21), (20, 22), (40, 40)}
    small = opened(pipeline.render(tiff(Page(samples)), job("48x48", Format.PNG))[1])
    plain = opened(pipeline.render(tiff(Page(linear(PIXELS))), job("48x48", Format.PNG))[1])
    assert off(small, np.asarray(plain)) < 1


def test_lab_written_by_pillow_looks_as_pillow_shows_it() -> None:
    original = pictures.saved(Image.fromarray(CIELAB_8, "LAB"), "TIFF")
    assert opened(original).mode == "LAB"
    assert off(shown(original), PIXELS) <= 1.5


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [tiffs.WHITE_IS_ZERO, tiffs.BLACK_IS_ZERO, tiffs.PALETTE])
def test_few_bits_are_as_pillow_shows_them(bits: int, photometric: int) -> None:
    codes = (GREY[..., 0] >> (8 - bits)).astype(np.uint8)
    packed = np.pad(codes, ((0, 0), (0, -97 % (8 // bits))))
    groups = packed.reshape(61, -1, 8 // bits).astype(int)
    shifts = [8 - bits * (at + 1) for at in range(8 // bits)]
    rows = (groups << np.array(shifts)).sum(axis=2).astype(np.uint8)
    palette = [
        (band * 7919 + at * 40009) % 65536 // 257 * 257 for band in range(3) for at in range(1 << bits)
    ]
    more: dict[int, Any] = {tiffs.BITS: [bits], tiffs.SAMPLE_FORMAT: None}
    if photometric == tiffs.PALETTE:
        more[tiffs.COLOR_MAP] = palette
    original = tiff(Page(codes[..., None], photometric, tags=more, blocks=(rows.tobytes(),)))
    assert off(shown(original), np.asarray(opened(original).convert("RGB"))) <= 0.1


@pytest.mark.parametrize(
    ("samples", "photometric", "more"),
    [
        pytest.param(PIXELS.astype(np.int16), tiffs.RGB, {}, id="16-bit signed integer RGB"),
        pytest.param(PIXELS.astype(np.int32), tiffs.RGB, {}, id="32-bit signed integer RGB"),
        pytest.param(GREY.astype(np.int8), tiffs.BLACK_IS_ZERO, {}, id="8-bit signed integer grey"),
        pytest.param(scaled(PIXELS).astype(np.float64), tiffs.RGB, {}, id="64-bit float RGB"),
        pytest.param(PIXELS.astype(np.uint64), tiffs.RGB, {}, id="64-bit integer RGB"),
        pytest.param(PIXELS.astype(np.complex64), tiffs.RGB, {}, id="64-bit complex RGB"),
        pytest.param(PIXELS, tiffs.RGB, {tiffs.BITS: [12] * 3}, id="12-bit integer RGB"),
        pytest.param(PIXELS, tiffs.RGB, {tiffs.BITS: [5, 6, 5]}, id="RGB with samples of different depths"),
        pytest.param(PIXELS.astype(np.uint16), tiffs.YCBCR, {}, id="16-bit integer YCbCr"),
        pytest.param(PIXELS, tiffs.YCBCR, {tiffs.SUBSAMPLING: [2, 4]}, id="YCbCr of unusual subsampling"),
        pytest.param(PIXELS, 10, {}, id="8-bit integer ITULab"),
        pytest.param(PIXELS.astype(np.uint32), tiffs.CIELAB, {}, id="32-bit integer CIELab"),
        pytest.param(PIXELS[..., :2], tiffs.RGB, {}, id="RGB with 2 samples"),
        pytest.param(
            np.dstack([PIXELS, GREY]),
            tiffs.SEPARATED,
            {tiffs.INK_SET: 2},
            id="separated inks other than CMYK",
        ),
        pytest.param(
            np.dstack([ICCLAB_8, ALPHA]), tiffs.ICCLAB, {tiffs.EXTRA_SAMPLES: [1]}, id="premultiplied ICCLab"
        ),
        pytest.param(GREY, 4, {}, id="transparency mask"),
        pytest.param(GREY, 51177, {}, id="photometric interpretation 51177"),
    ],
)
def test_kind_that_is_not_converted_is_refused_by_its_name(
    samples: NDArray[Any], photometric: int, more: dict[int, Any], request: pytest.FixtureRequest
) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        header.read(tiff(Page(samples, photometric, tags=more)))
    assert request.node.callspec.id in refused.value.detail


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(Page(PIXELS, separate=True, tile_px=32), id="plane-separate"),
        pytest.param(Page(scaled(PIXELS).astype(np.float16), separate=True), id="plane-separate 16-bit RGB"),
        pytest.param(
            Page(np.dstack([GREY, ALPHA]), tiffs.BLACK_IS_ZERO, separate=True), id="plane-separate 8-bit grey"
        ),
        pytest.param(Page(PIXELS, tiffs.YCBCR, tile_px=32), id="tiled, uncompressed, subsampled YCbCr"),
        pytest.param(Page(CIELAB_8, tiffs.CIELAB, 7), id="JPEG-compressed CIELab"),
        pytest.param(Page(GREY.astype(np.uint16), 1, 7), id="16-bit JPEG-compressed"),
        pytest.param(Page(PIXELS, compression=50000), id="ZSTD-compressed"),
        pytest.param(Page(PIXELS, compression=34925), id="LZMA-compressed"),
        pytest.param(Page(PIXELS, compression=34887), id="LERC-compressed"),
        pytest.param(Page(PIXELS, compression=6), id="old-style JPEG-compressed"),
        pytest.param(Page(PIXELS, compression=33003), id="JPEG 2000-compressed"),
        pytest.param(Page(GREY, tiffs.BLACK_IS_ZERO, 34661), id="JBIG-compressed"),
        pytest.param(Page(PIXELS, compression=52546), id="JPEG XL-compressed"),
        pytest.param(Page(PIXELS, compression=12345), id="compression 12345-compressed"),
    ],
)
def test_layout_that_libvips_does_not_read_is_refused_by_its_name(
    page: Page, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        header.read(tiff(page))
    assert request.node.callspec.id in refused.value.detail


@pytest.mark.parametrize("compression", ["zstd", "lzma"])
def test_file_of_pillow_in_a_compression_that_libvips_lacks_is_refused_by_its_name(compression: str) -> None:
    with pytest.raises(UnsupportedFormat, match=compression.upper()):
        header.read(pictures.saved(Image.fromarray(PIXELS), "TIFF", compression=compression))


@pytest.mark.parametrize(
    ("compression", "mode", "tolerance"),
    [
        ("tiff_ccitt", "1", 0),
        ("group3", "1", 0),
        ("group4", "1", 0),
        ("tiff_lzw", "RGB", 0),
        ("jpeg", "RGB", 0.1),
        ("jpeg", "L", 0),
        ("jpeg", "RGBA", 0.1),
        ("jpeg", "YCbCr", 0.1),
        ("tiff_adobe_deflate", "RGB", 0),
        ("tiff_deflate", "RGB", 0),
        ("packbits", "RGB", 0),
    ],
)
def test_file_of_pillow_in_each_compression_is_as_pillow_shows_it(
    compression: str, mode: str, tolerance: float
) -> None:
    original = pictures.saved(Image.fromarray(PIXELS).convert(mode), "TIFF", compression=compression)
    assert off(shown(original), np.asarray(opened(original).convert("RGB"))) <= tolerance


def test_old_lzw_of_the_lowest_bit_first_is_shown() -> None:
    """The codes are those of libtiff's `LZWDecodeCompat`: 9 bits, and a clear code before more are needed."""
    codes = [code for at in range(0, GREY.size, 250) for code in (256, *GREY.tobytes()[at : at + 250])]
    bits = sum(code << (9 * at) for at, code in enumerate([*codes, 257]))
    block = bits.to_bytes((len(codes) + 1) * 9 // 8 + 1, "little")
    original = tiff(Page(GREY, tiffs.BLACK_IS_ZERO, tiffs.LZW, blocks=(block,)))
    assert off(shown(original), np.asarray(opened(original).convert("RGB"))) == 0
    assert off(shown(original), GREY) == 0


def test_webp_in_a_tiff_is_shown() -> None:
    block = pictures.saved(Image.fromarray(PIXELS), "WEBP", lossless=True)
    assert off(shown(tiff(Page(PIXELS, compression=50001, blocks=(block,)))), PIXELS) == 0


@pytest.mark.parametrize("bands", [4, 5])
@pytest.mark.parametrize("depth", [8, 16])
def test_cmyk_is_shown_as_8_bits_are_and_keeps_its_alpha(bands: int, depth: int) -> None:
    inks = np.asarray(Image.fromarray(PIXELS).convert("CMYK"))
    samples = np.dstack([inks, ALPHA])[..., :bands].astype(np.uint16 if depth == 16 else np.uint8)
    picture = shown(tiff(Page(samples * (257 if depth == 16 else 1), tiffs.SEPARATED)))
    plain = shown(tiff(Page(inks, tiffs.SEPARATED)))
    assert off(picture, np.asarray(plain)) <= 0.6
    assert np.array_equal(alpha_of(picture), ALPHA if bands == 5 else OPAQUE)


def test_sgi_logluv_is_shown_as_the_picture_it_was_made_from() -> None:
    """libvips writes and reads it through libtiff; the oracle is the 8-bit picture."""
    light = pyvips.Image.new_from_array(PIXELS, interpretation="srgb").colourspace("xyz")
    assert off(shown(light.tiffsave_buffer()), PIXELS) <= 1
