"""Tests the browsing page in Chromium: layout, orientation, lightbox, details, and no JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import photographs, serving
from tests.support import pictures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import Browser

pytestmark = pytest.mark.browser

DESKTOP = (1440, 900, 1)
PHONE = (390, 844, 3)
SCREENS = {
    "desktop": DESKTOP,
    "high-density desktop": (1440, 900, 2),
    "tablet": (820, 1180, 2),
    "phone": PHONE,
    "small phone": (320, 568, 1),
}
each_screen = pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)


@each_screen
def test_every_picture_loads_without_console_errors(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.set_screen(*screen)
    browser.open(page)
    browser.load_pictures()
    widths = browser.run(
        "return [...document.querySelectorAll('main img')].map((image) => image.naturalWidth)"
    )
    assert len(widths) == len(photographs())
    assert all(width > 0 for width in widths)
    assert browser.errors() == []


WIDE_IMAGE = """document.querySelector('[data-key="formats/wide.jpg"] img')"""


def test_every_picture_is_loaded_as_avif(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.load_pictures()
    media_types = browser.run(
        """
        return [...document.querySelectorAll("main img")].map(
          (image) => performance.getEntriesByName(image.currentSrc)[0].contentType)
        """
    )
    assert set(media_types) == {"image/avif"}


@each_screen
def test_no_element_is_wider_than_the_screen(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.set_screen(*screen)
    browser.open(page)
    width = screen[0]
    assert browser.run("return document.documentElement.scrollWidth") == width
    rights = browser.run(
        "return [...document.querySelectorAll('body *')].map((image) => image.getBoundingClientRect().right)"
    )
    assert max(rights) <= width


@each_screen
def test_layout_does_not_shift_while_pictures_load(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.set_screen(*screen)
    browser.open(page)
    browser.load_pictures()
    assert browser.layout_shift() < 0.05


def test_layout_does_not_shift_while_the_page_arrives_slowly(browser: Browser, page: str) -> None:
    """Rows are balanced, so each further photograph of a gallery may move the others."""
    browser.set_screen(*SCREENS["tablet"])
    browser.open(page)  # the styles are in the browser's cache from now on
    with browser.slow_connection(bytes_per_s=8000):
        browser.open(page)
    assert browser.run("return document.querySelectorAll('main img').length") == len(photographs())
    assert browser.layout_shift() < 0.05


@each_screen
def test_pictures_keep_their_aspect_ratio(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.set_screen(*screen)
    browser.open(page)
    browser.load_pictures()
    stretch = browser.run(
        """
        return [...document.querySelectorAll("main img")].map(
          (image) =>
            (image.clientWidth * image.getAttribute("height"))
            / (image.clientHeight * image.getAttribute("width")))
        """
    )
    assert stretch == pytest.approx([1] * len(stretch), rel=0.02)


def test_phone_shows_one_or_two_pictures_a_row(browser: Browser, page: str) -> None:
    browser.set_screen(*PHONE)
    browser.open(page)
    rows = browser.run(
        """
        const rows = {};
        for (const { offsetTop } of document.querySelectorAll(".tile")) {
          rows[offsetTop] = (rows[offsetTop] ?? 0) + 1;
        }
        return Object.values(rows);
        """
    )
    assert set(rows) <= {1, 2}


@pytest.mark.parametrize("key", [f"upright/{orientation}.jpg" for orientation in range(1, 9)])
def test_photograph_with_any_exif_orientation_is_upright(browser: Browser, page: str, key: str) -> None:
    """In the picture, a sun is at the top left and a red door at the bottom right."""
    browser.open(page)
    colors = browser.run(
        """
        const image = document.querySelector(`[data-key="${given[0]}"] img`);
        image.scrollIntoView();
        await image.decode();
        const canvas = new OffscreenCanvas(300, 200).getContext("2d");
        canvas.drawImage(image, 0, 0, 300, 200);
        return [[66, 56], [234, 140]].map(([x, y]) => [...canvas.getImageData(x, y, 1, 1).data]);
        """,
        key,
    )
    sun, door = colors
    assert sun[:3] == pytest.approx([250, 226, 120], abs=24)
    assert door[:3] == pytest.approx([190, 40, 48], abs=24)


def test_damaged_photograph_shows_the_error_in_its_tile(browser: Browser, tmp_path: Path) -> None:
    """Its header is valid, so the damage is found when the browser requests the picture."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "half.jpg").write_bytes(pictures.truncated(pictures.jpeg()))
    (folder / "whole.jpg").write_bytes(pictures.jpeg())
    with serving(folder, tmp_path / "renditions") as address:
        browser.open(address)
        text = browser.until("document.querySelector('.quiet')?.innerText")
        browser.click("a.photograph")
        position = browser.run("return document.querySelector('.position').textContent")
    assert text.split("\n") == ["half", "The photograph is damaged or incomplete."]
    assert position == "1 of 1"


# ---------------------------------------------------------------------------------------- lightbox

SHOWN_NAME = "document.querySelector('#lightbox[open] .name')?.textContent"
LARGE_WIDTH = """
    document.querySelector("#lightbox img").currentSrc.includes("/resize/2000x2000/")
    && document.querySelector("#lightbox img").naturalWidth
"""


