"""Tests the browsing page: grid, hostile keys, paging, caching, assets and rendition records."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galerly_cdn.browse import facts_cache
from galerly_cdn.browse.facts_cache import FactsCache
from galerly_cdn.browse.page import BrowsePage
from galerly_cdn.browse.pagination import (
    PAGE_PHOTOGRAPHS,
    group_by_gallery,
    page_numbers,
    title,
)
from galerly_cdn.errors import (
    GalerlyError,
    MalformedKey,
    QueueFull,
    TooManyPixels,
    Undecodable,
    UnknownPath,
    UnsupportedFormat,
)
from galerly_cdn.fill import RenditionKey
from galerly_cdn.http import urls
from galerly_cdn.inspector import Inspector
from galerly_cdn.links import Links
from galerly_cdn.model import Facts, Size, Target
from galerly_cdn.render.formats import is_photograph_name
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import (
    CountingRenderer,
    Gate,
    InMemoryCdn,
    MemoryOriginals,
    MemoryRenditions,
    original_facts,
    rendition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from galerly_cdn.model import FactRecord, Listed
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
        coefficient_bytes=0,
    )


class FakeInspector(CountingRenderer):
    """Answers or raises `results` by key, else landscape facts. Each inspection waits for `gate`."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, Facts | GalerlyError] = {}
        self.gate = Gate()
        self.keys: list[str] = []
        self.running = self.max_running = 0

    async def inspect(self, fd: int, length_bytes: int, token: str) -> Facts:
        del fd, length_bytes
        key = token.partition(" ")[2]
        self.keys.append(key)
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        await self.gate.passed()
        self.running -= 1
        result = self.results.get(key, facts())
        if isinstance(result, GalerlyError):
            raise result
        return result


async def no_record(key: str) -> FactRecord:
    raise AssertionError(f"{key} must not be inspected")


class BrowsedCdn(InMemoryCdn):
    """The browsing page over the in-memory stores, with an original for each of `keys`."""

    def __init__(self, *keys: str, is_public: bool = True) -> None:
        super().__init__()
        self.fake_inspector = FakeInspector()
        for key in keys:
            self.originals.put(key)
        inspector = Inspector(self.originals, self.fake_inspector, self.facts, self.listed.recipes)
        browse = BrowsePage(
            self.originals, self.renditions, self.facts, inspector.record, Links(), is_public=is_public
        )
        self.application = self.application_of(lambda _path: browse.answer)

    async def page(self, query: str = "") -> Document:
        response = await self.ask("/", query=query.encode())
        assert response.status == 200
        return parsed(response)


Attributes = dict[str, str]


@dataclass
class Document(HTMLParser):
    """A page's elements and text, from an HTML parser."""

    elements: list[tuple[str, Attributes]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), "an attribute is given twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **required: str) -> list[Attributes]:
        """The attributes of every `tag` element that has the required ones."""
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and required.items() <= attributes.items()
        ]

    @property
    def photographs(self) -> list[tuple[Attributes, Attributes]]:
        """The attributes of every photograph's link and picture."""
        links = self.all("a", **{"class": "photograph"})
        return list(zip(links, self.all("img", loading="lazy"), strict=True))

    @property
    def keys(self) -> list[str]:
        return [link["data-key"] for link, _ in self.photographs]


def parsed(response: Answer) -> Document:
    document = Document()
    document.feed(response.body.decode())
    document.close()
    return document


def candidates(srcset: str) -> list[tuple[str, int]]:
    """The address and width in pixels of each candidate (HTML, "parse a srcset attribute")."""
    parsed_candidates = []
    rest = srcset
    while rest := rest.lstrip(" ,"):
        address, _, rest = rest.partition(" ")
        assert not address.endswith(","), "a candidate without its width"
        width, _, rest = rest.partition(",")
        assert width.endswith("w")
        parsed_candidates.append((address, int(width.removesuffix("w"))))
    return parsed_candidates


# ------------------------------------------------------------------------------------------ the grid


