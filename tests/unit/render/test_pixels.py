"""Tests of the pixels of renditions against Pillow: colours, alpha, scaling."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from galerly_cdn.model import Format
from galerly_cdn.render import color, header, icc, pipeline, recipe
from tests.support import pictures
from tests.support.color_difference import assert_alike, difference, opened
from tests.support.render_jobs import ALL_FORMATS, job

SIDES = (300, 200)
P3 = icc.NamedColors(12, 13)
BT2020 = icc.NamedColors(9, 13)


def rendition(original: bytes, form: Format = Format.PNG) -> Image.Image:
    """Return the rendition at 300 × 200."""
    return opened(pipeline.render(original, job("300x300", form))[1])


def expected(picture: Image.Image) -> Image.Image:
    """Return Pillow's full decode, scaled by Pillow."""
    return picture.convert("RGB").resize(SIDES, Image.Resampling.LANCZOS)


def through_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    """Return the picture converted to sRGB by Pillow's lcms, relative colorimetric."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(
        picture, source, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
    )
    assert converted is not None
    return converted


@pytest.mark.parametrize(
    ("original", "mean", "worst"),
    [
        pytest.param(pictures.jpeg(), 0.6, 6, id="jpeg"),
        pytest.param(pictures.jpeg(progressive=True, subsampling="4:4:4"), 0.6, 6, id="progressive jpeg"),
        pytest.param(pictures.png(alpha=False), 0.6, 6, id="png"),
        pytest.param(pictures.palette_png(), 0.6, 6, id="palette png"),
        pytest.param(pictures.deep_png(), 0.6, 6, id="16 bit png"),
        pytest.param(pictures.webp(), 0.9, 8, id="webp"),
        pytest.param(pictures.avif(), 0.6, 6, id="avif"),
        pytest.param(pictures.tiff(), 0.6, 6, id="tiff"),
        pytest.param(pictures.gif(600, 400), 0.6, 6, id="gif"),
        pytest.param(pictures.grey(), 0.6, 6, id="grey jpeg"),
    ],
)
def test_rendition_looks_like_pillows_full_decode(original: bytes, mean: float, worst: float) -> None:
    reference = opened(original) if header.read(original).bits == 8 else pictures.scene()
    assert_alike(rendition(original), expected(reference), mean=mean, worst=worst)


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_rendition_looks_the_same_in_every_format(form: Format) -> None:
    mean, worst = difference(rendition(pictures.jpeg(), form), expected(opened(pictures.jpeg())))
    assert mean <= (0.6 if form is Format.PNG else 2.2)
    assert worst <= 25


@pytest.mark.parametrize(
    ("sides", "box"),
    [
        ((12000, 60), "800x600"),
        ((20000, 30), "800x600"),
        ((30, 20000), "800x600"),
        ((12000, 63), "2000x2000"),
        ((4001, 61), "400x400"),
        ((1999, 133), "150x150"),
    ],
)
def test_shrink_on_load_keeps_the_last_lines_of_a_narrow_panorama(sides: tuple[int, int], box: str) -> None:
    """The oracle is Pillow's full decode: the mean of each of the long lines of a gradient is within 2."""
    across, down = np.linspace(20, 235, max(sides)), np.linspace(20, 235, min(sides))
    samples = (down[:, None] * 0.9 + across[None, :] * 0.1).astype(np.uint8)
    original = pictures.saved(
        Image.fromarray(samples if sides[0] > sides[1] else samples.T), "JPEG", quality=98
    )
    rendered, body = pipeline.render(original, job(box, Format.PNG))
    whole = opened(original).resize((rendered.width_px, rendered.height_px), Image.Resampling.LANCZOS)
    shown, expected_samples = (np.asarray(one, float) for one in (opened(body), whole))
    axis = 1 if sides[0] > sides[1] else 0
    assert np.abs(shown.mean(axis) - expected_samples.mean(axis)).max() <= 2


@pytest.mark.parametrize("box", ["37x37", "75x75", "150x150", "299x299", "400x400"])
def test_shrink_on_load_looks_like_a_full_decode(box: str) -> None:
    big = pictures.jpeg(1800, 1200, quality=95)
    rendered, body = pipeline.render(big, job(box, Format.PNG))
    whole = opened(big).resize((rendered.width_px, rendered.height_px), Image.Resampling.LANCZOS)
    assert difference(opened(body), whole)[0] < 1.0


