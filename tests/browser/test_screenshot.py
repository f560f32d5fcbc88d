"""The README's picture: `PAGE_SCREENSHOT=docs/images/page.png pytest tests/browser/test_screenshot.py`."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.browser.conftest import serving

if TYPE_CHECKING:
    from tests.browser.conftest import Browser

WANTED = os.environ.get("PAGE_SCREENSHOT", "")
MOST_BYTES = 300_000
HEIGHT_PX = 600
GAP_PX = 20
FRAME = (214, 208, 197)
DESK = {"width_px": 1440, "height_px": 900, "ratio": 2}
PHONE = {"width_px": 390, "height_px": 844, "ratio": 3, "mobile": True}

pytestmark = pytest.mark.browser


def photographed(browser: Browser, address: str, **screen: int) -> Image.Image:
    """The page on a screen, at the height of the README's picture."""
    browser.become(**screen)
    browser.open(address)
    browser.settle()
    browser.run("for (const one of document.querySelectorAll('main img')) await one.decode()")
    shot = browser.command("Page.captureScreenshot", format="png")["data"]
    with Image.open(io.BytesIO(base64.b64decode(shot))) as picture:
        width = round(picture.width * HEIGHT_PX / picture.height)
        return picture.convert("RGB").resize((width, HEIGHT_PX), Image.Resampling.LANCZOS)


def beside_each_other(shots: list[Image.Image]) -> Image.Image:
    """All in one frame, as high as each other."""
    width = sum(shot.width + GAP_PX for shot in shots) + GAP_PX
    framed = Image.new("RGB", (width, HEIGHT_PX + 2 * GAP_PX), FRAME)
    left = GAP_PX
    for shot in shots:
        framed.paste(shot, (left, GAP_PX))
        left += shot.width + GAP_PX
    return framed


@pytest.mark.timeout(600)
def test_the_page_is_good_to_look_at_on_a_desk_and_on_a_phone(
    browser: Browser, page: str, tmp_path: Path
) -> None:
    if not WANTED:
        shots = [photographed(browser, page, **DESK), photographed(browser, page, **PHONE)]
        assert all(len(shot.getcolors(shot.width * shot.height) or ()) > 5000 for shot in shots)
        return
    from samples.gallery import make

    make(tmp_path / "galleries", megapixels=3)
    with serving(tmp_path / "galleries", tmp_path / "renditions") as address:
        shots = [photographed(browser, address, **DESK), photographed(browser, address, **PHONE)]
    framed = beside_each_other(shots)
    Path(WANTED).parent.mkdir(parents=True, exist_ok=True)
    colors = framed.quantize(256)  # dithered in a second pass: the first cannot
    framed.quantize(palette=colors, dither=Image.Dither.FLOYDSTEINBERG).save(WANTED, optimize=True)
    assert Path(WANTED).stat().st_size <= MOST_BYTES
