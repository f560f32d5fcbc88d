"""Reads the JSON of `galerly-cdn report`: the month that it describes, and what each gallery costs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from galerly_cdn.errors import SettingsError
from galerly_cdn.insight.cost import MONTH_HOURS
from galerly_cdn.serialization import Meta, ValidationError, Value, from_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.insight.cost import Driver, Estimate, Workload

_Count = Annotated[float, Meta(ge=0, le=1e18)]


class Traffic(Value, frozen=True, forbid_unknown_fields=False):
    """What a report says of all requests or of a gallery's. `renders` is None where the logs do not say."""

    requests: _Count
    pictures: _Count
    hits: _Count
    bytes: _Count
    renders: _Count | None

    @property
    def misses(self) -> float:
        return max(0.0, self.pictures - self.hits)


class GalleryTraffic(Traffic, frozen=True, forbid_unknown_fields=False):
    """A gallery's row of a report."""

    name: str


class TrafficReport(Traffic, frozen=True, forbid_unknown_fields=False):
    """The fields of a report that the estimate uses. `hit_ratio` is None where there was no picture."""

    hit_ratio: Annotated[float, Meta(ge=0, le=1)] | None
    days: Annotated[float, Meta(gt=1e-6)]
    by_gallery: tuple[GalleryTraffic, ...]

    @property
    def months(self) -> float:
        return self.days * 24 / MONTH_HOURS

    @property
    def rest(self) -> Traffic:
        """What is in no gallery of the report."""

        def left(total: float | None, parts: Iterable[float | None]) -> float:
            return max(0.0, (total or 0.0) - sum(part or 0.0 for part in parts))

        return Traffic(
            left(self.requests, (one.requests for one in self.by_gallery)),
            left(self.pictures, (one.pictures for one in self.by_gallery)),
            left(self.hits, (one.hits for one in self.by_gallery)),
            left(self.bytes, (one.bytes for one in self.by_gallery)),
            None if self.renders is None else left(self.renders, (one.renders for one in self.by_gallery)),
        )


class GalleryCost(Value, frozen=True):
    """A gallery's part of the lines that are in proportion to the views; the traffic is that of a month.

    `gallery` is None for all that is in no gallery of the report.
    """

    gallery: str | None
    requests: float
    bytes: float
    renders: float | None
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
    fields = {
        "views": report.requests / report.months,
        "hit_ratio": hit_ratio,
        "view_bytes": report.bytes / report.requests if report.requests else 0.0,
    }
    misses = report.requests * (1 - hit_ratio)
    if report.renders is not None:
        fields["render_ratio"] = min(1.0, report.renders / misses) if misses else 0.0
    return fields


def gallery_costs(report: TrafficReport, work: Workload, found: Estimate) -> tuple[GalleryCost, ...]:
    """What each gallery costs in a month, the costliest first; the sum is that of the group `views`.

    A line's amount is divided by what it is in proportion to: bytes, requests, misses or renders. The month
    is that of the workload, whose views may be others than the report's.
    """
    rows: list[tuple[str | None, Traffic]] = [(one.name, one) for one in report.by_gallery]
    rest = report.rest
    if rows and (rest.requests or rest.bytes or rest.misses or rest.renders):
        rows.append((None, rest))
    by_divisor: dict[str, float] = {}
    for line in found.lines:
        if line.group == "views":
            divisor = _divisor(line.driver, report)
            by_divisor[divisor] = by_divisor.get(divisor, 0.0) + line.amount_usd
    totals = {name: sum(_amount(traffic, name) for _, traffic in rows) for name in by_divisor}
    costs = [
        GalleryCost(
            name,
            _share(traffic.requests, report.requests) * work.views,
            _share(traffic.bytes, report.bytes) * work.views * work.view_bytes,
            None
            if traffic.renders is None or report.renders is None
            else _share(traffic.renders, report.renders) * work.renders,
            sum(
                usd * _amount(traffic, divisor) / totals[divisor]
                for divisor, usd in by_divisor.items()
                if totals[divisor]
            ),
        )
        for name, traffic in rows
    ]
    return tuple(sorted(costs, key=lambda one: (one.gallery is None, -one.monthly_usd, one.gallery)))


def _divisor(driver: Driver, report: TrafficReport) -> str:
    """The field that divides a line: renders where the logs have them, else misses, else requests."""
    fields = {"renders": ("renders", "misses"), "misses": ("misses",), "bytes": ("bytes",)}.get(driver, ())
    return next((name for name in fields if _amount(report, name)), "requests")


def _share(part: float, total: float | None) -> float:
    return part / total if total else 0.0


def _amount(traffic: Traffic, name: str) -> float:
    return float(getattr(traffic, name) or 0.0)
