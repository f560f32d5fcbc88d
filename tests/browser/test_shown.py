"""Reads from Chromium the colours and first frames that the tests of renditions expect."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from galerly_cdn.render.formats import detect_format
from tests.support import color_cases, frame_cases
from tests.support.shown_colors import SHOWN

if TYPE_CHECKING:
    from tests.support.chromium import Browser

pytestmark = pytest.mark.browser

READ_BACK = """
    const image = new Image();
    image.src = `data:${given[0]};base64,${given[1]}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return [canvas.width, [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
"""


def shown(browser: Browser, original: bytes) -> Image.Image:
    """Return what Chromium draws of an original."""
    encoded = base64.b64encode(original).decode()
    width, samples = browser.run(READ_BACK, detect_format(original).media_type, encoded)
    return Image.fromarray(np.array(samples, np.uint8).reshape(-1, width, 4))


def test_chromium_shows_the_colours_that_renditions_are_compared_with(browser: Browser) -> None:
    browser.open("about:blank")
    differences = {
        name: (read, SHOWN[name])
        for name, original in color_cases.ORIGINALS.items()
        if (read := color_cases.colors_of(shown(browser, original))) != SHOWN[name]
    }
    assert differences == {}


def test_chromium_shows_the_first_frames_that_renditions_are_compared_with(browser: Browser) -> None:
    browser.open("about:blank")
    differences = {
        name: seen
        for name, case in frame_cases.CASES.items()
        if (seen := frame_cases.seen(shown(browser, case.original))) != frame_cases.expected(case)
    }
    assert differences == {}
