"""Tests of what is shown of an animation: its first frame, transparent around it."""

from __future__ import annotations

import numpy as np
import pytest

from galerly_cdn.errors import Undecodable, UnsupportedFormat
from galerly_cdn.model import Format
from galerly_cdn.render import header, pipeline
from tests.support import frame_cases, pictures
from tests.support.color_difference import opened
from tests.support.frame_cases import CANVAS_PX, CASES, GREEN, RED, apng, block
from tests.support.render_jobs import job


@pytest.mark.parametrize("name", CASES)
def test_first_frame_is_shown_at_its_place(name: str) -> None:
    case = CASES[name]
    rendered, body = pipeline.render(case.original, job("300x300", Format.PNG))
    assert frame_cases.seen(opened(body)) == frame_cases.expected(case)
    assert (rendered.width_px, rendered.height_px) == case.sides_px


@pytest.mark.parametrize("name", CASES)
def test_jpeg_of_a_first_frame_is_white_around_it(name: str) -> None:
    case = CASES[name]
    body = pipeline.render(case.original, job("300x300", Format.JPEG))[1]
    pixels = np.asarray(opened(body).convert("RGB")).astype(int)
    left, top, right, bottom = case.box
    around = np.ones(pixels.shape[:2], bool)
    beside = 16  # pixels of one block of the JPEG, which share their colour
    around[max(top - beside, 0) : bottom + beside, max(left - beside, 0) : right + beside] = False
    assert pixels[around].min(initial=255) >= 250


@pytest.mark.parametrize(
    ("name", "form", "bands"),
    [
        ("gif in the middle", Format.PNG, 4),
        ("gif on a smaller screen", Format.JPEG, 3),
        ("apng with a separate default image", Format.JPEG, 3),
        ("apng with a small first frame", Format.PNG, 4),
        ("grey apng", Format.PNG, 2),
    ],
)
def test_own_format_has_alpha_if_the_first_frame_does_not_cover_its_canvas(
    name: str, form: Format, bands: int
) -> None:
    original = CASES[name].original
    assert pipeline.render(original, job())[0].format is form
    assert header.inspect(original).bands == bands


def test_small_first_frame_is_scaled_with_its_canvas() -> None:
    body = pipeline.render(CASES["gif in the middle"].original, job("30x30", Format.PNG))[1]
    sides, box, color = frame_cases.seen(opened(body))
    assert sides == (30, 25)
    assert box is not None
    assert color == (*RED, 255)
    assert np.abs(np.subtract(box, (2, 3, 23, 19))).max() <= 2


SMALL = CASES["apng with a small first frame"].original
DATA = SMALL.index(b"fdAT")


def damaged_first_frame() -> bytes:
    original = bytearray(SMALL)
    original[DATA + 12] ^= 1
    return bytes(original)


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(apng(block(RED), count=1), id="no frame"),
        pytest.param(apng(block(RED), (block(GREEN), (5, 7))), id="over the border"),
        pytest.param(apng(block(RED), (block(GREEN, (5, 5)), CANVAS_PX)), id="outside the canvas"),
        pytest.param(damaged_first_frame(), id="wrong checksum"),
        pytest.param(SMALL[: DATA + 20], id="cut off"),
    ],
)
def test_animation_without_a_whole_first_frame_is_refused(original: bytes) -> None:
    with pytest.raises(Undecodable):
        pipeline.render(original, job())


def test_avif_sequence_without_a_still_image_is_refused_by_its_name() -> None:
    shots = [pictures.scene(64, 48), pictures.brighter(pictures.scene(64, 48), 60)]
    sequence = pictures.saved(
        shots[0], "AVIF", save_all=True, append_images=shots[1:], duration=100, speed=10
    )
    assert "animation" in header.inspect(sequence).loses
    with pytest.raises(UnsupportedFormat, match="AVIF image sequence"):
        header.inspect(sequence.replace(b"meta", b"free", 1))