@pytest.mark.parametrize("sides", [(2409, 1607), (2411, 1603), (2413, 1609), (2408, 1608), (1607, 2409)])
@pytest.mark.parametrize("box", ["170x170", "280x280", "700x700", "1000x1000", "1200x1200", "1204x1204"])
def test_shrink_on_load_moves_no_line_of_any_side(sides: tuple[int, int], box: str) -> None:
    """A wave's phase in the rendition is that of the original: the oracle is the wave itself."""
    periods = 20
    across = np.cos(2 * np.pi * periods * (np.arange(sides[0]) + 0.5) / sides[0])
    down = np.cos(2 * np.pi * periods * (np.arange(sides[1]) + 0.5) / sides[1])
    samples = (127.5 + 60 * across[None, :] + 60 * down[:, None]).astype(np.uint8)
    body = pipeline.render(
        pictures.saved(Image.fromarray(samples), "JPEG", quality=98), job(box, Format.PNG)
    )[1]
    shown = np.asarray(opened(body).convert("L"), float)
    for axis, side_px in enumerate(shown.shape):
        line = shown.mean(1 - axis)
        wave = np.exp(-2j * np.pi * periods * (np.arange(side_px) + 0.5) / side_px)
        moved_px = np.angle((line * wave).sum()) / (2 * np.pi * periods) * side_px
        assert abs(moved_px) < 0.03, (axis, moved_px)


def rings(sides_px: int = 1600) -> Image.Image:
    """Return rings that get finer towards the corners."""
    y, x = np.mgrid[0:sides_px, 0:sides_px] / sides_px - 0.5
    waves = 127.5 + 127.5 * np.cos(sides_px * 0.9 * np.pi * (x * x + y * y))
    return Image.fromarray(waves.astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize("side_px", [350, 300, 220, 160, 100, 40])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_fine_pattern_leaves_no_ghosts(form: str, side_px: int) -> None:
    """Pillow's Lanczos reads every pixel; libvips' default leaves a deviation of 2 to 5 from it."""
    original = pictures.saved(rings(), form)
    body = pipeline.render(original, job(f"{side_px}x{side_px}", Format.PNG))[1]
    whole = rings().resize((side_px, side_px), Image.Resampling.LANCZOS)
    deviation = np.asarray(opened(body)).astype(float) - np.asarray(whole)
    assert np.sqrt((deviation**2).mean()) < 1


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("longest_px", [5, 7, 10, 33])
def test_side_is_reduced_by_any_factor(longest_px: int, *, alpha: bool) -> None:
    """`vips_reduce` alone refuses a factor over 333, and its weights get coarse long before."""
    color = (200, 100, 50, 255) if alpha else (200, 100, 50)
    original = pictures.saved(Image.new("RGBA" if alpha else "RGB", (3001, 60), color), "PNG")
    body = pipeline.render(original, job(f"{longest_px}x{longest_px}", Format.PNG))[1]
    pixels = np.asarray(opened(body)).astype(int)
    assert np.abs(pixels - color).max() <= 2


def test_pixels_with_alpha_are_rounded() -> None:
    """Cut off, a colour of 100 becomes 99 wherever opacity changes."""
    alpha = np.tile(np.linspace(40, 255, 600).astype(np.uint8), (400, 1))
    flat = np.dstack([np.full((400, 600, 3), 100, np.uint8), alpha])
    colors = np.asarray(rendition(pictures.saved(Image.fromarray(flat), "PNG")))[..., :3]
    assert (colors == 100).all()


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("P3", icc.profile_bytes(P3)),
        ("BT.2020", icc.profile_bytes(BT2020)),
        ("Adobe", icc.profile_bytes(icc.ADOBE_RGB)),
    ],
)
def test_wide_gamut_is_converted_to_srgb(name: str, profile: bytes) -> None:
    original = pictures.jpeg(profile=profile)
    reference = expected(through_profile(opened(original), profile))
    assert_alike(rendition(original), reference, mean=0.8, worst=8)
    assert difference(rendition(pictures.jpeg()), reference)[0] > 1.5, f"{name} must change the colours"
    assert {"icc", "wide-gamut"} <= set(header.read(original).loses)


