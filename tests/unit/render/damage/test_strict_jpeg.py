"""Tests that damaged JPEGs are refused at every size, and irregular ones shown as they are.

The oracle is libjpeg-turbo in Pillow: it shows damaged files as far as they go, and irregular ones whole.
"""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageFile

from galerly_cdn.errors import Undecodable
from galerly_cdn.model import Format
from galerly_cdn.render import decoders, pipeline
from galerly_cdn.render.damage import strict_jpeg
from galerly_cdn.render.originals import jpeg
from tests.support import jpeg_damage, pictures
from tests.support.color_difference import opened, share_above
from tests.support.exhaustive import cases
from tests.support.render_jobs import job

SIDES = (603, 512)
"""The width is no multiple of a coded unit; the height is, so that the last line has a neighbour below."""
LAYOUTS = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0, "optimize": True},
    "4:2:0, a restart marker per row": {"subsampling": 2, "restart_marker_rows": 1},
    "4:4:4, restart markers": {"subsampling": 0, "restart_marker_blocks": 37},
    "progressive 4:2:0": {"subsampling": 2, "progressive": True},
    "progressive 4:4:4": {"subsampling": 0, "progressive": True, "restart_marker_rows": 2},
}
SHRINKS = (1, 2, 4, 8)
VISIBLE = 5.0
"""CIEDE2000 above which a pixel counts as different."""


def original_of(layout: str) -> bytes:
    return pictures.saved(pictures.scene(*SIDES), "JPEG", quality=95, **LAYOUTS[layout])


def noise(seed: int, *, progressive: bool) -> bytes:
    """Return a JPEG of 16 × 16 random pixels, whose data may end with any byte."""
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8))
    return pictures.saved(picture, "JPEG", quality=90, optimize=True, progressive=progressive)


def is_refused(original: bytes, shrink: int) -> bool:
    layout = jpeg.read_layout(original)
    assert layout is not None
    try:
        strict_jpeg.decode(original, layout, shrink, lambda image: image)
    except (Undecodable, decoders.Error):
        return True
    return False


def shown_by_libjpeg(original: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(original))
    try:
        return picture.convert("RGB").resize((151, 128), Image.Resampling.BOX)
    except OSError:
        return Image.new("RGB", (151, 128))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_jpeg_with_visible_damage_is_refused_at_every_size(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deletions of 64 bytes are left out: libjpeg may find its place again without a trace of them.

    `python -m checks damage` measures all of them on photographs, with djpeg's warnings as the oracle.
    """
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    original = original_of(layout)
    whole = shown_by_libjpeg(original)
    mutations = [one for one in jpeg_damage.mutations(original) if not one[0].startswith("64 bytes deleted")]
    damaged = cases(mutations, 3)
    served, uneven = [], []
    for name, mutation in damaged:
        verdicts = {is_refused(mutation, shrink) for shrink in SHRINKS}
        if verdicts == {True}:
            continue
        if len(verdicts) == 2:
            uneven.append(name)
        share = share_above(shown_by_libjpeg(mutation), whole, VISIBLE)
        if share > 0.005:
            served.append((name, share))
    assert len(served) <= 0.02 * len(damaged), served
    assert not uneven


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sides", [SIDES, (1200, 800), (1001, 701), (17, 1300), (1300, 17), (9, 9), (1, 1)])
def test_undamaged_jpeg_is_accepted_with_the_pixels_of_a_plain_decode(
    layout: str, sides: tuple[int, int]
) -> None:
    """The last line may differ by rounding, because the row below the picture is removed from it."""
    original = pictures.saved(pictures.scene(*sides), "JPEG", quality=85, **LAYOUTS[layout])
    parsed = jpeg.read_layout(original)
    assert parsed is not None
    for shrink in (one for one in SHRINKS if one <= min(sides)):
        strict = strict_jpeg.decode(original, parsed, shrink, lambda image: image).numpy().astype(int)
        known = strict_jpeg.load(original, parsed, shrink).numpy()
        plain = decoders.Image.jpegload_buffer(original, shrink=shrink).numpy()
        assert np.array_equal(strict, known)
        assert np.array_equal(strict[:-1], plain[:-1])
        assert np.abs(strict[-1:] - plain[-1:]).max() <= 6


IRREGULAR = dict(jpeg_damage.irregularities(original_of("4:2:0, a restart marker per row")))


@pytest.mark.parametrize("name", IRREGULAR)
@pytest.mark.parametrize("box", ["150x150", "800x600", "2000x2000"])
def test_irregular_jpeg_looks_like_the_regular_one(
    name: str, box: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    regular = original_of("4:2:0, a restart marker per row")
    wanted = pipeline.render(regular, job(box, Format.PNG))[1]
    assert pipeline.render(IRREGULAR[name], job(box, Format.PNG))[1] == wanted
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert opened(IRREGULAR[name]).tobytes() == opened(regular).tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("is_stuffed", [False, True])
@pytest.mark.parametrize("tail", [b"", b"\xff\xd9", bytes(300), bytes(300) + b"\xff\xd9"])
def test_jpeg_whose_data_ends_with_a_zero_byte_is_accepted(
    tail: bytes, *, is_stuffed: bool, progressive: bool
) -> None:
    original = next(
        one
        for seed in itertools.count()
        if (one := noise(seed, progressive=progressive))[-3] == 0 and (one[-4] == 0xFF) == is_stuffed
    )
    assert not is_refused(original[:-2] + tail, 1)


@pytest.mark.parametrize("layout", ["4:2:0", "4:4:4", "progressive 4:2:0"])
def test_jpeg_without_an_end_marker_is_accepted_only_if_its_scans_are_complete(layout: str) -> None:
    original = original_of(layout)
    assert not is_refused(original[:-2], 4)
    assert is_refused(original[:-40], 4)
    if "progressive" in layout:
        last_scan = original.rindex(b"\xff\xda")
        assert is_refused(original[: original.rindex(b"\xff\xc4", 0, last_scan)], 4)
