"""Maps a method and path to an operation of the admin API; `openapi` describes the API from the same table.

Paths are matched percent-encoded, as received: frameworks decode a path before matching it, but a key must
be decoded exactly once (`urls.parse_key`). A key's slashes are the path's slashes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from galerly_cdn.admin.handlers import Completion, GalleryQuery, Invited, ListQuery, UploadQuery, WarmQuery
from galerly_cdn.admin.health import Live, Readiness
from galerly_cdn.admin.responses import JSON, JSON_LINES
from galerly_cdn.errors import (
    BadRequest,
    BodyTooSlow,
    ChecksumMismatch,
    EmptyUpload,
    GalerlyError,
    KeyNotHeld,
    LooksPrivate,
    MalformedBody,
    MalformedChecksum,
    MalformedKey,
    MalformedQuery,
    MethodNotAllowed,
    NoDirectUploads,
    NoSuchOriginal,
    NoSuchUpload,
    OriginalExists,
    ReadOnlyStore,
    RenderFailed,
    StoreRefused,
    Unavailable,
    UnknownPath,
    Unrenderable,
    UploadTooLarge,
)
from galerly_cdn.fill import Warmed
from galerly_cdn.library import Accepted, Deleted, Inspection, Page, Purged
from galerly_cdn.model import Forgotten

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.admin.handlers import Handlers
    from galerly_cdn.admin.health import Health
    from galerly_cdn.admin.metrics import Metrics
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.http.responses import Response
    from galerly_cdn.serialization import Value

    Handler = Callable[[AdminRequest], Awaitable[Response]]

_PARAMETER_PATTERNS = {"key": "(.*)", "id": "([^/]*)"}
_STORE = (StoreRefused, Unavailable)
_RENDER = (Unrenderable, RenderFailed)
_UPLOAD = (
    MalformedKey,
    EmptyUpload,
    ReadOnlyStore,
    KeyNotHeld,
    LooksPrivate,
    OriginalExists,
    UploadTooLarge,
    *_RENDER,
    *_STORE,
)
TEXT = "text/plain"


class Route(NamedTuple):
    """An operation: method, path, handler, and the types and errors that describe it."""

    method: str
    path: str
    handler: Handler
    summary: str
    responses: dict[int, Any]
    """The type of the response's value, or of each line's value, by status."""
    errors: tuple[type[GalerlyError], ...] = ()
    query: type[Value] | None = None
    body: type[Value] | None = None
    has_image_body: bool = False
    media_type: str = JSON
    is_open: bool = False
    """Whether it needs no token on a loopback listener."""
    is_probe: bool = False
    """Whether everyone may request it: probes of Kubernetes and of load balancers have no token, and name the
    server by its IP address."""

    is_public: bool = False
    """Whether everyone may request it, except other sites' pages: the form to log in."""
    is_polled: bool = False
    """Whether pages repeat it by themselves, so that it does not delay a session's expiry."""

    @property
    def is_change(self) -> bool:
        """Whether requests are written to the audit log."""
        return self.method != "GET"


