"""Which keys listings count as photographs."""

from __future__ import annotations

import pytest

from galerly_cdn.errors import UnsupportedFormat
from galerly_cdn.render.formats import detect_format, is_photograph_name


@pytest.mark.parametrize(
    ("key", "is_photograph"),
    [
        ("a.jpg", True),
        ("g/A.JPEG", True),
        ("g/a b.tiff", True),
        ("g/photo", True),
        ("g/a.heic", True),
        ("g/a.HIF", True),
        ("g/DSC_0001.NEF", True),
        ("g/a.dng", True),
        ("g/a.cr3", True),
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


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop (PSD)"),
        (b"BM", "BMP"),
        (b"<svg xmlns=", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "QuickTime video"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "MP4 video"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heif", "HEIF (other than HEIC and AVIF)"),
    ],
)
def test_other_format_is_refused_by_its_name(start: bytes, name: str) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        detect_format(start)
    advice = "are not supported; save the photograph as JPEG, PNG, WebP, AVIF or TIFF."
    assert refused.value.public == f"{name} files {advice}"


def test_unknown_format_is_refused_by_the_general_sentence() -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        detect_format(b"a photograph, honestly")
    assert refused.value.public == UnsupportedFormat.public
