"""Tests of HEIC: orientation, colours, alpha, tiles, losses, damage, and the refusal without pi-heif.

The right values are those that were painted before encoding (`heic_files`), NumPy's rotations, and
LittleCMS by Pillow for profiles.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageCms

from galerly_cdn.errors import Undecodable, UnsupportedFormat
from galerly_cdn.model import Format
from galerly_cdn.render import decoders, header, icc, pipeline
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.originals import heic, heic_damage
from tests.support import heic_files as files
from tests.support import pictures
from tests.support.render_jobs import job

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 3
"""Steps (0 to 255) that x265's coding may change a field."""
P3 = icc.named_colors(12, 13)
assert P3


def painted() -> NDArray[np.int_]:
    """Return the fields as they were painted, 2 × 2 × 3: one sample for each field."""
    return np.array(files.COLORS).reshape(2, 2, 3)


def rendered(original: bytes, form: Format = Format.PNG) -> NDArray[np.int_]:
    """Return the middle of each field of the rendition, 2 × 2 × bands."""
    _, body = pipeline.render(original, job("64x64", form))
    pixels = np.asarray(Image.open(io.BytesIO(body))).astype(int)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    height, width = pixels.shape[:2]
    return pixels[height // 4 :: height // 2, width // 4 :: width // 2]


def assert_close(found: NDArray[np.int_], expected: NDArray[np.int_], tolerance: int = TOLERANCE) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance, (found.tolist(), expected.tolist())


@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_heic_with_rotation_and_mirror_is_upright(quarters: int, mirror: int | None) -> None:
    """`irot` turns counter-clockwise as `numpy.rot90`; `imir` 0 exchanges top and bottom."""
    properties = [files.rotated(quarters), *([files.mirrored(mirror)] if mirror is not None else [])]
    upright = np.rot90(painted(), quarters)
    expected = upright if mirror is None else np.flip(upright, mirror)
    # EXIF says the same or another thing; beside `irot` it is only information.
    exif = files.exif(pictures.exif(orientation=6))
    assert_close(rendered(files.heic(files.coded("color", *properties), exif)), expected)


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_heic_with_orientation_in_exif_alone_is_upright(orientation: int, quarters: int) -> None:
    """Samsung's phones write no `irot`."""
    original = files.heic(files.coded(), files.exif(pictures.exif(orientation=orientation)))
    assert_close(rendered(original), np.rot90(painted(), quarters))
    assert header.read(original).orientation == orientation


@pytest.mark.parametrize(("name", "bits"), [("color", 8), ("deep", 10), ("deep12", 12)])
def test_heic_of_every_bit_depth_has_its_colors(name: str, bits: int) -> None:
    original = files.heic(files.coded(name))
    assert_close(rendered(original), painted())
    known_header = header.read(original)
    assert (known_header.bits, known_header.kind) == (bits, OriginalFormat.HEIC)


@pytest.mark.parametrize("form", [Format.JPEG, Format.WEBP, Format.AVIF])
def test_heic_is_rendered_in_every_format(form: Format) -> None:
    if form is Format.AVIF:
        body = pipeline.render(files.heic(files.coded()), job("64x64", form))[1]
        assert decoders.load(body, OriginalFormat.AVIF).width == files.SIDE_PX
    else:
        assert_close(rendered(files.heic(files.coded()), form), painted(), 8)


@pytest.mark.parametrize("is_profile", [True, False], ids=["profile", "code points"])
def test_heic_in_display_p3_is_converted(*, is_profile: bool) -> None:
    colors = files.profile(icc.profile_bytes(P3)) if is_profile else files.named(12, 13)
    p3 = ImageCms.ImageCmsProfile(io.BytesIO(icc.profile_bytes(P3)))
    source = Image.fromarray(painted().astype(np.uint8))
    converted = ImageCms.profileToProfile(
        source, p3, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
    )
    assert converted
    original = files.heic(files.coded("color", colors))
    assert_close(rendered(original), np.asarray(converted).astype(int))
    assert header.read(original).profile == "Display P3"


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        (files.named(1, 13), (0, 85, 170, 255)),
        (files.named(1, 13, is_full=False), (0, 80, 179, 255)),  # (85 - 16) · 255 / 219, H.273 §8.3
        (None, (0, 85, 170, 255)),  # its bit stream says full range
    ],
)
def test_grey_heic_has_its_range(colors: files.Property | None, expected: tuple[int, ...]) -> None:
    original = files.heic(files.coded("grey", *([colors] if colors else [])))
    _, body = pipeline.render(original, job("64x64", Format.PNG))
    stripes = np.asarray(Image.open(io.BytesIO(body)))[32, 8::16].astype(int)
    assert np.abs(stripes - expected).max() <= TOLERANCE