async def test_page_offers_every_width_of_the_allow_list_with_the_real_sides() -> None:
    cdn = BrowsedCdn("coast/tide.jpg")
    [(link, picture)] = (await cdn.page()).photographs
    sizes = {
        "150x150": 150, "280x280": 280, "400x400": 400, "540x540": 540, "800x600": 800,
        "880x880": 880, "1200x1200": 1200, "2000x2000": 2000, "2560x2560": 2560,
    }  # fmt: skip
    expected = [(f"/resize/{size}/coast/tide.jpg", width_px) for size, width_px in sizes.items()]
    assert candidates(picture["srcset"]) == expected
    assert (picture["width"], picture["height"]) == ("800", "533")
    assert picture["src"] == "/resize/800x600/coast/tide.jpg"
    assert picture["alt"] == "tide"
    assert picture["decoding"] == "async"
    assert picture["sizes"] == "auto, min(93vw, 396px)"
    assert link["href"] == "/resize/2000x2000/coast/tide.jpg"
    assert link["data-large"] == "2000x1333"


async def test_page_with_small_photograph_does_not_enlarge_it() -> None:
    cdn = BrowsedCdn("icon.png")
    cdn.fake_inspector.results["icon.png"] = facts(90, 120)
    [(link, picture)] = (await cdn.page()).photographs
    assert candidates(picture["srcset"]) == [("/resize/150x150/icon.png", 90)]
    assert (picture["width"], picture["height"]) == ("90", "120")
    assert link["data-large"] == "90x120"


@pytest.mark.parametrize(
    ("width_px", "height_px", "aspect"),
    [(6000, 4000, "a150"), (4000, 6000, "a67"), (500, 500, "a100"), (9000, 100, "a400"), (10, 9000, "a20")],
)
async def test_tile_has_the_aspect_class_of_its_picture(width_px: int, height_px: int, aspect: str) -> None:
    cdn = BrowsedCdn("a.jpg")
    cdn.fake_inspector.results["a.jpg"] = facts(width_px, height_px)
    document = await cdn.page()
    assert document.all("li", **{"class": f"tile {aspect}"})
    [stylesheet] = document.all("link", rel="stylesheet")
    styles = (await cdn.ask(stylesheet["href"])).body.decode()
    assert f".{aspect}{{--a:{int(aspect[1:]) / 100:g}}}" in styles


async def test_page_groups_photographs_by_gallery_including_the_root() -> None:
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


async def test_large_store_is_shown_in_parts_that_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_cache, "PART", 50)
    keys = [f"g {number // 45}/é&{number:03}.jpg" for number in range(120)]
    cdn = BrowsedCdn(*keys)
    afters = ("", keys[49], keys[99])
    first, second, third = [await cdn.page(urlencode({"after": one, "page": 1})) for one in afters]
    assert first.keys + second.keys + third.keys == keys
    addresses = [[one["href"] for one in document.all("a")] for document in (first, second, third)]
    assert f"/?{urlencode({'after': keys[49], 'page': 1})}" in addresses[0]
    assert f"/?{urlencode({'after': keys[99], 'page': 1})}" in addresses[1]
    assert ["/" in one for one in addresses] == [False, True, True]
    assert ["There are more" in one.text for one in (first, second, third)] == [True, True, False]


async def test_pages_of_a_part_lead_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_cache, "PART", 2 * PAGE_PHOTOGRAPHS)
    cdn = BrowsedCdn(*(f"{number:03}.jpg" for number in range(4 * PAGE_PHOTOGRAPHS)))
    query = urlencode({"after": f"{2 * PAGE_PHOTOGRAPHS - 1:03}.jpg", "page": 2})
    document = await cdn.page(query)
    assert document.keys == [
        f"{number:03}.jpg" for number in range(3 * PAGE_PHOTOGRAPHS, 4 * PAGE_PHOTOGRAPHS)
    ]
    assert f"/?{query}" in {one["href"] for one in document.all("a")}


@pytest.mark.parametrize("after", ["a//b", "..", "a%00", "a" * 2000])
async def test_part_after_what_is_no_key_is_not_found(after: str) -> None:
    answer = await BrowsedCdn("a.jpg").ask("/", query=f"after={after}".encode())
    assert answer.status == 404


async def test_page_without_photographs_shows_instructions() -> None:
    document = await BrowsedCdn().page()
    assert document.photographs == []
    assert "Put photographs into the folder" in document.text


@pytest.mark.parametrize("error", [UnsupportedFormat("svgload"), TooManyPixels("/home/ada"), QueueFull("9")])
async def test_page_with_unrenderable_photograph_shows_the_public_reason(error: GalerlyError) -> None:
    cdn = BrowsedCdn("g/good.jpg", "g/odd.jpg")
    cdn.fake_inspector.results["g/odd.jpg"] = error
    document = await cdn.page()
    assert document.keys == ["g/good.jpg"]
    assert error.public in document.text
    assert error.detail not in document.text


