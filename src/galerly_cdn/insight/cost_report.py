"""Reads the JSON of `galerly-cdn report`: the month that it describes, and what each gallery costs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from galerly_cdn.errors import SettingsError
from galerly_cdn.insight.cost import MONTH_HOURS
from galerly_cdn.serialization import Meta, ValidationError, Value, from_json

if TYPE_CHECKING:
    from galerly_cdn.insight.cost import Driver, Estimate

_Count = Annotated[float, Meta(ge=0)]


class GalleryTraffic(Value, frozen=True, forbid_unknown_fields=False):
    """A gallery's row of a report."""

    requests: _Count
    bytes: _Count
    renders: _Count


class TrafficReport(Value, frozen=True, forbid_unknown_fields=False):
    """The fields of a report that the estimate uses. `hit_ratio` is None where there was no picture."""

    requests: _Count
    hit_ratio: Annotated[float, Meta(ge=0, le=1)] | None
    bytes: _Count
    renders: _Count
    days: Annotated[float, Meta(gt=0)]
    by_gallery: dict[str, GalleryTraffic]

    @property
    def months(self) -> float:
        return self.days * 24 / MONTH_HOURS


class GalleryCost(Value, frozen=True):
    """A gallery's part of the lines that are in proportion to the views; the traffic is that of a month."""

    gallery: str
    requests: float
    bytes: float
    renders: float
    monthly_usd: float


def read_report(text: bytes, file: str) -> TrafficReport:
    """A report. Raises `SettingsError` if it is not the JSON of `galerly-cdn report --json`."""
    try:
        return from_json(TrafficReport, text)
    except ValidationError as error:
        raise SettingsError([f"{file} is not the JSON of `galerly-cdn report --json`: {error}"]) from error


def month_fields(report: TrafficReport) -> dict[str, float]:
    """The fields of a `Workload` that a report tells, for a month."""
    hit_ratio = 1.0 if report.hit_ratio is None else report.hit_ratio
    misses = report.requests * (1 - hit_ratio)
    return {
        "views": report.requests / report.months,
        "hit_ratio": hit_ratio,
        "render_ratio": min(1.0, report.renders / misses) if misses else 0.0,
        "view_bytes": report.bytes / report.requests if report.requests else 0.0,
    }


def gallery_costs(report: TrafficReport, found: Estimate) -> tuple[GalleryCost, ...]:
    """What each gallery costs in a month, the costliest first; the sum is that of the group `views`.

    A line's amount is divided by bytes, requests or renders. A report has no misses of a gallery: their lines
    are divided by renders. Requests outside the galleries of the report are the last row, with the name "".
    """
    by_driver: dict[Driver, float] = {}
    for line in found.lines:
        if line.group == "views":
            driver: Driver = "renders" if line.driver == "misses" else line.driver
            if driver == "renders" and not report.renders:
                driver = "requests"
            by_driver[driver] = by_driver.get(driver, 0.0) + line.amount_usd
    rows = [_cost(name, traffic, report, by_driver) for name, traffic in report.by_gallery.items()]
    rows.sort(key=lambda row: (-row.monthly_usd, row.gallery))
    listed = report.by_gallery.values()
    rest = GalleryTraffic(
        max(0.0, report.requests - sum(one.requests for one in listed)),
        max(0.0, report.bytes - sum(one.bytes for one in listed)),
        max(0.0, report.renders - sum(one.renders for one in listed)),
    )
    if report.by_gallery and (rest.requests or rest.bytes or rest.renders):
        rows.append(_cost("", rest, report, by_driver))
    return tuple(rows)


def _cost(
    name: str, traffic: GalleryTraffic, report: TrafficReport, by_driver: dict[Driver, float]
) -> GalleryCost:
    usd = 0.0
    for driver, amount_usd in by_driver.items():
        total = getattr(report, driver)
        usd += amount_usd * getattr(traffic, driver) / total if total else 0.0
    months = report.months
    return GalleryCost(name, traffic.requests / months, traffic.bytes / months, traffic.renders / months, usd)
