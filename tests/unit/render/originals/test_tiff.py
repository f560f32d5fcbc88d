"""Tests of the page of a TIFF that is shown, of camera raw files, and of hostile directories."""

from __future__ import annotations

import contextlib
import struct
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from galerly_cdn.errors import Undecodable, Unrenderable, UnsupportedFormat
from galerly_cdn.model import Format
from galerly_cdn.render import header, pipeline
from galerly_cdn.render.originals import tiff as module
from galerly_cdn.render.originals.tiff_directory import MAX_DIRECTORIES, directory_groups
from tests.support import pictures, tiffs
from tests.support.color_difference import opened
from tests.support.render_jobs import job
from tests.support.tiffs import Page, tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL = pictures.pixels(97, 61)
OTHER = pictures.pixels(80, 60)
REDUCED = np.full((24, 32, 3), 200, np.uint8)
IS_REDUCED = {tiffs.SUBFILE: 1}
OLD_REDUCED = {tiffs.OLD_SUBFILE: 2}
IS_MASK = {tiffs.SUBFILE: 4}
CFA = 32803


def thumbnail(**more: Any) -> Page:  # noqa: ANN401 - the fields of a page
    return Page(REDUCED, tags=more.pop("tags", IS_REDUCED), **more)


def pyramid(*, children: bool) -> bytes:
    """Return a pyramid as libvips writes it, the largest level first."""
    image = pyvips.Image.new_from_array(FULL.repeat(4, 0).repeat(4, 1))
    return image.tiffsave_buffer(pyramid=True, tile=True, tile_width=64, tile_height=64, subifd=children)


PAGES: dict[str, tuple[tuple[Page, ...], NDArray[np.uint8], bool]] = {
    "one page": ((Page(FULL),), FULL, False),
    "two pages": ((Page(FULL), Page(OTHER)), FULL, True),
    "a larger page second": ((Page(OTHER), Page(FULL)), OTHER, True),
    "a reduced copy first": ((thumbnail(), Page(FULL)), FULL, False),
    "a reduced copy first, by the old tag": ((thumbnail(tags=OLD_REDUCED), Page(FULL)), FULL, False),
    "a reduced copy last": ((Page(FULL), thumbnail()), FULL, False),
    "two reduced copies, then two pages": ((thumbnail(), thumbnail(), Page(FULL), Page(OTHER)), FULL, True),
    "a mask first": ((Page(FULL[..., :1], 4, tags={tiffs.SUBFILE: 4}), Page(FULL)), FULL, False),
    "a mask last": ((Page(FULL), Page(REDUCED, tags=IS_MASK)), FULL, False),
    "the full picture in a child": ((thumbnail(children=(Page(FULL),)),), FULL, False),
    "the second child": ((thumbnail(children=(thumbnail(), Page(FULL))),), FULL, False),
    "the larger child": ((thumbnail(children=(Page(OTHER), Page(FULL))),), FULL, False),
    "a child that is smaller": ((Page(FULL, children=(Page(OTHER),)),), FULL, False),
    "a preview without a mark, with a child": ((Page(OTHER, children=(Page(FULL),)),), FULL, False),
    "a child of the second page": (
        (thumbnail(), thumbnail(children=(thumbnail(), Page(FULL)))),
        FULL,
        False,
    ),
    "an unmarked pyramid, the smallest level first": (
        (Page(FULL[:15, :24]), Page(FULL[:30, :48]), Page(FULL)),
        FULL,
        False,
    ),
    "an unmarked pyramid, the largest level first": (
        (Page(FULL), Page(FULL[:31, :49]), Page(FULL[:16, :25])),
        FULL,
        False,
    ),
    "two pages of which one is twice as large": ((Page(FULL[:30, :48]), Page(FULL)), FULL[:30, :48], True),
    "pages of three sizes": ((Page(OTHER), Page(FULL), Page(FULL[:30, :48])), OTHER, True),
    "only reduced copies": ((thumbnail(), Page(FULL, tags=IS_REDUCED)), FULL, False),
}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", PAGES)
def test_full_size_page_is_shown_and_described(name: str, order: tiffs.Order, *, big: bool) -> None:
    """The oracle is NewSubfileType and SubfileType of TIFF 6.0 §8."""
    pages, expected, has_more = PAGES[name]
    original = tiff(*pages, order=order, big=big)
    facts = header.inspect(original)
    assert (facts.height_px, facts.width_px) == expected.shape[:2]
    assert ("pages" in facts.loses) == has_more
    body = pipeline.render(original, job("97x97", Format.PNG))[1]
    assert np.array_equal(np.asarray(opened(body).convert("RGB")), expected)


