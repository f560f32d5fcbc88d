"""Tests of the encoders and of the recipe."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from galerly_cdn.model import OWN_FORMATS, Format, Job, Limits, Picture, Size, Target
from galerly_cdn.render import header, pipeline, recipe
from galerly_cdn.render.originals import jpeg
from tests.support import pictures
from tests.support.color_difference import opened
from tests.support.render_jobs import ALL_FORMATS, LIMITS, job

QUALITY = st.integers(1, 3)
PICTURES = st.builds(
    Picture,
    st.builds(
        Target,
        st.builds(Size, st.sampled_from([150, 800]), st.sampled_from([150, 600])),
        st.sampled_from([None, *Format]),
    ),
    st.fixed_dictionaries(dict.fromkeys((Format.JPEG, Format.WEBP, Format.AVIF), QUALITY)),
)
JOBS = st.builds(Job, st.tuples(PICTURES), st.just(LIMITS), st.booleans())


OWN = st.sampled_from(OWN_FORMATS)


def encoded_as(one: Job, own: Format) -> Format:
    """The format of a job's picture, if `own` is the original's own format."""
    return one.pictures[0].target.format or own


def inputs(one: Job, own: Format) -> tuple[object, ...]:
    """Return everything that determines a rendition's bytes, computed independently of the recipe."""
    (picture,) = one.pictures
    form = encoded_as(one, own)
    quality = None if form is Format.PNG else picture.qualities[form]
    return (picture.target.size, form, quality, one.keep_copyright)


def png_filters(body: bytes) -> list[int]:
    """Return the filter type of each line of an RGB picture (PNG, third edition, 9.2)."""
    width_px = int.from_bytes(body[16:20], "big")
    position, data = 8, b""
    while position < len(body):
        length = int.from_bytes(body[position : position + 4], "big")
        if body[position + 4 : position + 8] == b"IDAT":
            data += body[position + 8 : position + 8 + length]
        position += 12 + length
    return list(zlib.decompress(data)[:: 1 + 3 * width_px])


def digest(one: Job, libvips: str = "8.18.7", own: Format = Format.JPEG) -> str:
    return recipe.digest(one, encoded_as(one, own), libvips)


@given(JOBS, JOBS, OWN, OWN)
def test_recipes_are_equal_if_and_only_if_their_inputs_are(
    one: Job, other: Job, own: Format, others_own: Format
) -> None:
    equal = digest(one, own=own) == digest(other, own=others_own)
    assert equal == (inputs(one, own) == inputs(other, others_own))


@pytest.mark.parametrize(
    ("box", "form", "expected"),
    [
        ("150x150", None, "0243612f232df28e"),
        ("800x600", Format.WEBP, "a3073f682defffa5"),
        ("2000x2000", Format.AVIF, "1ddf6f9cb24855ea"),
    ],
)
def test_recipe_is_stable(box: str, form: Format | None, expected: str) -> None:
    """A change makes every stored rendition again: raise `RENDERER`, then update these digests."""
    assert digest(job(box, form)) == expected


def test_recipe_is_sixteen_hexadecimal_digits() -> None:
    assert len(bytes.fromhex(digest(job()))) == 8


@pytest.mark.parametrize(
    ("name", "value"), [("RENDERER", recipe.RENDERER + 1), ("JPEG_MARGINS", ((400, 1.0), (1 << 30, 1.4)))]
)
def test_changed_renderer_changes_the_recipe(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    before = digest(job())
    monkeypatch.setattr(recipe, name, value)
    assert digest(job()) != before


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_changed_png_encoder_changes_the_recipe_of_png_alone(
    monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    before = digest(job(form=form))
    monkeypatch.setattr(recipe, "PNG_ENCODER", recipe.PNG_ENCODER + 1)
    assert (digest(job(form=form)) != before) == (form is Format.PNG)


def test_other_libvips_changes_the_recipe() -> None:
    assert digest(job()) != digest(job(), "8.18.8")


def test_limits_do_not_change_the_recipe() -> None:
    narrow = job(limits=Limits(max_pixels=1, max_frames=1, max_coefficient_bytes=1))
    assert digest(narrow) == digest(job())


def test_jpeg_renditions_are_progressive_with_420_subsampling() -> None:
    layout = jpeg.read_layout(pipeline.render(pictures.jpeg(), job("300x300", Format.JPEG))[1])
    assert layout
    frame = layout.frame
    assert frame.is_progressive
    assert frame.bits == 8
    assert frame.sampling == ((2, 2), (1, 1), (1, 1))


@pytest.mark.parametrize("form", [Format.JPEG, Format.WEBP, Format.AVIF])
def test_higher_quality_makes_more_bytes(form: Format) -> None:
    lengths = [
        len(pipeline.render(pictures.jpeg(), job("300x300", form, qualities={form: quality}))[1])
        for quality in (30, 60, 90)
    ]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_renditions_have_eight_bits(form: Format) -> None:
    assert opened(pipeline.render(pictures.deep_png(60, 40), job(form=form))[1]).mode == "RGB"


def test_png_rendition_is_lossless() -> None:
    original = pictures.png(60, 40)
    body = pipeline.render(original, job(form=Format.PNG))[1]
    assert opened(body).tobytes() == opened(original).tobytes()


def test_png_rendition_has_the_filter_that_suits_each_line() -> None:
    across, down = np.meshgrid(np.arange(60), np.arange(40))
    flat, ramp, slope = across * 0, across + 128 * (down % 2), across * 3 + down
    for samples, expected in ((flat, {0}), (ramp, {1}), (slope, {3})):
        original = pictures.saved(Image.fromarray(samples.astype(np.uint8)).convert("RGB"), "PNG")
        body = pipeline.render(original, job(form=Format.PNG))[1]
        assert set(png_filters(body)[1:]) == expected


def test_md5_is_that_of_the_body() -> None:
    rendered, body = pipeline.render(pictures.jpeg(), job())
    assert rendered.md5 == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert rendered.length_bytes == len(body)


def test_known_header_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    original = pictures.jpeg()
    read = header.read(original)
    monkeypatch.setattr(header, "read", pytest.fail)
    assert pipeline.render(original, job(), read)[0].width_px == 150