def test_srgb_profile_is_skipped() -> None:
    profile = pictures.srgb_profile()
    assert not color.profile_verdict(profile, 3).converts
    assert (
        pipeline.render(pictures.jpeg(profile=profile), job())[1]
        == pipeline.render(pictures.jpeg(), job())[1]
    )


@pytest.mark.parametrize(
    "profile", [b"", b"nonsense", pictures.srgb_profile()[:200], icc.profile_bytes(P3)[:300]]
)
def test_damaged_profile_is_ignored(profile: bytes) -> None:
    assert (
        pipeline.render(pictures.jpeg(profile=profile), job())[1]
        == pipeline.render(pictures.jpeg(), job())[1]
    )


def test_profile_for_other_bands_is_ignored() -> None:
    profile = pictures.grey_profile()
    assert_alike(
        rendition(pictures.jpeg(profile=profile)), expected(opened(pictures.jpeg())), mean=0.6, worst=6
    )


def test_profile_verdicts_are_cached_up_to_a_limit() -> None:
    first = icc.profile_bytes(P3)
    color.profile_verdict(first, 3)
    for number in range(70):
        color.profile_verdict(number.to_bytes(4, "big"), 3)
    assert len(color._verdicts) <= 64
    assert color.profile_verdict(first, 3).converts


def test_adobe_rgb_named_in_exif_is_converted() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 2
    original = pictures.saved(pictures.scene(), "JPEG", quality=92, exif=exif.tobytes())
    reference = expected(through_profile(opened(original), icc.profile_bytes(icc.ADOBE_RGB)))
    assert_alike(rendition(original), reference, mean=0.8, worst=8)
    assert header.inspect(original).profile == "Adobe RGB (1998)"


def with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """Return the PNG with one more chunk after its header."""
    return png[:33] + pictures.chunk(name, data) + png[33:]


def test_p3_named_by_code_points_is_converted() -> None:
    png = pictures.png(alpha=False)
    original = with_chunk(png, b"cICP", bytes([12, 13, 0, 1]))
    assert header.inspect(original).profile == "Display P3"
    reference = expected(through_profile(pictures.scene(), icc.profile_bytes(P3)))
    assert_alike(rendition(original), reference, mean=0.8, worst=8)


def test_p3_named_in_an_avif_is_converted() -> None:
    plain = pictures.avif()
    at = plain.index(b"colrnclx")
    original = plain[: at + 8] + bytes([0, 12, 0, 13]) + plain[at + 12 :]
    assert header.inspect(original).profile == "Display P3"
    reference = expected(through_profile(opened(plain), icc.profile_bytes(P3)))
    assert_alike(rendition(original), reference, mean=0.8, worst=8)


@pytest.mark.parametrize(
    ("transfer", "signal", "light"),
    [
        (16, 0.0, 0.0),
        (16, 0.5081, 100 / 203),
        (18, 0.5, 1000 * (1 / 12) ** 1.2 / 203),
        (16, 1.0, 1.0),
        (18, 1.0, 1.0),
    ],
)
def test_hdr_signals_are_converted_to_the_light_of_their_standard(
    transfer: int, signal: float, light: float
) -> None:
    deep = np.full((20, 20, 3), round(signal * 65535), np.uint16)
    original = with_chunk(pictures.deep_png(20, 20, deep), b"cICP", bytes([9, transfer, 0, 1]))
    linear = (
        np.interp(light, [0, 0.0031308, 1], [0, 0.04045, 1])
        if light < 0.0031308
        else 1.055 * light ** (1 / 2.4) - 0.055
    )
    value = rendition(original).convert("RGB").getpixel((9, 9))
    assert value == pytest.approx((linear * 255,) * 3, abs=3)
    assert "hdr-transfer" in header.read(original).loses


def test_cmyk_without_a_profile_keeps_its_hue() -> None:
    mean, _ = difference(rendition(pictures.cmyk_jpeg()), expected(pictures.scene()))
    assert mean < 16
    door = rendition(pictures.cmyk_jpeg()).convert("RGB").getpixel((234, 150))
    assert isinstance(door, tuple)
    assert door[0] > 2 * door[1]


def test_transparent_pixels_are_white_in_jpeg() -> None:
    rendered, body = pipeline.render(pictures.png(), job("300x300", Format.JPEG))
    picture = opened(body).convert("RGB")
    assert np.asarray(picture)[:, -4:].min() > 245
    white = Image.new("RGBA", (600, 400), "white")
    flat = Image.alpha_composite(white, pictures.scene_with_alpha())
    assert difference(picture, expected(flat))[0] < 2.2
    assert "alpha" in rendered.lost


