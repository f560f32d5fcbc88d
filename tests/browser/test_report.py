"""The page of a report in Chromium: accessible, no wider than the screen, in light and dark, printed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.insight import html
from tests.support.chromium import LOOKS
from tests.support.logs import access_line, cloudfront_line, month, report_on_lines

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chromium import Browser

pytestmark = [pytest.mark.browser, pytest.mark.server("axe-core")]

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


@pytest.mark.parametrize(("width_px", "scheme"), LOOKS)
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
