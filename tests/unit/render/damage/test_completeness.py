"""Tests that damage is found which libvips passes over, and that harmless irregularities are accepted.

The oracle is Pillow: it refuses what is damaged, or shows another picture, and shows what is harmless
unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import zlib

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from galerly_cdn.errors import TooMuchMemory, Undecodable
from galerly_cdn.model import Format
from galerly_cdn.render import pipeline
from galerly_cdn.render.damage import completeness, gif_frame
from galerly_cdn.render.formats import detect_format
from tests.support import avif_tiles, pictures, tiffs
from tests.support.color_difference import difference
from tests.support.render_jobs import job

SIDES = (256, 192)
BOXES = ("20x20", "100x100", "2000x2000")
_PNG_HEADER_BYTES = 33


def flat_below(**options: object) -> bytes:
    """Return a WebP whose lower half is white: fast encoders end its data in hundreds of zero bytes."""
    picture = Image.new("RGB", SIDES, "white")
    picture.paste(pictures.scene(SIDES[0], SIDES[1] // 4), (0, 0))
    return pictures.saved(picture, "WEBP", **options)


def saved(form: str, **options: object) -> bytes:
    return pictures.saved(pictures.scene(*SIDES), form, **options)


def pyvips_picture() -> pyvips.Image:
    return pyvips.Image.new_from_buffer(saved("PNG"), "")


def bigtiff() -> bytes:
    """Return a BigTIFF with deflate compression."""
    return pyvips_picture().tiffsave_buffer(compression="deflate", bigtiff=True)


def tiled_tiff() -> bytes:
    return pyvips_picture().tiffsave_buffer(compression="deflate", tile=True)


def scene_page(width: int, height: int, children: tuple[tiffs.Page, ...] = ()) -> tiffs.Page:
    return tiffs.Page(np.asarray(pictures.scene(width, height)), compression=tiffs.DEFLATE, children=children)


def preview_first_tiff() -> bytes:
    """Return a TIFF whose first directory is a small preview, and whose full-size page is its child."""
    return tiffs.tiff(scene_page(40, 30, children=(scene_page(*SIDES),)))


def pyramid_tiff() -> bytes:
    """Return the levels of a pyramid, the smallest first; the largest is the page."""
    return tiffs.tiff(scene_page(64, 48), scene_page(128, 96), scene_page(*SIDES))


GOOD = {
    "png": pictures.png(*SIDES),
    "apng": pictures.animated_png(*SIDES),
    "gif": pictures.gif(*SIDES),
    "interlaced-gif": saved("GIF", interlace=1),
    "animated-gif": pictures.gif(*SIDES, frames=3),
    "two-coloured-gif": pictures.saved(pictures.scene(*SIDES).convert("1"), "GIF"),
    "webp": saved("WEBP", quality=85),
    "lossless-webp": saved("WEBP", lossless=True),
    "alpha-webp": pictures.webp(*SIDES, alpha=True),
    "animated-webp": pictures.animated_webp(*SIDES),
    "flat-webp": flat_below(quality=100, method=0),
    "flat-lossless-webp": flat_below(lossless=True, quality=0, method=0),
    "1-px-webp": pictures.saved(pictures.scene(1, 1), "WEBP"),
    "tiff": pictures.tiff(*SIDES),
    "deflate-tiff": pictures.tiff(*SIDES, compression="tiff_adobe_deflate"),
    "big-deflate-tiff": bigtiff(),
    "tiled-deflate-tiff": tiled_tiff(),
    "preview-first-tiff": preview_first_tiff(),
    "pyramid-tiff": pyramid_tiff(),
    "avif": pictures.avif(*SIDES),
    "alpha-avif": pictures.avif(*SIDES, alpha=True),
    "grid-avif": avif_tiles.grid(*SIDES),
}
UNREAD = {"png": 12, "gif": 1, "interlaced-gif": 1, "two-coloured-gif": 1}
"""The bytes at the end without which the picture is whole: a PNG's IEND chunk, a GIF's trailer."""

STILL = sorted(name for name in GOOD if not name.startswith(("animated", "apng", "pyramid")))
"""A rendition shows the first frame; a file that ends after it may be accepted. So may a pyramid that ends
before the directory of its last level: the levels before it are a whole file."""


def zeroed(original: bytes, start: float, length: int) -> bytes:
    """Return the file with zeros from a share of its length on."""
    first = int(len(original) * start)
    return original[:first] + bytes(length) + original[first + length :]


def with_chunk(original: bytes, chunk: bytes) -> bytes:
    return original[:_PNG_HEADER_BYTES] + chunk + original[_PNG_HEADER_BYTES:]


def wrong_checksum(kind: bytes, data: bytes) -> bytes:
    chunk = pictures.chunk(kind, data)
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


PROFILE = b"sRGB\0\0" + zlib.compress(pictures.srgb_profile())
HARMLESS = {
    "png-without-end": (GOOD["png"][:-12], "png"),
    "png-with-bytes-after-the-end": (GOOD["png"] + pictures.chunk(b"IDAT", b"") + b"x" * 99, "png"),
    "png-with-an-unknown-chunk": (with_chunk(GOOD["png"], pictures.chunk(b"teSt", b"1")), "png"),
    "png-with-a-damaged-comment": (with_chunk(GOOD["png"], wrong_checksum(b"tEXt", b"a\0b")), "png"),
    "gif-without-trailer": (GOOD["gif"][:-1], "gif"),
    "gif-with-a-comment": (GOOD["gif"][:-1] + b"!\xfe\x05hello\0;", "gif"),
    "webp-with-bytes-after-the-end": (GOOD["webp"] + b"\0" * 5000, "webp"),
    "webp-with-an-unknown-chunk": (
        b"RIFF" + (len(GOOD["webp"]) + 2).to_bytes(4, "little") + GOOD["webp"][8:] + b"TEST\x02\0\0\0ab",
        "webp",
    ),
    "tiff-with-bytes-after-the-end": (GOOD["tiff"] + b"x" * 99, "tiff"),
    "avif-with-a-free-box": (GOOD["avif"] + b"\0\0\0\x10free" + b"\0" * 8, "avif"),
}
DAMAGED = {
    "png-with-a-wrong-last-checksum": GOOD["png"][:-13] + b"\0" + GOOD["png"][-12:],
    "png-with-a-damaged-profile": with_chunk(GOOD["png"], wrong_checksum(b"iCCP", PROFILE)),
    "png-with-damaged-transparency": with_chunk(
        pictures.png(*SIDES, alpha=False), wrong_checksum(b"tRNS", bytes(6))
    ),
    "png-with-a-damaged-chunk-type": with_chunk(GOOD["png"], wrong_checksum(b"iCDP", PROFILE)),
    "png-with-a-zeroed-page": zeroed(GOOD["png"], 0.5, 4096),
    "gif-with-missing-rows": GOOD["gif"][: len(GOOD["gif"]) // 2 // 255 * 255] + b"\0;",
    "gif-with-a-hole": zeroed(GOOD["gif"], 0.6, 64),
    "webp-with-a-zeroed-page": zeroed(GOOD["webp"], 0.4, 2048),
    "webp-with-a-zeroed-tail": zeroed(GOOD["webp"], 0.5, len(GOOD["webp"]))[: len(GOOD["webp"])],
    "alpha-webp-with-a-zeroed-tail": zeroed(GOOD["alpha-webp"], 0.7, 3000)[: len(GOOD["alpha-webp"])],
    "animated-webp-with-a-hole": zeroed(GOOD["animated-webp"], 0.2, 300),
    "lossless-webp-with-a-zeroed-page": zeroed(GOOD["lossless-webp"], 0.5, 4096),
    "grid-avif-with-a-damaged-tile": zeroed(GOOD["grid-avif"], 0.6, 200),
    "grid-avif-without-its-last-tile": pictures.truncated(GOOD["grid-avif"], 0.9),
    "deflate-tiff-with-a-zeroed-part": zeroed(GOOD["deflate-tiff"], 0.4, 1500),
    "deflate-tiff-without-its-last-values": GOOD["deflate-tiff"][:-34],
    "big-deflate-tiff-with-a-zeroed-part": zeroed(GOOD["big-deflate-tiff"], 0.4, 1500),
    "tiled-deflate-tiff-with-a-zeroed-part": zeroed(GOOD["tiled-deflate-tiff"], 0.4, 1500),
    "preview-first-tiff-with-a-zeroed-part": zeroed(GOOD["preview-first-tiff"], 0.6, 1500),
    "pyramid-tiff-with-a-zeroed-part": zeroed(GOOD["pyramid-tiff"], 0.6, 1500),
    "tiff-with-a-zeroed-page": zeroed(GOOD["tiff"], 0.5, 4096),
    "avif-with-a-zeroed-page": zeroed(GOOD["avif"], 0.5, 1024),
}
SHOWN_OTHERWISE = re.compile("png|preview-first|pyramid")
"""Pillow does not compare a PNG's checksums while it decodes, and shows the first page of a TIFF."""


