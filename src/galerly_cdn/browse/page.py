"""What does `/` show, and what lies under `/-/`? The browsing page, its assets, and records as JSON.

    /                          every gallery as a grid, 60 photographs a page (`?page=2`)
    /-/{name}-{digest}.{css,js,svg}   the page's assets: another content has another address
    /-/record/{target}/{key}   what is known of a stored rendition, and in words what it lost

Keys are hostile: the template escapes everything, and the page's policy runs no script but its own.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

from galerly_cdn.browse.facts_cache import FactsCache
from galerly_cdn.browse.pagination import page_numbers, title
from galerly_cdn.errors import MethodNotAllowed, NotFound, UnknownPath
from galerly_cdn.http.responses import IMMUTABLE, Response
from galerly_cdn.http.urls import is_loopback, parse_key
from galerly_cdn.render.losses import LOSSES
from galerly_cdn.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.browse.facts_cache import CachedFacts, Inspect
    from galerly_cdn.browse.pagination import Galleries, GalleryPage
    from galerly_cdn.http.exchange import Exchange
    from galerly_cdn.http.responses import Headers
    from galerly_cdn.links import Links
    from galerly_cdn.store.interfaces import Originals, Renditions

_ROW_PX = 220
"""Height a row of the grid starts from on a desk; style.css lets it grow."""
_PHONE_PX = 600
_ASPECTS = range(20, 401)
"""Hundredths of width / height with a style of their own; what is beyond is cropped in the grid."""
_RECORD = b"/-/record/"
_MAX_NAMED_GALLERIES = 60
_POLICY = (
    b"default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_GUARDED: Headers = [
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
    """One photograph as the template shows it; with a `problem`, there is nothing to show but that."""

    name: str
    key: str
    problem: str = ""
    href: str = ""
    large: str = ""
    """Width x height of what `href` answers, in pixels."""
    src: str = ""
    srcset: str = ""
    sizes: str = ""
    width_px: int = 0
    height_px: int = 0
    aspect: int = 100
    original: str = ""


class BrowsePage:
    """Answers `/` and `/-/…`; unless `is_public`, only to who names this machine in `Host`.

    Otherwise a website could list the folder by pointing a name of its own at 127.0.0.1 (DNS rebinding).
    """

    def __init__(
        self,
        originals: Originals,
        renditions: Renditions,
        inspect: Inspect,
        links: Links,
        *,
        is_public: bool = False,
    ) -> None:
        from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - 30 ms that `--help` need not wait for

        self._is_public = is_public
        self._originals = originals
        self._renditions = renditions
        self._links = links
        self._catalog = FactsCache(originals, inspect)
        ordered = sorted(rule.size for rule in links.allowed.rules)
        self._large = str(ordered[-1])
        self._plain = str(ordered[-2:][0])
        self._assets, addresses = _assets()
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.globals["assets"] = addresses
        self._template = environment.from_string(_read("page.html").decode())

    async def answer(self, visit: Exchange) -> Response:
        """The response to one request. Raises the `GalerlyError` that answers it otherwise."""
        if not (self._is_public or is_loopback(visit.headers.get(b"host", b"").decode("latin-1"))):
            raise UnknownPath
        if visit.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed
        if visit.raw_path == b"/":
            return await self._page(visit.query)
        if visit.raw_path.startswith(_RECORD):
            return await self._record(visit.raw_path[len(_RECORD) :])
        if visit.raw_path in self._assets:
            media_type, body = self._assets[visit.raw_path]
            return _response(media_type, body, IMMUTABLE)
        raise UnknownPath

    async def _page(self, query: bytes) -> Response:
        collection = await self._catalog.collection()
        page = _asked_page(query, collection)
        parts = collection.parts(page)
        keys = tuple(key for part in parts for key in part.keys)
        entries = dict(zip(keys, await self._catalog.entries(keys), strict=True))
        body = self._template.render(
            collection=collection,
            page=page,
            numbers=page_numbers(page, collection.pages),
            sections=[(part, self._pictures(part, entries)) for part in parts],
            names_galleries=1 < len(collection.galleries) <= _MAX_NAMED_GALLERIES,
        ).encode()
        return _response(b"text/html; charset=utf-8", body, b"no-store")

    def _pictures(self, part: GalleryPage, entries: Mapping[str, CachedFacts]) -> list[ShownPicture]:
        return [self._picture(key, entries[key]) for key in part.keys]

    def _picture(self, key: str, entry: CachedFacts) -> ShownPicture:
        facts = entry.facts
        if facts is None:
            return ShownPicture(title(key), key, entry.problem)
        sides = facts.width_px, facts.height_px
        large_px = self._links.dimensions(*sides, self._large)
        width_px, height_px = self._links.dimensions(*sides, self._plain)
        aspect = min(max(round(100 * sides[0] / sides[1]), _ASPECTS[0]), _ASPECTS[-1])
        return ShownPicture(
            name=title(key),
            key=key,
            href=self._links.src(key, self._large),
            large=f"{large_px[0]}x{large_px[1]}",
            src=self._links.src(key, self._plain),
            srcset=self._links.srcset(key, *sides),
            # `auto` is the laid-out width, known because the picture is lazy; elsewhere a good guess.
            sizes=f"auto, (max-width: {_PHONE_PX}px) 100vw, {aspect * _ROW_PX * 6 // 500}px",
            width_px=width_px,
            height_px=height_px,
            aspect=aspect,
            original=f"{facts.format.upper()}, {sides[0]} × {sides[1]} px, {_megabytes(entry.length_bytes)}",
        )

    async def _record(self, asked: bytes) -> Response:
        """The record of a stored rendition of the current original. Raises `NotFound` otherwise."""
        segment, _, encoded = asked.partition(b"/")
        _, target = self._links.allowed.find(segment)
        key = parse_key(encoded)
        head = await self._originals.head(key)
        record = await self._renditions.record(key, target)
        if record is None or record.version != head.version:
            raise NotFound
        told = {"record": record, "lost": {word: LOSSES.get(word, word) for word in record.lost}}
        return _response(b"application/json", to_json(told), b"no-store")


def _asked_page(query: bytes, collection: Galleries) -> int:
    """The page that the query asks for, 1 if it does not. Raises `UnknownPath` for one there is not."""
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("page", ["1"])[-1]
    if not (asked.isascii() and asked.isdecimal() and len(asked) < 8):
        raise UnknownPath
    page = int(asked)
    if not 1 <= page <= collection.pages:
        raise UnknownPath
    return page


def _assets() -> tuple[dict[bytes, tuple[bytes, bytes]], dict[str, str]]:
    """The assets' media types and bodies by path, and their paths by file name."""
    assets, addresses = {}, {}
    for name, media_type in _MEDIA_TYPES.items():
        body = (_aspect_styles() if name == "style.css" else b"") + _read(name)
        stem, _, extension = name.partition(".")
        addresses[name] = f"/-/{stem}-{hashlib.sha256(body).hexdigest()[:12]}.{extension}"
        assets[addresses[name].encode()] = media_type, body
    return assets, addresses


def _aspect_styles() -> bytes:
    """A class for every aspect: the page's policy, rightly, forbids a `style` attribute."""
    aspects = "".join(f".a{one}{{--a:{one / 100:g}}}" for one in _ASPECTS)
    return f":root{{--row:{_ROW_PX}px}}{aspects}\n".encode()


def _read(name: str) -> bytes:
    return resources.files("galerly_cdn.browse").joinpath(name).read_bytes()


def _response(media_type: bytes, body: bytes, lifetime: bytes) -> Response:
    headers: Headers = [
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", lifetime),
        (b"content-security-policy", _POLICY),
        *_GUARDED,
    ]
    return Response(200, headers, body)


def _megabytes(length_bytes: int) -> str:
    return f"{length_bytes / 1e6:.1f} MB" if length_bytes >= 100_000 else f"{length_bytes / 1e3:.1f} kB"
