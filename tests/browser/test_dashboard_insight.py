"""The dashboard's pages Report, Cost and Doctor in Chromium: what they do, accessibility, layout, print."""

from __future__ import annotations

import base64
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import LOOKS
from tests.support.dashboard_store import arrived
from tests.support.logs import month

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chromium import Browser

pytestmark = [pytest.mark.browser, pytest.mark.server("axe-core")]

each_look = pytest.mark.parametrize(("width_px", "scheme"), LOOKS)
NO_RUN = "!document.querySelector('#state progress')"


@contextmanager
def serving_to_a_file(folder: Path) -> Iterator[str]:
    """Run `galerly-cdn serve` whose standard output is a log of a month; yields the admin side's address."""
    log = folder / "access.log"
    log.write_bytes(b"\n".join(month()) + b"\n")
    (folder / "photographs").mkdir()
    command = [sys.executable, "-c", "from galerly_cdn.cli import main; main()", "serve", "photographs"]
    options = ["--port", "0", "--admin-port", "0", "--renditions", str(folder / "renditions")]
    with (
        log.open("ab") as output,
        subprocess.Popen([*command, *options], stdout=output, cwd=folder) as server,
    ):
        try:
            yield _announced(log)
        finally:
            server.terminate()


def _announced(log: Path) -> str:
    """The address that the server writes to its log when it accepts connections."""
    with subprocess.Popen(["tail", "-n", "+1", "-f", str(log)], stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        line = next(line for line in tail.stdout if line.startswith("galerly-cdn is administered at"))
        tail.terminate()
        return line.split()[-1].rstrip("/")


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_to_a_file(tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture
def screen(browser: Browser, width_px: int, scheme: str) -> Browser:
    browser.set_screen(width_px, 844)
    browser.emulate(scheme)
    return browser


def text(browser: Browser, selector: str = "main") -> str:
    shown: str = browser.run(
        "return document.querySelector(given[0]).textContent.replace(/\\s+/g, ' ')", selector
    )
    return shown


def make_report(browser: Browser, admin: str) -> None:
    browser.open(f"{admin}/dashboard/report")
    browser.run("document.querySelector('#state').dataset.old = 'true'")
    browser.click("#filters button")
    browser.until(f"!document.querySelector('#state').dataset.old && {NO_RUN}")
    assert browser.run("return !!document.querySelector('.report')")


@each_look
def test_report_in_each_state_is_accessible_and_fits(screen: Browser, admin: str) -> None:
    screen.open(f"{admin}/dashboard/report")
    assert "From the server’s log" in text(screen)
    assert (screen.violations(), screen.overflow(), screen.layout_shift()) == ([], [], 0)
    screen.run("document.querySelector('#since').value = 'yesterday'")
    screen.click("#filters button")
    screen.until("document.querySelector('#state progress')")
    assert (screen.violations(), screen.overflow()) == ([], [])
    screen.until("document.querySelector('#state .problem')")
    assert "is no time: use 24h, 7d or 2026-11-30." in text(screen, "#state")
    assert (screen.violations(), screen.overflow()) == ([], [])
    make_report(screen, admin)
    screen.until("document.querySelector('#progress').textContent === 'The report is ready.'")
    assert (screen.violations(), screen.overflow(), screen.errors()) == ([], [], [])
    screen.open(f"{admin}/dashboard/report")  # it is there when the page is opened again
    assert "The server" not in text(screen, "#said")
    assert (screen.run("return document.querySelectorAll('.targets li').length"), screen.layout_shift()) == (
        4,
        0,
    )


def test_report_looks_as_on_a_page_of_its_own(browser: Browser, admin: str, tmp_path: Path) -> None:
    """The rules of other pages do not apply to it."""
    styles = """
        const names = ["padding", "text-align", "vertical-align", "display", "font-size", "border-top-width",
          "border-bottom-width", "min-height", "background-color", "margin"];
        return [...document.querySelectorAll(given[0])].map((one) => {
          const style = getComputedStyle(one);
          return one.tagName + names.map((name) => style.getPropertyValue(name)).join("; ");
        });
        """
    parts = ".targets *, .figures *, .note, .report th, .report td, .chart, .key *, .columns"
    make_report(browser, admin)
    shown = browser.run(styles, parts)
    page = tmp_path / "report.html"
    saved = browser.run("return (await fetch('/dashboard/report/galerly-cdn-report.html')).text()")
    page.write_text(saved, "utf-8")
    browser.open(page.as_uri())
    alone = browser.run(styles, parts)
    assert len(shown) > 100
    assert [pair for pair in zip(shown, alone, strict=True) if pair[0] != pair[1]] == []


def test_report_is_stopped(browser: Browser, admin: str) -> None:
    browser.open(f"{admin}/dashboard/report")
    browser.click("#filters button")
    browser.until("document.querySelector('#state progress')")
    browser.click("#state button")
    browser.until(NO_RUN)
    assert "The report was stopped." in text(browser, "#state")
    assert browser.errors() == []


DROP = """
const files = new DataTransfer();
for (const [name, content] of given[0]) files.items.add(new File([content], name));
const drop = document.querySelector("#drop");
const dropped = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
drop.dispatchEvent(new DragEvent("dragover", { bubbles: true, cancelable: true }));
const was = drop.classList.contains("over");
drop.dispatchEvent(dropped);
return [was, drop.classList.contains("over"), document.querySelector("#files").files.length];
"""


def test_dropped_logs_are_reported(browser: Browser, admin: str) -> None:
    lines = b"\n".join(month()).decode()
    browser.open(f"{admin}/dashboard/report")
    assert browser.run(DROP, [["monday.log", lines], ["<b>tuesday</b>.log", lines]]) == [True, False, 2]
    browser.click("#filters button")
    browser.until(f"document.querySelector('.made')?.textContent.includes('2 files') && {NO_RUN}")
    assert browser.run("return document.querySelector('#files').files.length") == 0
    assert browser.errors() == []


@pytest.mark.parametrize(
    ("files", "said"),
    [([["empty.log", ""]], "The files are empty."), ([["a.log", "x"]] * 65, "Choose at most 64 files.")],
    ids=["empty", "too many"],
)
def test_files_that_cannot_be_sent_are_told(
    browser: Browser, admin: str, files: list[list[str]], said: str
) -> None:
    browser.open(f"{admin}/dashboard/report")
    browser.run(DROP, files)
    browser.click("#filters button")
    assert browser.until("document.querySelector('#said').textContent") == said


def test_report_is_printed_dark_on_white_without_the_form(browser: Browser, admin: str) -> None:
    make_report(browser, admin)
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.command("Emulation.setEmulatedMedia", media="print", features=scheme)
    color = (
        "return getComputedStyle(document.querySelector('.report h2')).color.match(/[0-9.]+/g).map(Number)"
    )
    assert max(browser.run(color)) < 64
    hidden = "return ['.masthead', '#filters'].map((one) => document.querySelector(one).checkVisibility())"
    assert browser.run(hidden) == [False, False]
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    printed = browser.command("Page.printToPDF", printBackground=True)["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")


@each_look
def test_cost_is_accessible_and_fits(screen: Browser, admin: str) -> None:
    make_report(screen, admin)
    for query in ("", "?views=1e15&hit_ratio=0.5&viewers=europe%3D0.4,japan%3D0.6", "?views=many"):
        screen.open(f"{admin}/dashboard/cost{query}")
        assert (screen.violations(), screen.overflow(), screen.layout_shift()) == ([], [], 0), query
    assert "Views a month: not a number." in text(screen)
    assert screen.run("return document.querySelector('#views').value") == "many"


def test_cost_is_that_of_the_form(browser: Browser, admin: str) -> None:
    browser.open(f"{admin}/dashboard/cost")
    before = text(browser, ".sums")
    browser.run("document.querySelector('#original_mb').value = '50'")
    browser.click("form.filters button")
    arrived(browser, "location.search && document.querySelector('.sums')")
    assert text(browser, ".sums") != before
    assert browser.run("return document.querySelector('#original_mb').value") == "50"
    assert browser.errors() == []


@each_look
def test_doctor_in_each_state_is_accessible_and_fits(screen: Browser, admin: str) -> None:
    screen.open(f"{admin}/dashboard/doctor")
    assert (screen.violations(), screen.overflow(), screen.layout_shift()) == ([], [], 0)
    screen.click("#state button")
    screen.until("document.querySelector('#state progress')")
    assert (screen.violations(), screen.overflow()) == ([], [])
    screen.until(f"document.querySelector('.findings') && {NO_RUN}")
    assert " checks, " in text(screen, "#state")
    screen.until("document.querySelector('#progress').textContent === 'The checks have ended.'")
    assert (screen.violations(), screen.overflow(), screen.errors()) == ([], [], [])
