"""Tests of colours that are named in unusual ways: renditions show the colours that Chromium shows."""

from __future__ import annotations

import pytest

from galerly_cdn.model import Format
from galerly_cdn.render import header, pipeline
from tests.support import color_cases
from tests.support.color_difference import opened
from tests.support.render_jobs import job
from tests.support.shown_colors import SHOWN

TOLERANCE = 1


@pytest.mark.parametrize("name", color_cases.ORIGINALS)
def test_rendition_shows_the_colours_that_chromium_shows(name: str) -> None:
    body = pipeline.render(color_cases.ORIGINALS[name], job("300x300", Format.PNG))[1]
    colors = color_cases.colors_of(opened(body))
    assert color_cases.largest_difference(colors, SHOWN[name]) <= TOLERANCE, colors


def test_every_colour_that_chromium_shows_has_its_original() -> None:
    assert set(SHOWN) == set(color_cases.ORIGINALS)


@pytest.mark.parametrize(
    ("name", "profile", "bands"),
    [
        ("cICP of sRGB before iCCP", "sRGB", 3),
        ("cICP before iCCP", "Display P3", 3),
        ("cICP transfer 14", "BT.709 gamma 2.4", 3),
        ("gAMA linear", "BT.709 gamma 1", 3),
        ("cHRM and gAMA of sRGB", "cHRM gamma 2.2", 3),
        ("gAMA of 0", None, 3),
        ("grey PNG with a profile for RGB", "Adobe RGB (1998)", 1),
        ("grey PNG with alpha and a profile for RGB", "Adobe RGB (1998)", 2),
        ("grey AVIF of limited range", None, 1),
    ],
)
def test_header_names_the_colours_and_counts_the_bands(name: str, profile: str | None, bands: int) -> None:
    facts = header.inspect(color_cases.ORIGINALS[name])
    assert (facts.profile, facts.bands) == (profile, bands)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("grey PNG with a profile for RGB", "L"),
        ("grey PNG with alpha and a profile for RGB", "LA"),
        ("10 bit AVIF of limited range", "L"),
        ("grey PNG with a profile that tints", "RGB"),
    ],
)
def test_grey_original_stays_grey_unless_its_profile_tints(name: str, mode: str) -> None:
    body = pipeline.render(color_cases.ORIGINALS[name], job("300x300", Format.PNG))[1]
    assert opened(body).mode == mode


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(b"x\0\1" + b"data", id="other compression method"),
        pytest.param(b"no separator", id="no name"),
        pytest.param(color_cases.iccp(bytes(40))[1], id="shorter than a header"),
        pytest.param(color_cases.iccp(bytes(3) + bytes([200]) + bytes(196))[1], id="no signature"),
    ],
)
def test_grey_png_with_a_damaged_profile_is_shown_without_it(profile: bytes) -> None:
    original = color_cases.grey_png((b"iCCP", profile))
    assert header.inspect(original).metadata == ()
    body = pipeline.render(original, job("300x300", Format.PNG))[1]
    assert color_cases.colors_of(opened(body)) == color_cases.GREYS


def test_alpha_plane_of_limited_range_is_expanded() -> None:
    """Pillow (libavif) reads the alpha plane's own range from its bitstream."""
    original = color_cases.avif_with_limited_alpha()
    alpha = opened(pipeline.render(original, job("300x300", Format.PNG))[1]).getchannel("A")
    assert alpha.getextrema() == opened(original).getchannel("A").getextrema() == (0, 255)
