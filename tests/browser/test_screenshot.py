"""Makes the README's screenshot: `PAGE_SCREENSHOT=docs/images/page.png pytest THIS_FILE`.

Without the variable, it checks that screenshots of the page have many colours.
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.support.chromium import serving

if TYPE_CHECKING:
    from tests.support.chromium import Browser

DEMO = Path(__file__).parents[2] / "src/galerly_cdn/demo"
OUTPUT_FILE = os.environ.get("PAGE_SCREENSHOT", "")
MAX_BYTES = 300_000
HEIGHT_PX = 600
GAP_PX = 20
FRAME = (214, 208, 197)
DESKTOP = {"width_px": 1440, "height_px": 900, "ratio": 2}
PHONE = {"width_px": 390, "height_px": 844, "ratio": 3, "mobile": True}

pytestmark = pytest.mark.browser


def screenshot(browser: Browser, address: str, **screen: int) -> Image.Image:
    """A screenshot of the page on a screen, scaled to the height of the README's picture."""
    browser.set_screen(**screen)
    browser.open(address)
    browser.load_pictures()
    browser.run("for (const image of document.querySelectorAll('main img')) await image.decode()")
    content = browser.command("Page.captureScreenshot", format="png")["data"]
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        width = round(picture.width * HEIGHT_PX / picture.height)
        return picture.convert("RGB").resize((width, HEIGHT_PX), Image.Resampling.LANCZOS)


def side_by_side(screenshots: list[Image.Image]) -> Image.Image:
    """All screenshots in one frame, with the same height."""
    width = sum(one.width + GAP_PX for one in screenshots) + GAP_PX
    framed = Image.new("RGB", (width, HEIGHT_PX + 2 * GAP_PX), FRAME)
    left = GAP_PX
    for one in screenshots:
        framed.paste(one, (left, GAP_PX))
        left += one.width + GAP_PX
    return framed


@pytest.mark.timeout(600)
def test_page_screenshot_on_desktop_and_phone(browser: Browser, page: str, tmp_path: Path) -> None:
    if not OUTPUT_FILE:
        screenshots = [screenshot(browser, page, **DESKTOP), screenshot(browser, page, **PHONE)]
        assert all(len(one.getcolors(one.width * one.height) or ()) > 5000 for one in screenshots)
        return
    with serving(DEMO, tmp_path / "renditions") as address:
        screenshots = [screenshot(browser, address, **DESKTOP), screenshot(browser, address, **PHONE)]
    framed = side_by_side(screenshots)
    Path(OUTPUT_FILE).parent.mkdir(parents=True, exist_ok=True)
    colors = framed.quantize(256)  # dithered in a second pass: `quantize` dithers only with a given palette
    framed.quantize(palette=colors, dither=Image.Dither.FLOYDSTEINBERG).save(OUTPUT_FILE, optimize=True)
    assert Path(OUTPUT_FILE).stat().st_size <= MAX_BYTES
