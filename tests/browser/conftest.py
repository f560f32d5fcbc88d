"""Fixtures: a server of a folder of photographs, and a Chromium browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import pictures
from tests.support.chromium import Browser, serving, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver.chrome.webdriver import WebDriver


def photographs() -> dict[str, bytes]:
    """Files of three galleries by key: every EXIF orientation, and several formats."""
    return {
        **{
            f"upright/{orientation}.jpg": pictures.jpeg(900, 600, orientation=orientation)
            for orientation in range(1, 9)
        },
        "formats/wide.jpg": pictures.jpeg(2400, 1000, gps=True),
        "formats/tall.webp": pictures.webp(600, 900),
        "formats/clear.png": pictures.png(700, 700),
        "formats/small.gif": pictures.gif(60, 40),
        "cover \U0001f30a & 'it', \"quoted\",.jpg": pictures.jpeg(1200, 800),
    }


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the browsing page."""
    folder = tmp_path_factory.mktemp("photographs")
    for key, body in photographs().items():
        (folder / key).parent.mkdir(exist_ok=True)
        (folder / key).write_bytes(body)
    with serving(folder, tmp_path_factory.mktemp("renditions")) as address:
        yield address


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with started(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(chromium: WebDriver) -> Iterator[Browser]:
    browser = Browser(chromium)
    browser.set_screen(1440, 900)
    yield browser
    browser.command("Emulation.setScriptExecutionDisabled", value=False)
    browser.command("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.command("Emulation.setEmulatedMedia", media="", features=[])
    browser.open("about:blank")