def test_heic_with_alpha_keeps_straight_alpha() -> None:
    original = files.heic(files.coded(), files.auxiliary(files.ALPHA))
    assert header.read(original).own_format is Format.PNG
    _, body = pipeline.render(original, job("64x64", Format.PNG))
    pixels = np.asarray(Image.open(io.BytesIO(body))).astype(int)
    assert np.abs(pixels[16, 8::16, 3] - files.GREYS).max() <= TOLERANCE
    assert np.abs(pixels[16, 24, :3] - files.COLORS[0]).max() <= TOLERANCE
    white = np.asarray(Image.open(io.BytesIO(pipeline.render(original, job("64x64", Format.JPEG))[1])))
    assert white[16, 4].min() > 250


def test_heic_of_tiles_is_joined_and_cropped() -> None:
    original = files.heic(*files.grid(3, 2, 150, 100))
    assert header.read(original).upright_px == (150, 100)
    pixels = np.asarray(Image.open(io.BytesIO(pipeline.render(original, job("200x200", Format.PNG))[1])))
    for left, top in ((0, 0), (64, 0), (128, 0), (0, 64), (64, 64)):
        assert np.abs(pixels[top + 16, left + 16].astype(int) - files.COLORS[0]).max() <= TOLERANCE
        assert np.abs(pixels[top + 16, left + 8].astype(int) - files.COLORS[0]).max() <= TOLERANCE
    assert np.abs(pixels[48, 144].astype(int) - files.COLORS[2]).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("items", "lost"),
    [
        pytest.param([files.coded()], (), id="nothing"),
        pytest.param([files.coded("deep")], ("bit-depth",), id="10 bits"),
        pytest.param([files.coded(), files.auxiliary(files.APPLE_GAIN_MAP)], ("hdr-gain-map",), id="Apple"),
        pytest.param(
            [
                files.coded(),
                files.Item(b"tmap", bytes(8), (files.size(64, 64),), ((b"dimg", (1, 3)),)),
                files.coded("grey", is_hidden=True),
            ],
            ("hdr-gain-map",),
            id="tone map (ISO 21496-1)",
        ),
        pytest.param([files.coded(), files.auxiliary(files.DEPTH)], (), id="depth is not shown"),
        pytest.param([files.coded(), files.coded("grey")], ("pages",), id="two pictures"),
        pytest.param(files.grid(2, 2, 128, 128), (), id="tiles are no pages"),
        pytest.param(
            [files.coded(), files.coded("grey", references=((b"thmb", (1,)),))], (), id="a thumbnail"
        ),
        pytest.param([files.coded("color", files.named(9, 16))], ("hdr-transfer", "wide-gamut"), id="PQ"),
        pytest.param([files.coded(), files.exif(pictures.exif(gps=True))], ("exif", "gps"), id="EXIF"),
        pytest.param([files.coded(), files.xmp(b"<x:xmpmeta/>")], ("xmp",), id="XMP"),
        pytest.param(
            [files.coded(), files.Item(b"\xff\xfe\xfd\xfc", b"?", (), ((b"cdsc", (1,)),))],
            (),
            id="metadata of a type that is not UTF-8",
        ),
    ],
)
def test_heic_header_lists_every_loss(items: list[files.Item], lost: tuple[str, ...]) -> None:
    assert header.inspect(files.heic(*items)).loses == lost


