"""Which keys listings count as photographs."""

from __future__ import annotations

import pytest

from galerly_cdn.render.formats import is_photograph_name


@pytest.mark.parametrize(
    ("key", "is_photograph"),
    [
        ("a.jpg", True),
        ("g/A.JPEG", True),
        ("g/a b.tiff", True),
        ("g/photo", True),
        ("g/a.heic", True),
        ("g.d/photo", True),
        ("notes.txt", False),
        ("g/movie.mp4", False),
        ("g/a.jpg.xmp", False),
        ("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", False),
        ("g/@eaDir/a.jpg", False),
        ("@eaDir", True),
    ],
)
def test_photograph_name_follows_extension(key: str, *, is_photograph: bool) -> None:
    assert is_photograph_name(key) == is_photograph
