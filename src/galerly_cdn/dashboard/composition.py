"""Builds the dashboard of a CDN."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.dashboard import cost, doctor, report
from galerly_cdn.dashboard.assets import asset_routes
from galerly_cdn.dashboard.cost import CostPage
from galerly_cdn.dashboard.doctor import DoctorPage
from galerly_cdn.dashboard.galleries import GALLERIES_PATH, GalleriesPage
from galerly_cdn.dashboard.login import Logins
from galerly_cdn.dashboard.now import NowPage
from galerly_cdn.dashboard.photograph import PhotographPage
from galerly_cdn.dashboard.pictures import Pictures
from galerly_cdn.dashboard.recent_errors import ERRORS_PATH, ErrorsPage
from galerly_cdn.dashboard.report import ReportPage
from galerly_cdn.dashboard.sampler import Sampler
from galerly_cdn.dashboard.signed_links import SignedLinksPage
from galerly_cdn.dashboard.site import HOME_PATH, Link, Site, redirect
from galerly_cdn.dashboard.survey import PATIENCE_S, Survey
from galerly_cdn.dashboard.uploads import UPLOAD_PATH, UploadPage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from galerly_cdn.access.signing import Signer
    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.admin.metrics import Gauges
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.clock import Clock
    from galerly_cdn.downloads import Downloads
    from galerly_cdn.fill import Filler
    from galerly_cdn.http.responses import Response
    from galerly_cdn.library import Library
    from galerly_cdn.render.pool.supervisor import WorkerFacts
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals, Renditions
    from galerly_cdn.telemetry import Telemetry

NAVIGATION = (
    Link(HOME_PATH, "Now"),
    Link(GALLERIES_PATH, "Galleries"),
    Link(UPLOAD_PATH, "Upload"),
    Link(ERRORS_PATH, "Errors"),
    Link(report.PATH, "Report"),
    Link(cost.PATH, "Cost"),
    Link(doctor.PATH, "Doctor"),
)


class Photographs(NamedTuple):
    """What the pages read of a CDN. `signer` is None where the settings name no key to sign links with."""

    settings: Settings
    originals: Originals
    renditions: Renditions
    library: Library
    filler: Filler
    downloads: Downloads
    is_writable: bool
    """Whether the store of originals takes uploads, replacements and deletions."""
    signer: Signer | None = None
    patience_s: float = PATIENCE_S
    """How long the page of galleries waits for a count."""


class Dashboard:
    """The dashboard's routes, with the steps that begin and end it."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
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
        report_page = ReportPage(self._site, settings, clock)
        doctor_page = DoctorPage(self._site, settings, clock)
        self.runs = (report_page.run, doctor_page.run)
        self.routes: tuple[Route, ...] = (
            *(
                Route("GET", path, _open_home, "The dashboard", {})
                for path in ("/", PAGES_PATH, f"{PAGES_PATH}/")
            ),
            *asset_routes(self._site.assets),
            *Logins(self._site, authenticator, clock.monotonic).routes(),
            *NowPage(self.sampler, workers).routes(self._site),
            *_photograph_routes(self._site, clock, photographs),
            *ErrorsPage(telemetry).routes(self._site),
            *report_page.routes(),
            *CostPage(self._site, lambda: report_page.run.result).routes(),
            *doctor_page.routes(),
        )

    def start(self) -> None:
        """Begin to sample the counters."""
        self.sampler.start()

    async def close(self) -> None:
        """End the sampling, and the commands that run."""
        self.sampler.stop()
        for run in self.runs:
            await run.stop()


def _photograph_routes(site: Site, clock: Clock, photographs: Photographs) -> tuple[Route, ...]:
    """The routes of the pages, and of the pictures in them."""
    settings, originals, library = photographs.settings, photographs.originals, photographs.library
    pictures = Pictures(
        settings, originals=originals, filler=photographs.filler, downloads=photographs.downloads
    )
    survey = Survey(originals, clock.monotonic, patience_s=photographs.patience_s)
    photograph = PhotographPage(
        settings,
        library,
        pictures,
        originals=originals,
        renditions=photographs.renditions,
        is_writable=photographs.is_writable,
    )
    links = SignedLinksPage(settings, library, pictures, signer=photographs.signer, now_s=clock.wall)
    return (
        *pictures.routes(),
        *GalleriesPage(settings, survey, library).routes(site),
        *photograph.routes(site),
        *UploadPage(settings, is_writable=photographs.is_writable).routes(site),
        *links.routes(site),
    )


async def _open_home(_request: AdminRequest) -> Response:
    return redirect(HOME_PATH)
