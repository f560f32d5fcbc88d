"""Which keys listings count as photographs, and the names of kinds that are refused."""

from __future__ import annotations

import pytest

from galerly_cdn.errors import UnsupportedFormat
from galerly_cdn.render import header
from galerly_cdn.render.formats import detect_format, is_photograph_name, media_type_of
from tests.support import pictures


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
        (pictures.disguises()["svg"], "SVG"),
        (pictures.disguises()["svg-declared"], "SVG"),
        (pictures.disguises()["html"], "HTML"),
        (pictures.disguises()["pdf"], "PDF"),
        (pictures.disguises()["bmp"], "BMP"),
        (pictures.disguises()["ico"], "ICO"),
        (pictures.disguises()["jp2"], "JPEG 2000"),
        (b"\xff\x4f\xff\x51\x00\x2f", "JPEG 2000"),
        (pictures.disguises()["jxl"], "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1\0\0\0\0\0\0", "Photoshop PSD"),
        (b"II\xbc\1\x20\0\0\0", "JPEG XR"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF raw"),
        (b"II\x1a\0\0\0HEAPCCDR", "Canon CRW raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon CR3 raw"),
        (pictures.disguises()["mp4"], "MP4 video"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heif", "HEIF"),
        (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "QuickTime video"),
    ],
)
def test_other_kind_is_refused_by_its_name(start: bytes, name: str) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        detect_format(start)
    assert refused.value.detail.partition(":")[0] == name
    advice = "are not supported; save the photograph as JPEG, PNG, WebP, AVIF or TIFF."
    assert refused.value.public == f"{name} files {advice}"


def test_unknown_format_is_refused_by_the_general_sentence() -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        detect_format(b"a photograph, honestly")
    assert refused.value.public == UnsupportedFormat.public


def jpeg_with_frame(marker: int, bits: int = 8) -> bytes:
    """Return a JPEG whose frame header has another marker (ITU-T T.81 table B.1) and precision."""
    original = bytearray(pictures.jpeg(64, 48))
    frame = original.index(b"\xff\xc0")
    original[frame + 1], original[frame + 4] = marker, bits
    return bytes(original)


@pytest.mark.parametrize(
    ("marker", "bits", "name"),
    [
        (0xC1, 12, "12-bit JPEG"),
        (0xC2, 12, "12-bit JPEG"),
        (0xC3, 8, "lossless JPEG"),
        (0xC3, 16, "lossless JPEG"),
        (0xC5, 8, "hierarchical JPEG"),
        (0xCB, 8, "lossless JPEG"),
        (0xDE, 8, "hierarchical JPEG"),
        (0xF7, 8, "JPEG-LS"),
    ],
)
def test_jpeg_of_a_process_without_a_decoder_is_refused_by_its_name(
    marker: int, bits: int, name: str
) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        header.inspect(jpeg_with_frame(marker, bits))
    assert refused.value.detail == name


@pytest.mark.parametrize(
    ("format_name", "key", "media_type"),
    [
        ("jpeg", "g/a.nef", "image/jpeg"),
        ("heic", "g/a.jpg", "image/heic"),
        ("Nikon NEF", "g/a.NEF", "image/x-nikon-nef"),
        ("Nikon NEF", "g/a", "application/octet-stream"),
    ],
)
def test_media_type_of_an_upload_is_that_of_its_content(format_name: str, key: str, media_type: str) -> None:
    assert media_type_of(format_name, key) == media_type