def test_lightbox_opens_on_click_turns_on_arrows_and_closes_on_escape(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click('[data-key="formats/tall.webp"]')
    assert browser.run(f"return {SHOWN_NAME}") == "tall"
    assert browser.until(LARGE_WIDTH) == 600
    browser.press("ArrowRight")
    assert browser.run(f"return {SHOWN_NAME}") == "wide"
    assert browser.until(LARGE_WIDTH) == 2000
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.run(f"return {SHOWN_NAME}") == "small"
    browser.press("Escape")
    assert browser.run(f"return {SHOWN_NAME}") is None
    assert browser.until(
        "document.activeElement.dataset.key === 'formats/small.gif'"
    )  # set by the dialog's close event
    assert browser.errors() == []


def test_lightbox_wraps_around_at_both_ends(browser: Browser, page: str) -> None:
    browser.open(page)
    names = browser.run("return [...document.querySelectorAll('main img')].map((image) => image.alt)")
    browser.click("main li:first-child a.photograph")
    browser.press("ArrowLeft")
    assert browser.run(f"return {SHOWN_NAME}") == names[-1]
    browser.press("ArrowRight")
    assert browser.run(f"return {SHOWN_NAME}") == names[0]


def test_lightbox_is_usable_with_the_keyboard(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.run("document.querySelector('a.photograph').focus()")
    browser.run("document.activeElement.click()")
    assert browser.run("return document.querySelector('#lightbox').contains(document.activeElement)")
    browser.press("Escape")
    assert browser.run("return document.activeElement === document.querySelector('a.photograph')")


def test_lightbox_swipe_shows_the_next_photograph(browser: Browser, page: str) -> None:
    browser.set_screen(*PHONE, mobile=True)
    browser.open(page)
    browser.click('[data-key="formats/tall.webp"]')
    for kind, x in (("touchStart", 300), ("touchMove", 200), ("touchMove", 90), ("touchEnd", None)):
        points = [] if x is None else [{"x": x, "y": 400}]
        browser.command("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert browser.run(f"return {SHOWN_NAME}") == "wide"


def test_lightbox_does_not_enlarge_pictures(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click('[data-key="formats/small.gif"]')
    browser.until("document.querySelector('#lightbox img').naturalWidth")
    sides = browser.run(
        """
        const image = document.querySelector("#lightbox img");
        return [image.clientWidth, image.clientHeight];
        """
    )
    assert sides == [60, 40]


# ----------------------------------------------------------------------------------------- details

FACTS = """
    !/^…?$/.test(document.querySelector("[data-fact=asked]").textContent)
    && Object.fromEntries(
      [...document.querySelectorAll("[data-fact]")].map(
        (element) => [element.dataset.fact, element.textContent]))
"""


def test_details_show_format_size_cache_state_and_losses(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.run(f"await {WIDE_IMAGE}.decode()")
    browser.click('[aria-label="Details of wide"]')
    facts = browser.until(FACTS)
    size = browser.run(f"return {WIDE_IMAGE}.currentSrc").split("/")[4]  # the width that this window chose
    length = browser.run(
        f"return (await (await fetch('/resize/{size}.avif/formats/wide.jpg')).arrayBuffer()).byteLength"
    )
    sides = {"400x400": "400 × 167", "800x600": "800 × 333", "2000x2000": "2000 × 833"}[size]
    assert facts["name"] == "formats/wide.jpg"
    assert facts["shown"] == f"AVIF, {sides} px, {length / 1e3:.1f} kB"
    assert facts["original"].startswith("JPEG, 2400 × 1000 px, ")
    assert facts["asked"].startswith("hit, from memory, ")
    assert "The place it was taken (EXIF GPS)." in facts["lost"]
    browser.press("Escape")
    assert not browser.run("return document.querySelector('dialog[open]')")
    assert browser.errors() == []


def test_details_in_the_lightbox_describe_the_large_picture(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click('[data-key="formats/wide.jpg"]')
    browser.until(LARGE_WIDTH)
    browser.click("#lightbox .more")
    assert browser.until(FACTS)["shown"].startswith("AVIF, 2000 × 833 px, ")
    browser.press("Escape")
    assert browser.run(f"return {SHOWN_NAME}") == "wide"  # Escape closed only the details


def test_embed_code_shows_the_picture(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.run("document.querySelector('.tile .more').click()")
    element = browser.run("return document.querySelector('#embed').value")
    [key] = [name for name in photographs() if "/" not in name]  # with quotes, and a comma before .jpg
    shown = browser.run(
        """
        document.body.innerHTML = given[0];
        const [image] = document.body.children;
        await image.decode();
        return [document.body.children.length, image.currentSrc, image.naturalWidth > 0, image.alt];
        """,
        element,
    )
    assert shown[0] == 1
    assert shown[1].startswith(f"{page}resize/")
    assert shown[2]
    assert shown[3] in key


# -------------------------------------------------------------------------------- without JavaScript


def test_without_javascript_pictures_link_to_large_ones(browser: Browser, page: str) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    browser.click('[data-key="formats/wide.jpg"]')
    browser.command("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.until("location.pathname.startsWith('/resize/')")
    assert browser.run("return location.pathname") == "/resize/2000x2000/formats/wide.jpg"
    assert browser.until("document.images[0]?.naturalWidth") == 2000
