"""Makes the README's screenshot: `PAGE_SCREENSHOT=docs/images/page.png pytest THIS_FILE`.

`DASHBOARD_SCREENSHOTS=docs/images` makes those of the dashboard, after four minutes of traffic. Without the
variables, it checks that screenshots of the pages have many colours.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.support.chromium import serving, serving_with_admin

if TYPE_CHECKING:
    from tests.support.chromium import Browser

DEMO = Path(__file__).parents[2] / "src/galerly_cdn/demo"
OUTPUT_FILE = os.environ.get("PAGE_SCREENSHOT", "")
DASHBOARD_FOLDER = os.environ.get("DASHBOARD_SCREENSHOTS", "")
MAX_BYTES = 300_000
MAX_DASHBOARD_BYTES = 150_000
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


DASHBOARD_PAGES = {
    "dashboard-now": ("now", ".charts figure:nth-child(4)"),
    "dashboard-photograph": ("galleries/photograph/coast/evening-tide.jpg", "#renditions"),
}
"""The page, and the last element that its picture shows, by the name of the file."""
TRAFFIC = """
const sizes = ["150x150", "400x400", "800x600", "2000x2000"];
const end = performance.now() + given[1] * 1000;
for (let number = 0; performance.now() < end; number++) {
  const key = given[0][(number * 7) % given[0].length];
  const last = performance.now();
  await fetch(`/resize/${sizes[number % 4]}/${key}`, { cache: "no-store" }).then((one) => one.blob());
  const pause = 45 + 35 * Math.sin(last / 15000);
  await new Promise((resolve) => setTimeout(resolve, given[1] > 1 ? pause : 0));
}
"""


def dashboard_screenshot(browser: Browser, address: str, last: str) -> Image.Image:
    """A page from its top to the end of the element that `last` selects."""
    browser.open(address)
    browser.load_pictures()
    bottom = browser.until("document.querySelector(given[0])?.getBoundingClientRect().bottom", last)
    clip = {"x": 0, "y": 0, "width": 1280, "height": round(bottom) + GAP_PX, "scale": 1}
    content = browser.command("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)[
        "data"
    ]
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        return picture.convert("RGB")


@pytest.mark.timeout(600)
def test_dashboard_screenshots(browser: Browser, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    shutil.copytree(DEMO, photographs, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    keys = sorted(str(one.relative_to(photographs)) for one in photographs.rglob("*.*"))
    with serving_with_admin(photographs, tmp_path / "renditions", "--writable") as (public, admin):
        browser.set_screen(1280, 900, 1.5)
        browser.open(public)
        for seconds in [1] if not DASHBOARD_FOLDER else [45] * 6:
            browser.run(TRAFFIC, keys, seconds)
        shown = {
            name: dashboard_screenshot(browser, f"{admin}dashboard/{page}", last)
            for name, (page, last) in DASHBOARD_PAGES.items()
        }
    for name, picture in shown.items():
        if not DASHBOARD_FOLDER:
            assert len(picture.getcolors(picture.width * picture.height) or ()) > 100
            continue
        file = Path(DASHBOARD_FOLDER) / f"{name}.webp"
        height = round(picture.height * 1280 / picture.width)
        picture.resize((1280, height), Image.Resampling.LANCZOS).save(file, quality=85, method=6)
        assert file.stat().st_size <= MAX_DASHBOARD_BYTES
