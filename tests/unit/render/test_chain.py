"""Tests of jobs for several pictures: one decode, and the same pictures as a render of each alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from checks import oracle
from galerly_cdn.errors import TooManyPixels, Undecodable
from galerly_cdn.model import Format, Limits, Size, Target
from galerly_cdn.render import decoders, encoders, header, icc, pipeline
from tests.support import pictures
from tests.support.color_difference import difference, opened
from tests.support.render_jobs import job, job_for, target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.model import Rendered
    from galerly_cdn.render.formats import OriginalFormat

BOXES = ("40x40", "75x75", "150x150", "400x300")
FORMATS = (None, Format.WEBP, Format.AVIF)
TARGETS = [target(box, form) for box in BOXES for form in FORMATS]
ORIGINALS = {
    "jpeg": pictures.jpeg(1200, 800),
    "progressive jpeg": pictures.jpeg(1200, 800, progressive=True, subsampling="4:4:4"),
    "portrait": pictures.jpeg(800, 1200),
    "turned": pictures.jpeg(1200, 800, orientation=6),
    "mirrored": pictures.jpeg(orientation=5),
    "wide gamut": pictures.jpeg(profile=icc.profile_bytes(icc.NamedColors(12, 13))),
    "grey": pictures.grey(),
    "cmyk": pictures.cmyk_jpeg(),
    "png": pictures.png(alpha=False),
    "alpha": pictures.png(),
    "palette": pictures.palette_png(),
    "16 bit": pictures.deep_png(),
    "webp": pictures.webp(),
    "webp with alpha": pictures.webp(alpha=True),
    "gif": pictures.gif(600, 400),
    "tiff": pictures.tiff(),
    "avif": pictures.avif(),
    "small": pictures.jpeg(90, 60),
}


def made(original: bytes, targets: Iterable[Target]) -> dict[Target, tuple[Rendered, bytes]]:
    """Return the pictures of one job, by target."""
    return {one.target: (one, body) for one, body in pipeline.pictures(original, job_for(*targets))}


def alone(original: bytes, one: Target) -> tuple[Rendered, bytes]:
    return pipeline.render(original, job_for(one))


def looks_like(one: Image.Image, other: Image.Image) -> bool:
    """Return whether two pictures look the same on white."""
    mean, worst = difference(oracle.on_white(one), oracle.on_white(other))
    return mean <= 0.6 and worst <= 6


@pytest.mark.parametrize("name", ORIGINALS)
def test_picture_of_a_job_looks_like_one_made_alone(name: str) -> None:
    targets = [target(box, Format.PNG) for box in BOXES]
    for one, (rendered, body) in made(ORIGINALS[name], targets).items():
        described, direct = alone(ORIGINALS[name], one)
        assert (rendered.width_px, rendered.height_px) == (described.width_px, described.height_px)
        assert looks_like(opened(body), opened(direct)), str(one)
        assert rendered.lost == described.lost


def test_tolerance_rejects_a_picture_scaled_up_from_a_smaller_one() -> None:
    """One more scaling to half the size and back is over the tolerance."""
    direct = opened(alone(ORIGINALS["jpeg"], target("150x150", Format.PNG))[1])
    smaller = direct.resize((75, 50), Image.Resampling.LANCZOS)
    assert not looks_like(smaller.resize(direct.size, Image.Resampling.BICUBIC), direct)


@pytest.mark.parametrize("name", ["jpeg", "alpha"])
def test_job_makes_each_target_once_largest_first(name: str) -> None:
    rendered = [one for one, _ in pipeline.pictures(ORIGINALS[name], job_for(*TARGETS))]
    assert sorted(str(one.target) for one in rendered) == sorted(map(str, TARGETS))
    assert [one.width_px for one in rendered] == sorted((one.width_px for one in rendered), reverse=True)
    own = Format.PNG if name == "alpha" else Format.JPEG
    assert {(one.target.format or own) for one in rendered} == {one.format for one in rendered}


@pytest.mark.parametrize("name", ORIGINALS)
def test_largest_pictures_of_a_job_have_the_bytes_of_those_made_alone(name: str) -> None:
    forms = (None, Format.WEBP, Format.PNG)
    together = made(ORIGINALS[name], [target(box, form) for box in BOXES for form in forms])
    for form in forms:
        largest = target(BOXES[-1], form)
        assert together[largest] == alone(ORIGINALS[name], largest)


@pytest.mark.parametrize("boxes", [BOXES, ("150x150", "2000x2000", "400x400")], ids=["smaller", "larger"])
@pytest.mark.parametrize("name", ["jpeg", "mirrored", "alpha", "gif", "avif"])
def test_job_decodes_its_original_once(
    name: str, boxes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base with every pixel of the original is also used for a size that is not much smaller."""
    loads: list[OriginalFormat] = []
    read, load = header.read(ORIGINALS[name]), decoders.load

    def count(original: bytes, kind: OriginalFormat, fail_on: str, **options: float) -> decoders.Image:
        loads.append(kind)
        return load(original, kind, fail_on, **options)

    monkeypatch.setattr(decoders, "load", count)
    targets = [target(box, form) for box in boxes for form in FORMATS]
    assert len(list(pipeline.pictures(ORIGINALS[name], job_for(*targets), read))) == len(targets)
    assert len(loads) == 1