@pytest.mark.parametrize("name", GOOD)
def test_undamaged_photograph_is_accepted(name: str) -> None:
    assert by_pillow(GOOD[name]).getbbox()
    assert pipeline.render(GOOD[name], job())[1]


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_irregularity_leaves_the_pixels_as_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # Pillow refuses wrong checksums of texts
    irregular, regular = HARMLESS[name]
    assert by_pillow(irregular).tobytes() == by_pillow(GOOD[regular]).tobytes()
    assert rendered(irregular) == rendered(GOOD[regular])


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_photograph_is_refused_at_every_size(name: str, box: str) -> None:
    with pytest.raises(Undecodable):
        pipeline.render(DAMAGED[name], job(box))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns and raises
@pytest.mark.parametrize("name", [name for name in DAMAGED if not SHOWN_OTHERWISE.search(name)])
def test_damaged_photograph_is_refused_or_shown_wrong_by_pillow(name: str) -> None:
    undamaged = next(good for good in sorted(GOOD, key=len, reverse=True) if name.startswith(good))
    try:
        shown = by_pillow(DAMAGED[name])
    except (OSError, SyntaxError, ValueError, RuntimeError):
        return
    assert difference(shown, by_pillow(GOOD[undamaged]))[1] > 5


@pytest.mark.parametrize("name", [name for name in DAMAGED if "png" in name])
def test_damaged_png_fails_pillows_verification(name: str) -> None:
    with pytest.raises((OSError, SyntaxError)), Image.open(io.BytesIO(DAMAGED[name])) as image:
        image.verify()


