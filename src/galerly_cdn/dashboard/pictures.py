"""Sends pictures and originals to the dashboard: those of viewers, by the same fills, private ones included.

The admin side has authenticated the request. No cache may keep a response without asking again, so that
nothing is shown after a logout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.fill import RenditionKey
from galerly_cdn.http import responses
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.http.responses import NEGOTIATED, Response
from galerly_cdn.http.urls import AllowList, format_key, parse_key
from galerly_cdn.model import Target
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.downloads import Downloads
    from galerly_cdn.fill import Filler
    from galerly_cdn.http.responses import Headers
    from galerly_cdn.model import Rendition, Size
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals

_PICTURES = f"{PAGES_PATH}/picture"
_ORIGINALS = f"{PAGES_PATH}/original"
_THUMBNAIL_PX = 300
"""The least longest side of a thumbnail: a tile has about 160 CSS pixels."""
_LARGE_PX = 500
_CACHE_CONTROL = b"private, no-cache"


class PictureQuery(Value, frozen=True):
    """The size and format of a picture, as in a viewer's address: `800x600`, `thumbnail`, `800x600.webp`.

    Without a format, the browser's `Accept` decides. By default it is a thumbnail.
    """

    target: str = ""


class Pictures:
    """Answers requests for the pictures and the originals of photographs."""

    def __init__(
        self, settings: Settings, *, originals: Originals, filler: Filler, downloads: Downloads
    ) -> None:
        self._settings = settings
        self._originals = originals
        self._filler = filler
        self._downloads = downloads
        self._allowed = AllowList(settings.size_rules)
        sizes = sorted(rule.size for rule in settings.size_rules)
        self._thumbnail = _smallest(sizes, _THUMBNAIL_PX)
        self.large = _smallest(sizes, _LARGE_PX)
        """The size that the page of one photograph shows."""

    def routes(self) -> tuple[Route, ...]:
        """The routes of pictures and of originals."""
        return (
            Route("GET", f"{_PICTURES}/{{key}}", self._picture, "A picture", {}),
            Route("GET", f"{_ORIGINALS}/{{key}}", self._original, "An original", {}),
        )

    async def _picture(self, request: AdminRequest) -> Response:
        """Raises as a request of a viewer does."""
        key, target = parse_key(request.named), self._target(request)
        head = await self._originals.head(key)
        rendition = await self._filler.stored.find(key, target, head.version)
        if rendition is None:
            filled, _ = await self._filler.fill(RenditionKey(key, target), head.version)
            rendition = filled.rendition
        return self._response(rendition, request)

    async def _original(self, request: AdminRequest) -> Response:
        """Raises as a download of a viewer does."""
        key = parse_key(request.named)
        head = await self._originals.head(key)
        response = await self._downloads.send(key, head, request.conditions, is_private=True)
        return _private(response)

    def _target(self, request: AdminRequest) -> Target:
        """Raises `MalformedQuery`, `SizeNotAllowed`, `FormatNotAllowed`."""
        segment = request.parse_query(PictureQuery).target or str(self._thumbnail)
        rule, target = self._allowed.find(segment.encode())
        if target.format is not None:
            return target
        return Target(target.size, negotiate(request.headers.get(b"accept", b""), rule.negotiable))

    def _response(self, rendition: Rendition, request: AdminRequest) -> Response:
        prepared = responses.prepare(rendition, self._settings)
        response = responses.picture(prepared, request.conditions, is_private=True)
        return _private(response, NEGOTIATED)


def picture_path(key: str, target: str = "") -> str:
    """The address of a picture on the admin side; by default of a thumbnail."""
    return f"{_PICTURES}/{format_key(key)}" + (f"?target={target}" if target else "")


def original_path(key: str) -> str:
    """The address of an original on the admin side."""
    return f"{_ORIGINALS}/{format_key(key)}"


def _smallest(sizes: list[Size], side_px: int) -> Size:
    """The smallest size of which both sides are this long; else the largest one."""
    return next((one for one in sizes if min(one.width_px, one.height_px) >= side_px), sizes[-1])


def _private(response: Response, *more: tuple[bytes, bytes]) -> Response:
    headers: Headers = [one for one in response.headers if one[0] != b"cache-control"]
    added: Headers = [
        (b"cache-control", _CACHE_CONTROL),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"no-referrer"),
        *more,
    ]
    return Response(response.status, [*headers, *added], response.body, response.stream)
