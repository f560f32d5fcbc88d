"""Tests of raw files: the embedded JPEG, its orientation, and the refusals.

The right picture is the JPEG that `raw_files` embeds, as Pillow decodes it; the sensor's data is grey.
"""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import Image, ImageOps

from galerly_cdn.errors import GalerlyError, TooManyPixels, Undecodable, UnsupportedFormat
from galerly_cdn.model import Format, Limits
from galerly_cdn.render import decoders, header, pipeline
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.originals import raw, tiff
from tests.support import pictures, raw_files
from tests.support.color_difference import difference
from tests.support.render_jobs import job

LANDSCAPE = pictures.saved(pictures.scene(1200, 800), "JPEG", quality=90)
"""A preview as most cameras embed it: without EXIF, in the sensor's orientation."""
MAKERS = {"nef": (raw_files.nef, "Nikon NEF"), "dng": (raw_files.dng, "DNG")}


def preview_of(orientation: int, **options: object) -> bytes:
    """Return a preview with its own EXIF."""
    upright = pictures.scene(1200, 800)
    exif = pictures.exif(orientation=orientation, **options)  # type: ignore[arg-type]  # booleans
    return pictures.saved(pictures.turned(upright, orientation), "JPEG", quality=90, exif=exif)


def shown(original: bytes) -> Image.Image:
    _, body = pipeline.render(original, job("400x400", Format.PNG))
    return Image.open(io.BytesIO(body)).convert("RGB")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("maker", MAKERS)
def test_raw_file_is_shown_by_its_preview_in_its_own_orientation(maker: str, orientation: int) -> None:
    make, kind = MAKERS[maker]
    upright = pictures.scene(1200, 800)
    stored = pictures.saved(pictures.turned(upright, orientation), "JPEG", quality=90)
    original = make(stored, orientation=orientation)
    facts = header.inspect(original)
    assert (facts.format, facts.width_px, facts.height_px) == (kind, 1200, 800)
    assert "raw" in facts.loses
    picture = shown(original)
    expected = upright.resize(picture.size, Image.Resampling.LANCZOS)
    assert difference(picture, expected)[0] < 2


@pytest.mark.parametrize(("own", "outer"), [(6, 1), (1, 6), (6, 6), (3, 8)])
def test_orientation_of_the_preview_wins(own: int, outer: int) -> None:
    preview = preview_of(own)
    picture = shown(raw_files.nef(preview, orientation=outer))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(preview)))
    assert difference(picture, upright.resize(picture.size, Image.Resampling.LANCZOS))[0] < 2


@pytest.mark.parametrize("has_jfif", [True, False])
def test_preview_with_exif_but_without_orientation_gets_that_of_the_raw_file(*, has_jfif: bool) -> None:
    exif = Image.Exif()
    exif[0x0110] = pictures.CAMERA
    stored = pictures.turned(pictures.scene(1200, 800), 6)
    preview = pictures.saved(stored, "JPEG", quality=90, exif=exif.tobytes())
    jfif = preview.index(b"\xff\xe0"), preview.index(b"\xff\xe1")
    if not has_jfif and jfif[0] < jfif[1]:
        preview = preview[: jfif[0]] + preview[jfif[1] :]
    assert header.read(raw_files.nef(preview, orientation=6)).upright_px == (1200, 800)


def test_raw_file_drops_metadata_and_keeps_the_copyright_notice() -> None:
    original = raw_files.nef(preview_of(1, gps=True, credit=True))
    assert {"exif", "gps"} <= set(header.inspect(original).metadata)
    _, body = pipeline.render(original, job("400x400", Format.JPEG, keep_copyright=True))
    exif = Image.open(io.BytesIO(body)).getexif()
    assert exif[0x8298] == pictures.COPYRIGHT
    assert not exif.get_ifd(0x8825)


def test_preview_of_exactly_the_minimum_is_shown_and_a_smaller_one_refused() -> None:
    enough = pictures.saved(pictures.scene(raw.MIN_PREVIEW_PX, 600), "JPEG")
    assert header.read(raw_files.nef(enough)).width_px == raw.MIN_PREVIEW_PX
    small = pictures.saved(pictures.scene(raw.MIN_PREVIEW_PX - 1, 600), "JPEG")
    with pytest.raises(UnsupportedFormat) as refused:
        header.read(raw_files.nef(small))
    assert "Nikon NEF" in refused.value.public
    assert "999 × 600 px" in refused.value.public


def test_largest_preview_is_shown_and_never_the_thumbnail() -> None:
    """`raw_files` writes an uncompressed thumbnail of 160 × 120 into IFD0."""
    assert header.read(raw_files.dng(LANDSCAPE)).upright_px == (1200, 800)


@pytest.mark.parametrize(
    ("original", "error"),
    [
        pytest.param(raw_files.nef(LANDSCAPE)[:40_000], Undecodable, id="cut before its directory"),
        pytest.param(raw_files.nef(LANDSCAPE[:50_000] + bytes(50_000)), Undecodable, id="damaged preview"),
        pytest.param(raw_files.nef(bytes(70_000)), UnsupportedFormat, id="no preview"),
        pytest.param(b"FUJIFILMCCD-RAW 0201" + bytes(400), GalerlyError, id="only the magic bytes"),
        pytest.param(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(400), GalerlyError, id="CR3 without data"),
    ],
)
def test_damaged_raw_file_is_refused(original: bytes, error: type[GalerlyError]) -> None:
    with pytest.raises(error) as refused:
        pipeline.render(original, job())
    assert refused.value.status == 415
    assert "LibRaw" not in refused.value.public


def test_limits_apply_to_the_preview() -> None:
    limits = Limits(max_pixels=1200 * 800 - 1, max_frames=1, max_coefficient_bytes=0)
    with pytest.raises(TooManyPixels):
        pipeline.render(raw_files.nef(LANDSCAPE), job(limits=limits))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x18ftypcrx ", "Canon CR3"),
        (b"FUJIFILMCCD-RAW ", "Fujifilm RAF"),
        (b"II\x1a\0\0\0HEAPCCDR", "Canon CRW"),
        (b"IIRO\x08\0\0\0", "Olympus ORF"),
        (b"IIRS\x08\0\0\0", "Olympus ORF"),
        (b"MMOR\0\0\0\x08", "Olympus ORF"),
        (b"IIU\0\x08\0\0\0", "Panasonic RW2"),
        (b"\0MRM", "Minolta MRW"),
        (b"FOVb", "Sigma X3F"),
        (raw_files.nef(b""), "Nikon NEF"),
        (raw_files.dng(b""), "DNG"),
        (pictures.tiff(60, 40), None),
        (pictures.jpeg(60, 40), None),
        (b"", None),
    ],
)
def test_raw_kind_is_recognised_by_content(start: bytes, kind: str | None) -> None:
    assert tiff.raw_kind(start) == kind


def test_raw_file_without_the_decoder_is_refused_with_its_kind_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raw, "_library", lambda: None)
    with pytest.raises(UnsupportedFormat) as refused:
        header.inspect(raw_files.nef(LANDSCAPE))
    assert "Nikon NEF" in refused.value.public
    assert "pip install 'galerly-cdn[raw]'" in refused.value.public
    assert OriginalFormat.RAW not in decoders.decodable_formats.__wrapped__()


def test_raw_files_are_read_without_numpy() -> None:
    """Importing rawpy would import it: 135 ms of CPU in every worker process."""
    program = "import sys; from galerly_cdn.render import decoders; decoders.decodable_formats(); "
    program += "print('numpy' in sys.modules, 'raw' in decoders.decodable_formats())"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.split() == ["False", "True"]
