"""Tests of the values: geometry, formats, keys, and their JSON."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from galerly_cdn.model import Format, Record, Size, SizeRule, Target, parse_target
from galerly_cdn.serialization import ValidationError, Value, convert, from_json, to_json

sides = st.integers(1, 100_000)
boxes = st.builds(Size, st.integers(1, 16_383), st.integers(1, 16_383))


@pytest.mark.parametrize(
    ("box", "original", "fitted"),
    [
        ((800, 600), (6000, 4000), (800, 533)),
        ((800, 600), (4000, 6000), (400, 600)),
        ((800, 600), (4000, 3000), (800, 600)),
        ((150, 150), (6000, 4000), (150, 100)),
        ((150, 150), (151, 150), (150, 149)),
        ((2000, 2000), (2000, 2000), (2000, 2000)),
        ((2000, 2000), (2001, 2000), (2000, 1999)),
        ((800, 600), (799, 599), (799, 599)),
        ((800, 600), (1, 1), (1, 1)),
        ((800, 600), (1, 601), (1, 600)),
        ((150, 150), (60_000, 1), (150, 1)),
        ((150, 150), (1, 60_000), (1, 150)),
        ((400, 400), (1600, 2), (400, 1)),  # 0.5 px: halves go up
        ((400, 400), (1600, 6), (400, 2)),  # 1.5 px
    ],
)
def test_fit_returns_width_and_height_inside_the_box(
    box: tuple[int, int], original: tuple[int, int], fitted: tuple[int, int]
) -> None:
    assert Size(*box).fit(*original) == fitted


@given(boxes, sides, sides)
@example(Size(1, 1), 100_000, 1)
def test_fit_keeps_the_aspect_and_never_enlarges(box: Size, width: int, height: int) -> None:
    fitted_width, fitted_height = box.fit(width, height)
    assert 1 <= fitted_width <= min(width, box.width_px)
    assert 1 <= fitted_height <= min(height, box.height_px)
    scale = min(Fraction(1), Fraction(box.width_px, width), Fraction(box.height_px, height))
    assert abs(fitted_width - max(Fraction(1), scale * width)) <= Fraction(1, 2)
    assert abs(fitted_height - max(Fraction(1), scale * height)) <= Fraction(1, 2)
    if scale < 1:
        assert fitted_width == box.width_px or fitted_height == box.height_px


@given(boxes, sides, sides)
def test_fit_of_swapped_sides_is_swapped(box: Size, width: int, height: int) -> None:
    assert Size(box.height_px, box.width_px).fit(height, width) == box.fit(width, height)[::-1]


@given(boxes, sides, sides)
def test_fit_of_fitted_size_is_unchanged(box: Size, width: int, height: int) -> None:
    fitted = box.fit(width, height)
    assert box.fit(*fitted) == fitted


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (Target(Size(800, 600)), "800x600/g/a.jpg"),
        (Target(Size(800, 600), Format.WEBP), "800x600.webp/g/a.jpg"),
        (Target(Size(150, 150), Format.AVIF), "150x150.avif/g/a.jpg"),
    ],
)
def test_rendition_key_has_size_and_format(target: Target, key: str) -> None:
    assert target.rendition_key("g/a.jpg") == key


@pytest.mark.parametrize(
    ("form", "media_type", "extension"),
    [
        (Format.JPEG, "image/jpeg", "jpg"),
        (Format.WEBP, "image/webp", "webp"),
        (Format.AVIF, "image/avif", "avif"),
        (Format.PNG, "image/png", "png"),
    ],
)
def test_format_has_media_type_and_extension(form: Format, media_type: str, extension: str) -> None:
    assert (form.media_type, form.extension) == (media_type, extension)


def test_negotiable_formats_are_in_order_of_preference() -> None:
    qualities = {Format.JPEG: 85, Format.WEBP: 84, Format.AVIF: 72, Format.PNG: 100}
    assert SizeRule(Size(1, 1), None, qualities).negotiable == (Format.AVIF, Format.WEBP)
    assert SizeRule(Size(1, 1), None, {Format.JPEG: 85}).negotiable == ()


texts = st.text(st.characters(codec="utf-8"))
records = st.builds(
    Record,
    key=texts,
    target=st.builds(Target, boxes, st.none() | st.sampled_from(Format)),
    version=texts,
    recipe=texts,
    format=st.sampled_from(Format),
    width_px=sides,
    height_px=sides,
    length_bytes=st.integers(0, 2**40),
    md5=st.text("0123456789abcdef"),
    lost=st.lists(st.sampled_from(["gps", "alpha"])).map(tuple),
)


@given(records)
def test_json_round_trip_returns_the_same_value_on_one_line(record: Record) -> None:
    text = to_json(record)
    assert from_json(Record, text) == record
    assert not any(byte < 0x20 for byte in text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"width_px": 1}',
        b'{"width_px": 1, "height_px": "2"}',
        b'{"width_px": 1, "height_px": 2, "depth_px": 3}',
        b'{"width_px": 1, "height_px": 2}trailing',
        b'{"width_px": 1, "height_px": \xff}',
    ],
)
def test_json_of_another_shape_raises(text: bytes) -> None:
    with pytest.raises(ValidationError):
        from_json(Size, text)


@pytest.mark.parametrize(
    ("version", "recipe", "current"), [("v", "r", True), ("w", "r", False), ("v", "s", False)]
)
def test_record_is_current_by_version_and_recipe(version: str, recipe: str, *, current: bool) -> None:
    record = Record("k", Target(Size(1, 1)), "v", "r", Format.JPEG, 1, 1, 1, "0" * 32)
    assert record.is_current(version, recipe) is current


def test_convert_reads_numbers_and_booleans_from_text() -> None:
    assert convert(int, "12") == 12
    assert convert(bool, "true") is True
    with pytest.raises(ValidationError):
        convert(int, "twelve")


def test_value_cannot_be_changed() -> None:
    class Point(Value, frozen=True):
        x: int

    with pytest.raises(AttributeError):
        Point(1).x = 2  # type: ignore[misc]  # frozen


@given(st.builds(Target, boxes, st.sampled_from([None, *Format])))
def test_target_is_parsed_from_its_text(target: Target) -> None:
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    "text",
    ["", "facts", "recipes", "800x", "x600", "0x600", "0800x600", "800x600.", "800x600.jxl", "8x6.WEBP"],
)
def test_text_that_is_no_target_gives_none(text: str) -> None:
    assert parse_target(text) is None
