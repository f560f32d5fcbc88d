"""The pages of galleries and photographs: what they show, what a key cannot do, and who sees a picture."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.http.urls import format_key
from galerly_cdn.model import Listed
from galerly_cdn.settings.table import Settings
from tests.support.awkward_keys import make_keys
from tests.support.in_memory_admin import PHOTOGRAPH, TOKEN, AdminResponse, InMemoryAdmin
from tests.support.in_memory_cdn import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WINDOW = {"accept": "text/html"}
PICTURE = {"accept": "image/avif,image/webp,*/*;q=0.8", "sec-fetch-site": "same-origin"}
GALLERY, PHOTOGRAPH_PAGE = "/dashboard/galleries/gallery", "/dashboard/galleries/photograph"
KEY = "clients/smith/a.jpg"
HOSTILE = [
    "odd/<img src=x onerror=alert(1)>.jpg",
    'odd/"><script>alert(1)</script>.jpg'.replace("</", "<"),
    "odd/'-alert(1)-'.jpg",
    "odd/\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe.jpg",
    "odd/100%25%2F.jpg",
    "odd/{{ 7 * 7 }}{% raw %}.jpg",
    "odd/]]>--><!--.jpg",
    "odd/a?b#c&d=e.jpg",
    "odd/" + "/".join(["y" * 200] * 4) + "/" + "z" * 88 + ".jpg",
    *(f"{key}.jpg" for key in make_keys(20, 1) if len(key.encode()) < 890),
]


class Elements(HTMLParser):
    """The elements of a page and the names of their attributes, the addresses of its links, its title."""

    def __init__(self, page: AdminResponse) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.titles: list[str] = []
        self.feed(page.body.decode())

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "title" and not self.titles:
            self.titles.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name == "href"]


@pytest.fixture
def admin() -> InMemoryAdmin:
    return InMemoryAdmin(Settings(private_prefixes=("clients",)))


async def get(admin: InMemoryAdmin, path: str, **headers: str) -> AdminResponse:
    return await admin.request("GET", path, headers=WINDOW | headers)


async def upload(admin: InMemoryAdmin, *keys: str) -> None:
    for key in keys:
        admin.originals.contents[key] = PHOTOGRAPH
        admin.cdn.originals.put(key, content=PHOTOGRAPH)


def visible(page: AdminResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.body.decode())))


# ------------------------------------------------------------------------------------ hostile keys


@pytest.mark.parametrize("key", HOSTILE)
async def test_hostile_key_adds_no_element_and_its_links_lead_to_it(admin: InMemoryAdmin, key: str) -> None:
    gallery = key.rpartition("/")[0]
    plain = f"{gallery.partition('/')[0]}-plain/" + key.partition("/")[2].count("/") * "p/" + "a.jpg"
    await upload(admin, key, plain if key != plain else "plain/a.jpg")
    for path in (GALLERY, PHOTOGRAPH_PAGE):
        names = [one.rpartition("/")[0] if path == GALLERY else one for one in (key, plain)]
        pages = [await get(admin, f"{path}/{format_key(name)}") for name in names]
        assert [page.status for page in pages] == [200, 200]
        hostile, usual = map(Elements, pages)
        assert hostile.elements == usual.elements
        assert hostile.titles == [f"{key if path == PHOTOGRAPH_PAGE else gallery} · galerly-cdn"]
    page = await get(admin, f"{GALLERY}/{format_key(gallery)}")
    assert tiles(page) == [f"{PHOTOGRAPH_PAGE}/{format_key(key)}"]
    galleries = Elements(await get(admin, "/dashboard/galleries"))
    assert f"{GALLERY}/{format_key(gallery)}" in galleries.links


@pytest.mark.parametrize("path", [GALLERY, PHOTOGRAPH_PAGE, "/dashboard/picture", "/dashboard/original"])
@pytest.mark.parametrize("key", ["..%2Fa", "a//b", "a%00b", "%ff", "a%5Cb", ".git/x", "x" * 901])
async def test_malformed_key_is_a_400_and_not_repeated(admin: InMemoryAdmin, path: str, key: str) -> None:
    response = await get(admin, f"{path}/{key}")
    assert response.status == 400
    assert key.encode() not in response.body


# --------------------------------------------------------------------------------------- galleries


def tiles(page: AdminResponse) -> list[str]:
    return [one for one in Elements(page).links if one.startswith(PHOTOGRAPH_PAGE)]


async def test_pages_of_a_gallery_show_every_photograph_once(admin: InMemoryAdmin) -> None:
    await upload(admin, *(f"g/{number:03}.jpg" for number in range(130)), "other/a.jpg")
    path, seen, pages = f"{GALLERY}/g", list[str](), 0
    while path:
        page = await get(admin, path)
        seen += tiles(page)
        pages += 1
        following = [one for one in Elements(page).links if "after=" in one]
        path = following[-1] if following else ""
    assert seen == [f"{PHOTOGRAPH_PAGE}/g/{number:03}.jpg" for number in range(130)]
    assert pages == 3


@pytest.mark.parametrize(
    ("search", "found"),
    [("", 3), ("b", 2), ("bb", 1), ("x", 0), ("..", 0), ("%2F", 0), ("%00", 0), ("x" * 950, 0)],
)
async def test_search_finds_names_that_begin_so(admin: InMemoryAdmin, search: str, found: int) -> None:
    await upload(admin, "g/a.jpg", "g/b.jpg", "g/bb.jpg")
    page = await get(admin, f"{GALLERY}/g?search={search}")
    assert (page.status, len(tiles(page))) == (200, found)
    if not found:
        assert "No photograph’s name begins with" in visible(page)


async def test_galleries_are_listed_with_their_photographs_and_bytes(admin: InMemoryAdmin) -> None:
    await upload(admin, *(f"g{number:03}/a.jpg" for number in range(205)), "g000/b.jpg", "notes.txt")
    first = await get(admin, "/dashboard/galleries")
    assert "206 photographs in 205 galleries, 4.3 kB. 1 other file." in visible(first)
    assert len([one for one in Elements(first).links if one.startswith(f"{GALLERY}/g")]) == 100
    last = await get(admin, "/dashboard/galleries?page=3")
    assert len([one for one in Elements(last).links if one.startswith(f"{GALLERY}/g")]) == 5
    found = await get(admin, "/dashboard/galleries?search=G00")
    assert len([one for one in Elements(found).links if one.startswith(f"{GALLERY}/g")]) == 10


async def test_galleries_in_counting_show_the_count_until_it_is_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = InMemoryAdmin(Settings(), patience_s=0.0)
    gate = Gate(is_open=False)

    async def listing(*_: str) -> AsyncIterator[Listed]:
        for number in range(3):
            yield Listed(f"g/{number}.jpg", 1000, 0.0)
        await gate.passed()

    monkeypatch.setattr(admin.originals, "list", listing)
    await get(admin, "/dashboard/galleries")
    await gate.arrival()
    counting = await get(admin, "/dashboard/galleries")
    assert "Counting: 3 photographs so far." in visible(counting)
    assert 'hx-trigger="every 1s, refresh"' in counting.body.decode()
    gate.open()
    part = {"hx-request": "true"}
    while "Counting" in visible(table := await get(admin, "/dashboard/galleries/table", **part)):
        pass
    assert "every" not in table.body.decode()
    assert f"{GALLERY}/g" in Elements(table).links


@pytest.mark.parametrize("path", ["/dashboard/galleries", f"{GALLERY}/g", f"{PHOTOGRAPH_PAGE}/g/a.jpg"])
async def test_unreachable_store_is_told_on_every_page(
    admin: InMemoryAdmin, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def listing(*_: str) -> AsyncIterator[Listed]:
        raise StoreUnreachable("secret.example:9000")
        yield Listed("never", 1, 0.0)

    await upload(admin, "g/a.jpg")
    monkeypatch.setattr(admin.originals, "list", listing)
    admin.cdn.originals.error = StoreUnreachable("secret.example:9000")
    response = await get(admin, path)
    assert response.status == 503
    assert "The store cannot be reached; try again in a moment." in visible(response)
    assert "secret.example" not in response.body.decode()


# --------------------------------------------------------------------------------------- photograph


async def test_photograph_shows_its_renditions_current_and_outdated(admin: InMemoryAdmin) -> None:
    await upload(admin, "g/a.jpg")
    await admin.request("POST", "/warm/g/a.jpg")
    page = visible(await get(admin, f"{PHOTOGRAPH_PAGE}/g/a.jpg"))
    assert page.count(" current ") == 12
    assert "outdated" not in page
    assert "JPEG, sequential" in page
    assert "60 × 40 px upright" in page
    admin.cdn.originals.put("g/a.jpg", content=PHOTOGRAPH + b", edited")
    page = visible(await get(admin, f"{PHOTOGRAPH_PAGE}/g/a.jpg"))
    assert page.count(" outdated (another version) ") == 12
    await admin.request("POST", "/purge/g/a.jpg")
    page = visible(await get(admin, f"{PHOTOGRAPH_PAGE}/g/a.jpg"))
    assert "None is stored: they are made on request." in page
    assert "Not made yet: 150x150, " in page


async def test_refused_photograph_says_why_and_can_be_replaced(admin: InMemoryAdmin) -> None:
    admin.cdn.originals.put("g/a.jpg", content=b"no picture")
    response = await get(admin, f"{PHOTOGRAPH_PAGE}/g/a.jpg")
    assert response.status == 200
    assert "The photograph's format is not supported." in visible(response)
    assert 'data-path="/originals/g/a.jpg?replace=true"' in response.body.decode()
    assert "<img" not in response.body.decode()


async def test_read_only_store_offers_no_upload_and_no_replacement() -> None:
    admin = InMemoryAdmin(Settings(), is_writable=False)
    await upload(admin, "g/a.jpg")
    page = await get(admin, "/dashboard/upload")
    assert "The store of photographs is read-only" in visible(page)
    assert "<input" not in page.body.decode()
    photograph = (await get(admin, f"{PHOTOGRAPH_PAGE}/g/a.jpg")).body.decode()
    assert re.findall('data-method="([A-Z]+)"', photograph) == ["POST", "POST"]


async def test_missing_photograph_is_404(admin: InMemoryAdmin) -> None:
    assert (await get(admin, f"{PHOTOGRAPH_PAGE}/g/none.jpg")).status == 404


# ---------------------------------------------------------------------------------------- pictures


async def test_picture_is_made_once_and_asked_for_again_each_time(admin: InMemoryAdmin) -> None:
    await upload(admin, KEY)
    first = await admin.request("GET", f"/dashboard/picture/{KEY}", headers=PICTURE)
    assert (first.status, first.headers["content-type"]) == (200, "image/avif")
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["cross-origin-resource-policy"] == "same-origin"
    assert first.headers["vary"] == "Accept"
    assert "access-control-allow-origin" not in first.headers
    tag = {"if-none-match": first.headers["etag"]}
    again = await admin.request("GET", f"/dashboard/picture/{KEY}", headers=PICTURE | tag)
    assert (again.status, again.body) == (304, b"")
    assert admin.renderer.renders == 1
    await admin.put(KEY, PHOTOGRAPH + b", edited", replace=True)
    edited = await admin.request("GET", f"/dashboard/picture/{KEY}", headers=PICTURE | tag)
    assert edited.status == 200


@pytest.mark.parametrize("target", ["1x1", "800x600.gif", "..", "800x600.webp?x"])
async def test_picture_of_a_size_that_is_not_allowed_is_refused(admin: InMemoryAdmin, target: str) -> None:
    await upload(admin, KEY)
    response = await admin.request("GET", f"/dashboard/picture/{KEY}?target={target}", headers=PICTURE)
    assert response.status == 403
    assert admin.renderer.renders == 0


async def test_original_is_a_download_that_no_browser_runs(admin: InMemoryAdmin) -> None:
    admin.cdn.originals.put("g/a.html", content=b"<script>alert(1)</script>")
    response = await admin.request("GET", "/dashboard/original/g/a.html", headers=PICTURE)
    assert (response.status, response.body) == (200, b"<script>alert(1)</script>")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == 'attachment; filename="a.html"'
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert response.headers["cache-control"] == "private, no-cache"
    part = await admin.request(
        "GET", "/dashboard/original/g/a.html", headers=PICTURE | {"range": "bytes=0-6"}
    )
    assert (part.status, part.body) == (206, b"<script")


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/galleries",
        f"{GALLERY}/clients/smith",
        f"{PHOTOGRAPH_PAGE}/{KEY}",
        f"/dashboard/picture/{KEY}",
        f"/dashboard/original/{KEY}",
        "/dashboard/upload",
        "/dashboard/galleries/links",
    ],
)
async def test_nothing_is_shown_without_a_session_or_to_another_site(path: str) -> None:
    admin = InMemoryAdmin(Settings(), tokens=(TOKEN,))
    await upload(admin, KEY)
    assert (await admin.request("GET", path, headers=PICTURE)).status == 401
    cross = {"sec-fetch-site": "cross-site", "authorization": f"Bearer {TOKEN}"}
    assert (await admin.request("GET", path, headers=PICTURE | cross)).status == 403
    assert admin.renderer.renders == 0
    shown = await admin.request("GET", path, headers=PICTURE | {"authorization": f"Bearer {TOKEN}"})
    assert shown.status == 200
