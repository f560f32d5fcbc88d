"""Tests of the metadata of renditions and of the kept copyright notice."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from galerly_cdn.model import Format
from galerly_cdn.render import decoders, pipeline
from galerly_cdn.render.copyright_notice import CopyrightNotice, read_notice
from galerly_cdn.render.formats import OriginalFormat
from tests.support import pictures
from tests.support.color_difference import opened
from tests.support.render_jobs import ALL_FORMATS, job

ARTIST, COPYRIGHT, GPS = 0x013B, 0x8298, 0x8825
XMP = b"""<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF><rdf:Description>
<dc:creator><rdf:Seq><rdf:li>Grace &amp; Hopper</rdf:li></rdf:Seq></dc:creator>
<dc:rights><rdf:Alt><rdf:li xml:lang='x-default'>All rights reserved</rdf:li></rdf:Alt></dc:rights>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def camera(*, credit: bool = False) -> bytes:
    """A photograph with everything a camera and an editor write."""
    plain = pictures.jpeg(gps=True, profile=pictures.srgb_profile(), credit=credit)
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + plain[2:]


def with_iptc(byline: bytes, rights: bytes) -> bytes:
    """A JPEG whose Photoshop resources hold two IPTC datasets."""
    block = b"\x1c\x02\x50" + struct.pack(">H", len(byline)) + byline
    block += b"\x1c\x02\x74" + struct.pack(">H", len(rights)) + rights
    block += bytes(len(block) % 2)
    payload = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block
    plain = pictures.jpeg(60, 40)
    return plain[:2] + b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload + plain[2:]


def read(original: bytes) -> CopyrightNotice:
    return read_notice(decoders.load(original, OriginalFormat.JPEG))


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_rendition_has_no_metadata(form: Format) -> None:
    rendered, body = pipeline.render(camera(credit=True), job(form=form))
    picture = opened(body)
    assert not picture.getexif()
    assert not {"exif", "xmp", "icc_profile", "photoshop", "comment"} & set(picture.info)
    for private in (pictures.CAMERA.encode(), b"Lovelace", b"Hopper", b"GPS", b"Exif", b"ICC"):
        assert private not in body
    assert {"exif", "gps", "icc", "xmp"} <= set(rendered.lost)


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_rendition_with_kept_copyright_has_creator_and_copyright_only(form: Format) -> None:
    body = pipeline.render(camera(credit=True), job(form=form, keep_copyright=True))[1]
    exif = opened(body).getexif()
    assert exif[ARTIST] == pictures.CREATOR
    assert exif[COPYRIGHT] == pictures.COPYRIGHT
    assert GPS not in exif
    assert not exif.get_ifd(GPS)
    for private in (pictures.CAMERA.encode(), b"Hopper", b"ICC_PROFILE"):
        assert private not in body


def test_kept_copyright_changes_no_pixel() -> None:
    kept = pipeline.render(camera(credit=True), job(form=Format.PNG, keep_copyright=True))[1]
    dropped = pipeline.render(camera(credit=True), job(form=Format.PNG))[1]
    assert opened(kept).tobytes() == opened(dropped).tobytes()
    grey = pipeline.render(pictures.grey(), job(form=Format.PNG, keep_copyright=True))[1]
    assert opened(grey).mode == "L"


def test_rendition_with_kept_copyright_has_no_orientation() -> None:
    body = pipeline.render(pictures.jpeg(orientation=6, credit=True), job(keep_copyright=True))[1]
    assert opened(body).getexif().get(0x0112, 1) == 1


def test_kept_copyright_of_an_original_without_notice_is_empty() -> None:
    exif = opened(pipeline.render(pictures.jpeg(), job(keep_copyright=True))[1]).getexif()
    assert not exif


def test_notice_is_read_from_xmp_if_exif_has_none() -> None:
    assert read(camera()) == CopyrightNotice("Grace & Hopper", "All rights reserved")


@pytest.mark.parametrize("byline", ["Zoë Åkesson".encode(), "Zoë Åkesson".encode("latin-1")])
def test_notice_is_read_from_iptc_if_exif_has_none(byline: bytes) -> None:
    assert read(with_iptc(byline, b"(c) Z")) == CopyrightNotice("Zoë Åkesson", "(c) Z")


def test_notice_in_exif_is_transliterated_to_ascii() -> None:
    original = with_iptc("Zoë Åkesson".encode(), "© Zoë".encode())
    exif = opened(pipeline.render(original, job(keep_copyright=True))[1]).getexif()
    assert (exif[ARTIST], exif[COPYRIGHT]) == ("Zoe Akesson", "(C) Zoe")


def test_notice_is_one_printable_line_of_bounded_length() -> None:
    said = read(with_iptc(b"a\r\nb\0c" + b"d" * 3000, b" \n "))
    assert said.creator.startswith("a b c")
    assert len(said.creator) == 500
    assert said.copyright == ""


def test_png_keyword_that_is_not_utf8_is_accepted() -> None:
    plain = pictures.png(20, 20)
    original = plain[:33] + pictures.chunk(b"tEXt", b"Cl\xe9\0value") + plain[33:]
    assert pipeline.render(original, job(keep_copyright=True))[1]


def test_embedded_thumbnail_is_dropped() -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    original = pictures.saved(pictures.scene(), "JPEG", exif=exif.tobytes(), quality=92)
    body = pipeline.render(original, job(form=Format.JPEG))[1]
    assert body.count(b"\xff\xd8\xff") == 1
