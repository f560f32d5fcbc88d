"""Builds the dashboard of a CDN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.dashboard.assets import asset_routes
from galerly_cdn.dashboard.galleries import GALLERIES_PATH
from galerly_cdn.dashboard.login import Logins
from galerly_cdn.dashboard.now import NowPage
from galerly_cdn.dashboard.photographs import photograph_routes
from galerly_cdn.dashboard.site import HOME_PATH, Link, Site, redirect
from galerly_cdn.dashboard.uploads import UPLOAD_PATH

if TYPE_CHECKING:
    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.admin.metrics import Gauges
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.clock import Clock
    from galerly_cdn.dashboard.photographs import Photographs
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry

NAVIGATION = (
    Link(HOME_PATH, "Now"),
    Link(GALLERIES_PATH, "Galleries"),
    Link(UPLOAD_PATH, "Upload"),
)


class Dashboard:
    """The dashboard's routes, with the steps that begin and end it."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        *,
        telemetry: Telemetry,  # noqa: ARG002
        clock: Clock,
        authenticator: Authenticator,
        gauges: Gauges,
        photographs: Photographs,
    ) -> None:
        self._site = Site(NAVIGATION, authenticator)
        self.failure = self._site.failure
        self.routes: tuple[Route, ...] = (
            *(Route("GET", path, _open_home, "The dashboard", {}) for path in ("/", PAGES_PATH)),
            *asset_routes(self._site.assets),
            *Logins(self._site, authenticator, clock.monotonic).routes(),
            *NowPage(gauges).routes(self._site),
            *photograph_routes(self._site, settings, clock, photographs),
        )


async def _open_home(_request: AdminRequest) -> Response:
    return redirect(HOME_PATH)