async def test_page_with_photograph_removed_after_the_listing_shows_the_others() -> None:
    cdn = BrowsedCdn("g/goes.jpg", "g/stays.jpg")
    assert (await cdn.page()).keys == ["g/goes.jpg", "g/stays.jpg"]
    cdn.originals.remove("g/goes.jpg")  # the listing is cached for a second
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
    "\u202egpj.exe.jpg",
    "\u2066\u200f\u05e9.jpg",
    "\U0001f30a\ufe0f\u200d.jpg",
    "ends with a comma,",
    ",, comma, first 2w.jpg",
    "100% sure?#a&b=c;d.jpg",
    "--.jpg",
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


def assert_safe(document: Document, keys: Iterable[str]) -> None:
    """Assert that exactly these photographs are shown, with their addresses, and nothing was injected."""
    assert sorted(document.keys) == sorted(keys)
    for link, picture in document.photographs:
        addresses = [link["href"], picture["src"], *(address for address, _ in candidates(picture["srcset"]))]
        assert {urls.parse(address.encode("ascii"), ALLOWED).key for address in addresses} == {
            link["data-key"]
        }
    [script] = document.all("script")
    assert script["src"].startswith("/-/page-")
    attributes = {name for _, element in document.elements for name in element}
    assert not {name for name in attributes if name.startswith("on") or name in {"style", "srcdoc"}}
    assert {name for name, _ in document.elements} <= ELEMENTS


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("template", ["{}", "gallery/{}", "{}/photo.jpg"])
async def test_hostile_key_is_escaped(name: str, template: str) -> None:
    key = template.format(name)
    document = await BrowsedCdn(key).page()
    assert_safe(document, [key])
    [(_, picture)] = document.photographs
    assert picture["alt"] == title(key)


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_key_of_unrenderable_photograph_is_escaped(name: str) -> None:
    cdn = BrowsedCdn(name)
    cdn.fake_inspector.results[name] = UnsupportedFormat()
    document = await cdn.page()
    assert_safe(document, [])
    assert title(name) in document.text


def is_key(text: str) -> bool:
    try:
        return urls.checked_key(text) == text
    except MalformedKey:
        return False


@settings(max_examples=40)
@given(keys=st.sets(st.text("<>\"'&,/. ab;=\u202e\u00e9\U0001f30a", min_size=1).filter(is_key), max_size=5))
async def test_page_with_any_keys_is_safe(keys: set[str]) -> None:
    assert_safe(await BrowsedCdn(*keys).page(), filter(is_photograph_name, keys))


# -------------------------------------------------------------------------------------------- paging


async def test_every_photograph_is_on_exactly_one_page() -> None:
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
async def test_invalid_page_number_answers_404(query: str) -> None:
    cdn = BrowsedCdn(*(f"{number}.jpg" for number in range(61)))
    assert (await cdn.ask("/", query=query.encode())).status == 404


async def test_other_query_parameters_are_ignored() -> None:
    assert (await BrowsedCdn("a.jpg").page("utm=1&%ff=%00")).keys == ["a.jpg"]


@given(st.sets(st.text("ab/.", min_size=1, max_size=6).filter(is_key), max_size=200))
def test_pages_contain_the_whole_listing_in_order(keys: set[str]) -> None:
    listing = group_by_gallery(keys)
    sections = [section for page in range(1, listing.pages + 1) for section in listing.sections(page)]
    assert [key for section in sections for key in section.keys] == list(listing.keys)
    assert set(listing.keys) == set(filter(is_photograph_name, keys))
    assert listing.other_files == len(keys) - len(listing.keys)
    for page in range(1, listing.pages + 1):
        assert sum(len(section.keys) for section in listing.sections(page)) <= PAGE_PHOTOGRAPHS
        assert all(section.keys for section in listing.sections(page))
    assert all(urls.gallery_name(key) == section.gallery.name for section in sections for key in section.keys)
    assert [section.gallery.number for section in sections if not section.is_continued] == [
        gallery.number for gallery in listing.galleries
    ]
    assert all(
        section in listing.sections(section.gallery.page) for section in sections if not section.is_continued
    )


