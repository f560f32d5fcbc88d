"""Shows the last error responses to viewers, and what to do about them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.dashboard.advice import ADVICE
from galerly_cdn.errors import by_code
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.routes import Route
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.telemetry import Telemetry

ERRORS_PATH = f"{PAGES_PATH}/errors"
_SHOWN = 100
"""Requests of the list; all that are kept are counted."""


class ErrorsQuery(Value, frozen=True):
    """Selects the errors of one code; all errors without it."""

    code: str = ""


class Reason(NamedTuple):
    """The errors of one code: what they mean, and what to do."""

    code: str
    times: int
    status: int
    sentence: str
    advice: str


class ErrorsPage:
    """The page *Errors*."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def routes(self, site: Site) -> tuple[Route, ...]:
        """The route of the page."""
        return (site.view(ERRORS_PATH, "errors.html", self._show),)

    async def _show(self, request: AdminRequest) -> Mapping[str, object]:
        code = request.parse_query(ErrorsQuery).code
        records = list(reversed(self._telemetry.recent_errors))
        times = Counter(record.reason for record in records)
        return {
            "reasons": [reason(*item) for item in times.most_common()],
            "records": [record for record in records if code in {"", record.reason}][:_SHOWN],
            "code": code,
            "kept": self._telemetry.recent_errors.maxlen,
            "total": len(records),
        }


def reason(code: str, times: int) -> Reason:
    """What the errors of a code mean. An unknown code, which only a newer worker sends, has no words."""
    kind = by_code().get(code)
    return Reason(code, times, kind.status if kind else 0, kind.public if kind else "", ADVICE.get(code, ""))
