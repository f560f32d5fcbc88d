"""Shows the galleries of the store, and the photographs of a gallery as thumbnails, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlencode

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.browse.pagination import PAGE_PHOTOGRAPHS, page_numbers
from galerly_cdn.dashboard.pictures import picture_path
from galerly_cdn.errors import MalformedKey
from galerly_cdn.http.urls import checked_key, format_key, parse_key
from galerly_cdn.insight import units
from galerly_cdn.library import Page
from galerly_cdn.render.formats import is_photograph_name
from galerly_cdn.serialization import Meta, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.routes import Route
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.dashboard.survey import GalleryCount, Survey, Surveyed
    from galerly_cdn.library import Listing
    from galerly_cdn.model import Listed
    from galerly_cdn.settings.table import Settings

GALLERIES_PATH = f"{PAGES_PATH}/galleries"
_GALLERY_PATH = f"{GALLERIES_PATH}/gallery"
PHOTOGRAPH_PATH = f"{GALLERIES_PATH}/photograph"
_PAGE_GALLERIES = 100

PageNumber = Annotated[int, Meta(ge=1, le=10_000_000)]


class GalleriesQuery(Value, frozen=True):
    """Galleries whose names contain `search`; `again` counts them again."""

    search: str = ""
    page: PageNumber = 1
    again: bool = False


class GalleryQuery(Value, frozen=True):
    """Photographs whose names in the gallery begin with `search` and whose keys sort after `after`.

    `page` is the number of the page that begins there.
    """

    search: str = ""
    after: str = ""
    page: PageNumber = 1


class ShownGallery(NamedTuple):
    """A line of the table of galleries."""

    name: str
    path: str
    photographs: str
    length: str


class Tile(NamedTuple):
    """A photograph in the grid."""

    name: str
    path: str
    thumbnail: str
    """The address of its thumbnail; empty for a file that is no photograph by its extension."""
    length: str


class GalleriesPage:
    """The pages *Galleries*, and of one gallery."""

    def __init__(self, settings: Settings, survey: Survey, library: Listing) -> None:
        self._survey = survey
        self._library = library
        self._warm_targets = len(settings.warm_targets)
        self._private_folders = private_folders(settings.private_prefixes)

    def routes(self, site: Site) -> tuple[Route, ...]:
        """The routes of the pages, and of the table, which the page requests until everything is counted."""
        return (
            site.view(GALLERIES_PATH, "galleries.html", self._galleries),
            site.view(f"{GALLERIES_PATH}/table", "galleries_table.html", self._galleries, is_polled=True),
            site.view(f"{_GALLERY_PATH}/{{key}}", "gallery.html", self._gallery),
        )

    async def _galleries(self, request: AdminRequest) -> Mapping[str, object]:
        query = request.parse_query(GalleriesQuery)
        surveyed = await self._survey.read(again=query.again)
        found = _matching(surveyed, query.search)
        pages = max(1, -(-len(found) // _PAGE_GALLERIES))
        page = min(query.page, pages)
        shown = found[(page - 1) * _PAGE_GALLERIES : page * _PAGE_GALLERIES]
        return {
            "search": query.search,
            "surveyed": surveyed,
            "length": units.length(surveyed.length_bytes),
            "found": len(found),
            "galleries": [_shown(one) for one in shown],
            "page": page,
            "numbers": page_numbers(page, pages) if pages > 1 else [],
            "page_path": lambda number: _path(GALLERIES_PATH, search=query.search, page=number),
            "table_path": _path(f"{GALLERIES_PATH}/table", search=query.search, page=query.page),
            "count": units.count,
        }

    async def _gallery(self, request: AdminRequest) -> Mapping[str, object]:
        gallery = parse_key(request.named) if request.named else ""
        query = request.parse_query(GalleryQuery)
        listed = await self._page(gallery, query)
        surveyed = self._survey.known
        photographs = None if surveyed is None else surveyed.within(gallery)
        path = gallery_path(gallery)
        return {
            "gallery": gallery,
            "is_private": any(f"{gallery}/".startswith(one) for one in self._private_folders),
            "query": query,
            "photographs": photographs,
            "renditions": None if photographs is None else photographs * self._warm_targets,
            "tiles": [_tile(one, gallery) for one in listed.originals],
            "first_path": _path(path, search=query.search) if query.after else "",
            "next_path": _path(path, search=query.search, after=listed.next, page=query.page + 1)
            if listed.next
            else "",
            "count": units.count,
        }

    async def _page(self, gallery: str, query: GalleryQuery) -> Page:
        """A page of the gallery; an empty one if no key can begin with what is searched."""
        prefix = (f"{gallery}/" if gallery else "") + query.search
        try:
            checked_key(f"{prefix}x")
            checked_key(query.after or "x")
        except MalformedKey:
            return Page((), "")
        return await self._library.list(prefix, query.after, PAGE_PHOTOGRAPHS)


def gallery_path(gallery: str) -> str:
    """The address of a gallery's page; the empty name is everything."""
    return f"{_GALLERY_PATH}/{format_key(gallery)}"


def photograph_path(key: str) -> str:
    """The address of a photograph's page."""
    return f"{PHOTOGRAPH_PATH}/{format_key(key)}"


def _matching(surveyed: Surveyed, search: str) -> tuple[GalleryCount, ...]:
    wanted = search.casefold()
    if not wanted:
        return surveyed.galleries
    return tuple(one for one in surveyed.galleries if wanted in one.name.casefold())


def _shown(gallery: GalleryCount) -> ShownGallery:
    return ShownGallery(
        gallery.name,
        gallery_path(gallery.name),
        units.count(gallery.photographs),
        units.length(gallery.length_bytes),
    )


def _tile(listed: Listed, gallery: str) -> Tile:
    name = listed.key.removeprefix(f"{gallery}/") if gallery else listed.key
    thumbnail = picture_path(listed.key) if is_photograph_name(listed.key) else ""
    return Tile(name, photograph_path(listed.key), thumbnail, units.length(listed.length_bytes))


def _path(path: str, **parameters: str | int) -> str:
    """An address with the parameters that are not empty."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{query}" if query else path
