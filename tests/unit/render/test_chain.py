"""A job for several pictures decodes once and shows the same pictures as a render for each of them."""

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
from tests.support.render_jobs import job, jobs, target

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
    """What one job makes, by target."""
    return {one.target: (one, body) for one, body in pipeline.pictures(original, jobs(*targets))}


def alone(original: bytes, one: Target) -> tuple[Rendered, bytes]:
    return pipeline.render(original, jobs(one))


def looks_like(one: Image.Image, other: Image.Image) -> bool:
    """To the eye the same, on white."""
    mean, worst = difference(oracle.on_white(one), oracle.on_white(other))
    return mean <= 0.6 and worst <= 6


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_picture_made_with_others_looks_like_one_made_alone(name: str) -> None:
    targets = [target(box, Format.PNG) for box in BOXES]
    for one, (rendered, body) in made(ORIGINALS[name], targets).items():
        said, direct = alone(ORIGINALS[name], one)
        assert (rendered.width_px, rendered.height_px) == (said.width_px, said.height_px)
        assert looks_like(opened(body), opened(direct)), str(one)
        assert rendered.lost == said.lost


def test_a_picture_of_another_size_would_be_noticed() -> None:
    """What the tolerance is worth: one more blur between is over it."""
    direct = opened(alone(ORIGINALS["jpeg"], target("150x150", Format.PNG))[1])
    smaller = direct.resize((75, 50), Image.Resampling.LANCZOS)
    assert not looks_like(smaller.resize(direct.size, Image.Resampling.BICUBIC), direct)


@pytest.mark.parametrize("name", ["jpeg", "alpha"])
def test_all_targets_are_made_once_each_the_largest_first(name: str) -> None:
    rendered = [one for one, _ in pipeline.pictures(ORIGINALS[name], jobs(*TARGETS))]
    assert sorted(str(one.target) for one in rendered) == sorted(map(str, TARGETS))
    assert [one.width_px for one in rendered] == sorted((one.width_px for one in rendered), reverse=True)
    own = Format.PNG if name == "alpha" else Format.JPEG
    assert {(one.target.format or own) for one in rendered} == {one.format for one in rendered}


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_largest_pictures_are_those_made_alone_byte_for_byte(name: str) -> None:
    forms = (None, Format.WEBP, Format.PNG)
    together = made(ORIGINALS[name], [target(box, form) for box in BOXES for form in forms])
    for form in forms:
        largest = target(BOXES[-1], form)
        assert together[largest] == alone(ORIGINALS[name], largest)


@pytest.mark.parametrize("boxes", [BOXES, ("150x150", "2000x2000", "400x400")], ids=["smaller", "larger"])
@pytest.mark.parametrize("name", ["jpeg", "mirrored", "alpha", "gif", "avif"])
def test_an_original_is_decoded_once_for_all(
    name: str, boxes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that has every pixel there is will do, too, for one not much smaller."""
    loads: list[OriginalFormat] = []
    read, load = header.read(ORIGINALS[name]), decoders.load

    def count(original: bytes, kind: OriginalFormat, **options: float) -> decoders.Image:
        loads.append(kind)
        return load(original, kind, **options)

    monkeypatch.setattr(decoders, "load", count)
    targets = [target(box, form) for box in boxes for form in FORMATS]
    assert len(list(pipeline.pictures(ORIGINALS[name], jobs(*targets), read))) == len(targets)
    assert len(loads) == 1


def test_a_size_close_below_another_is_made_of_the_original_again() -> None:
    original = ORIGINALS["jpeg"]
    near, far = target("400x300", Format.PNG), target("390x292", Format.PNG)
    assert made(original, [far, near])[far] == alone(original, far)


def test_what_is_made_twice_keeps_its_opacity_and_its_light() -> None:
    """Cutting off instead of rounding would darken by half a step for each size."""
    chance = np.random.default_rng(3)
    colors = chance.integers(40, 200, (2048, 2048, 4), np.uint8)
    colors[..., 3] = 130
    original = pictures.saved(Image.fromarray(colors), "PNG", compress_level=1)
    targets = [target(f"{side}x{side}", Format.PNG) for side in (1000, 490, 240, 110, 51, 25)]
    for _, body in made(original, targets).values():
        values = np.asarray(opened(body)).reshape(-1, 4).astype(float)
        assert np.abs(values.mean(0) - (119.5, 119.5, 119.5, 130)).max() <= 1


def test_colours_of_transparent_pixels_do_not_bleed_from_size_to_size() -> None:
    """A white disc on transparent black stays white to its rim."""
    y, x = np.mgrid[0:800, 0:800]
    disc = ((x - 400) ** 2 + (y - 400) ** 2 < 240**2)[..., None]
    original = pictures.saved(Image.fromarray(np.where(disc, 255, 0).repeat(4, 2).astype(np.uint8)), "PNG")
    targets = [target(f"{side}x{side}", Format.PNG) for side in (400, 200, 100, 50)]
    for _, body in made(original, targets).values():
        rim = np.asarray(opened(body))
        assert rim[rim[..., 3] > 20][:, :3].min() > 245


def test_alpha_is_laid_on_white_in_jpeg_and_kept_beside_it() -> None:
    together = made(pictures.png(), [target(box, form) for box in BOXES for form in (None, Format.JPEG)])
    for box in BOXES:
        own, _ = together[target(box)]
        flat, body = together[target(box, Format.JPEG)]
        assert (own.format, "alpha" in own.lost, "alpha" in flat.lost) == (Format.PNG, False, True)
        assert np.asarray(opened(body).convert("RGB"))[:, -1:].min() > 240


def test_copyright_goes_with_every_picture_or_with_none() -> None:
    original = pictures.jpeg(credit=True)
    for keep in (True, False):
        targets = (target(box) for box in BOXES)
        for _, body in pipeline.pictures(original, jobs(*targets, keep_copyright=keep)):
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
def test_sides_are_computed_from_the_original_whatever_a_picture_is_made_from(
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
def test_of_a_truncated_photograph_no_picture_is_made(name: str, share: float) -> None:
    """Not even the small ones, for which a decoder would have had enough."""
    seen: list[tuple[Rendered, bytes]] = []
    with pytest.raises(Undecodable):
        seen.extend(pipeline.pictures(pictures.truncated(ORIGINALS[name], share), jobs(*TARGETS)))
    assert seen == []


def test_a_job_over_the_limits_is_refused_before_a_pixel() -> None:
    with pytest.raises(TooManyPixels):
        next(pipeline.pictures(ORIGINALS["jpeg"], jobs(*TARGETS, limits=Limits(1000, 256, 1 << 30))))


def test_pictures_are_made_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve of them are never in memory at once."""
    encoded: list[Format] = []
    encode = encoders.encode

    def count(image: decoders.Image, form: Format, *more: Any) -> bytes:  # noqa: ANN401 - as they came
        encoded.append(form)
        return encode(image, form, *more)

    monkeypatch.setattr(encoders, "encode", count)
    for place, _ in enumerate(pipeline.pictures(ORIGINALS["jpeg"], jobs(*TARGETS)), 1):
        assert len(encoded) == place


def test_the_first_of_a_job_for_one_is_all_there_is() -> None:
    one, body = pipeline.render(ORIGINALS["jpeg"], job())
    assert list(pipeline.pictures(ORIGINALS["jpeg"], job())) == [(one, body)]
