"""Tests of the parsers of originals on hostile and unusual structures."""

from __future__ import annotations

import struct

import pytest

from galerly_cdn.errors import Undecodable
from galerly_cdn.render import pipeline
from galerly_cdn.render.originals import av1, gif, heif, png
from galerly_cdn.render.originals.frame import Frame
from tests.support import pictures
from tests.support.frame_cases import CANVAS_PX, control
from tests.support.render_jobs import job


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def meta(*inner: bytes) -> bytes:
    """Return a file with a `meta` box whose primary item is 1."""
    return box(b"meta", bytes(4), box(b"pitm", bytes(4), b"\0\1"), *inner)


def test_many_extents_without_a_length_are_read_in_one_step() -> None:
    """An item location may count 65,535 extents that take no bytes."""
    item = b"\0\1\0\0\xff\xff"
    many = meta(box(b"iloc", bytes(4), b"\0\0", b"\xff\xff", item * 65_535))
    found = heif.meta_of(many)
    assert found
    assert found.extents == {1: heif.Extent(0, 0, is_in_meta=False)}


def test_many_boxes_are_read_up_to_a_maximum() -> None:
    assert heif.meta_of(box(b"free") * 70_000 + meta()) is None
    assert heif.meta_of(box(b"free") * 100 + meta())


def test_boxes_of_64_bit_length_and_up_to_the_end_are_read() -> None:
    large = struct.pack(">I4sQ", 1, b"free", 20) + bytes(4)
    assert list(heif.boxes(large + struct.pack(">I", 0) + b"mdat" + b"end")) == [
        (b"free", bytes(4)),
        (b"mdat", b"end"),
    ]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
def test_cut_off_heif_answers_every_question(share: float) -> None:
    whole = pictures.avif(60, 40, alpha=True)
    cut = whole[: int(len(whole) * share)]
    found = heif.meta_of(cut)
    if found is None:
        return
    heif.alpha_item(found)
    assert heif.is_full_range(cut, found, found.primary)
    assert heif.code_points(cut, found) in {None, (1, 13)}


def test_grid_takes_its_bitstream_from_its_first_tile() -> None:
    tile = heif.meta_of(pictures.avif(60, 40))
    assert tile
    configuration = tile.properties[1]
    grid = heif.Meta(
        primary=9,
        types={9: b"grid", 1: b"av01"},
        properties={1: tuple(one for one in configuration if one[0] == b"av1C"), 9: ()},
        extents={},
        references=(heif.Reference(b"dimg", 9, (1, 2)),),
        data=b"",
    )
    assert heif.coded_item(grid, 9) == 1
    assert not heif.is_monochrome(grid)


@pytest.mark.parametrize(
    "stream", [b"", b"\x0a", b"\x0a\x03\0\0", b"\x12\0" * 9, b"\x0a\x80" * 2, b"\xff" * 40]
)
def test_bitstream_without_a_whole_sequence_header_has_none(stream: bytes) -> None:
    assert av1.sequence_header(stream) is None


def test_sequence_header_of_a_film_is_read_past_its_timing() -> None:
    """AV1 §5.5.1, not reduced, with timing, decoder model and display delay; P3, PQ, limited range."""
    bits = "00000"  # profile, still picture, reduced
    bits += "1" + f"{1:032b}" + f"{25:032b}" + "0"  # timing, without equal intervals
    bits += "1" + f"{9:05b}" + f"{1:032b}" + f"{9:05b}" + f"{9:05b}"  # decoder model
    bits += "1" + f"{0:05b}"  # display delay, one operating point
    bits += f"{0:012b}" + f"{8:05b}" + "0"  # level 8 has a tier
    bits += "1" + "0" * 21 + "1" + "0" * 4  # its decoder model, its display delay
    bits += f"{9:04b}" + f"{9:04b}" + "0" * 20 + "1" + "0" * 7  # sides, frame numbers
    bits += "000" + "0000" + "1" + "00" + "1" + "1" + "000" + "000"  # tools
    bits += "1" + "0" + "1" + f"{12:08b}" + f"{16:08b}" + f"{9:08b}" + "0"  # 10 bits, colours, range
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    expected = av1.SequenceHeader(is_monochrome=False, primaries=12, transfer=16, is_full_range=False)
    assert av1.sequence_header(b"\x12\0\x0a" + bytes([len(body)]) + body) == expected
    assert av1.sequence_header(b"\x0c\0" + body) == expected  # with an extension, without a size


def test_gif_frame_is_found_after_extensions() -> None:
    plain = pictures.gif(40, 30)
    at = plain.index(b"\x2c\0\0\0\0")
    comment = b"\x21\xfe" + b"\x03abc" * 3 + b"\0"
    assert gif.first_frame(plain[:at] + comment * 5 + plain[at:]) == Frame(0, 0, 40, 30)


@pytest.mark.parametrize(
    "body", [b"GIF89a", b"GIF89a" + bytes(7), b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\1x" * (1 << 18)]
)
def test_gif_without_a_frame_has_none(body: bytes) -> None:
    assert gif.first_frame(body) is None


def test_png_of_many_chunks_has_no_frame_after_a_maximum() -> None:
    header = struct.pack(">IIBBBBB", *CANVAS_PX, 8, 2, 0, 0, 0)
    start = [(b"IHDR", header), (b"acTL", struct.pack(">II", 1, 0)), (b"IDAT", b"")]
    body = b"\x89PNG\r\n\x1a\n" + b"".join(pictures.chunk(*one) for one in start)
    last = pictures.chunk(b"fcTL", control(0, CANVAS_PX, (0, 0))) + pictures.chunk(b"fdAT", bytes(4))
    chunks = png.chunks_before_pixels(body)
    assert png.separate_frame(body + last, chunks) == Frame(0, 0, *CANVAS_PX)
    with pytest.raises(Undecodable):
        png.separate_frame(body + pictures.chunk(b"tEXt", b"") * (1 << 18) + last, chunks)


def test_png_whose_first_frame_has_no_data_shows_its_default_image() -> None:
    """As Chromium does; Pillow's file `chunk_no_fdat.png` is such an animation."""
    still = pictures.png(8, 8, alpha=False)
    at = still.index(b"IDAT") - 4
    animated = pictures.chunk(b"acTL", struct.pack(">II", 2, 0))
    frames = [pictures.chunk(b"fcTL", control(number, (8, 8), (0, 0))) for number in (0, 1)]
    body = (
        still[:at]
        + animated
        + still[at:-12]
        + b"".join(frames)
        + pictures.chunk(b"fdAT", bytes(9))
        + still[-12:]
    )
    assert png.separate_frame(body, png.chunks_before_pixels(body)) is None
    assert pipeline.render(body, job("8x8"))[1] == pipeline.render(still, job("8x8"))[1]


@pytest.mark.parametrize(
    "body", [b"", b"\x89PNG\r\n\x1a\n" + pictures.chunk(b"IDAT", bytes(13)), pictures.png(8, 8)[:30]]
)
def test_png_without_a_whole_header_has_no_sides(body: bytes) -> None:
    assert png.sides(body) is None
