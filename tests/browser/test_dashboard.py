"""Tests the dashboard in Chromium: login, pages that move, keyboard, accessibility, layout."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support import pictures
from tests.support.chromium import LOOKS, serving_with_admin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chromium import Browser

pytestmark = [pytest.mark.browser, pytest.mark.server("axe-core")]

TOKEN = "0123456789abcdef0123456789abcdef"
LONG = "a-gallery-with-a-very-long-name-without-a-break/IMG_0001_" + "x" * 120 + ".jpg"
FIGURES = "/dashboard/now/figures"
REQUESTED = f"performance.getEntriesByType('resource').filter((one) => one.name.endsWith('{FIGURES}')).length"
each_look = pytest.mark.parametrize(("width_px", "scheme"), LOOKS)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "g").mkdir()
    (folder / "g" / "a.jpg").write_bytes(pictures.jpeg(900, 600))
    return folder


@pytest.fixture(scope="module")
def open_side(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of a server whose dashboard needs no login."""
    with serving_with_admin(photographs, tmp_path_factory.mktemp("renditions")) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def closed_side(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an admin side with a token."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    renditions = tmp_path_factory.mktemp("renditions")
    with serving_with_admin(photographs, renditions, "--admin-token-file", str(file)) as (_, admin):
        yield admin.rstrip("/")


def ask(address: str, *paths: str) -> list[int]:
    """The statuses of requests by a viewer."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    statuses = []
    for path in paths:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    return statuses


def log_in(browser: Browser, address: str, token: str = TOKEN) -> None:
    browser.open(f"{address}/dashboard")
    browser.click("#token")
    browser.type_text(token)
    browser.press("Enter")


def log_out(browser: Browser) -> None:
    browser.click("form button")
    browser.arrive("/dashboard/login")


def test_token_opens_the_dashboard_and_signing_out_closes_it(browser: Browser, closed_side: str) -> None:
    log_in(browser, closed_side)
    browser.arrive("/dashboard/now")
    assert browser.run("return document.cookie") == ""  # HttpOnly
    kept = browser.run("return { ...localStorage, ...sessionStorage }")
    assert kept == {"htmx-current-path-for-history": "/dashboard/now"}
    assert browser.errors() == []
    log_out(browser)
    browser.open(f"{closed_side}/dashboard/now")
    assert browser.run("return location.pathname") == "/dashboard/login"


def test_page_whose_session_ended_leads_to_the_login(browser: Browser, closed_side: str) -> None:
    log_in(browser, closed_side)
    browser.arrive("/dashboard/now")
    browser.command("Network.clearBrowserCookies")
    browser.run("htmx.trigger('#figures', 'refresh')")
    browser.arrive("/dashboard/login")


@each_look
def test_login_and_its_refusals_are_accessible(
    browser: Browser, closed_side: str, width_px: int, scheme: str
) -> None:
    browser.set_screen(width_px, 844)
    browser.emulate(scheme)
    browser.open(f"{closed_side}/dashboard/login")
    assert browser.run("return document.activeElement.id") == "token"
    assert (browser.violations(), browser.overflow(), browser.layout_shift()) == ([], [], 0)
    log_in(browser, closed_side, "wrong")
    browser.arrive("/dashboard/login", "#problem")
    shown = browser.run("return document.querySelector('#problem').textContent")
    assert "This is not one of the admin tokens." in shown or "Too many logins failed" in shown
    assert (browser.violations(), browser.overflow()) == ([], [])


def test_now_moves_by_itself_and_not_while_it_is_hidden(browser: Browser, open_side: tuple[str, str]) -> None:
    public, admin = open_side
    browser.open(f"{admin}dashboard/now")
    before = browser.run("return document.querySelector('.figures').textContent")
    assert set(ask(public, *["/resize/tiny/g/a.jpg"] * 20, "/resize/1x1/g/a.jpg")) == {200, 403}
    browser.until(REQUESTED)  # within 10 seconds
    browser.until("document.querySelector('.figures').textContent !== given[0]", before)
    browser.until("document.querySelector('#lists').textContent.includes('size-not-allowed')")
    browser.run("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })")
    requested = browser.run(f"htmx.trigger('#figures', 'refresh'); return {REQUESTED}")
    browser.run("Object.defineProperty(document, 'hidden', { configurable: true, get: () => false })")
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")
    browser.until(f"{REQUESTED} > given[0]", requested)
    assert browser.run(f"return {REQUESTED}") == requested + 1
    assert browser.errors() == []


@each_look
def test_now_is_accessible_fits_and_does_not_shift(
    browser: Browser, open_side: tuple[str, str], width_px: int, scheme: str
) -> None:
    public, admin = open_side
    browser.set_screen(width_px, 844)
    browser.emulate(scheme)
    ask(public, "/resize/medium/g/a.jpg", "/resize/1x1/g/a.jpg", f"/resize/tiny/{LONG}")
    browser.open(f"{admin}dashboard/now")
    browser.until(
        "document.querySelectorAll('.uplot').length === 6 || document.querySelector('.summary')?.textContent"
    )
    browser.run("htmx.trigger('#figures', 'refresh')")
    browser.until(REQUESTED)
    assert browser.layout_shift() == 0
    browser.run("document.querySelector('details').open = true")
    assert (browser.violations(), browser.overflow()) == ([], [])
    assert browser.errors() == []


def test_charts_say_their_values_and_the_table_stays_open(
    browser: Browser, open_side: tuple[str, str]
) -> None:
    browser.open(f"{open_side[1]}dashboard/now")
    browser.until("document.querySelectorAll('.uplot').length === 6")  # with the second sample
    summaries = browser.run("return [...document.querySelectorAll('.summary')].map((one) => one.textContent)")
    assert all("at most" in one or "none" in one for one in summaries)
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter")
    browser.until("document.querySelector('details').open")
    rows = "document.querySelectorAll('#hour tbody tr').length"
    assert browser.run(f"return {rows}") >= 1
    browser.run("htmx.trigger('#figures', 'refresh')")
    browser.until(REQUESTED)
    assert browser.run("return document.querySelector('details').open")
    assert browser.run("return document.activeElement.tagName") == "SUMMARY"


def test_pages_are_reached_by_the_keyboard(browser: Browser, open_side: tuple[str, str]) -> None:
    browser.open(f"{open_side[1]}dashboard/now")
    reached = []
    for _ in range(4):
        browser.press("Tab")
        reached.append(browser.run("return document.activeElement.textContent"))
        outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    assert reached[:3] == [
        "Skip to the content",
        "Now",
        browser.run("return document.querySelectorAll('nav a')[1].textContent"),
    ]
    browser.run("document.querySelector('nav a[href$=errors]').focus()")
    browser.press("Enter")
    browser.arrive("/dashboard/errors")
    browser.press("Tab")
    browser.press("Enter")
    assert browser.run("return document.activeElement.id") == "content"


@each_look
def test_errors_are_accessible_and_fit(
    browser: Browser, open_side: tuple[str, str], width_px: int, scheme: str
) -> None:
    public, admin = open_side
    ask(public, "/resize/1x1/g/a.jpg", f"/resize/tiny/{LONG}", "/resize/tiny/%3Cb%3E.jpg", "/none")
    browser.set_screen(width_px, 844)
    browser.emulate(scheme)
    for query in ("", "?code=size-not-allowed", "?code=none-of-them", "?unknown=1"):
        browser.open(f"{admin}dashboard/errors{query}")
        assert (browser.violations(), browser.overflow(), browser.layout_shift()) == ([], [], 0), query


def test_page_says_that_the_server_does_not_answer(
    browser: Browser, photographs: Path, tmp_path: Path
) -> None:
    with serving_with_admin(photographs, tmp_path) as (_, admin):
        browser.open(f"{admin}dashboard/errors")
        assert "No request failed" in browser.run("return document.querySelector('main').textContent")
        assert browser.violations() == []
        browser.open(f"{admin}dashboard/now")
        assert browser.run("return document.querySelector('#said').textContent") == ""
    browser.run("htmx.trigger('#figures', 'refresh')")
    assert browser.until("document.querySelector('#said').textContent") == "The server does not answer."
    assert browser.violations() == []