@pytest.mark.parametrize("children", [False, True])
def test_pyramid_of_libvips_keeps_its_largest_level(*, children: bool) -> None:
    facts = header.inspect(pyramid(children=children))
    assert (facts.width_px, facts.height_px) == (388, 244)
    assert facts.loses == ()


def test_facts_are_those_of_the_page_that_is_shown() -> None:
    grey = Page(FULL[..., :1].astype(np.uint16) * 257, tiffs.BLACK_IS_ZERO)
    facts = header.inspect(tiff(thumbnail(), grey))
    assert (facts.bits, facts.bands, facts.has_alpha) == (16, 1, False)
    assert facts.loses == ("bit-depth",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tagged", ["child", "parent"])
def test_child_is_turned_by_its_own_orientation_or_its_parents(orientation: int, tagged: str) -> None:
    stored = np.asarray(pictures.turned(Image.fromarray(FULL), orientation))
    of_child = {tiffs.ORIENTATION: orientation} if tagged == "child" else {}
    of_parent = IS_REDUCED | ({tiffs.ORIENTATION: orientation} if tagged == "parent" else {})
    original = tiff(thumbnail(tags=of_parent, children=(Page(stored, tags=of_child),)))
    assert header.read(original).orientation == orientation
    body = pipeline.render(original, job("97x97", Format.PNG))[1]
    assert np.array_equal(np.asarray(opened(body)), FULL)


def raw(maker: bytes, *, compression: int = 1, photometric: int = CFA, **more: Any) -> bytes:  # noqa: ANN401 - the fields of a page
    """Return a raw file as most cameras write it: a thumbnail, and the sensor's values in a child."""
    sensor = Page(FULL[..., :1].astype(np.uint16), photometric, tags={tiffs.COMPRESSION: compression})
    return tiff(thumbnail(tags=IS_REDUCED | {tiffs.MAKE: maker}, children=(sensor,)), **more)


RAW: dict[str, tuple[bytes, str]] = {
    "NEF": (raw(b"NIKON CORPORATION\0", compression=34713, order=">"), "Nikon NEF"),
    "ARW": (raw(b"SONY\0", compression=32767), "Sony ARW"),
    "SRW": (raw(b"SAMSUNG\0", compression=32770), "Samsung SRW"),
    "3FR": (raw(b"Hasselblad\0", order=">"), "Hasselblad 3FR"),
    "ERF": (raw(b"SEIKO EPSON CORP.\0", compression=32769), "Epson ERF"),
    "DCR": (raw(b"EASTMAN KODAK COMPANY\0", compression=65000, order=">"), "Kodak DCR"),
    "KDC": (raw(b"EASTMAN KODAK COMPANY\0", compression=7), "Kodak DCR"),
    "MOS": (raw(b"Leaf\0"), "Leaf MOS"),
    "MEF": (raw(b"Mamiya-OP Co.,Ltd.\0"), "Mamiya MEF"),
    "PEF": (
        tiff(Page(FULL[..., :1], CFA, 65535, {tiffs.MAKE: b"PENTAX Corporation\0"}), order=">"),
        "Pentax PEF",
    ),
    "linear raw": (raw(b"Foveon\0", photometric=34892), "Foveon raw"),
    "raw of an unnamed maker": (raw(b"\0"), "camera raw"),
    "raw in the second directory": (
        tiff(thumbnail(tags=IS_REDUCED | {tiffs.MAKE: b"SONY\0"}), Page(FULL[..., :1], CFA)),
        "Sony ARW",
    ),
    "raw hidden in a private directory": (
        tiff(thumbnail(tags=IS_REDUCED | {tiffs.MAKE: b"EASTMAN KODAK COMPANY\0"})),
        "Kodak DCR",
    ),
    "DNG": (
        tiff(
            thumbnail(
                tags=IS_REDUCED | {tiffs.DNG_VERSION: b"\1\4\0\0", tiffs.MAKE: b"Apple\0"},
                children=(Page(FULL[..., :1], CFA),),
            )
        ),
        "DNG",
    ),
    "DNG with one directory": (tiff(Page(FULL, tags={tiffs.DNG_VERSION: b"\1\6\0\0"}), big=True), "DNG"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(60), "Canon CR2"),
    "CR3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(60), "Canon CR3"),
    "CRW": (b"II\x1a\0\0\0HEAPCCDR" + bytes(60), "Canon CRW"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(60), "Olympus ORF"),
    "ORF of a C8080": (b"IIRS\x08\0\0\0" + bytes(60), "Olympus ORF"),
    "RW2": (b"IIU\0\x18\0\0\0" + bytes(60), "Panasonic RW2"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(60), "Fujifilm RAF"),
    "X3F": (b"FOVb\0\0\2\0" + bytes(60), "Sigma X3F"),
    "MRW": (b"\0MRM" + bytes(60), "Minolta MRW"),
    "IIQ": (b"II*\0\x08\1\0\0IIIITwaR" + bytes(60), "Phase One IIQ"),
    "IIQ, MM": (b"MM\0*\0\0\1\x08MMMMRawT" + bytes(60), "Phase One IIQ"),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_file_is_named_and_its_thumbnail_is_not_shown(name: str) -> None:
    """The oracle is ExifTool: its magic bytes and its tables of Compression and PhotometricInterpretation."""
    original, kind = RAW[name]
    assert module.raw_kind(original) == kind
    with pytest.raises(UnsupportedFormat, match=kind):
        header.read(original)


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(b"", id="empty"),
        pytest.param(pictures.jpeg(60, 40), id="JPEG"),
        pytest.param(pictures.tiff(60, 40), id="TIFF"),
        pytest.param(tiff(Page(FULL, tags={tiffs.MAKE: b"NIKON CORPORATION\0"})), id="TIFF of a scanner"),
        pytest.param(tiff(thumbnail()), id="a reduced copy that names no maker"),
        pytest.param(tiff(Page(np.full((60, 60, 1), 73, np.uint8), 1)), id="pixels that spell IIII"),
        pytest.param(b"II*\0\xff\xff\xff\x7f", id="a directory outside the file"),
    ],
)
def test_other_file_is_no_raw_file(original: bytes) -> None:
    assert module.raw_kind(original) is None


