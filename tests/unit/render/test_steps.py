"""A step added to a public table has the same effect alone and in a job of several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from galerly_cdn.model import Format
from galerly_cdn.render import decoders, pipeline
from tests.support import pictures
from tests.support.color_difference import difference, opened
from tests.support.render_jobs import job_for, target

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.render.pipeline import PicturePlan

BOXES = ("800x800", "400x400", "200x200", "100x100")
TARGETS = [target(box, form) for box in BOXES for form in (Format.PNG, Format.JPEG)]
MARK_PX = 40
RED = (255, 0, 0)
FLAT = pictures.saved(Image.new("RGB", (1200, 800), (90, 140, 60)), "PNG")


def draw_mark(image: decoders.Image, plan: PicturePlan) -> decoders.Image:
    """Draw a red square in the corner, except on renditions that are too small for it."""
    if min(plan.sides_px) < MARK_PX:
        return image
    square = decoders.Image.black(MARK_PX, MARK_PX, bands=3).linear([1] * 3, list(RED)).cast("uchar")
    square = square.copy(interpretation="srgb")
    return image.insert(square.bandjoin(255) if image.hasalpha() else square, 0, 0)


def invert(image: decoders.Image, plan: PicturePlan) -> decoders.Image:  # noqa: ARG001 - the shape of a step
    return image.invert()


def in_one_job(original: bytes) -> dict[str, bytes]:
    return {str(made.target): body for made, body in pipeline.pictures(original, job_for(*TARGETS))}


def each_alone(original: bytes) -> dict[str, bytes]:
    return {str(one): pipeline.render(original, job_for(one))[1] for one in TARGETS}


def red_square_px(body: bytes) -> tuple[int, int]:
    """Width and height of the red area."""
    pixels = np.asarray(opened(body).convert("RGB")).astype(int)
    is_red = np.abs(pixels - RED).max(axis=2) < 60
    return int(is_red.any(axis=0).sum()), int(is_red.any(axis=1).sum())


@pytest.mark.parametrize("place", [0, 1], ids=["before flatten", "after flatten"])
def test_picture_step_draws_the_same_mark_alone_and_in_a_job(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    steps = (*pipeline.PICTURE_STEPS[:place], draw_mark, *pipeline.PICTURE_STEPS[place:])
    monkeypatch.setattr(pipeline, "PICTURE_STEPS", steps)
    together = in_one_job(FLAT)
    assert len(together) == len(TARGETS)
    assert together == each_alone(FLAT)
    for name, body in together.items():
        if name.endswith(".png"):
            assert red_square_px(body) == (MARK_PX, MARK_PX)


@pytest.mark.parametrize(
    ("table", "step", "is_same"),
    [
        ("ORIGINAL_STEPS", invert, True),
        ("PICTURE_STEPS", invert, True),
        ("PICTURE_STEPS", draw_mark, True),
        pytest.param(
            "ORIGINAL_STEPS", draw_mark, False, id="a mark in the wrong table shrinks with the base"
        ),
    ],
)
def test_step_on_a_photograph_looks_the_same_alone_and_in_a_job(
    monkeypatch: pytest.MonkeyPatch, table: str, step: Callable[..., decoders.Image], *, is_same: bool
) -> None:
    monkeypatch.setattr(pipeline, table, (*getattr(pipeline, table), step))
    original = pictures.jpeg(1200, 800)
    alone = each_alone(original)
    together = in_one_job(original)
    differences = [difference(opened(body), opened(alone[name]))[0] for name, body in together.items()]
    assert (max(differences) <= 0.6) is is_same, differences


def test_picture_step_runs_for_every_picture_and_original_step_for_every_decode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[str] = []

    def counting(table: str) -> Callable[[decoders.Image, PicturePlan], decoders.Image]:
        def step(image: decoders.Image, plan: PicturePlan) -> decoders.Image:  # noqa: ARG001 - the shape of a step
            runs.append(table)
            return image

        return step

    for table in ("ORIGINAL_STEPS", "PICTURE_STEPS"):
        monkeypatch.setattr(pipeline, table, (*getattr(pipeline, table), counting(table)))
    in_one_job(FLAT)
    assert runs == ["ORIGINAL_STEPS", *["PICTURE_STEPS"] * len(TARGETS)]
