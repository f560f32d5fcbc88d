"""Tests uploading and signing in the dashboard in Chromium: progress, refusals, conflicts, interruptions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from galerly_cdn.access import keys
from galerly_cdn.access.signing import Verifier
from galerly_cdn.errors import SignatureExpired, SignatureWrongClient
from tests.support import pictures
from tests.support.dashboard_store import arrived, choose, store_serving, tab_to, text, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chromium import Browser
    from tests.support.dashboard_store import Served

pytestmark = [pytest.mark.browser, pytest.mark.server("axe-core")]

STATES = """
    Object.fromEntries(
      [...document.querySelectorAll("#list li")].map(
        (row) => [row.querySelector(".key").textContent, row.querySelector(".state").textContent]))
    """
SETTLED = (
    "document.querySelectorAll('#list li').length && "
    "!document.querySelector('#list li:is([data-state=waiting], [data-state=active])')"
)
SENT = """
    performance.getEntriesByType("resource").filter(
      (one) => one.initiatorType === "xmlhttprequest" && one.name.includes("/originals/")).length
    """
NOTICE_MOST = """
    window.most = 0;
    new MutationObserver(() => {
      window.most = Math.max(window.most, document.querySelectorAll("#list [data-state=active]").length);
    }).observe(document.querySelector("#list"), { subtree: true, childList: true, attributes: true });
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store that the tests change, each in a gallery of its own."""
    with store_serving(tmp_path_factory.mktemp("store"), max_original_bytes="3000000") as one:
        yield one


def open_upload(browser: Browser, served: Served, gallery: str) -> None:
    browser.open(f"{served.address}/dashboard/upload?gallery={gallery}")


def settled(browser: Browser) -> dict[str, str]:
    """Wait until nothing is sent any more; what is said of each key."""
    browser.until(SETTLED)
    states: dict[str, str] = browser.run(f"return ({STATES})")
    return states


def made(folder: Path, count: int, *, width_px: int = 200) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:02}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(pictures.jpeg(width_px, 100 + number))
    return files


@pytest.mark.parametrize("screen", [(1280, 844), (390, 844)], ids=["desktop", "phone"])
def test_files_are_uploaded_three_at_a_time_and_not_sent_again_after_a_reload(
    browser: Browser, served: Served, tmp_path: Path, screen: tuple[int, int]
) -> None:
    gallery = f"many-{screen[0]}"
    files = made(tmp_path / "camera", 12)
    browser.set_screen(*screen)
    open_upload(browser, served, gallery)
    browser.run(NOTICE_MOST)
    choose(browser, "#files", *files[:9])
    assert set(settled(browser).values()) == {"Stored."}
    assert text(browser, "#summary") == "9 of 9 stored."
    assert 1 <= browser.run("return window.most") <= 3
    assert (browser.violations(), browser.overflow(), browser.layout_shift()) == ([], [], 0)
    open_upload(browser, served, gallery)
    (served.originals / gallery / files[1].name).unlink()  # somebody has removed it meanwhile
    choose(browser, "#files", *files)
    states = list(settled(browser).values())
    assert states == [
        "Already stored: not sent again.",
        "Stored.",
        *["Already stored: not sent again."] * 7,
        *["Stored."] * 3,
    ]
    assert browser.run(f"return ({SENT})") == 4
    assert sorted(one.name for one in (served.originals / gallery).iterdir()) == [one.name for one in files]
    assert [one for one in browser.errors() if "/01.jpg" not in one] == []  # it is 404 now


def test_file_of_another_tab_is_sent_again_and_is_unchanged(
    browser: Browser, served: Served, tmp_path: Path
) -> None:
    (file,) = made(tmp_path / "camera", 1)
    write(served.originals, {"again/00.jpg": file.read_bytes()})
    open_upload(browser, served, "again")
    choose(browser, "#files", file)
    assert settled(browser) == {"again/00.jpg": "Already stored: the same bytes."}


def test_conflict_replaces_only_after_an_answer(browser: Browser, served: Served, tmp_path: Path) -> None:
    stored = pictures.jpeg(300, 300)
    write(served.originals, {"held/00.jpg": stored})
    (file,) = made(tmp_path / "camera", 1)
    open_upload(browser, served, "held")
    choose(browser, "#files", file)
    browser.until("document.querySelector('[data-state=conflict]')")
    assert text(browser, "#summary") == "0 of 1 stored, 1 needs an answer."
    assert browser.violations() == []
    browser.click(".replace")
    browser.press("Escape")
    assert (served.originals / "held/00.jpg").read_bytes() == stored
    browser.run("document.querySelector('#content').focus()")
    tab_to(browser, "document.activeElement.className === 'replace'")
    browser.press("Enter")
    tab_to(browser, "document.activeElement.value === 'yes'")
    browser.press("Enter")
    browser.until("document.querySelector('[data-state=stored]')")
    assert (served.originals / "held/00.jpg").read_bytes() == file.read_bytes()


def test_refused_files_say_why_and_the_others_are_stored(
    browser: Browser, served: Served, tmp_path: Path
) -> None:
    (good,) = made(tmp_path / "camera", 1)
    files = {
        "text.jpg": b"no photograph",
        "half.jpg": pictures.truncated(pictures.jpeg()),
        "empty.jpg": b"",
        "large.jpg": b"\xff" * 3_000_001,
        ".hidden.jpg": pictures.jpeg(200, 100),
    }
    for name, body in files.items():
        (tmp_path / "camera" / name).write_bytes(body)
    open_upload(browser, served, "refused")
    choose(browser, "#files", *(tmp_path / "camera" / one for one in files), good)
    states = settled(browser)
    for name, reason in {
        "00.jpg": "Stored.",
        "text.jpg": "The photograph's format is not supported. (unsupported-format, request ",
        "half.jpg": "The photograph is damaged or incomplete. (undecodable, request ",
        "empty.jpg": "The file is empty, or a folder: open a folder and choose its files.",
        "large.jpg": "The file is larger than 3.0 MB, the limit for uploads.",
        ".hidden.jpg": "No name in a key begins with a dot.",
    }.items():
        assert states[f"refused/{name}"].startswith(reason)
    assert text(browser, "#summary") == "1 of 6 stored, 5 failed."
    assert [one.name for one in (served.originals / "refused").iterdir()] == ["00.jpg"]


@pytest.mark.parametrize(
    ("gallery", "problem"),
    [
        ("a/../b", "No name in a key begins with a dot."),
        ("a//b", "Between two slashes of a key there is a name."),
        ("a\\b", "A key has no backslash and no control characters."),
        ("é" * 446, "A key has at most 900 bytes."),
    ],
)
def test_gallery_that_cannot_be_takes_no_files(
    browser: Browser, served: Served, tmp_path: Path, gallery: str, problem: str
) -> None:
    open_upload(browser, served, "")
    browser.click("#gallery")
    browser.type_text(gallery)
    assert text(browser, "#gallery-problem") == problem
    choose(browser, "#files", *made(tmp_path / "camera", 1))
    assert browser.run("return document.querySelectorAll('#list li').length") == 0
    assert browser.violations() == []


def test_hostile_names_are_stored_under_exactly_their_keys(
    browser: Browser, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "camera").mkdir()
    names = ["<img src=x onerror=alert(1)>.jpg", "100%25 #?&\"'.jpg", "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe.jpg"]
    for name in names:
        (tmp_path / "camera" / name).write_bytes(pictures.jpeg(200, 100))
    open_upload(browser, served, "odd")
    choose(browser, "#files", *(tmp_path / "camera" / one for one in names))
    assert settled(browser) == {f"odd/{name}": "Stored." for name in names}
    assert {one.name for one in (served.originals / "odd").iterdir()} == set(names)
    assert browser.run("return document.querySelectorAll('#list img').length") == 0
    assert browser.errors() == []


def test_dropped_file_is_uploaded(browser: Browser, served: Served) -> None:
    open_upload(browser, served, "dropped")
    browser.run(
        """
        const transfer = new DataTransfer();
        const bytes = Uint8Array.from(given[0]);
        transfer.items.add(new File([bytes], "a.jpg", { type: "image/jpeg" }));
        for (const name of ["dragenter", "dragover", "drop"]) {
          const event = new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true });
          document.querySelector("#drop").dispatchEvent(event);
        }
        """,
        list(pictures.jpeg(120, 80)),
    )
    assert settled(browser) == {"dropped/a.jpg": "Stored."}


def test_cancelled_and_failed_uploads_are_retried(browser: Browser, served: Served, tmp_path: Path) -> None:
    """The connection is slow, then it is gone; a folder cannot be read."""
    files = made(tmp_path / "camera", 4, width_px=1600)
    open_upload(browser, served, "slow")
    with browser.slow_upload(bytes_per_s=20_000):
        choose(browser, "#files", *files)
        browser.until("document.querySelector('[data-state=active] progress')?.value > 0")
        browser.run("document.querySelector('.cancel').click()")
        assert browser.run(f"return ({STATES})")["slow/00.jpg"] == "Cancelled."
        browser.click("#cancel-all")
        assert text(browser, "#summary") == "0 of 4 stored, 4 cancelled."
    with browser.slow_upload(bytes_per_s=0, is_offline=True):
        browser.run("for (const one of document.querySelectorAll('.retry')) one.click()")
        assert set(settled(browser).values()) == {"The server does not answer."}
    browser.click("#retry-all")
    assert set(settled(browser).values()) == {"Stored."}
    assert [one for one in (served.originals / ".galerly").rglob("*") if one.is_file()] == []


def test_session_that_ended_is_told(browser: Browser, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    with store_serving(tmp_path / "store", admin_token_file=str(token)) as served:
        browser.open(f"{served.address}/dashboard/login")
        browser.type_text(token.read_text())
        browser.press("Enter")
        arrived(browser, "location.pathname === '/dashboard/now'")
        open_upload(browser, served, "g")
        files = made(tmp_path / "camera", 2)
        choose(browser, "#files", files[0])
        assert settled(browser) == {"g/00.jpg": "Stored."}
        browser.command("Network.clearBrowserCookies")
        choose(browser, "#files", files[1])
        assert settled(browser)["g/01.jpg"] == "The session has ended: load the page again and sign in."


# ------------------------------------------------------------------------------------ signed links


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """A store with a private gallery, and the folder of the public keys."""
    folder = tmp_path_factory.mktemp("store")
    write(folder / "originals", {"clients/smith & co*/1.jpg": pictures.jpeg(300, 200)})
    public = tmp_path_factory.mktemp("keys")
    _, _, key = keys.create_key_pair(public, ecdsa=True)
    moved = key.rename(tmp_path_factory.mktemp("private") / key.name)
    settings = {"private_prefixes": "clients", "public_keys": str(public), "signing_key": str(moved)}
    with store_serving(folder, public_urls="https://cdn.example.com", **settings) as one:
        yield one, public


def sign(browser: Browser, served: Served, gallery: str, expires: str, network: str) -> None:
    browser.open(f"{served.address}/dashboard/galleries/links")
    for name, value in (("gallery", gallery), ("expires", expires), ("ip", network)):
        browser.run("document.getElementsByName(given[0])[0].value = given[1]", name, value)
    browser.click(".fields button")
    browser.until("document.querySelector('#made').textContent.trim()")


@pytest.mark.parametrize("width_px", [390, 1280])
def test_signed_link_opens_its_gallery_for_its_time_and_network(
    browser: Browser, private: tuple[Served, Path], width_px: int
) -> None:
    served, public_keys = private
    browser.set_screen(width_px, 844)
    sign(browser, served, "clients/smith & co*", "2h", "203.0.113.0/24")
    link = browser.run("return document.querySelector('#link-url').value")
    assert (browser.violations(), browser.overflow(), browser.errors()) == ([], [], [])
    parts = urlsplit(link)
    verifier = Verifier(keys.load_public_keys(public_keys), ["https://cdn.example.com"])

    def verify(client: str, later_s: float) -> None:
        now_s = browser.run("return Date.now()") / 1000 + later_s
        verifier.verify(parts.path.encode(), parts.query.encode(), b"", client=client, now_s=now_s)

    verify("203.0.113.7", 0)
    with pytest.raises(SignatureWrongClient):
        verify("198.51.100.1", 0)
    with pytest.raises(SignatureExpired):
        verify("203.0.113.7", 7201)


def test_link_that_cannot_be_signed_says_why(browser: Browser, private: tuple[Served, Path]) -> None:
    sign(browser, private[0], "clients", "soon", "nowhere")
    assert "'nowhere' does not appear to be an IPv4 or IPv6 network." in text(browser, "#made")
    assert browser.run("return document.querySelectorAll('#made .problem').length") == 3
    assert (browser.violations(), browser.overflow()) == ([], [])


def test_without_a_signing_key_the_page_says_what_to_configure(browser: Browser, served: Served) -> None:
    browser.open(f"{served.address}/dashboard/galleries/links")
    assert "signing_key" in text(browser, "main")
    assert (browser.violations(), browser.overflow()) == ([], [])