@pytest.mark.parametrize(
    ("page", "pages", "numbers"),
    [
        (1, 1, [1]),
        (2, 5, [1, 2, 3, 4, 5]),
        (1, 9, [1, 2, 3, None, 9]),
        (5, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (9, 9, [1, None, 7, 8, 9]),
        (80, 167, [1, None, 78, 79, 80, 81, 82, None, 167]),
    ],
)
def test_page_numbers_include_first_last_and_adjacent_pages(
    page: int, pages: int, numbers: list[int | None]
) -> None:
    assert page_numbers(page, pages) == numbers


@given(st.integers(1, 60), st.integers(1, 60))
def test_page_number_ellipsis_hides_at_least_two_pages(page: int, pages: int) -> None:
    numbers = page_numbers(min(page, pages), pages)
    shown = [one for one in numbers if one is not None]
    assert shown == sorted(set(shown))
    for (number, following), has_gap in zip(pairwise(shown), _gaps(numbers), strict=True):
        assert (following - number > 2) if has_gap else (following - number == 1)


def _gaps(numbers: list[int | None]) -> list[bool]:
    """For each pair of adjacent numbers, whether there is an ellipsis between them."""
    return [previous is None for previous, number in pairwise(numbers) if number is not None]


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
def test_title_is_derived_from_the_file_name(key: str, name: str) -> None:
    assert title(key) == name


# ------------------------------------------------------------------------------------ caching


async def test_page_inspects_only_its_own_photographs() -> None:
    cdn = BrowsedCdn(*(f"g{number // 7}/{number}.jpg" for number in range(10_000)))
    document = await cdn.page("page=167")
    assert len(document.keys) == 10_000 - 166 * PAGE_PHOTOGRAPHS
    assert sorted(cdn.fake_inspector.keys) == sorted(document.keys)
    assert not document.all("nav", **{"aria-label": "Galleries"})  # 1429 galleries


async def test_original_is_inspected_once_per_version() -> None:
    cdn = BrowsedCdn("a.jpg")
    for _ in range(3):
        await cdn.page()
    assert len(cdn.fake_inspector.keys) == 1
    cdn.originals.put("a.jpg")
    cdn.fake_inspector.results["a.jpg"] = facts(100, 100)
    [(_, picture)] = (await cdn.page()).photographs
    assert (picture["width"], picture["height"]) == ("100", "100")
    assert len(cdn.fake_inspector.keys) == 2


async def test_unrenderable_original_is_cached_and_full_queue_is_not() -> None:
    cdn = BrowsedCdn("bad.jpg", "busy.jpg")
    cdn.fake_inspector.results = {"bad.jpg": UnsupportedFormat(), "busy.jpg": QueueFull()}
    await cdn.page()
    cdn.fake_inspector.results.clear()
    assert (await cdn.page()).keys == ["busy.jpg"]


async def test_photograph_that_a_render_found_damaged_is_a_tile_with_the_reason() -> None:
    cdn = BrowsedCdn("a.jpg", "b.jpg", "huge.jpg")
    cdn.fake_inspector.results["huge.jpg"] = facts(100_000, 100_000)
    assert (await cdn.page()).keys == ["a.jpg", "b.jpg"]
    cdn.renderer.error = Undecodable("VipsJpeg: /home/ada")
    filler = cdn.origin
    with pytest.raises(Undecodable):
        await filler.fill(RenditionKey("b.jpg", Target(Size(800, 600))), "v2")
    document = await cdn.page()
    assert document.keys == ["a.jpg"]
    assert Undecodable.public in document.text
    assert TooManyPixels.public in document.text
    assert "VipsJpeg" not in document.text
    assert len(cdn.fake_inspector.keys) == 3


async def test_page_of_another_process_uses_the_stored_records() -> None:
    cdn = BrowsedCdn("a.jpg", "bad.jpg")
    cdn.fake_inspector.results["bad.jpg"] = UnsupportedFormat("x", "A HEIC file: install the extra.")
    first = await cdn.page()
    await cdn.origin.drain()
    other = BrowsedCdn()
    other.originals._heads.update(cdn.originals._heads)
    other.renditions.records.update(cdn.renditions.records)
    second = await other.page()
    assert (second.keys, second.text) == (first.keys, first.text)
    assert "A HEIC file: install the extra." in second.text
    assert (other.fake_inspector.keys, other.originals.opened) == ([], 0)


async def test_at_most_eight_originals_are_inspected_at_once() -> None:
    cdn = BrowsedCdn(*(f"{number}.jpg" for number in range(PAGE_PHOTOGRAPHS)))
    cdn.fake_inspector.gate.close()
    page = asyncio.create_task(cdn.page())
    for _ in range(8):
        await cdn.fake_inspector.gate.arrival()
    cdn.fake_inspector.gate.open()
    assert len((await page).keys) == PAGE_PHOTOGRAPHS
    assert cdn.fake_inspector.max_running == 8


async def test_listing_is_cached_for_one_second() -> None:
    originals, now_s = MemoryOriginals(), 100.0
    cache = FactsCache(originals, original_facts(MemoryRenditions()), no_record, clock=lambda: now_s)
    originals.put("a.jpg")
    assert (await cache.listing()).keys == ("a.jpg",)
    originals.put("b.jpg")
    now_s = 100.9
    assert (await cache.listing()).keys == ("a.jpg",)
    now_s = 101.0
    assert (await cache.listing()).keys == ("a.jpg", "b.jpg")


async def test_slow_listing_is_cached_for_twenty_times_its_duration() -> None:
    """Reloading the page does not list a large remote store every second."""
    now_s = 100.0

    class SlowOriginals(MemoryOriginals):
        async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
            nonlocal now_s
            now_s += 2.0
            async for one in super().list(prefix, after):
                yield one

    originals = SlowOriginals()
    cache = FactsCache(originals, original_facts(MemoryRenditions()), no_record, clock=lambda: now_s)
    assert (await cache.listing()).keys == ()
    originals.put("a.jpg")
    now_s = 139.9
    assert (await cache.listing()).keys == ()
    now_s = 140.0
    assert (await cache.listing()).keys == ("a.jpg",)


def test_page_module_imports_neither_jinja2_nor_pyvips() -> None:
    code = "import sys, galerly_cdn.browse.page; sys.exit('jinja2' in sys.modules or 'pyvips' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -------------------------------------------------------------------------------- assets and headers


async def test_page_has_strict_content_security_policy_and_no_store() -> None:
    response = await BrowsedCdn("a.jpg").ask("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in response.headers["content-security-policy"].split(";")
    )
    own_origin = dict.fromkeys(("img-src", "style-src", "script-src", "connect-src"), "'self'")
    none = dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
    assert policy == own_origin | none


async def test_asset_is_immutable_and_its_address_contains_a_digest() -> None:
    cdn = BrowsedCdn()
    document = await cdn.page()
    linked = [one["href"] for one in document.all("link") if one["rel"] != "expect"]
    addresses = [*linked, document.all("script")[0]["src"]]
    media_types = {}
    for address in addresses:
        response = await cdn.ask(address)
        assert response.status == 200
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert response.headers["content-length"] == str(len(response.body))
        media_types[re.sub("-[0-9a-f]{12}", "", address)] = response.headers["content-type"]
        assert (await cdn.ask(address)).headers == response.headers | {
            "server-timing": (await cdn.ask(address)).headers["server-timing"]
        }
    assert media_types == {
        "/-/icon.svg": "image/svg+xml",
        "/-/style.css": "text/css; charset=utf-8",
        "/-/page.js": "text/javascript; charset=utf-8",
    }


@pytest.mark.parametrize(
    "path", ["/-/", "/-/style.css", "/-/page-000000000000.js", "/-/../page.py", "/-/page.html", "/-/record"]
)
async def test_unknown_asset_path_answers_404(path: str) -> None:
    response = await BrowsedCdn().ask(path)
    assert (response.status, json.loads(response.body)["error"]["code"]) == (404, "unknown-path")


@pytest.mark.parametrize("path", ["/", "/-/record/150x150/g/photo.jpg", "/-/anything"])
async def test_other_methods_answer_405(path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        response = await BrowsedCdn().ask(path, method)
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")


async def test_head_answers_the_headers_of_get() -> None:
    cdn = BrowsedCdn("a.jpg")
    get, head = await cdn.ask("/"), await cdn.ask("/", "HEAD")
    del get.headers["server-timing"], head.headers["server-timing"]
    assert head.headers == get.headers
    assert head.headers["content-length"] == str(len(get.body))
    assert head.body == b""


# ------------------------------------------------------------------------------------------- records


async def test_record_answers_the_rendition_and_its_losses_in_words() -> None:
    cdn = BrowsedCdn("g/photo.jpg")
    await cdn.renditions.put(rendition("g/photo.jpg", lost=("gps", "wide-gamut")))
    response = await cdn.ask("/-/record/tiny/g/photo.jpg")
    assert (response.status, response.headers["cache-control"]) == (200, "no-store")
    assert response.headers["content-type"] == "application/json"
    content = json.loads(response.body)
    record = content["record"]
    assert (record["format"], record["length_bytes"], record["version"]) == ("jpeg", 10, "v1")
    assert (record["width_px"], record["height_px"], record["recipe"]) == (8, 6, "r1")
    assert content["lost"] == {
        "gps": "The place it was taken (EXIF GPS).",
        "wide-gamut": "Colours outside sRGB.",
    }


async def test_record_without_rendition_answers_404() -> None:
    cdn = BrowsedCdn("g/photo.jpg")
    response = await cdn.ask("/-/record/tiny/g/photo.jpg")
    assert (response.status, response.headers["cache-control"]) == (404, "no-store")


async def test_record_of_replaced_original_answers_404() -> None:
    cdn = BrowsedCdn("g/photo.jpg")
    await cdn.renditions.put(rendition("g/photo.jpg"))
    cdn.originals.put("g/photo.jpg")
    assert (await cdn.ask("/-/record/tiny/g/photo.jpg")).status == 404


@pytest.mark.parametrize(
    ("path", "code"),
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
async def test_record_with_invalid_path_answers_the_error_of_the_picture(path: str, code: str) -> None:
    response = await BrowsedCdn("g/photo.jpg").ask(f"/-/record/{path}")
    assert json.loads(response.body)["error"]["code"] == code


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
async def test_page_on_loopback_with_foreign_host_answers_404(path: str, host: str, status: int) -> None:
    """DNS rebinding: a website whose domain now resolves to 127.0.0.1 must not read the page."""
    cdn = BrowsedCdn("g/a.jpg", is_public=False)
    response = await cdn.ask(path, host=host)
    if path == "/":
        assert response.status == status
    else:
        assert response.status == 404
        assert (b"unknown-path" in response.body) == (status == 404)


# compression, and errors in a browser's window

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        ("gzip", True), ("gzip, deflate, br, zstd", True), ("br;q=1.0, gzip;q=0.8", True), ("x-gzip", True),
        ("GZIP", True), ("gzip;q=1.000", True), ("", False), ("br", False), ("gzip;q=0", False), ("*", False),
        ("gzip;q=0.000, br", False), ("gzip;q=2", False), ("gzipped", False), ("gzip" + "," * 2000, False),
    ],
)  # fmt: skip
async def test_page_is_compressed_for_a_viewer_that_accepts_gzip(
    accept_encoding: str, *, is_compressed: bool
) -> None:
    cdn = BrowsedCdn(*(f"g/{number}.jpg" for number in range(20)))
    plain = await cdn.ask("/")
    response = await cdn.ask("/", accept_encoding=accept_encoding)
    assert response.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert ("content-encoding" in response.headers) == is_compressed
    assert int(response.headers["content-length"]) == len(response.body)
    body = gzip.decompress(response.body) if is_compressed else response.body
    assert body == plain.body
    if is_compressed:
        assert len(response.body) < len(plain.body) / 4


async def test_assets_are_compressed() -> None:
    cdn = BrowsedCdn("g/a.jpg")
    document = await cdn.page()
    (style,) = document.all("link", rel="stylesheet")
    response = await cdn.ask(style["href"], accept_encoding="gzip")
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(response.body) == (await cdn.ask(style["href"])).body


@pytest.mark.parametrize(("path", "query"), [("/", "page=999"), ("/-/none.css", ""), ("/nowhere<b>", "")])
async def test_error_in_a_browsers_window_is_a_page(path: str, query: str) -> None:
    cdn = BrowsedCdn("g/a.jpg")
    response = await cdn.ask(path, query=query.encode(), accept=BROWSER)
    assert (response.status, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (response.headers["cache-control"], response.headers["vary"]) == ("no-store", "Accept")
    assert "script" not in response.headers["content-security-policy"]
    document = parsed(response)
    assert UnknownPath.public in document.text
    assert "<b>" not in response.body.decode()
    assert (await cdn.ask(path, query=query.encode())).headers["content-type"] == "application/json"
    assert (await cdn.ask("/", method="POST", accept=BROWSER)).headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path", ["/resize/none/g/a.jpg", "/resize", "/resize/tiny/none.jpg", "/original/a.jpg"]
)
async def test_error_of_a_picture_or_an_original_is_never_a_page(path: str) -> None:
    response = await InMemoryCdn().ask(path, accept=BROWSER)
    assert response.headers["content-type"] == "application/json"
