from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import photographs, serving
from tests.support import pictures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import Browser

pytestmark = pytest.mark.browser

DESK = (1440, 900, 1)
PHONE = (390, 844, 3)
SCREENS = {
    "desk": DESK,
    "sharp desk": (1440, 900, 2),
    "tablet": (820, 1180, 2),
    "phone": PHONE,
    "old": (320, 568, 1),
}
each_screen = pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)


@each_screen
def test_every_picture_is_shown_without_complaint(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.become(*screen)
    browser.open(page)
    browser.settle()
    widths = browser.run("return [...document.querySelectorAll('main img')].map((one) => one.naturalWidth)")
    assert len(widths) == len(photographs())
    assert all(width > 0 for width in widths)
    assert browser.errors() == []


WIDE = """document.querySelector('[data-key="formats/wide.jpg"] img')"""


def test_the_browser_takes_every_picture_as_avif(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.settle()
    kinds = browser.run(
        """
        return [...document.querySelectorAll("main img")].map(
          (one) => performance.getEntriesByName(one.currentSrc)[0].contentType)
        """
    )
    assert set(kinds) == {"image/avif"}


@each_screen
def test_nothing_is_wider_than_the_screen(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.become(*screen)
    browser.open(page)
    width = screen[0]
    assert browser.run("return document.documentElement.scrollWidth") == width
    rights = browser.run(
        "return [...document.querySelectorAll('body *')].map((one) => one.getBoundingClientRect().right)"
    )
    assert max(rights) <= width


@each_screen
def test_nothing_moves_while_pictures_arrive(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.become(*screen)
    browser.open(page)
    browser.settle()
    shift = browser.run(
        """
        return new Promise((found) => {
          let sum = 0;
          const observer = new PerformanceObserver((list) => {
            for (const one of list.getEntries()) sum += one.value;
          });
          observer.observe({ type: "layout-shift", buffered: true });
          requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => found(sum))));
        });
        """
    )
    assert shift < 0.05


@each_screen
def test_pictures_are_neither_stretched_nor_cropped(
    browser: Browser, page: str, screen: tuple[int, int, float]
) -> None:
    browser.become(*screen)
    browser.open(page)
    browser.settle()
    stretch = browser.run(
        """
        return [...document.querySelectorAll("main img")].map(
          (one) =>
            (one.clientWidth * one.getAttribute("height")) / (one.clientHeight * one.getAttribute("width")))
        """
    )
    assert stretch == pytest.approx([1] * len(stretch), rel=0.02)


def test_a_phone_shows_one_or_two_pictures_a_row(browser: Browser, page: str) -> None:
    browser.become(*PHONE)
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


@pytest.mark.parametrize("key", [f"upright/{turn}.jpg" for turn in range(1, 9)])
def test_a_photograph_is_upright_whatever_way_the_camera_was_held(
    browser: Browser, page: str, key: str
) -> None:
    """The sun is above left, the red door below right."""
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


def test_a_damaged_photograph_says_so_where_it_would_be(browser: Browser, tmp_path: Path) -> None:
    """Its header is sound, so only the browser's request for its pixels finds out."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "half.jpg").write_bytes(pictures.truncated(pictures.jpeg()))
    (folder / "whole.jpg").write_bytes(pictures.jpeg())
    with serving(folder, tmp_path / "renditions") as address:
        browser.open(address)
        told = browser.until("document.querySelector('.quiet')?.innerText")
        browser.click("a.photograph")
        position = browser.run("return document.querySelector('.position').textContent")
    assert told.split("\n") == ["half", "The photograph is damaged or incomplete."]
    assert position == "1 of 1"


# ---------------------------------------------------------------------------------------- lightbox

SHOWN = "document.querySelector('#lightbox[open] .name')?.textContent"
LARGE = """
    document.querySelector("#lightbox img").currentSrc.includes("/resize/2000x2000/")
    && document.querySelector("#lightbox img").naturalWidth
"""


def test_a_click_opens_the_large_picture_arrows_turn_and_escape_closes(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click('[data-key="formats/tall.webp"]')
    assert browser.run(f"return {SHOWN}") == "tall"
    assert browser.until(LARGE) == 600
    browser.press("ArrowRight")
    assert browser.run(f"return {SHOWN}") == "wide"
    assert browser.until(LARGE) == 2000
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.run(f"return {SHOWN}") == "small"
    browser.press("Escape")
    assert browser.run(f"return {SHOWN}") is None
    assert browser.until("document.activeElement.dataset.key === 'formats/small.gif'")  # close is an event
    assert browser.errors() == []


def test_turning_past_the_last_photograph_comes_to_the_first(browser: Browser, page: str) -> None:
    browser.open(page)
    names = browser.run("return [...document.querySelectorAll('main img')].map((one) => one.alt)")
    browser.click("main li:first-child a.photograph")
    browser.press("ArrowLeft")
    assert browser.run(f"return {SHOWN}") == names[-1]
    browser.press("ArrowRight")
    assert browser.run(f"return {SHOWN}") == names[0]


def test_the_keyboard_alone_opens_and_closes(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.run("document.querySelector('a.photograph').focus()")
    browser.run("document.activeElement.click()")
    assert browser.run("return document.querySelector('#lightbox').contains(document.activeElement)")
    browser.press("Escape")
    assert browser.run("return document.activeElement === document.querySelector('a.photograph')")


def test_a_swipe_turns_to_the_next(browser: Browser, page: str) -> None:
    browser.become(*PHONE, mobile=True)
    browser.open(page)
    browser.click('[data-key="formats/tall.webp"]')
    for kind, x in (("touchStart", 300), ("touchMove", 200), ("touchMove", 90), ("touchEnd", None)):
        points = [] if x is None else [{"x": x, "y": 400}]
        browser.command("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert browser.run(f"return {SHOWN}") == "wide"


def test_the_lightbox_never_enlarges(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click('[data-key="formats/small.gif"]')
    browser.until("document.querySelector('#lightbox img').naturalWidth")
    sides = browser.run(
        "const one = document.querySelector('#lightbox img'); return [one.clientWidth, one.clientHeight]"
    )
    assert sides == [60, 40]


# ----------------------------------------------------------------------------------------- details

TOLD = """
    !/^…?$/.test(document.querySelector("[data-fact=asked]").textContent)
    && Object.fromEntries(
      [...document.querySelectorAll("[data-fact]")].map((one) => [one.dataset.fact, one.textContent]))
"""


def test_details_tell_format_bytes_sides_hit_and_what_was_lost(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.run(f"await {WIDE}.decode()")
    browser.click('[aria-label="Details of wide"]')
    told = browser.until(TOLD)
    size = browser.run(f"return {WIDE}.currentSrc").split("/")[4]  # whichever this window takes
    length = browser.run(
        f"return (await (await fetch('/resize/{size}.avif/formats/wide.jpg')).arrayBuffer()).byteLength"
    )
    sides = {"400x400": "400 × 167", "800x600": "800 × 333", "2000x2000": "2000 × 833"}[size]
    assert told["name"] == "formats/wide.jpg"
    assert told["shown"] == f"AVIF, {sides} px, {length / 1e3:.1f} kB"
    assert told["original"].startswith("JPEG, 2400 × 1000 px, ")
    assert told["asked"].startswith("hit, from memory, ")
    assert "The place it was taken (EXIF GPS)." in told["lost"]
    browser.press("Escape")
    assert not browser.run("return document.querySelector('dialog[open]')")
    assert browser.errors() == []


def test_details_of_the_large_picture_are_its_own(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click('[data-key="formats/wide.jpg"]')
    browser.until(LARGE)
    browser.click("#lightbox .more")
    assert browser.until(TOLD)["shown"].startswith("AVIF, 2000 × 833 px, ")
    browser.press("Escape")
    assert browser.run(f"return {SHOWN}") == "wide"  # only the details have closed


def test_the_copied_element_shows_the_picture_elsewhere(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.run("document.querySelector('.tile .more').click()")
    element = browser.run("return document.querySelector('#embed').value")
    [key] = [one for one in photographs() if "/" not in one]  # the one with quotes and a comma at its end
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


def test_without_javascript_pictures_are_links_to_large_ones(browser: Browser, page: str) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    browser.click('[data-key="formats/wide.jpg"]')
    browser.command("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.until("location.pathname.startsWith('/resize/')")
    assert browser.run("return location.pathname") == "/resize/2000x2000/formats/wide.jpg"
    assert browser.until("document.images[0]?.naturalWidth") == 2000
