"""Tests of the sides and the orientation of renditions."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from galerly_cdn.model import Format, Size
from galerly_cdn.render import header, pipeline
from tests.support import pictures
from tests.support.color_difference import difference, opened
from tests.support.render_jobs import ALL_FORMATS, job, target

SIDES = st.integers(1, 900) | st.sampled_from([1, 2, 3, 4999, 5000])
BOXES = st.builds(Size, st.integers(1, 700), st.integers(1, 700))
FORMATS = st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF"])


def plain(form: str, stored: tuple[int, int], orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    out = io.BytesIO()
    options = {} if form == "GIF" else {"exif": exif}
    Image.new("RGB", stored, (90, 140, 60)).save(out, form, **options)
    return out.getvalue()


@settings(max_examples=120, deadline=None)
@given(form=FORMATS, width=SIDES, height=SIDES, orientation=st.integers(1, 8), box=BOXES)
@example(form="JPEG", width=5000, height=1, orientation=6, box=Size(150, 150))
@example(form="JPEG", width=1, height=5000, orientation=1, box=Size(150, 150))
@example(form="WEBP", width=4999, height=3, orientation=8, box=Size(401, 7))
@example(form="JPEG", width=4999, height=3333, orientation=5, box=Size(150, 150))
def test_rendition_has_the_sides_computed_from_the_upright_original(
    form: str, width: int, height: int, orientation: int, box: Size
) -> None:
    original = plain(form, (width, height), orientation)
    turned = orientation >= 5 and form != "GIF"
    expected = box.fit(height, width) if turned else box.fit(width, height)

    rendered, body = pipeline.render(original, job(str(box), Format.JPEG))

    assert (rendered.width_px, rendered.height_px) == expected
    assert opened(body).size == expected


@pytest.mark.parametrize("form", ALL_FORMATS)
@pytest.mark.parametrize("box", ["150x150", "400x400", "800x600", "2000x2000"])
@pytest.mark.parametrize("sides", [(1601, 1067), (1067, 1601), (640, 480), (1, 1), (1999, 3)])
def test_sides_are_the_same_in_every_format(form: Format, box: str, sides: tuple[int, int]) -> None:
    original = plain("JPEG", sides, 1)
    rendered, body = pipeline.render(original, job(box, form))
    assert opened(body).size == target(box).size.fit(*sides)
    assert (rendered.format, opened(body).format) == (form, form.value.upper())
    assert rendered.length_bytes == len(body)


@pytest.mark.parametrize("box", ["150x150", "300x300"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_rendition_is_upright_for_every_orientation(kind: str, orientation: int, box: str) -> None:
    original = {
        "jpeg": lambda: pictures.jpeg(orientation=orientation),
        "png": lambda: pictures.png(alpha=False, orientation=orientation),
        "webp": lambda: pictures.webp(orientation=orientation),
        "tiff": lambda: pictures.tiff(orientation=orientation),
    }[kind]()
    rendered, body = pipeline.render(original, job(box, Format.PNG))
    upright = pictures.scene().resize((rendered.width_px, rendered.height_px), Image.Resampling.LANCZOS)
    assert difference(opened(body), upright)[0] < 1.2
    assert opened(body).getexif().get(274, 1) == 1
    assert header.inspect(original).orientation == orientation
    assert (header.inspect(original).width_px, header.inspect(original).height_px) == (600, 400)


def test_difference_detects_a_wrong_orientation() -> None:
    upright = pictures.scene(300, 200)
    assert difference(upright.transpose(Image.Transpose.ROTATE_180), upright)[0] > 10
    assert difference(upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT), upright)[0] > 3


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_invalid_orientation_means_upright(orientation: int) -> None:
    original = plain("JPEG", (60, 40), orientation)
    rendered, _ = pipeline.render(original, job("30x30"))
    assert (rendered.width_px, rendered.height_px) == (30, 20)


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_small_original_is_never_enlarged(form: Format) -> None:
    rendered, _ = pipeline.render(pictures.jpeg(90, 60), job("2000x2000", form))
    assert (rendered.width_px, rendered.height_px) == (90, 60)
