"""Tests the dashboard's pages of galleries, photographs, uploads and links in Chromium, with every action."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.access import keys
from galerly_cdn.http.urls import format_key
from tests.support import pictures
from tests.support.chromium import LOOKS
from tests.support.dashboard_store import answer, arrived, choose, store_serving, tab_to, text, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chromium import Browser
    from tests.support.dashboard_store import Served

pytestmark = [pytest.mark.browser, pytest.mark.server("axe-core")]

DESKTOP, PHONE = (1280, 844), (390, 844)
HOSTILE = (
    "odd/<img src=x onerror=alert(1)>.jpg",
    "odd/\"'&--><script>alert(1)<.jpg",
    "odd/\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe.jpg",
    "odd/100%25%2F{{ 7 * 7 }}.jpg",
    "odd/" + "/".join(["y" * 200] * 4) + "/" + "z" * 88 + ".jpg",  # 900 bytes
)
FILES = {
    **{f"coast/{number:02}.jpg": pictures.jpeg(300 + number, 200, gps=True) for number in range(70)},
    "coast/half.jpg": pictures.truncated(pictures.jpeg()),
    "coast/notes.txt": b"no photograph",
    "clients/smith/1.jpg": pictures.jpeg(300, 200),
    **dict.fromkeys(HOSTILE, pictures.jpeg(300, 200)),
}
each_screen = pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store with private galleries, and a key that signs links to them. No test changes its photographs."""
    folder = tmp_path_factory.mktemp("store")
    write(folder / "originals", FILES)
    _, _, private_key = keys.create_key_pair(tmp_path_factory.mktemp("keys"), ecdsa=True)
    moved = private_key.rename(tmp_path_factory.mktemp("private") / private_key.name)
    with store_serving(
        folder,
        private_prefixes="clients",
        public_keys=str(private_key.parent),
        public_urls="https://cdn.example.com",
        signing_key=str(moved),
    ) as one:
        yield one


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store that the tests change, each in a gallery of its own."""
    with store_serving(tmp_path_factory.mktemp("store")) as one:
        yield one


# ------------------------------------------------------------------------------------------- pages

PAGES = {
    "galleries": "galleries",
    "no gallery of that name": "galleries?search=none",
    "gallery": "galleries/gallery/coast",
    "its last page": "galleries/gallery/coast?after=coast/59.jpg&page=2",
    "no photograph of that name": "galleries/gallery/coast?search=x",
    "hostile names": "galleries/gallery/odd",
    "everything": "galleries/gallery/",
    "photograph": "galleries/photograph/coast/01.jpg",
    "damaged photograph": "galleries/photograph/coast/half.jpg",
    "no photograph": "galleries/photograph/coast/notes.txt",
    "longest key": f"galleries/photograph/{format_key(HOSTILE[-1])}",
    "upload": "upload?gallery=coast",
    "link": "galleries/links?gallery=clients/smith",
    "missing photograph": "galleries/photograph/coast/none.jpg",
    "malformed query": "galleries?page=0",
}


@pytest.mark.parametrize(("width_px", "scheme"), LOOKS)
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_page_is_accessible_fits_and_does_not_shift(
    browser: Browser, served: Served, page: str, width_px: int, scheme: str
) -> None:
    browser.set_screen(width_px, 844)
    browser.emulate(scheme)
    browser.open(f"{served.address}/dashboard/{page}")
    browser.load_pictures()
    assert (browser.violations(), browser.overflow(), browser.layout_shift()) == ([], [], 0)
    errors = [one for one in browser.errors() if "/half.jpg" not in one]  # 415, shown in its tile
    assert [one for one in errors if "status of 4" not in one or "/dashboard/picture/" in one] == []


@pytest.mark.parametrize(
    "page",
    [
        "now",
        "errors",
        "report",
        "cost",
        "doctor",
        *(PAGES[one] for one in ("gallery", "photograph", "upload")),
    ],
)
def test_page_without_javascript_shows_itself_and_what_does_not_work(
    browser: Browser, served: Served, page: str
) -> None:
    browser.set_screen(*PHONE)
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(f"{served.address}/dashboard/{page}")
    assert "Nothing can be changed, uploaded or started" in browser.find("noscript").text
    assert browser.find("h1").text


def test_empty_store_leads_to_the_upload(browser: Browser, writable: Served) -> None:
    with_search = f"{writable.address}/dashboard/galleries/gallery/none"
    browser.open(with_search)
    browser.click("main a[href='/dashboard/upload?gallery=none']")
    assert browser.run("return document.querySelector('#gallery').value") == "none"
    assert text(browser, "#preview") == "none/photo.jpg"


def test_gallery_shows_thumbnails_a_page_at_a_time(browser: Browser, served: Served) -> None:
    browser.open(f"{served.address}/dashboard/galleries")
    browser.click("a[href$='/gallery/coast']")
    browser.load_pictures()
    widths = browser.run("return [...document.querySelectorAll('.tiles img')].map((one) => one.naturalWidth)")
    assert (len(widths), min(widths) > 0) == (60, True)
    browser.click("a[rel=next]")
    browser.until("document.querySelector('.no-picture')")
    browser.load_pictures()
    told = "[...document.querySelectorAll('.no-picture')].map((one) => one.textContent)"
    assert browser.until(f"{told}.length === 2 && {told}") == [
        "The photograph is damaged or incomplete.",
        "No photograph by its name",
    ]
    browser.click("#search")
    browser.type_text("0")
    browser.press("Enter")
    browser.until("document.querySelectorAll('.tiles li').length === 10")


def test_private_photograph_is_shown_and_no_cache_keeps_it(browser: Browser, served: Served) -> None:
    browser.open(served.photograph("clients/smith/1.jpg"))
    browser.load_pictures()
    assert browser.run("return document.querySelector('main img').naturalWidth") > 0
    header = "(await fetch(document.querySelector('main img').src)).headers.get('cache-control')"
    assert browser.run(f"return {header}") == "private, no-cache"
    assert "The photograph is private" in text(browser, "main")


def test_hostile_keys_are_text_in_every_page(browser: Browser, served: Served) -> None:
    """No element, no script and no request comes of a key; each photograph opens."""
    browser.open(f"{served.address}/dashboard/galleries/gallery/odd")
    browser.load_pictures()
    paths = browser.run("return [...document.querySelectorAll('.tiles a')].map((one) => one.href)")
    assert len(paths) == len(HOSTILE)
    shown = set()
    for path in paths:
        browser.open(path)
        shown.add(browser.run("return document.querySelector('h1').textContent"))
        assert (
            browser.run("return document.querySelectorAll('h1 *, main script, main img[src=x]').length") == 0
        )
        browser.load_pictures()
        assert browser.run("return document.querySelector('main img').naturalWidth") > 0
    assert shown == set(HOSTILE)
    assert browser.errors() == []


def test_embedding_is_copied(browser: Browser, served: Served) -> None:
    browser.open(served.photograph("coast/01.jpg"))
    for name in ("picture", "img"):
        html = browser.run("return document.querySelector(given[0]).value", f"#embed-{name}")
        assert html.startswith(f"<{name}")
        assert "https://cdn.example.com/resize/" in html
        browser.click(f"[data-copies=embed-{name}]")
        browser.until("said.textContent === 'Copied.'")


# ----------------------------------------------------------------------------------------- actions


@each_screen
def test_gallery_is_warmed_and_purged_with_progress(
    browser: Browser, writable: Served, screen: tuple[int, int]
) -> None:
    gallery = f"warm-{screen[0]}"
    write(
        writable.originals,
        {f"{gallery}/{number}.jpg": pictures.jpeg(200, 100 + number) for number in range(3)}
        | {f"{gallery}/half.jpg": pictures.truncated(pictures.jpeg())},
    )
    browser.set_screen(*screen)
    browser.open(f"{writable.address}/dashboard/galleries/gallery/{gallery}")
    press_button(browser, "Warm")
    ended(browser, "Warmed")
    made, there = map(int, re.findall(r"[0-9]+", text(browser, "#progress-text"))[:2])
    assert made + there == 36  # the page's thumbnails were there, or made meanwhile
    assert "half.jpg: The photograph is damaged or incomplete." in text(browser, "#progress .problems")
    assert len(writable.inspect(f"{gallery}/0.jpg")["renditions"]) == 12
    assert (browser.violations(), browser.overflow()) == ([], [])
    press_button(browser, "Purge")
    assert browser.until("document.activeElement.textContent") == "Cancel"  # Enter alone deletes nothing
    assert browser.violations() == []
    browser.press("Escape")
    assert len(writable.inspect(f"{gallery}/0.jpg")["renditions"]) == 12
    press_button(browser, "Purge")
    answer(browser)
    ended(browser, "Purged")
    assert text(browser, "#progress-text") == "Purged: 36 renditions of 4 photographs."
    assert writable.inspect(f"{gallery}/0.jpg")["renditions"] == []


def test_stopped_warming_goes_on_after_the_last_photograph(browser: Browser, writable: Served) -> None:
    write(
        writable.originals,
        {f"stop/{number:02}.jpg": pictures.jpeg(900, 600 + number) for number in range(12)},
    )
    browser.open(f"{writable.address}/dashboard/galleries/gallery/stop")
    press_button(browser, "Warm")
    said = "document.querySelector('#progress-text').textContent"
    browser.until(f"/Warmed: (2[5-9]|[3-9][0-9]) made/.test({said})")
    browser.click(".stop")
    browser.until(f"{said}.includes('Stopped: what was done stays done.')")
    press_button(browser, "Warm")
    ended(browser, "Warmed")
    requested = browser.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [one for one in requested if re.search(r"&after=stop%2F[0-9]{2}\.jpg$", one)]
    assert {len(writable.inspect(f"stop/{number:02}.jpg")["renditions"]) for number in range(12)} == {12}
    assert browser.errors() == []


def test_photograph_is_warmed_purged_replaced_and_deleted(
    browser: Browser, writable: Served, tmp_path: Path
) -> None:
    key = "one/photo 1.jpg"
    write(writable.originals, {key: pictures.jpeg(300, 200)})
    browser.open(writable.photograph(key))
    browser.load_pictures()
    press_button(browser, "Warm")
    # four sizes in three formats, and the picture on the page
    browser.until("document.querySelectorAll('.renditions tbody tr').length === 13")
    assert text(browser, ".renditions .good") == "current"
    press_button(browser, "Purge")
    answer(browser)
    browser.until("!document.querySelector('.renditions')")
    other = tmp_path / "other.jpg"
    other.write_bytes(pictures.jpeg(340, 200))
    choose(browser, "#replacement", other)
    answer(browser)
    arrived(browser, "document.querySelector('dl')?.textContent.includes('340 × 200')")
    press_button(browser, "Delete")
    answer(browser)
    arrived(browser, "location.pathname === '/dashboard/galleries/gallery/one'")
    assert not (writable.originals / key).exists()
    assert browser.errors() == []


def test_refused_replacement_says_why_and_changes_nothing(
    browser: Browser, writable: Served, tmp_path: Path
) -> None:
    write(writable.originals, {"kept/a.jpg": pictures.jpeg(300, 200)})
    (tmp_path / "text.jpg").write_bytes(b"no photograph")
    browser.open(writable.photograph("kept/a.jpg"))
    choose(browser, "#replacement", tmp_path / "text.jpg")
    answer(browser)
    browser.until("document.querySelector('#progress-text').textContent.includes('unsupported-format')")
    assert writable.inspect("kept/a.jpg")["facts"]["width_px"] == 300


def test_purge_is_done_by_keyboard_alone(browser: Browser, writable: Served) -> None:
    write(writable.originals, {"keyboard/a.jpg": pictures.jpeg(300, 200)})
    browser.open(writable.photograph("keyboard/a.jpg"))
    browser.load_pictures()
    browser.run("document.querySelector('#content').focus()")
    tab_to(browser, "document.activeElement.textContent === 'Purge'")
    browser.press("Enter")
    tab_to(browser, "document.activeElement.value === 'yes'")
    browser.press("Enter")
    browser.until("document.querySelector('#progress-text').textContent.startsWith('Purged')")


def press_button(browser: Browser, label: str) -> None:
    buttons = "[...document.querySelectorAll('.actions button')]"
    browser.run(f"{buttons}.find((one) => one.textContent === given[0]).click()", label)


def ended(browser: Browser, verb: str) -> None:
    """Wait for the end of an action."""
    said = "document.querySelector('#progress-text').textContent"
    browser.until(f"{said}.startsWith(given[0]) && document.querySelector('.stop').hidden", verb)
