from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galerly_cdn.browse.facts_cache import FactsCache
from galerly_cdn.browse.page import BrowsePage
from galerly_cdn.browse.pagination import (
    PAGE_PHOTOGRAPHS,
    gallery_name,
    group_by_gallery,
    page_numbers,
    title,
)
from galerly_cdn.errors import GalerlyError, MalformedKey, QueueFull, TooManyPixels, UnsupportedFormat
from galerly_cdn.http import urls
from galerly_cdn.links import Links
from galerly_cdn.model import Facts
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import Gate, MemoryOriginals, SmallCdn, rendition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from galerly_cdn.model import Listed
    from tests.support.in_memory_cdn import Answer

ALLOWED = urls.AllowList(Settings().size_rules)


def facts(width_px: int = 6000, height_px: int = 4000) -> Facts:
    return Facts(
        format="jpeg",
        width_px=width_px,
        height_px=height_px,
        orientation=1,
        frames=1,
        bits=8,
        bands=3,
        has_alpha=False,
        is_progressive=False,
        profile=None,
        metadata=(),
        loses=(),
        decode_bytes=1,
    )


class Headers:
    """Inspects originals: answers `known` (or a landscape), or raises it; each call passes `gate`."""

    def __init__(self) -> None:
        self.known: dict[str, Facts | GalerlyError] = {}
        self.gate = Gate()
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def inspect(self, key: str) -> Facts:
        self.asked.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.passed()
        self.at_once -= 1
        found = self.known.get(key, facts())
        if isinstance(found, GalerlyError):
            raise found
        return found


class BrowsedCdn(SmallCdn):
    """The page over the fakes, holding `keys`."""

    def __init__(self, *keys: str, is_public: bool = True) -> None:
        super().__init__()
        self.headers = Headers()
        for key in keys:
            self.originals.put(key)
        browse = BrowsePage(
            self.originals, self.renditions, self.headers.inspect, Links(), is_public=is_public
        )
        self.application = self.application_of(lambda _path: browse.answer)

    async def page(self, query: str = "") -> Document:
        answer = await self.ask("/", query=query.encode())
        assert answer.status == 200
        return parsed(answer)


Attributes = dict[str, str]


@dataclass
class Document(HTMLParser):
    """A page's elements and text, as an HTML parser sees them."""

    elements: list[tuple[str, Attributes]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), "an attribute is given twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[Attributes]:
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    @property
    def photographs(self) -> list[tuple[Attributes, Attributes]]:
        """Link and picture of every photograph."""
        links = self.all("a", **{"class": "photograph"})
        return list(zip(links, self.all("img", loading="lazy"), strict=True))

    @property
    def keys(self) -> list[str]:
        return [link["data-key"] for link, _ in self.photographs]


def parsed(answer: Answer) -> Document:
    document = Document()
    document.feed(answer.body.decode())
    document.close()
    return document


def candidates(srcset: str) -> list[tuple[str, int]]:
    """Address and width of each candidate, read as browsers do (HTML, "parse a srcset attribute")."""
    found = []
    rest = srcset
    while rest := rest.lstrip(" ,"):
        address, _, rest = rest.partition(" ")
        assert not address.endswith(","), "a candidate without its width"
        width, _, rest = rest.partition(",")
        assert width.endswith("w")
        found.append((address, int(width.removesuffix("w"))))
    return found


# ------------------------------------------------------------------------------------------ the grid


async def test_a_photograph_is_offered_at_every_width_of_the_allow_list_with_its_real_sides() -> None:
    cdn = BrowsedCdn("coast/tide.jpg")
    [(link, picture)] = (await cdn.page()).photographs
    assert candidates(picture["srcset"]) == [
        ("/resize/150x150/coast/tide.jpg", 150),
        ("/resize/400x400/coast/tide.jpg", 400),
        ("/resize/800x600/coast/tide.jpg", 800),
        ("/resize/2000x2000/coast/tide.jpg", 2000),
    ]
    assert (picture["width"], picture["height"]) == ("800", "533")
    assert picture["src"] == "/resize/800x600/coast/tide.jpg"
    assert picture["alt"] == "tide"
    assert picture["decoding"] == "async"
    assert picture["sizes"].startswith("auto, (max-width: 600px) 100vw, ")
    assert link["href"] == "/resize/2000x2000/coast/tide.jpg"
    assert link["data-large"] == "2000x1333"


