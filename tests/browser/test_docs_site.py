"""The docs site, opened as files, on a phone and a desktop, light and dark, and its search."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import LOOKS

if TYPE_CHECKING:
    from tests.support.chromium import Browser

ROOT = Path(__file__).parents[2]
PAGES = ("index", "report", "settings")
LOADED = "script[src], link[rel=stylesheet], link[rel=preload], link[rel*=icon], img, iframe"
OTHER_HOST = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*')
pytestmark = [pytest.mark.browser, pytest.mark.server("docs tools", "axe-core")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([ROOT / "script/site", folder], check=True, capture_output=True)
    return folder / "docs"


@pytest.mark.parametrize(("width_px", "scheme"), LOOKS)
def test_page_is_accessible_fits_the_screen_and_loads_no_other_host(
    site: Path, browser: Browser, width_px: int, scheme: str
) -> None:
    browser.set_screen(width_px, 900)
    browser.emulate(scheme)
    for name in PAGES:
        browser.open((site / f"{name}.html").as_uri())
        assert browser.errors() == []
        loaded = browser.run(
            "return [...document.querySelectorAll(given[0])].map((one) => one.src ?? one.href)", LOADED
        )
        assert loaded
        assert all(address.startswith("file:") for address in loaded)
        width = browser.run("return [document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]
        assert browser.violations() == [], name
        browser.errors()  # axe-core reads the style sheets, which a browser refuses for files


def test_no_page_loads_from_another_host(site: Path) -> None:
    pages = [*site.parent.rglob("*.html")]
    assert len(pages) > 60
    assert {
        page.name: found for page in pages if (found := OTHER_HOST.findall(page.read_text("utf-8")))
    } == {}


def test_search_finds_a_setting_without_a_server(site: Path, browser: Browser) -> None:
    browser.open((site / "index.html").as_uri())
    browser.run("document.querySelector('input[name=q]').focus()")
    browser.type_text("queue_wait_s")
    browser.press("Enter")
    browser.arrive(f"{site.parent}/search.html")
    found = browser.until(
        "document.querySelector('.search-summary')?.textContent.includes('found')"
        " && [...document.querySelectorAll('#search-results li')].map((one) => one.innerText)"
    )
    assert "Settings" in " ".join(found)
    assert browser.errors() == []
