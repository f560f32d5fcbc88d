"""Shows the page that uploads photographs; its script sends them to the admin API, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.insight import units
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.routes import Route
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.settings.table import Settings

UPLOAD_PATH = f"{PAGES_PATH}/upload"


class UploadPageQuery(Value, frozen=True):
    """The gallery that the form begins with."""

    gallery: str = ""


class UploadPage:
    """The page *Upload*."""

    def __init__(self, settings: Settings, *, is_writable: bool) -> None:
        self._is_writable = is_writable
        self._max_bytes = settings.max_original_bytes

    def routes(self, site: Site) -> tuple[Route, ...]:
        """The route of the page."""
        return (site.view(UPLOAD_PATH, "upload.html", self._form),)

    async def _form(self, request: AdminRequest) -> Mapping[str, object]:
        return {
            "gallery": request.parse_query(UploadPageQuery).gallery,
            "is_writable": self._is_writable,
            "max_bytes": self._max_bytes,
            "max_length": units.length(self._max_bytes),
        }