async def test_a_photograph_smaller_than_every_size_is_never_said_to_be_larger() -> None:
    cdn = BrowsedCdn("icon.png")
    cdn.headers.known["icon.png"] = facts(90, 120)
    [(link, picture)] = (await cdn.page()).photographs
    assert candidates(picture["srcset"]) == [("/resize/150x150/icon.png", 90)]
    assert (picture["width"], picture["height"]) == ("90", "120")
    assert link["data-large"] == "90x120"


@pytest.mark.parametrize(
    ("width_px", "height_px", "aspect"),
    [(6000, 4000, "a150"), (4000, 6000, "a67"), (500, 500, "a100"), (9000, 100, "a400"), (10, 9000, "a20")],
)
async def test_a_tile_keeps_the_place_of_its_picture(width_px: int, height_px: int, aspect: str) -> None:
    cdn = BrowsedCdn("a.jpg")
    cdn.headers.known["a.jpg"] = facts(width_px, height_px)
    document = await cdn.page()
    assert document.all("li", **{"class": f"tile {aspect}"})
    [stylesheet] = document.all("link", rel="stylesheet")
    styles = (await cdn.ask(stylesheet["href"])).body.decode()
    assert f".{aspect}{{--a:{int(aspect[1:]) / 100:g}}}" in styles


async def test_photographs_are_shown_by_gallery_those_in_the_root_too() -> None:
    cdn = BrowsedCdn("b/2.jpg", "b/1.jpg", "a/x/1.jpg", "a/z.jpg", "a/x/0.jpg", "root.jpg", "a.jpg")
    document = await cdn.page()
    assert document.keys == ["a.jpg", "root.jpg", "a/z.jpg", "a/x/0.jpg", "a/x/1.jpg", "b/1.jpg", "b/2.jpg"]
    headings = {one["id"] for one in document.all("h2") if one["id"].startswith("g")}
    assert headings == {"g1", "g2", "g3", "g4"}
    assert {one["href"] for one in document.all("a") if one["href"].startswith("#g")} == {
        f"#{one}" for one in headings
    }
    assert "7 photographs in 4 galleries" in document.text
    assert "a / x" in document.text


async def test_an_empty_folder_says_what_to_do() -> None:
    document = await BrowsedCdn().page()
    assert document.photographs == []
    assert "Put photographs into the folder" in document.text


@pytest.mark.parametrize("error", [UnsupportedFormat("svgload"), TooManyPixels("/home/ada"), QueueFull("9")])
async def test_a_photograph_that_cannot_be_shown_says_why_and_nothing_else(error: GalerlyError) -> None:
    cdn = BrowsedCdn("g/good.jpg", "g/odd.jpg")
    cdn.headers.known["g/odd.jpg"] = error
    document = await cdn.page()
    assert document.keys == ["g/good.jpg"]
    assert error.public in document.text
    assert error.detail not in document.text


async def test_a_photograph_that_goes_while_the_page_is_made_leaves_the_others() -> None:
    cdn = BrowsedCdn("g/goes.jpg", "g/stays.jpg")
    assert (await cdn.page()).keys == ["g/goes.jpg", "g/stays.jpg"]
    cdn.originals.remove("g/goes.jpg")  # the listing is remembered for a second
    assert (await cdn.page()).keys == ["g/stays.jpg"]


# -------------------------------------------------------------------------------------- hostile keys

HOSTILE = [
    '"><script>alert(1)<',
    "<img src=x onerror=alert(1)>.jpg",
    "' onmouseover='alert(1)' x='.jpg",
    "`${alert(1)}`.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "</ul>&amp;&lt;&#60;.jpg",
    "javascript:alert(1)",
    "a b\u00a0c.jpg",
    "\u202egpj.exe",
    "\u2066\u200f\u05e9.jpg",
    "\U0001f30a\ufe0f\u200d.jpg",
    "ends with a comma,",
    ",, comma, first 2w.jpg",
    "100% sure?#a&b=c;d.jpg",
    "--.jpg",
    ".jpg",
    "e\u0301te\u0301.jpg",
    "?page=2",
]


ELEMENTS = set(
    re.findall(
        r"\w+",
        "html head meta title link script body a header h1 h2 p nav ul li bdi main section small img "
        "button b dialog span dl div dt dd label textarea",
    )
)


