"""Tests of the header: facts, losses, memory, profiles and named colours."""

from __future__ import annotations

import pytest

from galerly_cdn.render import header, icc, losses
from galerly_cdn.render.originals import heif, jpeg, png
from galerly_cdn.render.sample_images import SPECIMENS
from tests.support import pictures

P3 = icc.named_colors(12, 13)
assert P3


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def with_segment(original: bytes, marker: int, payload: bytes) -> bytes:
    return original[:2] + segment(marker, payload) + original[2:]


def test_header_of_a_camera_photograph_has_its_facts() -> None:
    profile = icc.profile_bytes(P3)
    facts = header.inspect(pictures.jpeg(orientation=6, gps=True, profile=profile, progressive=True))
    assert (facts.format, facts.width_px, facts.height_px) == ("jpeg", 600, 400)
    assert (facts.orientation, facts.frames, facts.bits, facts.bands) == (6, 1, 8, 3)
    assert (facts.has_alpha, facts.is_progressive) == (False, True)
    assert facts.profile == "Display P3"
    assert facts.metadata == ("exif", "gps", "icc")
    assert facts.loses == ("exif", "gps", "icc", "wide-gamut")


PLAIN = pictures.jpeg(64, 48)
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
ULTRA_HDR = b"http://ns.adobe.com/xap/1.0/\0<x xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/'/>"


def gain_map_avif(kind: bytes) -> bytes:
    """Return an AVIF whose alpha plane is declared a gain map: by auxiliary type, or as a `tmap` item."""
    plain = pictures.avif(60, 40, alpha=True)
    if kind == b"tmap":
        second = plain.index(b"av01", plain.index(b"av01", plain.index(b"infe")) + 4)
        return plain[:second] + kind + plain[second + 4 :]
    alpha = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
    return plain.replace(alpha, kind.ljust(len(alpha), b"\0"))


