"""Serves the dashboard's files: styles, scripts and the icon. Their addresses contain a digest of them."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.http.compression import compressed
from galerly_cdn.http.lifetimes import IMMUTABLE
from galerly_cdn.http.responses import Response

if TYPE_CHECKING:
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.http.responses import Headers

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_OWN = (
    "style.css",
    "dashboard.js",
    "charts.js",
    "icon.svg",
    "photographs.css",
    "actions.js",
    "thumbnails.js",
    "upload.js",
    "insight.css",
    "insight.js",
)
_OF_INSIGHT = ("report.css", "cost_page.css")
"""Styles of what the pages have in common with the files that the commands write."""
SECURITY_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class VendoredFile(NamedTuple):
    """A file of another project, as its package on npm has it, and the file with its licence beside it."""

    name: str
    package: str
    version: str
    path: str
    """In the package."""
    sha256: str
    license: str


VENDORED = (
    VendoredFile(
        "htmx.min.js",
        "htmx.org",
        "2.0.11",
        "dist/htmx.min.js",
        "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        "htmx.LICENSE",
    ),
    VendoredFile(
        "uplot.min.js",
        "uplot",
        "1.6.32",
        "dist/uPlot.iife.min.js",
        "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uplot.LICENSE",
    ),
    VendoredFile(
        "uplot.min.css",
        "uplot",
        "1.6.32",
        "dist/uPlot.min.css",
        "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "uplot.LICENSE",
    ),
)
"""To update one: copy the file out of `npm pack PACKAGE`, and correct its row here and the line in README."""


class Asset(NamedTuple):
    """A file and its address."""

    name: str
    address: str
    body: bytes


def read_assets() -> dict[str, Asset]:
    """The files by name."""
    names = (*_OWN, *(f"vendor/{one.name}" for one in VENDORED))
    assets = [_asset(name, read_file(f"static/{name}")) for name in names]
    styles = [_asset(name, read_file(name, "galerly_cdn.insight")) for name in _OF_INSIGHT]
    return {asset.name: asset for asset in (*assets, *styles)}


def asset_routes(assets: dict[str, Asset]) -> tuple[Route, ...]:
    """A route for each file. They need no login: the form to log in uses them, and they hold no secret."""
    return tuple(_route(asset) for asset in assets.values())


def read_file(name: str, package: str = "galerly_cdn.dashboard") -> bytes:
    """A file of this package, or of another one."""
    return resources.files(package).joinpath(name).read_bytes()


def _asset(name: str, body: bytes) -> Asset:
    file_name = name.rpartition("/")[2]
    stem, _, extension = file_name.rpartition(".")
    digest = hashlib.sha256(body).hexdigest()[:12]
    return Asset(file_name, f"{PAGES_PATH}/assets/{stem}-{digest}.{extension}", body)


def _route(asset: Asset) -> Route:
    media_type = _MEDIA_TYPES[asset.name[asset.name.rindex(".") :]]
    headers: Headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(asset.body)),
        (b"cache-control", IMMUTABLE),
        (b"content-security-policy", b"default-src 'none'"),
        (b"referrer-policy", b"no-referrer"),
        *SECURITY_HEADERS,
    ]
    response = Response(200, headers, asset.body)

    async def send(request: AdminRequest) -> Response:
        return compressed(response, request.headers.get(b"accept-encoding", b""))

    return Route("GET", asset.address, send, asset.name, {}, is_public=True)
