"""The page of `galerly-cdn cost --html` in Chromium: on screens of a desktop and a phone, and in print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from galerly_cdn import cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chromium import Browser

pytestmark = pytest.mark.browser

NAME = "wedding-of-" + 30 * "anna-and-"
REPORT = {
    "requests": 40_000_000,
    "pictures": 40_000_000,
    "hits": 38_800_000,
    "hit_ratio": 0.97,
    "bytes": 4_400_000_000_000,
    "errors": 120,
    "renders": 90_000,
    "days": 31,
    "by_gallery": [
        {
            "name": NAME,
            "requests": 21_000_000,
            "pictures": 21_000_000,
            "hits": 20_000_000,
            "bytes": 2_300_000_000_000,
            "renders": 40_000,
        }
    ],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a report with a long gallery name."""
    folder: Path = tmp_path_factory.mktemp("cost")
    report, html = folder / "report.json", folder / "cost.html"
    report.write_text(json.dumps(REPORT))
    result = CliRunner().invoke(cli.main, ["cost", "--from-report", str(report), "--html", str(html)])
    assert result.exit_code == 0, result.output
    return html.as_uri()


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("width_px", [320, 390, 820, 1440])
def test_page_is_no_wider_than_the_screen(browser: Browser, page: str, width_px: int, media: str) -> None:
    browser.command("Emulation.setEmulatedMedia", media=media)
    try:
        browser.set_screen(width_px, 900)
        browser.open(page)
        assert browser.run("return document.documentElement.scrollWidth") == width_px
        assert browser.errors() == []
    finally:
        browser.command("Emulation.setEmulatedMedia", media="")


STATES = {
    "the example": [],
    "a report": ["--from-report"],
    "nothing": ["--views", "0", "--originals", "0"],
    "own machines": ["--machine-hour", "0.05"],
}


@pytest.mark.server("axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_page_is_accessible(browser: Browser, tmp_path: Path, state: str, scheme: str) -> None:
    html, report = tmp_path / "cost.html", tmp_path / "report.json"
    report.write_text(json.dumps(REPORT))
    options = [*STATES[state], *([str(report)] if state == "a report" else [])]
    result = CliRunner().invoke(cli.main, ["cost", *options, "--html", str(html)])
    assert result.exit_code == 0, result.output
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    try:
        browser.command("Emulation.setEmulatedMedia", features=features)
        browser.set_screen(390, 844)
        browser.open(html.as_uri())
        assert browser.violations() == []
    finally:
        browser.command("Emulation.setEmulatedMedia", features=[])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_the_colour_scheme_and_prints_light(browser: Browser, page: str, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    background = "return getComputedStyle(document.documentElement).color"
    light, dark = "rgb(29, 27, 24)", "rgb(236, 232, 225)"
    try:
        browser.command("Emulation.setEmulatedMedia", features=features)
        browser.open(page)
        assert browser.run(background) == (light if scheme == "light" else dark)
        browser.command("Emulation.setEmulatedMedia", media="print", features=features)
        assert browser.run(background) == light
    finally:
        browser.command("Emulation.setEmulatedMedia", media="", features=[])
