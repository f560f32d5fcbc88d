"""Which operation does a request name? The one table of the admin side; its description is made from it too.

A path is matched as it came, percent-encoded: a framework would decode it first, and a key is decoded once
(`url.parse_key`). A key's slashes are slashes of the path.
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

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.admin.handlers import Handlers
    from galerly_cdn.admin.health import Health
    from galerly_cdn.admin.metrics import Metrics
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.http.responses import Response
    from galerly_cdn.serialization import Value

    Handler = Callable[[AdminRequest], Awaitable[Response]]

_NAMED = {"key": "(.*)", "id": "([^/]*)"}
_STORE = (StoreRefused, Unavailable)
_RENDER = (Unrenderable, RenderFailed)
_UPLOAD = (
    MalformedKey,
    EmptyUpload,
    ReadOnlyStore,
    KeyNotHeld,
    OriginalExists,
    UploadTooLarge,
    *_RENDER,
    *_STORE,
)
TEXT = "text/plain"


class Route(NamedTuple):
    """An operation: what it takes and answers, and what it may refuse with."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: dict[int, Any]
    """The type of the value, or of each line's, by status."""
    errors: tuple[type[GalerlyError], ...] = ()
    query: type[Value] | None = None
    body: type[Value] | None = None
    takes_picture: bool = False
    media_type: str = JSON
    is_open: bool = False
    """On loopback it takes no token."""

    @property
    def is_change(self) -> bool:
        """Whether it is for the audit log."""
        return self.method != "GET"


class Routes:
    """The operations by path and method. HEAD is GET's (RFC 9110 §9.3.2)."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self._paths: dict[str, tuple[re.Pattern[bytes], dict[str, Route]]] = {}
        for route in routes:
            _, methods = self._paths.setdefault(route.path, (_pattern(route.path), {}))
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route

    def find(self, method: str, raw_path: bytes) -> tuple[Route, bytes]:
        """The operation, and what its path's `{…}` stands for; one that refuses, where there is none."""
        for pattern, methods in self._paths.values():
            matched = pattern.fullmatch(raw_path)
            if matched is not None:
                allowed = tuple(sorted(methods))
                found = methods.get(method) or _nothing(MethodNotAllowed(method[:32], allowed))
                return found, b"".join(matched.groups())
        return _nothing(UnknownPath()), b""


def _nothing(error: GalerlyError) -> Route:
    async def refuse(_call: AdminRequest) -> Response:
        raise error

    return Route("GET", "", refuse, error.public, {})


def _pattern(path: str) -> re.Pattern[bytes]:
    named = re.sub(r"\\\{(\w+)\\\}", lambda matched: _NAMED[matched[1]], re.escape(path))
    return re.compile(named.encode("ascii"), re.DOTALL)


def all_routes(service: Handlers, health: Health, metrics: Metrics) -> tuple[Route, ...]:
    """Every operation but the description of them all."""
    return (*_originals(service), *_renditions(service), *_uploads(service), *_state(health, metrics))


def _originals(service: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "PUT",
            "/originals/{key}",
            service.upload,
            "Upload a photograph, or replace one",
            {201: Accepted, 200: Accepted},
            (*_UPLOAD, MalformedQuery, MalformedChecksum, ChecksumMismatch, BadRequest, BodyTooSlow),
            query=UploadQuery,
            takes_picture=True,
        ),
        Route(
            "GET",
            "/originals/{key}",
            service.inspect,
            "What is known of a photograph, and which pictures of it are stored",
            {200: Inspection},
            (MalformedKey, NoSuchOriginal, *_RENDER, *_STORE),
        ),
        Route(
            "DELETE",
            "/originals/{key}",
            service.delete,
            "Delete a photograph and all that was made of it",
            {200: Deleted},
            (MalformedKey, ReadOnlyStore, KeyNotHeld, *_STORE),
        ),
        Route(
            "GET",
            "/originals",
            service.list,
            "List photographs in the order of their keys, a page at a time",
            {200: Page},
            (MalformedQuery, *_STORE),
            query=ListQuery,
        ),
    )


def _renditions(service: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/purge/{key}",
            service.purge,
            "Remove the pictures that were made of a photograph",
            {200: Purged},
            (MalformedKey, *_STORE),
        ),
        Route(
            "POST",
            "/purge",
            service.purge_gallery,
            "Remove the pictures that were made of a gallery: a line for each photograph",
            {200: Purged},
            (MalformedQuery, *_STORE),
            query=GalleryQuery,
            media_type=JSON_LINES,
        ),
        Route(
            "POST",
            "/warm/{key}",
            service.warm,
            "Make the pictures that are lacking of a photograph: a line for each",
            {200: Warmed},
            (MalformedKey, NoSuchOriginal, *_RENDER, *_STORE),
            media_type=JSON_LINES,
        ),
        Route(
            "POST",
            "/warm",
            service.warm_gallery,
            "Make the pictures that are lacking of a gallery: a line for each; goes on after a key",
            {200: Warmed},
            (MalformedQuery, *_STORE),
            query=WarmQuery,
            media_type=JSON_LINES,
        ),
    )


def _uploads(service: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/uploads",
            service.invite,
            "Where a photograph may be sent straight to the store",
            {201: Invited},
            (NoDirectUploads, *_STORE),
        ),
        Route(
            "POST",
            "/uploads/{id}/complete",
            service.complete,
            "Take what was sent straight to the store as the photograph of a key",
            {201: Accepted, 200: Accepted},
            (*_UPLOAD, MalformedBody, NoDirectUploads, NoSuchUpload, BadRequest, BodyTooSlow),
            body=Completion,
        ),
    )


def _state(health: Health, metrics: Metrics) -> tuple[Route, ...]:
    return (
        Route("GET", "/livez", health.live, "Whether the process is alive", {200: Live}, is_open=True),
        Route(
            "GET",
            "/readyz",
            health.ready,
            "Whether viewers should be sent here: renders a picture, reaches the store",
            {200: Readiness, 503: Readiness},
            is_open=True,
        ),
        Route(
            "GET",
            "/metrics",
            metrics.answer,
            "What a monitor reads, as Prometheus writes it",
            {200: str},
            media_type=TEXT,
            is_open=True,
        ),
    )