def check(document: Document, keys: Iterable[str]) -> None:
    """Exactly these photographs are shown, each at its own address, and nothing has slipped in."""
    assert sorted(document.keys) == sorted(keys)
    for link, picture in document.photographs:
        addresses = [link["href"], picture["src"], *(one for one, _ in candidates(picture["srcset"]))]
        assert {urls.parse(one.encode("ascii"), ALLOWED).key for one in addresses} == {link["data-key"]}
    [script] = document.all("script")
    assert script["src"].startswith("/-/page-")
    attributes = {name for _, found in document.elements for name in found}
    assert not {name for name in attributes if name.startswith("on") or name in {"style", "srcdoc"}}
    assert {name for name, _ in document.elements} <= ELEMENTS


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["{}", "gallery/{}", "{}/photo.jpg"])
async def test_a_hostile_name_stays_a_name(name: str, place: str) -> None:
    key = place.format(name)
    document = await BrowsedCdn(key).page()
    check(document, [key])
    [(_, picture)] = document.photographs
    assert picture["alt"] == title(key)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_of_what_cannot_be_shown_stays_a_name(name: str) -> None:
    cdn = BrowsedCdn(name)
    cdn.headers.known[name] = UnsupportedFormat()
    document = await cdn.page()
    check(document, [])
    assert title(name) in document.text


def is_key(text: str) -> bool:
    try:
        return urls.checked_key(text) == text
    except MalformedKey:
        return False


@settings(max_examples=40)
@given(keys=st.sets(st.text("<>\"'&,/. ab;=\u202e\u00e9\U0001f30a", min_size=1).filter(is_key), max_size=5))
async def test_any_keys_make_a_sound_page(keys: set[str]) -> None:
    check(await BrowsedCdn(*keys).page(), keys)


# -------------------------------------------------------------------------------------------- paging


async def test_every_photograph_is_on_one_page() -> None:
    keys = [f"g{number // 50}/{number:03}.jpg" for number in range(130)]
    cdn = BrowsedCdn(*keys)
    pages = [await cdn.page(query) for query in ("", "page=2", "page=3")]
    assert [len(page.keys) for page in pages] == [60, 60, 10]
    assert [key for page in pages for key in page.keys] == keys
    assert pages[0].all("a", href="/?page=2", rel="next")
    assert pages[1].all("a", href="/?page=1", rel="prev")
    assert pages[1].all("a", href="/?page=2", **{"aria-current": "page"})
    assert pages[2].all("a", href="/?page=1#g1")  # a gallery on another page
    assert "continued" in pages[1].text
    assert "continued" not in pages[0].text


@pytest.mark.parametrize(
    "query", ["page=0", "page=3", "page=-1", "page=", "page=x", "page=1.0", "page=%D9%A1", "page=99999999999"]
)
async def test_a_page_there_is_not_is_404(query: str) -> None:
    cdn = BrowsedCdn(*(f"{number}.jpg" for number in range(61)))
    assert (await cdn.ask("/", query=query.encode())).status == 404


async def test_other_parameters_are_ignored() -> None:
    assert (await BrowsedCdn("a.jpg").page("utm=1&%ff=%00")).keys == ["a.jpg"]


@given(st.sets(st.text("ab/.", min_size=1, max_size=6).filter(is_key), max_size=200))
def test_pages_hold_the_whole_collection_gallery_after_gallery(keys: set[str]) -> None:
    collection = group_by_gallery(keys)
    parts = [part for page in range(1, collection.pages + 1) for part in collection.parts(page)]
    assert [key for part in parts for key in part.keys] == list(collection.keys)
    assert set(collection.keys) == keys
    for page in range(1, collection.pages + 1):
        assert sum(len(part.keys) for part in collection.parts(page)) <= PAGE_PHOTOGRAPHS
        assert all(part.keys for part in collection.parts(page))
    assert all(gallery_name(key) == part.gallery.name for part in parts for key in part.keys)
    assert [part.gallery.number for part in parts if not part.is_continued] == [
        gallery.number for gallery in collection.galleries
    ]
    assert all(part in collection.parts(part.gallery.page) for part in parts if not part.is_continued)


@pytest.mark.parametrize(
    ("page", "pages", "named"),
    [
        (1, 1, [1]),
        (2, 5, [1, 2, 3, 4, 5]),
        (1, 9, [1, 2, 3, None, 9]),
        (5, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (9, 9, [1, None, 7, 8, 9]),
        (80, 167, [1, None, 78, 79, 80, 81, 82, None, 167]),
    ],
)
def test_the_pages_near_the_first_and_the_last_are_named(
    page: int, pages: int, named: list[int | None]
) -> None:
    assert page_numbers(page, pages) == named


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_gap_between_pages_hides_at_least_two(page: int, pages: int) -> None:
    numbers = page_numbers(min(page, pages), pages)
    shown = [one for one in numbers if one is not None]
    assert shown == sorted(set(shown))
    for (one, other), gapped in zip(pairwise(shown), _gaps(numbers), strict=True):
        assert (other - one > 2) if gapped else (other - one == 1)


def _gaps(numbers: list[int | None]) -> list[bool]:
    """Of each two neighbouring numbers, whether there is a gap between them."""
    return [before is None for before, one in pairwise(numbers) if one is not None]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("coast/evening-tide.jpg", "evening tide"),
        ("IMG_2041.CR2.jpg", "IMG 2041.CR2"),
        ("a/.hidden", ".hidden"),
        ("no extension", "no extension"),
        ("a/---.jpg", "---.jpg"),
    ],
)
def test_a_photograph_is_called_by_its_file_name(key: str, name: str) -> None:
    assert title(key) == name


