"""Serves a store to a browser that shows its dashboard, and does what people do in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

import pytest

from galerly_cdn.http.urls import format_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chromium import Browser


class Served(NamedTuple):
    """The address of an admin side, and the folder of its originals."""

    address: str
    originals: Path

    def photograph(self, key: str) -> str:
        return f"{self.address}/dashboard/galleries/photograph/{format_key(key)}"

    def inspect(self, key: str) -> Any:  # noqa: ANN401 - JSON
        with urlopen(f"{self.address}/originals/{format_key(key)}") as response:
            return json.load(response)


@contextmanager
def store_serving(folder: Path, **settings: str) -> Iterator[Served]:
    """Run `galerly-cdn serve` over a store in `folder`."""
    variables = {f"GALERLY_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "galerly_cdn", "serve", "--store", str(folder), "--workers", "1"]
    with subprocess.Popen(
        [*command, "--port", "0", "--admin-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    ) as server:
        assert server.stdout is not None
        try:
            server.stdout.readline()
            address = server.stdout.readline().split()[-1].rstrip("/")
            with subprocess.Popen(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL):
                yield Served(address, folder / "originals")
                server.terminate()
        finally:
            server.terminate()


def write(originals: Path, files: dict[str, bytes]) -> None:
    """Write originals by their keys, as another program may."""
    for key, body in files.items():
        (originals / key).parent.mkdir(parents=True, exist_ok=True)
        (originals / key).write_bytes(body)


def text(browser: Browser, selector: str) -> str:
    """The text of an element, with single spaces; empty if there is none."""
    found: str = browser.run("return document.querySelector(given[0])?.textContent ?? ''", selector)
    return " ".join(found.split())


def answer(browser: Browser) -> None:
    """Confirm the question."""
    browser.until("document.querySelector('dialog[open]')")
    browser.click("dialog .yes")


def arrived(browser: Browser, condition: str) -> None:
    """Wait until an expression is true in a page that another one may replace meanwhile."""
    from selenium.common.exceptions import WebDriverException

    for _ in range(3000):
        with suppress(WebDriverException):  # the page that was asked is gone
            if browser.run(f"await new Promise(requestAnimationFrame); return {condition}"):
                return
    pytest.fail(f"no page has {condition}")


def choose(browser: Browser, selector: str, *files: Path) -> None:
    """Choose files in an input."""
    browser.find(selector).send_keys("\n".join(map(str, files)))


def tab_to(browser: Browser, condition: str) -> None:
    """Press Tab until an expression is true."""
    for _ in range(60):
        if browser.run(f"return {condition}"):
            return
        browser.press("Tab")
    pytest.fail(f"the keyboard does not reach {condition}")