def linked(*positions: int) -> bytes:
    """Return a TIFF of empty directories with one entry each, linked in this order from position 8."""
    entry = struct.pack("<HHII", 256, 3, 1, 16)
    return (
        b"II*\0"
        + struct.pack("<I", 8)
        + b"".join(struct.pack("<H", 1) + entry + struct.pack("<I", position) for position in positions)
    )


@pytest.mark.parametrize(
    ("original", "directories"),
    [
        pytest.param(linked(8), 1, id="a directory that links to itself"),
        pytest.param(linked(26, 8), 2, id="two that link to each other"),
        pytest.param(linked(26, 999_999_999), 2, id="a link outside the file"),
        pytest.param(linked(*range(26, 8 + 18 * 1000, 18)), MAX_DIRECTORIES, id="a thousand"),
    ],
)
def test_directories_are_read_once_and_up_to_a_limit(original: bytes, directories: int) -> None:
    assert len(directory_groups(original)) == directories


def test_children_that_link_to_their_parent_or_outside_are_left_out() -> None:
    parent = tiff(thumbnail(tags=IS_REDUCED | {tiffs.SUB_IFDS: [8, 8, 99_999_999, 0]}))
    (group,) = directory_groups(parent)
    assert len(group) <= 2
    assert header.inspect(parent).width_px == 32


def test_hostile_counts_take_no_time() -> None:
    """Overlapping directories of 65,535 entries, each with a count of 4,294,967,295."""
    entry = struct.pack("<HHII", 258, 3, 0xFFFFFFFF, 64)
    body = b"II*\0\x08\0\0\0" + struct.pack("<H", 65535) + entry * 66_000
    started = time.process_time()
    with pytest.raises((Undecodable, UnsupportedFormat)):
        header.read(body)
    many = tiff(Page(FULL, tags={tiffs.SUB_IFDS: [8 + 2 * at for at in range(60)]})) + entry * 70_000
    directory_groups(many)
    assert time.process_time() - started < 2


SEEDS = [
    tiff(thumbnail(children=(Page(FULL),)), Page(FULL[..., :1], tiffs.BLACK_IS_ZERO, tiffs.LZW)),
    tiff(Page(FULL, tiffs.CIELAB, tags={tiffs.EXTRA_SAMPLES: [1]}), order=">", big=True),
    tiff(Page(FULL, tiffs.YCBCR, tags={tiffs.SUBSAMPLING: [1, 1]}), order=">"),
    raw(b"NIKON CORPORATION\0"),
]


@given(st.sampled_from(SEEDS), st.data())
@settings(max_examples=150, deadline=None)
def test_changed_bytes_are_shown_or_refused_and_never_an_error(original: bytes, data: st.DataObject) -> None:
    changed = bytearray(original)
    directories = len(original) - 600
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(4, 12) | st.integers(directories, len(original) - 1))] = data.draw(
            st.integers(0, 255)
        )
    cut = bytes(changed)[: data.draw(st.just(len(changed)) | st.integers(0, len(changed)))]
    module.raw_kind(cut)
    with contextlib.suppress(Unrenderable):
        pipeline.render(cut, job("40x40"))