class Routes:
    """Finds operations by path and method. HEAD is handled as GET (RFC 9110 §9.3.2)."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self._paths: dict[str, tuple[re.Pattern[bytes], dict[str, Route]]] = {}
        for route in routes:
            _, methods = self._paths.setdefault(route.path, (_pattern(route.path), {}))
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route

    def find(self, method: str, raw_path: bytes) -> tuple[Route, bytes]:
        """The operation, and the value of its path's `{…}`, percent-encoded.

        Without an operation, the route's handler raises `UnknownPath` or `MethodNotAllowed`.
        """
        for pattern, methods in self._paths.values():
            matched = pattern.fullmatch(raw_path)
            if matched is not None:
                allowed = tuple(sorted(methods))
                route = methods.get(method) or _error_route(MethodNotAllowed(method[:32], allowed))
                return route, b"".join(matched.groups())
        return _error_route(UnknownPath()), b""


def _error_route(error: GalerlyError) -> Route:
    async def fail(_request: AdminRequest) -> Response:
        raise error

    return Route("GET", "", fail, error.public, {})


def _pattern(path: str) -> re.Pattern[bytes]:
    escaped = re.escape(path)
    pattern = re.sub(r"\\\{(\w+)\\\}", lambda matched: _PARAMETER_PATTERNS[matched[1]], escaped)
    return re.compile(pattern.encode("ascii"), re.DOTALL)


def all_routes(handlers: Handlers, health: Health, metrics: Metrics) -> tuple[Route, ...]:
    """Every operation except `/openapi.json`, which `AdminApplication` adds."""
    return (
        *_originals(handlers),
        *_renditions(handlers),
        *_memory(handlers),
        *_direct_uploads(handlers),
        *_monitoring(health, metrics),
    )


def _originals(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "PUT",
            "/originals/{key}",
            handlers.upload,
            "Upload or replace a photograph",
            {201: Accepted, 200: Accepted},
            (*_UPLOAD, MalformedQuery, MalformedChecksum, ChecksumMismatch, BadRequest, BodyTooSlow),
            query=UploadQuery,
            has_image_body=True,
        ),
        Route(
            "GET",
            "/originals/{key}",
            handlers.inspect,
            "Get a photograph's facts and its stored renditions",
            {200: Inspection},
            (MalformedKey, NoSuchOriginal, *_RENDER, *_STORE),
        ),
        Route(
            "DELETE",
            "/originals/{key}",
            handlers.delete,
            "Delete a photograph and its renditions",
            {200: Deleted},
            (MalformedKey, ReadOnlyStore, KeyNotHeld, *_STORE),
        ),
        Route(
            "GET",
            "/originals",
            handlers.list,
            "List photographs in the order of their keys, one page at a time",
            {200: Page},
            (MalformedQuery, *_STORE),
            query=ListQuery,
        ),
    )


def _renditions(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/purge/{key}",
            handlers.purge,
            "Delete the renditions of a photograph",
            {200: Purged},
            (MalformedKey, *_STORE),
        ),
        Route(
            "POST",
            "/purge",
            handlers.purge_gallery,
            "Delete the renditions of a gallery's photographs: one line for each photograph",
            {200: Purged},
            (MalformedQuery, *_STORE),
            query=GalleryQuery,
            media_type=JSON_LINES,
        ),
        Route(
            "POST",
            "/warm/{key}",
            handlers.warm,
            "Render the missing renditions of a photograph: one line for each rendition",
            {200: Warmed},
            (MalformedKey, NoSuchOriginal, *_RENDER, *_STORE),
            media_type=JSON_LINES,
        ),
        Route(
            "POST",
            "/warm",
            handlers.warm_gallery,
            "Render the missing renditions of a gallery, after a key: one line for each rendition",
            {200: Warmed},
            (MalformedQuery, *_STORE),
            query=WarmQuery,
            media_type=JSON_LINES,
        ),
    )


def _memory(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/forget/{key}",
            handlers.forget,
            "Drop a photograph from this server's memory, after a change by another server",
            {200: Forgotten},
            (MalformedKey, *_STORE),
        ),
    )


def _direct_uploads(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/uploads",
            handlers.invite,
            "Presign an upload of a photograph directly to the store",
            {201: Invited},
            (NoDirectUploads, *_STORE),
        ),
        Route(
            "POST",
            "/uploads/{id}/complete",
            handlers.complete,
            "Import a direct upload as the photograph of a key",
            {201: Accepted, 200: Accepted},
            (*_UPLOAD, MalformedBody, NoDirectUploads, NoSuchUpload, BadRequest, BodyTooSlow),
            body=Completion,
        ),
    )


def _monitoring(health: Health, metrics: Metrics) -> tuple[Route, ...]:
    return (
        Route("GET", "/livez", health.live, "Check that the process is alive", {200: Live}, is_probe=True),
        Route(
            "GET",
            "/readyz",
            health.ready,
            "Check that the process can serve viewers: it renders a picture and reaches the store",
            {200: Readiness, 503: Readiness},
            is_probe=True,
        ),
        Route(
            "GET",
            "/metrics",
            metrics.export,
            "Export the metrics in Prometheus' text format",
            {200: str},
            media_type=TEXT,
            is_open=True,
        ),
    )