@pytest.mark.parametrize("form", [Format.PNG, Format.WEBP, Format.AVIF])
@pytest.mark.parametrize("kind", ["png", "webp", "avif"])
def test_alpha_is_kept(form: Format, kind: str) -> None:
    original = {"png": pictures.png, "webp": pictures.webp, "avif": pictures.avif}[kind](alpha=True)
    rendered, body = pipeline.render(original, job("300x300", form))
    picture = opened(body)
    assert picture.mode == "RGBA"
    alpha = np.asarray(picture.getchannel("A")).astype(float)
    wanted = np.asarray(pictures.scene_with_alpha().resize(SIDES).getchannel("A")).astype(float)
    assert abs(alpha - wanted).mean() < 2
    assert "alpha" not in rendered.lost


def test_scaling_does_not_mix_in_colours_of_transparent_pixels() -> None:
    """A white disc on transparent black stays white up to its rim."""
    y, x = np.mgrid[0:400, 0:400]
    disc = ((x - 200) ** 2 + (y - 200) ** 2 < 120**2)[..., None]
    original = pictures.saved(Image.fromarray(np.where(disc, 255, 0).repeat(4, 2).astype(np.uint8)), "PNG")
    rim = np.asarray(rendition(original))
    visible = rim[rim[..., 3] > 20]
    assert visible[:, :3].min() > 250


@pytest.mark.parametrize(("alpha", "form"), [(True, Format.PNG), (False, Format.JPEG)])
@pytest.mark.parametrize("kind", ["png", "webp", "avif"])
def test_own_format_is_png_with_alpha_and_jpeg_without(kind: str, form: Format, *, alpha: bool) -> None:
    original = {"png": pictures.png, "webp": pictures.webp, "avif": pictures.avif}[kind](alpha=alpha)
    assert pipeline.render(original, job())[0].format is form


def test_grey_picture_with_alpha_stays_grey() -> None:
    original = pictures.saved(pictures.scene_with_alpha().convert("LA"), "PNG")
    colors = np.asarray(rendition(original).convert("RGBA"))[:, :200, :3].astype(int)
    assert np.ptp(colors, axis=2).max() <= 1


@pytest.mark.parametrize("original", [pictures.gif(600, 400, frames=3), pictures.animated_webp(600, 400)])
def test_animation_becomes_its_first_frame(original: bytes) -> None:
    rendered, body = pipeline.render(original, job("300x300", Format.PNG))
    assert "animation" in rendered.lost
    assert difference(opened(body).convert("RGB"), expected(opened(original)))[0] < 1


@pytest.mark.parametrize(
    ("box", "form", "shrink"),
    [
        ("400x400", Format.JPEG, 4),  # 8 would leave a factor of 1.25
        ("400x400", Format.WEBP, 4),
        ("800x600", Format.JPEG, 4),
        ("800x600", Format.WEBP, 2),
        ("800x600", Format.PNG, 2),
        ("1200x1200", Format.JPEG, 2),
        ("2000x2000", Format.JPEG, 2),  # leaves nothing
        ("2000x2000", Format.AVIF, 1),
    ],
)
def test_shrink_on_load_leaves_the_margin_of_each_size_and_format(
    box: str, form: Format, shrink: int
) -> None:
    read = header.read(pictures.jpeg(4000, 3000))
    (plan,) = pipeline.plan_pictures(read, job(box, form))
    assert pipeline.shrink_on_load(plan) == {"shrink": shrink}
    assert shrink == 1 or 4000 / shrink / plan.width_px >= recipe.margin(plan.picture.target.size, form)


@pytest.mark.parametrize(("larger_px", "is_large"), [((2399, 1799), False), ((2400, 1800), True)])
def test_base_of_a_picture_without_a_margin_is_a_fifth_larger(
    larger_px: tuple[int, int], *, is_large: bool
) -> None:
    (plan,) = pipeline.plan_pictures(header.read(pictures.jpeg(4000, 3000)), job("2000x2000", Format.JPEG))
    assert plan.margin == 1
    assert pipeline.is_large_enough(larger_px, plan) == is_large
