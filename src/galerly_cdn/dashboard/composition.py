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
from galerly_cdn.dashboard.recent_errors import ERRORS_PATH, ErrorsPage
from galerly_cdn.dashboard.sampler import Sampler
from galerly_cdn.dashboard.site import HOME_PATH, Link, Site, redirect
from galerly_cdn.dashboard.uploads import UPLOAD_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.admin.metrics import Gauges
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.clock import Clock
    from galerly_cdn.dashboard.photographs import Photographs
    from galerly_cdn.http.responses import Response
    from galerly_cdn.render.pool.supervisor import WorkerFacts
    from galerly_cdn.telemetry import Telemetry

NAVIGATION = (
    Link(HOME_PATH, "Now"),
    Link(GALLERIES_PATH, "Galleries"),
    Link(UPLOAD_PATH, "Upload"),
    Link(ERRORS_PATH, "Errors"),
)


class Dashboard:
    """The dashboard's routes, with the steps that begin and end it."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        telemetry: Telemetry,
        clock: Clock,
        authenticator: Authenticator,
        gauges: Gauges,
        photographs: Photographs,
        workers: Callable[[], Sequence[WorkerFacts]],
    ) -> None:
        self.sampler = Sampler(telemetry, gauges, workers, clock)
        self._site = Site(NAVIGATION, authenticator)
        self.failure = self._site.failure
        self.routes: tuple[Route, ...] = (
            *(Route("GET", path, _open_home, "The dashboard", {}) for path in ("/", PAGES_PATH)),
            *asset_routes(self._site.assets),
            *Logins(self._site, authenticator, clock.monotonic).routes(),
            *NowPage(self.sampler, workers).routes(self._site),
            *photograph_routes(self._site, clock, photographs),
            *ErrorsPage(telemetry).routes(self._site),
        )

    def start(self) -> None:
        """Begin to sample the counters."""
        self.sampler.start()

    def close(self) -> None:
        """End the sampling."""
        self.sampler.stop()


async def _open_home(_request: AdminRequest) -> Response:
    return redirect(HOME_PATH)