# ------------------------------------------------------------------------------------ what it costs


async def test_ten_thousand_photographs_are_not_inspected_for_one_page() -> None:
    cdn = BrowsedCdn(*(f"g{number // 7}/{number}.jpg" for number in range(10_000)))
    document = await cdn.page("page=167")
    assert len(document.keys) == 10_000 - 166 * PAGE_PHOTOGRAPHS
    assert sorted(cdn.headers.asked) == sorted(document.keys)
    assert not document.all("nav", **{"aria-label": "Galleries"})  # there are 1429


async def test_an_original_is_inspected_once_for_each_version() -> None:
    cdn = BrowsedCdn("a.jpg")
    for _ in range(3):
        await cdn.page()
    assert len(cdn.headers.asked) == 1
    cdn.originals.put("a.jpg")
    cdn.headers.known["a.jpg"] = facts(100, 100)
    [(_, picture)] = (await cdn.page()).photographs
    assert (picture["width"], picture["height"]) == ("100", "100")
    assert len(cdn.headers.asked) == 2


async def test_an_original_at_fault_is_remembered_a_full_queue_is_not() -> None:
    cdn = BrowsedCdn("bad.jpg", "busy.jpg")
    cdn.headers.known = {"bad.jpg": UnsupportedFormat(), "busy.jpg": QueueFull()}
    await cdn.page()
    cdn.headers.known.clear()
    assert (await cdn.page()).keys == ["busy.jpg"]


async def test_eight_originals_are_inspected_at_once_and_no_more() -> None:
    cdn = BrowsedCdn(*(f"{number}.jpg" for number in range(PAGE_PHOTOGRAPHS)))
    cdn.headers.gate.close()
    page = asyncio.create_task(cdn.page())
    for _ in range(8):
        await cdn.headers.gate.arrival()
    cdn.headers.gate.open()
    assert len((await page).keys) == PAGE_PHOTOGRAPHS
    assert cdn.headers.most_at_once == 8


async def test_a_listing_is_a_second_old_at_most() -> None:
    originals, now_s = MemoryOriginals(), 100.0
    catalog = FactsCache(originals, Headers().inspect, clock=lambda: now_s)
    originals.put("a.jpg")
    assert (await catalog.collection()).keys == ("a.jpg",)
    originals.put("b.jpg")
    now_s = 100.9
    assert (await catalog.collection()).keys == ("a.jpg",)
    now_s = 101.0
    assert (await catalog.collection()).keys == ("a.jpg", "b.jpg")


async def test_a_listing_that_takes_long_is_remembered_for_long() -> None:
    """A large remote store is not listed every second for whoever reloads the page."""
    now_s = 100.0

    class Slow(MemoryOriginals):
        async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
            nonlocal now_s
            now_s += 2.0
            async for one in super().list(prefix, after):
                yield one

    originals = Slow()
    catalog = FactsCache(originals, Headers().inspect, clock=lambda: now_s)
    assert (await catalog.collection()).keys == ()
    originals.put("a.jpg")
    now_s = 139.9
    assert (await catalog.collection()).keys == ()
    now_s = 140.0
    assert (await catalog.collection()).keys == ("a.jpg",)


def test_what_makes_the_page_is_loaded_when_it_is_wanted() -> None:
    code = "import sys, galerly_cdn.browse.page; sys.exit('jinja2' in sys.modules or 'pyvips' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -------------------------------------------------------------------------------- assets and headers