def test_size_slightly_smaller_than_another_is_made_from_the_original() -> None:
    original = ORIGINALS["jpeg"]
    near, far = target("400x300", Format.PNG), target("390x292", Format.PNG)
    assert made(original, [far, near])[far] == alone(original, far)


def test_chained_scaling_keeps_opacity_and_brightness() -> None:
    """Truncation in place of rounding would darken by half a step at each size."""
    rng = np.random.default_rng(3)
    colors = rng.integers(40, 200, (2048, 2048, 4), np.uint8)
    colors[..., 3] = 130
    original = pictures.saved(Image.fromarray(colors), "PNG", compress_level=1)
    targets = [target(f"{side}x{side}", Format.PNG) for side in (1000, 490, 240, 110, 51, 25)]
    for _, body in made(original, targets).values():
        values = np.asarray(opened(body)).reshape(-1, 4).astype(float)
        assert np.abs(values.mean(0) - (119.5, 119.5, 119.5, 130)).max() <= 1


def test_chained_scaling_does_not_mix_in_colours_of_transparent_pixels() -> None:
    """A white disc on transparent black stays white up to its rim."""
    y, x = np.mgrid[0:800, 0:800]
    disc = ((x - 400) ** 2 + (y - 400) ** 2 < 240**2)[..., None]
    original = pictures.saved(Image.fromarray(np.where(disc, 255, 0).repeat(4, 2).astype(np.uint8)), "PNG")
    targets = [target(f"{side}x{side}", Format.PNG) for side in (400, 200, 100, 50)]
    for _, body in made(original, targets).values():
        rim = np.asarray(opened(body))
        assert rim[rim[..., 3] > 20][:, :3].min() > 245


def test_job_flattens_alpha_for_jpeg_and_keeps_it_in_other_formats() -> None:
    together = made(pictures.png(), [target(box, form) for box in BOXES for form in (None, Format.JPEG)])
    for box in BOXES:
        own, _ = together[target(box)]
        flat, body = together[target(box, Format.JPEG)]
        assert (own.format, "alpha" in own.lost, "alpha" in flat.lost) == (Format.PNG, False, True)
        assert np.asarray(opened(body).convert("RGB"))[:, -1:].min() > 240


def test_job_keeps_copyright_in_every_picture_or_in_none() -> None:
    original = pictures.jpeg(credit=True)
    for keep in (True, False):
        targets = (target(box) for box in BOXES)
        for _, body in pipeline.pictures(original, job_for(*targets, keep_copyright=keep)):
            assert (pictures.COPYRIGHT.encode() in body) is keep
            assert pictures.CAMERA.encode() not in body


SIDES = st.integers(1, 900) | st.sampled_from([1, 2, 3, 2999])
BOX = st.builds(Size, st.integers(1, 700), st.integers(1, 700))


@settings(max_examples=200, deadline=None)
@given(
    width=SIDES,
    height=SIDES,
    orientation=st.integers(1, 8),
    boxes=st.lists(BOX, min_size=2, max_size=5, unique=True),
)
@example(width=2999, height=1, orientation=6, boxes=[Size(150, 150), Size(1, 1), Size(700, 3)])
@example(width=601, height=400, orientation=1, boxes=[Size(w, w) for w in (600, 599, 300, 299, 2)])
def test_sides_are_computed_from_the_original_for_every_base(
    width: int, height: int, orientation: int, boxes: list[Size]
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    original = pictures.saved(Image.new("RGB", (width, height), (90, 140, 60)), "JPEG", exif=exif)
    upright = (height, width) if orientation >= 5 else (width, height)
    together = made(original, [Target(box, Format.PNG) for box in boxes])
    assert len(together) == len(boxes)
    for one, (rendered, body) in together.items():
        assert (rendered.width_px, rendered.height_px) == one.size.fit(*upright) == opened(body).size


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "alpha", "webp", "gif", "tiff", "avif"])
def test_job_of_a_truncated_photograph_makes_no_picture(name: str, share: float) -> None:
    """This includes small sizes, for which the rows that exist would be enough."""
    made_pictures: list[tuple[Rendered, bytes]] = []
    with pytest.raises(Undecodable):
        made_pictures.extend(pipeline.pictures(pictures.truncated(ORIGINALS[name], share), job_for(*TARGETS)))
    assert made_pictures == []


def test_job_over_the_limits_is_refused_before_decoding() -> None:
    with pytest.raises(TooManyPixels):
        next(pipeline.pictures(ORIGINALS["jpeg"], job_for(*TARGETS, limits=Limits(1000, 256, 1 << 30))))


def test_pictures_are_made_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twelve bodies of a job are never in memory together."""
    encoded: list[Format] = []
    encode = encoders.encode

    def count(image: decoders.Image, form: Format, *more: Any) -> bytes:  # noqa: ANN401 - passed through
        encoded.append(form)
        return encode(image, form, *more)

    monkeypatch.setattr(encoders, "encode", count)
    for place, _ in enumerate(pipeline.pictures(ORIGINALS["jpeg"], job_for(*TARGETS)), 1):
        assert len(encoded) == place


def test_job_for_one_picture_yields_what_render_returns() -> None:
    one, body = pipeline.render(ORIGINALS["jpeg"], job())
    assert list(pipeline.pictures(ORIGINALS["jpeg"], job())) == [(one, body)]
