"""Shows what the CDN does now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.dashboard.site import HOME_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.admin.metrics import Gauges
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.routes import Route
    from galerly_cdn.dashboard.site import Site


class NowPage:
    """The page *Now*."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def routes(self, site: Site) -> tuple[Route, ...]:
        """The routes of the page, and of the figures in it, which it requests every 10 seconds."""
        return (
            site.view(HOME_PATH, "now.html", self._figures),
            site.view(f"{HOME_PATH}/figures", "now_figures.html", self._figures, is_polled=True),
        )

    async def _figures(self, _request: AdminRequest) -> Mapping[str, object]:
        return {"gauges": {name: read() for name, read in self._gauges.items()}}
