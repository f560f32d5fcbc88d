"""Answers the gallery page, its assets, and rendition records as JSON.

    /                          every gallery as a grid, 60 photographs a page (`?page=2`)
    /-/{name}-{digest}.{css,js,svg}   the page's assets; the digest is that of their content
    /-/record/{target}/{key}   a stored rendition's record, and sentences about its losses

Keys can be hostile: the template escapes everything, and the Content-Security-Policy allows only the page's
own script.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

from galerly_cdn.browse.facts_cache import FactsCache
from galerly_cdn.browse.pagination import page_numbers, title
from galerly_cdn.errors import MethodNotAllowed, NotFound, UnknownPath
from galerly_cdn.http.compression import compressed
from galerly_cdn.http.cross_origin import is_own_host
from galerly_cdn.http.lifetimes import IMMUTABLE
from galerly_cdn.http.responses import Response
from galerly_cdn.http.urls import parse_key
from galerly_cdn.model import PREFERENCE
from galerly_cdn.render.losses import LOSSES
from galerly_cdn.serialization import to_json
from galerly_cdn.settings.sizes import named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.browse.facts_cache import CachedFacts, Inspect
    from galerly_cdn.browse.pagination import GalleryListing, GallerySection
    from galerly_cdn.facts import OriginalFacts
    from galerly_cdn.http.exchange import Exchange
    from galerly_cdn.http.responses import Headers
    from galerly_cdn.links import Links
    from galerly_cdn.store.interfaces import Originals, Renditions

_ROW_PX = 220
"""Minimum height of a grid row on a wide screen; style.css lets rows grow."""
_TYPICAL_ROW_PX, _GRID_VW = 264, 93
"""Typical height of a grid row, in CSS pixels, and width of the grid, in hundredths of the screen's."""
_ASPECTS = range(20, 401)
"""Aspect ratios (100 × width / height) that have a CSS class; pictures outside the range are cropped."""
_RECORD_PREFIX = b"/-/record/"
_MAX_LINKED_GALLERIES = 60
_CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_MEDIA_TYPES = {
    "style.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}


class ShownPicture(NamedTuple):
    """One photograph for the template. With a `problem`, only that and the name are shown."""

    name: str
    key: str
    problem: str = ""
    href: str = ""
    large: str = ""
    """Width x height of the picture at `href`, in pixels: `2000x1333`."""
    src: str = ""
    srcset: str = ""
    sizes: str = ""
    width_px: int = 0
    height_px: int = 0
    aspect: int = 100
    original: str = ""


class BrowsePage:
    """Answers `/` and `/-/…`. Unless `is_public`, the Host header must be loopback or in `public_hosts`.

    Otherwise a website could list the folder with a domain that resolves to 127.0.0.1 (DNS rebinding).
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        originals: Originals,
        renditions: Renditions,
        facts: OriginalFacts,
        inspect: Inspect,
        links: Links,
        *,
        is_public: bool = False,
        public_hosts: frozenset[str] = frozenset(),
    ) -> None:
        from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - takes 30 ms to import

        self._is_public = is_public
        self._public_hosts = public_hosts
        self._originals = originals
        self._renditions = renditions
        self._links = links
        self._facts_cache = FactsCache(originals, facts, inspect)
        sizes = sorted(rule.size for rule in named(links.allowed.rules))
        self._large_size = str(sizes[-1])
        self._grid_size = str(sizes[-2:][0])
        self._assets, addresses = _assets()
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.globals["assets"] = addresses
        environment.globals["negotiable"] = " ".join(PREFERENCE)
        self._template = environment.from_string(_read("page.html").decode())

    async def answer(self, exchange: Exchange) -> Response:
        """The response to one request. Raises `GalerlyError` for an error response."""
        host = exchange.headers.get(b"host", b"").decode("latin-1")
        if not (self._is_public or is_own_host(host, self._public_hosts)):
            raise UnknownPath
        if exchange.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed
        return compressed(await self._found(exchange), exchange.headers.get(b"accept-encoding", b""))

    async def _found(self, exchange: Exchange) -> Response:
        if exchange.raw_path == b"/":
            return await self._page(exchange.query)
        if exchange.raw_path.startswith(_RECORD_PREFIX):
            return await self._record(exchange.raw_path[len(_RECORD_PREFIX) :])
        if exchange.raw_path in self._assets:
            media_type, body = self._assets[exchange.raw_path]
            return _response(media_type, body, IMMUTABLE)
        raise UnknownPath

    async def _page(self, query: bytes) -> Response:
        listing = await self._facts_cache.listing()
        page = _page_number(query, listing)
        sections = listing.sections(page)
        keys = tuple(key for section in sections for key in section.keys)
        facts = dict(zip(keys, await self._facts_cache.facts(keys), strict=True))
        body = self._template.render(
            listing=listing,
            page=page,
            numbers=page_numbers(page, listing.pages),
            sections=[(section, self._pictures(section, facts)) for section in sections],
            links_galleries=1 < len(listing.galleries) <= _MAX_LINKED_GALLERIES,
        ).encode()
        return _response(b"text/html; charset=utf-8", body, b"no-store")

    def _pictures(self, section: GallerySection, facts: Mapping[str, CachedFacts]) -> list[ShownPicture]:
        return [self._picture(key, facts[key]) for key in section.keys]

    def _picture(self, key: str, cached: CachedFacts) -> ShownPicture:
        facts = cached.facts
        if facts is None:
            return ShownPicture(title(key), key, cached.problem)
        sides = facts.width_px, facts.height_px
        large_px = self._links.dimensions(*sides, self._large_size)
        width_px, height_px = self._links.dimensions(*sides, self._grid_size)
        aspect = min(max(round(100 * sides[0] / sides[1]), _ASPECTS[0]), _ASPECTS[-1])
        return ShownPicture(
            name=title(key),
            key=key,
            href=self._links.src(key, self._large_size),
            large=f"{large_px[0]}x{large_px[1]}",
            src=self._links.src(key, self._grid_size),
            srcset=self._links.srcset(key, *sides),
            # `auto` uses the layout width (allowed for lazy pictures); browsers without it use the estimate.
            sizes=f"auto, min({_GRID_VW}vw, {aspect * _TYPICAL_ROW_PX // 100}px)",
            width_px=width_px,
            height_px=height_px,
            aspect=aspect,
            original=f"{facts.format.upper()}, {sides[0]} × {sides[1]} px, {_megabytes(cached.length_bytes)}",
        )

    async def _record(self, target_and_key: bytes) -> Response:
        """The record of a stored rendition of the current original. Raises `NotFound` otherwise."""
        segment, _, encoded_key = target_and_key.partition(b"/")
        _, target = self._links.allowed.find(segment)
        key = parse_key(encoded_key)
        head = await self._originals.head(key)
        record = await self._renditions.record(key, target)
        if record is None or record.version != head.version:
            raise NotFound
        content = {"record": record, "lost": {word: LOSSES.get(word, word) for word in record.lost}}
        return _response(b"application/json", to_json(content), b"no-store")


def _page_number(query: bytes, listing: GalleryListing) -> int:
    """The query's `page`, by default 1. Raises `UnknownPath` unless it is the number of a page."""
    number = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("page", ["1"])[-1]
    if not (number.isascii() and number.isdecimal() and len(number) < 8):
        raise UnknownPath
    page = int(number)
    if not 1 <= page <= listing.pages:
        raise UnknownPath
    return page


def _assets() -> tuple[dict[bytes, tuple[bytes, bytes]], dict[str, str]]:
    """Media type and body of each asset by path, and the paths by file name."""
    assets, addresses = {}, {}
    for name, media_type in _MEDIA_TYPES.items():
        body = (_aspect_styles() if name == "style.css" else b"") + _read(name)
        stem, _, extension = name.partition(".")
        addresses[name] = f"/-/{stem}-{hashlib.sha256(body).hexdigest()[:12]}.{extension}"
        assets[addresses[name].encode()] = media_type, body
    return assets, addresses


def _aspect_styles() -> bytes:
    """A CSS class for every aspect ratio: the Content-Security-Policy forbids `style` attributes."""
    classes = "".join(f".a{aspect}{{--a:{aspect / 100:g}}}" for aspect in _ASPECTS)
    return f":root{{--row:{_ROW_PX}px}}{classes}\n".encode()


def _read(name: str) -> bytes:
    return resources.files("galerly_cdn.browse").joinpath(name).read_bytes()


def _response(media_type: bytes, body: bytes, cache_control: bytes) -> Response:
    headers: Headers = [
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", cache_control),
        (b"content-security-policy", _CONTENT_SECURITY_POLICY),
        *_SECURITY_HEADERS,
    ]
    return Response(200, headers, body)


def _megabytes(length_bytes: int) -> str:
    return f"{length_bytes / 1e6:.1f} MB" if length_bytes >= 100_000 else f"{length_bytes / 1e3:.1f} kB"
