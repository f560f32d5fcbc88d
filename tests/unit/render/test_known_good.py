"""Tests of renders of originals that are known to be good: the same bytes, without the check for damage."""

from __future__ import annotations

import pytest

from galerly_cdn.model import Format
from galerly_cdn.render import pipeline
from galerly_cdn.render.damage import strict_jpeg
from tests.support import pictures
from tests.support.render_jobs import job, job_for, target

ORIGINALS = {
    "4:2:0": pictures.jpeg(1003, 701, subsampling="4:2:0"),
    "4:4:4": pictures.jpeg(1000, 704, subsampling="4:4:4"),
    "progressive": pictures.jpeg(1003, 701, progressive=True),
    "upside down": pictures.jpeg(640, 480, orientation=3),
    "small": pictures.jpeg(16, 16),
}


@pytest.mark.parametrize("original", ORIGINALS.values(), ids=ORIGINALS)
@pytest.mark.parametrize("box", ["150x150", "400x400", "800x600", "2000x2000"])
@pytest.mark.parametrize("form", [None, Format.WEBP])
def test_known_good_original_renders_to_the_same_bytes(
    original: bytes, box: str, form: Format | None
) -> None:
    wanted = job(box, form)
    known = next(pipeline.pictures(original, wanted, is_known_good=True))
    assert known == pipeline.render(original, wanted)


def test_known_good_original_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_jpeg, "decode", pytest.fail)
    wanted = job_for(target("400x400"), target("150x150"))
    assert len(list(pipeline.pictures(ORIGINALS["4:2:0"], wanted, is_known_good=True))) == 2