def test_heic_keeps_the_copyright_notice() -> None:
    original = files.heic(files.coded(), files.exif(pictures.exif(credit=True, gps=True)))
    _, body = pipeline.render(original, job("64x64", Format.JPEG, keep_copyright=True))
    exif = Image.open(io.BytesIO(body)).getexif()
    assert (exif[0x013B], exif[0x8298]) == (pictures.CREATOR, pictures.COPYRIGHT)
    assert pictures.CAMERA.encode() not in body


def test_heic_header_decodes_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders.decodable_formats()
    monkeypatch.setattr(heic, "load", pytest.fail)
    monkeypatch.setattr(heic_damage.Checker, "check", pytest.fail)
    known_header = header.read(files.heic(*files.grid(20, 20, 1280, 1280)))
    assert 1280 * 1280 * 6 <= known_header.decode_bytes <= 1280 * 1280 * 16


def test_heic_is_checked_once_for_each_original(monkeypatch: pytest.MonkeyPatch) -> None:
    original = files.heic(*files.grid(2, 1, 120, 60))
    first = decoders.load(original, OriginalFormat.HEIC)
    monkeypatch.setattr(heic_damage.Checker, "check", pytest.fail)
    assert (decoders.load(original, OriginalFormat.HEIC) - first).abs().max() == 0


GRID = files.heic(*files.grid(3, 2, 150, 100))
GREY = files.coded("grey")


def with_data(item: files.Item, data: bytes) -> bytes:
    return files.heic(item._replace(data=data))


def cut_slice(data: bytes, kept_bytes: int) -> bytes:
    """Return the data with its last NAL unit cut, and its length corrected."""
    position = 0
    while position + 4 + int.from_bytes(data[position : position + 4], "big") < len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    unit = data[position + 4 :][:kept_bytes]
    return data[:position] + len(unit).to_bytes(4, "big") + unit


@pytest.mark.parametrize(
    "damaged",
    [
        *(pytest.param(GRID[: len(GRID) * part // 16], id=f"{part}/16 of a grid") for part in range(1, 16)),
        pytest.param(GRID[:-1], id="the last byte is missing"),
        pytest.param(GRID[:-61] + bytes(61), id="the last tile is zero"),
        pytest.param(with_data(GREY, GREY.data[:60] + bytes(40) + GREY.data[100:]), id="40 bytes are zero"),
        pytest.param(with_data(GREY, GREY.data[:60] + GREY.data[70:]), id="10 bytes are missing"),
        pytest.param(with_data(GREY, cut_slice(GREY.data, 60)), id="the slice ends early"),
        pytest.param(with_data(GREY, b""), id="no data"),
        pytest.param(files.heic(*files.grid(3, 2, 150, 100)[:-1]), id="a tile's item is missing"),
        pytest.param(files.heic(*files.grid(2, 2, 300, 300)), id="tiles do not cover the picture"),
        pytest.param(
            files.heic(*files.grid(2, 1, 128, 64)[:2], files.coded("grey")), id="a tile without colours"
        ),
        pytest.param(
            files.heic(files.Item(b"grid", bytes(8), (files.size(64, 64),), ((b"dimg", (1,)),))),
            id="a grid of itself",
        ),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(256)) * 8, id="noise"),
    ],
)
def test_damaged_heic_is_refused(damaged: bytes) -> None:
    with pytest.raises(Undecodable):
        pipeline.render(damaged, job("64x64"))


def test_unknown_code_points_are_treated_as_srgb() -> None:
    assert_close(rendered(files.heic(files.coded("color", files.named(222, 111, 6)))), painted())


@pytest.mark.parametrize("codec", [b"unci", b"jpeg", b"vvc1"])
def test_heif_with_another_codec_is_unsupported(codec: bytes) -> None:
    original = files.heic(files.coded()._replace(kind=codec))
    with pytest.raises(UnsupportedFormat) as refused:
        header.read(original)
    assert codec.decode() in refused.value.public


def test_heic_without_the_decoder_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "_library", lambda: None)
    monkeypatch.setattr(decoders, "decodable_formats", decoders.decodable_formats.__wrapped__)
    with pytest.raises(UnsupportedFormat) as refused:
        header.inspect(files.heic(files.coded()))
    assert "HEIC" in refused.value.public
    assert "pip install 'galerly-cdn[heic]'" in refused.value.public