@pytest.mark.parametrize(
    ("original", "lost"),
    [
        pytest.param(pictures.gif(frames=2), {"animation"}, id="gif"),
        pytest.param(pictures.animated_webp(), {"animation"}, id="webp"),
        pytest.param(pictures.animated_png(), {"animation"}, id="png"),
        pytest.param(pictures.pages_tiff(), {"pages"}, id="tiff"),
        pytest.param(pictures.deep_png(20, 20), {"bit-depth"}, id="16 bits"),
        pytest.param(pictures.cmyk_jpeg(60, 40), {"cmyk"}, id="cmyk"),
        pytest.param(pictures.jpeg(60, 40, gps=True), {"gps", "exif"}, id="gps"),
        pytest.param(with_segment(PLAIN, 0xE1, XMP), {"xmp"}, id="xmp"),
        pytest.param(
            with_segment(PLAIN, 0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x50\0\x03Ada"),
            {"iptc"},
            id="iptc",
        ),
        pytest.param(with_segment(PLAIN, 0xE1, ULTRA_HDR), {"hdr-gain-map", "xmp"}, id="UltraHDR"),
        pytest.param(
            with_segment(PLAIN, 0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"),
            {"hdr-gain-map"},
            id="ISO gain map",
        ),
        pytest.param(
            with_segment(PLAIN, 0xE2, b"MPF\0" + bytes(20)) + b"urn:com:apple:photo:2020:aux:hdrgainmap",
            {"hdr-gain-map"},
            id="Apple's gain map",
        ),
        pytest.param(gain_map_avif(b"tmap"), {"hdr-gain-map"}, id="tone-mapped item of an AVIF"),
        pytest.param(
            gain_map_avif(b"urn:com:apple:photo:2020:aux:hdrgainmap"),
            {"hdr-gain-map"},
            id="Apple's in an AVIF",
        ),
        pytest.param(
            gain_map_avif(b"urn:iso:std:iso:ts:21496:-1"), {"hdr-gain-map"}, id="ISO 21496-1's in an AVIF"
        ),
        pytest.param(pictures.avif(60, 40, alpha=True), set(), id="alpha is no gain map"),
        pytest.param(pictures.jpeg(60, 40, profile=icc.profile_bytes(P3)), {"icc", "wide-gamut"}, id="P3"),
        pytest.param(pictures.jpeg(60, 40, profile=pictures.srgb_profile()), {"icc"}, id="sRGB profile"),
    ],
)
def test_header_lists_every_loss(original: bytes, lost: set[str]) -> None:
    assert lost <= set(header.inspect(original).loses)
    assert set(header.inspect(original).loses) <= lost | {"exif"}


def test_header_without_a_gain_map_marker_lists_no_gain_map() -> None:
    assert not jpeg.has_gain_map(with_segment(PLAIN, 0xE2, b"MPF\0" + bytes(20)))
    assert not jpeg.has_gain_map(PLAIN + b"urn:com:apple:photo:2020:aux:hdrgainmap")


def test_losses_are_sorted_have_a_sentence_each_and_refuse_other_words() -> None:
    assert list(losses.LOSSES) == sorted(losses.LOSSES)
    assert all(sentence.endswith(".") for sentence in losses.LOSSES.values())
    assert losses.in_order({"xmp", "alpha"}) == ("alpha", "xmp")
    with pytest.raises(KeyError):
        losses.in_order({"unknown"})


@pytest.mark.parametrize(
    ("original", "at_least", "below"),
    [
        pytest.param(pictures.jpeg(1200, 800), 0, 1200 * 800 * 3, id="baseline JPEG streams"),
        pytest.param(
            pictures.jpeg(1200, 800, progressive=True), 1200 * 800 * 3, 1200 * 800 * 6, id="progressive"
        ),
        pytest.param(pictures.png(1200, 800, alpha=False), 0, 1200 * 800 * 3, id="PNG streams"),
        pytest.param(
            pictures.adam7_png(1200, 800), 1200 * 800 * 3, 1200 * 800 * 4, id="interlaced PNG is held whole"
        ),
        pytest.param(pictures.webp(1200, 800), 1200 * 800 * 3, 1200 * 800 * 8, id="WebP is held whole"),
        pytest.param(
            pictures.avif(1200, 800), 1200 * 800 * 16, 1200 * 800 * 20, id="AVIF is held whole several times"
        ),
        pytest.param(pictures.gif(1200, 800), 1200 * 800 * 3, 1200 * 800 * 8, id="GIF is held whole"),
        pytest.param(pictures.tiff(1200, 800), 1200 * 800 * 3, 1200 * 800 * 4, id="TIFF may be one strip"),
    ],
)
def test_decode_memory_depends_on_the_decoder(original: bytes, at_least: int, below: int) -> None:
    assert at_least <= header.inspect(original).decode_bytes < below


def test_sequential_jpeg_with_several_scans_needs_as_much_memory_as_a_progressive_one() -> None:
    original = bytearray(pictures.jpeg(64, 64))
    scan = original.index(b"\xff\xda")
    original[scan + 4] = 1
    layout = jpeg.read_layout(bytes(original))
    assert layout
    frame = layout.frame
    assert not frame.is_progressive
    assert frame.coefficient_bytes == 3 * 64 * 64


@pytest.mark.parametrize("name", ["sRGB built-in", "Display P3", "BT.2020 PQ", "Adobe RGB (1998)"])
def test_profile_description_is_read(name: str) -> None:
    made = {str(named): icc.profile_bytes(named) for named in (P3, icc.ADOBE_RGB, icc.NamedColors(9, 16))}
    assert icc.description(made.get(name, pictures.srgb_profile())) == name


@pytest.mark.parametrize("profile", [b"", b"x" * 131, b"\xff" * 200, icc.profile_bytes(P3)[:140]])
def test_profile_without_a_description_is_called_icc(profile: bytes) -> None:
    assert icc.description(profile) == "ICC"


@pytest.mark.parametrize(
    ("primaries", "transfer", "name"),
    [
        (1, 13, "None"),
        (1, 1, "None"),
        (2, 2, "None"),
        (12, 13, "Display P3"),
        (9, 1, "BT.2020"),
        (9, 16, "BT.2020 PQ"),
        (9, 8, "BT.2020 linear"),
    ],
)
def test_code_points_have_display_names(primaries: int, transfer: int, name: str) -> None:
    assert str(icc.named_colors(primaries, transfer)) == name


@pytest.mark.parametrize("body", [b"", b"\0" * 40, SPECIMENS["avif"][:60], b"\0\0\0\x01meta" + b"\0" * 8])
def test_truncated_boxes_hold_no_items(body: bytes) -> None:
    assert heif.meta_of(body) is None


def test_png_chunks_are_read_up_to_the_pixels() -> None:
    chunks = png.chunks_before_pixels(pictures.png(8, 8))
    assert next(iter(chunks)) == b"IHDR"
    assert b"IDAT" not in chunks