async def test_the_page_runs_nothing_but_its_own_script_and_is_never_kept() -> None:
    answer = await BrowsedCdn("a.jpg").ask("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    own = dict.fromkeys(("img-src", "style-src", "script-src", "connect-src"), "'self'")
    none = dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
    assert policy == own | none


async def test_an_asset_is_kept_for_ever_under_an_address_made_from_its_content() -> None:
    cdn = BrowsedCdn()
    document = await cdn.page()
    addresses = [one["href"] for one in document.all("link")] + [document.all("script")[0]["src"]]
    kinds = {}
    for address in addresses:
        answer = await cdn.ask(address)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-length"] == str(len(answer.body))
        kinds[re.sub("-[0-9a-f]{12}", "", address)] = answer.headers["content-type"]
        assert (await cdn.ask(address)).headers == answer.headers | {
            "server-timing": (await cdn.ask(address)).headers["server-timing"]
        }
    assert kinds == {
        "/-/icon.svg": "image/svg+xml",
        "/-/style.css": "text/css; charset=utf-8",
        "/-/page.js": "text/javascript; charset=utf-8",
    }


@pytest.mark.parametrize(
    "path", ["/-/", "/-/style.css", "/-/page-000000000000.js", "/-/../page.py", "/-/page.html", "/-/record"]
)
async def test_an_unknown_address_is_404(path: str) -> None:
    answer = await BrowsedCdn().ask(path)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "unknown-path")


@pytest.mark.parametrize("path", ["/", "/-/record/150x150/g/photo.jpg", "/-/anything"])
async def test_only_get_and_head_are_answered(path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await BrowsedCdn().ask(path, method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_head_is_answered_as_get_without_the_body() -> None:
    cdn = BrowsedCdn("a.jpg")
    whole, head = await cdn.ask("/"), await cdn.ask("/", "HEAD")
    del whole.headers["server-timing"], head.headers["server-timing"]
    assert head.headers == whole.headers
    assert head.headers["content-length"] == str(len(whole.body))
    assert head.body == b""


# ------------------------------------------------------------------------------------------- records


async def test_a_record_tells_what_a_rendition_is_and_in_words_what_it_lost() -> None:
    cdn = BrowsedCdn("g/photo.jpg")
    await cdn.renditions.put(rendition("g/photo.jpg", lost=("gps", "wide-gamut")))
    answer = await cdn.ask("/-/record/tiny/g/photo.jpg")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"] == "application/json"
    told = json.loads(answer.body)
    record = told["record"]
    assert (record["format"], record["length_bytes"], record["version"]) == ("jpeg", 10, "v1")
    assert (record["width_px"], record["height_px"], record["recipe"]) == (8, 6, "r1")
    assert told["lost"] == {
        "gps": "The place it was taken (EXIF GPS).",
        "wide-gamut": "Colours outside sRGB.",
    }


async def test_a_record_of_what_was_not_rendered_yet_is_404() -> None:
    cdn = BrowsedCdn("g/photo.jpg")
    answer = await cdn.ask("/-/record/tiny/g/photo.jpg")
    assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")


async def test_a_record_of_an_original_replaced_since_is_404() -> None:
    cdn = BrowsedCdn("g/photo.jpg")
    await cdn.renditions.put(rendition("g/photo.jpg"))
    cdn.originals.put("g/photo.jpg")
    assert (await cdn.ask("/-/record/tiny/g/photo.jpg")).status == 404


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("160x160/g/photo.jpg", "size-not-allowed"),
        ("tiny.heic/g/photo.jpg", "format-not-allowed"),
        ("tiny", "malformed-key"),
        ("tiny/", "malformed-key"),
        ("tiny/../photo.jpg", "malformed-key"),
        ("tiny/g%2Fphoto.jpg", "malformed-key"),
        ("tiny/g/other.jpg", "no-such-original"),
    ],
)
async def test_a_record_is_asked_for_as_its_picture_is(asked: str, code: str) -> None:
    answer = await BrowsedCdn("g/photo.jpg").ask(f"/-/record/{asked}")
    assert json.loads(answer.body)["error"]["code"] == code


@pytest.mark.parametrize("path", ["/", "/-/record/800x600/g/a.jpg"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("[::1]:8000", 200),
        ("127.9.9.9", 200),
        ("photographs.example", 404),
        ("photographs.example:8000", 404),
        ("localhost.example", 404),
        ("192.0.2.1", 404),
        ("[2001:db8::1]:8000", 404),
        ("", 404),
        ("[", 404),
    ],
)
async def test_on_loopback_a_website_cannot_read_the_page_under_a_name_of_its_own(
    path: str, host: str, status: int
) -> None:
    """DNS rebinding: the browser takes `photographs.example`, now at 127.0.0.1, for the website's origin."""
    cdn = BrowsedCdn("g/a.jpg", is_public=False)
    answer = await cdn.ask(path, host=host)
    if path == "/":
        assert answer.status == status
    else:
        assert answer.status == 404
        assert (b"unknown-path" in answer.body) == (status == 404)