@given(st.sampled_from(sorted(GOOD)), st.binary(min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_photograph_with_bytes_appended_stays_accepted(name: str, tail: bytes) -> None:
    assert rendered(GOOD[name] + tail) == rendered(GOOD[name])


@given(
    st.sampled_from(sorted(GOOD)),
    st.integers(0),
    st.binary(min_size=1, max_size=9),
    st.sampled_from((0, 1, 9)),
)
@settings(max_examples=150, deadline=None)
def test_damage_of_any_kind_raises_no_other_error(
    name: str, place: int, inserted: bytes, removed: int
) -> None:
    original = GOOD[name]
    start = place % min(len(original), 700)  # most of a file's structure
    damaged = original[:start] + inserted + original[start + removed :]
    with contextlib.suppress(Undecodable, TooMuchMemory):
        completeness.check(damaged, detect_format(original))
    with contextlib.suppress(Undecodable, TooMuchMemory):
        completeness.check_by_decoding(damaged, detect_format(original))


@given(st.sampled_from(STILL), st.data())
@settings(max_examples=100, deadline=None)
def test_photograph_cut_before_its_last_needed_byte_is_refused(name: str, data: st.DataObject) -> None:
    last = len(GOOD[name]) - UNREAD.get(name, 0) - 1
    share = data.draw(st.integers(16, last) | st.integers(max(16, last - 40), last))
    with pytest.raises(Undecodable):
        pipeline.render(GOOD[name][:share], job("20x20"))


@pytest.mark.parametrize("colors", [2, 3, 17, 64, 256])
@pytest.mark.parametrize("sides", [(1, 1), (7, 3), (300, 200)])
def test_gif_frame_has_as_many_pixels_as_its_sides_say(colors: int, sides: tuple[int, int]) -> None:
    frame = gif_frame.first_frame(pictures.saved(pictures.scene(*sides).quantize(colors), "GIF"))
    assert gif_frame.pixel_count(frame, sides[0] * sides[1]) == sides[0] * sides[1]


@functools.cache
def rendered(original: bytes) -> bytes:
    return pipeline.render(original, job("2000x2000", Format.PNG))[1]


def by_pillow(original: bytes) -> Image.Image:
    """Decode the first frame, with the errors of Pillow."""
    with Image.open(io.BytesIO(original)) as image:
        image.load()
        return image.convert("RGB")
