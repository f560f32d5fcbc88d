"""Renders the dashboard's pages in their common layout, with the headers that protect them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.dashboard.assets import SECURITY_HEADERS, read_assets, read_file
from galerly_cdn.errors import CrossSite, Unauthorized
from galerly_cdn.http.responses import Response
from galerly_cdn.insight.units import count, length

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from jinja2 import Environment

    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.responses import Headers

    Show = Callable[[AdminRequest], Awaitable[Mapping[str, object]]]

LOGIN_PATH = f"{PAGES_PATH}/login"
HOME_PATH = f"{PAGES_PATH}/now"
_CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Link(NamedTuple):
    """A page in the navigation."""

    path: str
    title: str


class Site:
    """The pages' layout. `navigation` is in the order of the links."""

    def __init__(self, navigation: tuple[Link, ...], authenticator: Authenticator) -> None:
        self._navigation = navigation
        self._authenticator = authenticator
        self.assets = read_assets()
        self._environment: Environment | None = None

    def view(self, path: str, template: str, show: Show, *, is_polled: bool = False) -> Route:
        """The route of a page, or of a part of one: `template` with the values that `show` returns.

        A template extends `layout.html` for a page. `is_polled`: the page requests this part again and again.
        """

        async def respond(request: AdminRequest) -> Response:
            return await self.render(request, template, await show(request))

        return Route("GET", path, respond, template, {}, is_polled=is_polled)

    async def render(
        self, request: AdminRequest, template: str, values: Mapping[str, object], status: int = 200
    ) -> Response:
        """A template as the response to a request."""
        if self._environment is None:
            self._environment = await asyncio.to_thread(self._open_environment)
        path = request.raw_path.decode("latin-1")
        common = {
            "navigation": self._navigation,
            "path": path,
            "who": request.who,
            "csrf": self._authenticator.csrf_token(request.headers),
            "request_is_part": request.is_part,
        }
        body = self._environment.get_template(template).render(values, **common).encode()
        return html_response(body, status)

    async def failure(self, request: AdminRequest, error: GalerlyError) -> Response:
        """The answer to a request for a page that failed: a page, or the way to the login."""
        if isinstance(error, Unauthorized) and request.is_part:
            return _redirect_part(LOGIN_PATH)
        if isinstance(error, Unauthorized) and request.method in {"GET", "HEAD"}:
            return redirect(LOGIN_PATH)
        values = {
            "error": error,
            "request_id": request.request_id,
            "is_cross_site": isinstance(error, CrossSite),
            "is_change": request.method not in {"GET", "HEAD"},
        }
        template = "failed_part.html" if request.is_part else "failed.html"
        response = await self.render(request, template, values, error.status)
        return Response(response.status, [*response.headers, *error.headers()], response.body)

    def _open_environment(self) -> Environment:
        from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - takes 30 ms to import

        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            loader=FunctionLoader(lambda name: read_file(f"templates/{name}").decode()),
        )
        environment.filters |= {
            "count": count,
            "length_with_unit": length,
            "time_of_day": time_of_day,
            "moment": moment,
            "code_spans": code_spans,
        }
        environment.globals["assets"] = {name: asset.address for name, asset in self.assets.items()}
        return environment


def time_of_day(time_s: float) -> str:
    """The time in UTC of seconds since the epoch: `14:05:10`."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%H:%M:%S")


def moment(time_s: float) -> str:
    """The date and time in UTC of seconds since the epoch: `2026-11-30 14:05:10`."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def code_spans(text: str) -> list[str]:
    """The parts of a text between its backquotes: every second one is code."""
    return text.split("`")


def html_response(body: bytes, status: int = 200) -> Response:
    """A page. It is neither cached nor compressed: it can hold a session's CSRF token (BREACH)."""
    headers: Headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        *_page_headers(),
    ]
    return Response(status, headers, body)


def redirect(path: str, *headers: tuple[bytes, bytes]) -> Response:
    """303 to a page of the dashboard (RFC 9110 §15.4.4)."""
    return Response(
        303, [(b"location", path.encode("ascii")), (b"content-length", b"0"), *_page_headers(), *headers]
    )


def _redirect_part(path: str) -> Response:
    """401 to a part of a page: htmx then opens `path` in the window."""
    headers: Headers = [
        (b"hx-redirect", path.encode("ascii")),
        (b"content-length", b"0"),
        *_page_headers(),
        *Unauthorized().headers(),
    ]
    return Response(401, headers)


def _page_headers() -> Headers:
    return [
        (b"cache-control", b"no-store"),
        (b"content-security-policy", _CONTENT_SECURITY_POLICY),
        (b"x-frame-options", b"DENY"),
        # With no-referrer, the form to log in would be sent with `Origin: null` (Fetch §3.2).
        (b"referrer-policy", b"same-origin"),
        *SECURITY_HEADERS,
    ]
