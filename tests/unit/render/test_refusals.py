"""Tests of the originals that are refused: damage, other files, limits."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from galerly_cdn.errors import (
    GalerlyError,
    TooManyFrames,
    TooManyPixels,
    TooMuchMemory,
    Undecodable,
    Unrenderable,
    UnsupportedFormat,
)
from galerly_cdn.model import Format, Limits
from galerly_cdn.render import decoders, encoders, header, pipeline
from galerly_cdn.render.formats import OriginalFormat, detect_format
from galerly_cdn.render.sample_images import SPECIMENS
from tests.support import pictures
from tests.support.render_jobs import ALL_FORMATS, LIMITS, job

COMPLETE = {
    "jpeg": pictures.jpeg(),
    "progressive-jpeg": pictures.jpeg(progressive=True),
    "cmyk-jpeg": pictures.cmyk_jpeg(),
    "png": pictures.png(),
    "16-bit-png": pictures.deep_png(300, 200),
    "webp": pictures.webp(),
    "gif": pictures.gif(300, 200),
    "tiff": pictures.tiff(),
    "avif": pictures.avif(),
}
TAILS = {
    "script": b"<script>alert(1)</script>",
    "zip": b"PK\x03\x04 GIFAR",
    "php": b"<?php system($_GET['c']); ?>",
}


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_photograph_is_accepted(name: str) -> None:
    assert pipeline.render(COMPLETE[name], job())[1]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("box", ["40x40", "2000x2000"])
@pytest.mark.parametrize("name", COMPLETE)
def test_truncated_photograph_is_refused(name: str, box: str, share: float) -> None:
    with pytest.raises((Undecodable, UnsupportedFormat)):
        pipeline.render(pictures.truncated(COMPLETE[name], share), job(box))


@pytest.mark.parametrize("name", ["jpeg", "png", "tiff"])
def test_photograph_damaged_in_the_middle_is_refused(name: str) -> None:
    original = bytearray(COMPLETE[name])
    middle = len(original) // 2
    original[middle : middle + 400] = b"\xff\x55" * 200
    with pytest.raises(Undecodable):
        pipeline.render(bytes(original), job())


@pytest.mark.parametrize("content", pictures.disguises().values(), ids=pictures.disguises())
def test_other_file_is_refused_by_its_content(content: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        pipeline.render(content, job())
    with pytest.raises(UnsupportedFormat):
        header.inspect(content)


@pytest.mark.parametrize("magic", ["jpeg", "png", "webp", "gif", "tiff", "avif"])
def test_magic_bytes_without_an_image_are_refused(magic: str) -> None:
    with pytest.raises(Undecodable):
        pipeline.render(COMPLETE[magic][:16] + b"<svg/>" * 50, job())


def test_format_without_a_decoder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "decodable_formats", lambda: frozenset({OriginalFormat.JPEG}))
    assert detect_format(SPECIMENS["heic"]) is OriginalFormat.HEIC
    with pytest.raises(UnsupportedFormat):
        pipeline.render(SPECIMENS["heic"], job())


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "webp"])
def test_bytes_after_the_image_are_dropped(name: str, tail: str) -> None:
    body = pipeline.render(COMPLETE[name] + TAILS[tail], job())[1]
    assert TAILS[tail] not in body
    assert body == pipeline.render(COMPLETE[name], job())[1]


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_comments_are_dropped(form: Format) -> None:
    plain = COMPLETE["jpeg"]
    comment = b"<script>alert(1)</script>"
    original = plain[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + plain[2:]
    assert comment not in pipeline.render(original, job(form=form))[1]


def limits(max_pixels: int = 10**8, max_frames: int = 256, max_coefficient_bytes: int = 1 << 29) -> Limits:
    return Limits(max_pixels=max_pixels, max_frames=max_frames, max_coefficient_bytes=max_coefficient_bytes)


@pytest.mark.parametrize(
    ("original", "allowed", "error"),
    [
        pytest.param(pictures.jpeg(60, 40), limits(max_pixels=2400), None, id="exactly as many pixels"),
        pytest.param(pictures.jpeg(60, 40), limits(max_pixels=2399), TooManyPixels, id="one pixel too many"),
        pytest.param(
            pictures.gif(60, 40, frames=3), limits(max_pixels=7200), None, id="pixels of all frames"
        ),
        pytest.param(pictures.gif(60, 40, frames=3), limits(max_pixels=7199), TooManyPixels, id="animation"),
        pytest.param(pictures.animated_webp(frames=3), limits(max_frames=3), None, id="as many frames"),
        pytest.param(pictures.animated_webp(frames=3), limits(max_frames=2), TooManyFrames, id="frames"),
        pytest.param(
            pictures.jpeg(64, 64, progressive=True),
            limits(max_coefficient_bytes=3 * 64 * 64),
            None,
            id="4:2:0 coefficients fit",
        ),
        pytest.param(
            pictures.jpeg(64, 64, progressive=True),
            limits(max_coefficient_bytes=3 * 64 * 64 - 1),
            TooMuchMemory,
            id="4:2:0 coefficients",
        ),
        pytest.param(
            pictures.jpeg(64, 64, progressive=True, subsampling="4:2:2"),
            limits(max_coefficient_bytes=4 * 64 * 64 - 1),
            TooMuchMemory,
            id="4:2:2 coefficients",
        ),
        pytest.param(
            pictures.jpeg(64, 64, progressive=True, subsampling="4:4:4"),
            limits(max_coefficient_bytes=6 * 64 * 64 - 1),
            TooMuchMemory,
            id="4:4:4 coefficients",
        ),
        pytest.param(pictures.jpeg(64, 64), limits(max_coefficient_bytes=0), None, id="baseline holds none"),
        pytest.param(pictures.huge_header_png(), LIMITS, TooManyPixels, id="png promising 900 MP"),
        pytest.param(pictures.huge_header_jpeg(), LIMITS, TooManyPixels, id="jpeg promising 3600 MP"),
        pytest.param(
            pictures.huge_header_jpeg(14_000, 7_000, progressive=True),
            limits(max_coefficient_bytes=1 << 28),
            TooMuchMemory,
            id="progressive jpeg promising 294 MB of coefficients",
        ),
        pytest.param(
            pictures.huge_header_jpeg(9_000, 9_000), LIMITS, Undecodable, id="less data than promised"
        ),
    ],
)
def test_limits_are_checked_against_the_header(
    original: bytes, allowed: Limits, error: type[Unrenderable] | None
) -> None:
    if error is None:
        assert pipeline.render(original, job(limits=allowed))[1]
    else:
        with pytest.raises(error):
            pipeline.render(original, job(limits=allowed))


def with_sides(original: bytes, place: int, sides: bytes) -> bytes:
    return original[:place] + sides + original[place + len(sides) :]


GIF = pictures.gif(40, 30)
AVIF = pictures.avif(64, 48)
WEBP = pictures.animated_webp()


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(pictures.huge_header_png(1, 100_000_000), id="tall png"),
        pytest.param(pictures.huge_header_png(65_536, 1), id="png one pixel too wide"),
        pytest.param(pictures.adam7_png(1, 100_000_000), id="interlaced png"),
        pytest.param(pictures.huge_header_png(2**31 - 1, 2**31 - 1), id="widest and tallest png"),
        pytest.param(
            with_sides(GIF, GIF.index(b"\x2c\0\0\0\0") + 1, struct.pack("<H", 65_535)), id="gif frame"
        ),
        pytest.param(with_sides(AVIF, AVIF.index(b"ispe") + 8, struct.pack(">II", 100_000, 10)), id="avif"),
        pytest.param(with_sides(WEBP, 24, (99_999).to_bytes(3, "little")), id="webp canvas"),
        pytest.param(pictures.saved(Image.new("L", (1, 65_536)), "TIFF"), id="tiff"),
    ],
)
def test_side_over_65535_px_is_refused_by_the_header(
    monkeypatch: pytest.MonkeyPatch, original: bytes
) -> None:
    monkeypatch.setattr(pipeline, "decode", pytest.fail)
    for read in (header.inspect, lambda body: pipeline.render(body, job(limits=limits(max_pixels=1 << 62)))):
        with pytest.raises(TooManyPixels):
            read(original)


def test_side_of_65535_px_is_rendered() -> None:
    original = pictures.saved(Image.new("L", (65_535, 1), 90), "PNG")
    assert pipeline.render(original, job())[0].width_px == 150


def test_limits_are_checked_before_a_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    original = pictures.jpeg(60, 40)
    known_header = header.read(original)
    monkeypatch.setattr(decoders, "load", pytest.fail)
    monkeypatch.setattr(encoders, "encode", pytest.fail)
    with pytest.raises(TooManyPixels):
        pipeline.render(original, job(limits=limits(max_pixels=1)), known_header)


def test_public_reason_names_no_library() -> None:
    with pytest.raises(GalerlyError) as refused:
        pipeline.render(pictures.truncated(COMPLETE["jpeg"]), job())
    assert "vips" not in refused.value.public.lower()
    assert "premature end" in refused.value.detail.lower()


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(COMPLETE["jpeg"][:2] + b"\xff" * 40, id="fill bytes to the end"),
        pytest.param(COMPLETE["jpeg"][:2] + b"\xff\xc0\x00\x03\x08", id="frame header cut short"),
        pytest.param(COMPLETE["jpeg"][:2] + b"\xff\xda\x00\x02", id="a scan before any frame"),
    ],
)
def test_malformed_jpeg_header_is_refused(broken: bytes) -> None:
    with pytest.raises(Undecodable):
        header.read(broken)
