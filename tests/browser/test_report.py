"""The page of a report in Chromium: accessible, no wider than the screen, in light and dark, printed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.insight import html
from tests.support.logs import DAY_S, MONDAY_S, access_line, cloudfront_line, report_on_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.conftest import Browser

pytestmark = [pytest.mark.browser, pytest.mark.server("axe-core")]

LONG = (
    'portraits/a gallery with a very long name & <b>markup</b>, "quoted"/IMG_0001_without_a_break_at_all.jpg'
)


def month() -> Iterator[bytes]:
    """A month with hits, renders, refused sizes and a sweep, which misses targets."""
    for day in range(31):
        time_s = MONDAY_S + day * DAY_S
        for number in range(20 - day % 5):
            key = LONG if number % 3 else f"coast/{number}.jpg"
            yield access_line(key, time_s=time_s, size=("150x150", "800x600", "2000x2000")[number % 3])
        yield access_line(cache="fwd=uri-miss; stored", render_ms=3000.0 + day, time_s=time_s)
        yield access_line(
            "",
            "",
            403,
            "",
            path=f"/resize/{day}x{day}/{LONG}",
            format="",
            reason="size-not-allowed",
            time_s=time_s,
        )
    for number in range(60):
        yield access_line(f"none/{number}.jpg", "", 404, reason="no-such-original", time_s=MONDAY_S)
    yield b"galerly-cdn serves http://127.0.0.1:8000/"


LOGS = {
    "a month": tuple(month()),
    "CloudFront alone": (cloudfront_line(), cloudfront_line(result="Miss")),
    "errors alone": (access_line("", "", 500, "", path="/resize/x", format="", reason="internal"),),
    "nothing": (b"cut off",),
}


@pytest.fixture(scope="module", params=LOGS)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    page: Path = tmp_path_factory.mktemp("report") / "report.html"
    page.write_text(html.page(report_on_lines(*LOGS[request.param])), "utf-8")
    return page.as_uri()


def emulate(browser: Browser, scheme: str, media: str = "") -> None:
    scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.command("Emulation.setEmulatedMedia", media=media, features=[scheme_feature])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1280])
def test_report_is_accessible_and_not_wider_than_the_screen(
    browser: Browser, address: str, width_px: int, scheme: str
) -> None:
    browser.set_screen(width_px, 844)
    emulate(browser, scheme)
    browser.open(address)
    assert browser.run("return document.documentElement.scrollWidth") <= width_px
    cut = """
        return [...document.querySelectorAll("td, th, li, dd, p")]
          .filter((one) => one.clientWidth && one.scrollWidth > one.clientWidth + 1)
          .map((one) => one.outerHTML)
        """
    assert browser.run(cut) == []
    assert browser.violations() == []
    assert browser.errors() == []


def test_report_is_printed_dark_on_white_whatever_the_screen(browser: Browser, address: str) -> None:
    emulate(browser, "dark", "print")
    browser.open(address)
    color = "return getComputedStyle(document.querySelector('h1')).color.match(/[0-9.]+/g).map(Number)"
    assert max(browser.run(color)) < 64
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    printed = browser.command("Page.printToPDF", printBackground=True)["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
