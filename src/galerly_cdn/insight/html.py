"""Writes a report as one HTML page, without scripts and other files: to look at, to print, to mail. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.insight import pages, text, units
from galerly_cdn.insight.lowest_day import HIT_RATIO, causes, describe_day

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from galerly_cdn.insight.report import Group, Report

ROWS = 20
"""Rows of a table, but for the days; the JSON has all of them."""
_MIN_DAYS = 2
"""Of fewer days there is no chart by day."""


class Column(NamedTuple):
    """A day in the chart of requests, in percent of the chart's sides."""

    title: str
    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    """Class, y and height of each rectangle, from the bottom."""


class Point(NamedTuple):
    """A day in the chart of hit ratios, in percent of the chart's sides."""

    x: float
    y: float


def page(report: Report) -> str:
    """The page; it is HTML5 in UTF-8."""
    return _render("report", report)


def body(report: Report) -> str:
    """The page's main part, for an element of the class `report` on a page with `report.css`."""
    return _render("report_body", report)


def _render(template: str, report: Report) -> str:
    filters: dict[str, Callable[..., object]] = {
        "count": units.count,
        "percent": units.percent,
        "length_of": len,
        "length": units.length,
        "duration": units.duration,
        "state": text.state,
    }
    lowest = _lowest_ratio(report.by_day)
    values = {
        "report": report,
        "period": text.period(report),
        "title": text.title(report),
        "logged_by": text.logged_by(report),
        "malformed": text.malformed(report),
        "groups": _groups(report),
        "lists": text.listings(report),
        "day": describe_day(report.lowest_day) if report.lowest_day else "",
        "causes": causes(report),
        "columns": _columns(report.by_day),
        "line": _line(report.by_day, lowest),
        "lowest": lowest,
        "target_y": _y(HIT_RATIO, lowest),
    }
    return pages.render(template, filters, values)


def _groups(report: Report) -> list[tuple[str, str, Sequence[Group], int]]:
    """The tables of groups: heading, the first column's name, rows that are shown, and how many there are."""
    tables = (
        ("Sizes", "Size", report.by_size),
        ("Formats", "Format", report.by_format),
        ("Galleries", "Gallery", report.by_gallery),
    )
    days = ("Days", "Day", report.by_day, len(report.by_day))
    return [days, *((heading, name, rows[:ROWS], len(rows)) for heading, name, rows in tables)]


def _columns(days: Sequence[Group]) -> list[Column]:
    """The stacked columns of the days; none for a single day."""
    if len(days) < _MIN_DAYS:
        return []
    most = max(day.requests for day in days) or 1
    width = 100 / len(days)
    columns = []
    for number, day in enumerate(days):
        others = day.requests - day.pictures - day.errors
        heights = (
            ("hit", day.hits),
            ("miss", day.pictures - day.hits),
            ("other", others),
            ("error", day.errors),
        )
        parts, top = [], 100.0
        for kind, requests in heights:
            height = requests / most * 100
            top -= height
            parts.append((kind, round(top, 3), round(height, 3)))
        title = f"{day.name}: {units.count(day.requests)} requests, hits {units.percent(day.hit_ratio)}"
        columns.append(Column(title, round(number * width, 3), round(width * 0.86, 3), tuple(parts)))
    return columns


def _lowest_ratio(days: Sequence[Group]) -> float:
    """The lower end of the chart of hit ratios: at most 90 %, in steps of 10 %."""
    ratios = [day.hit_ratio for day in days if day.hit_ratio is not None]
    return int(min([0.9, *ratios]) * 10 + 1e-9) / 10


def _line(days: Sequence[Group], lowest: float) -> list[Point]:
    """The hit ratios of the days; none for a single day."""
    if len(days) < _MIN_DAYS:
        return []
    width = 100 / len(days)
    return [
        Point(round((number + 0.43) * width, 3), _y(day.hit_ratio, lowest))
        for number, day in enumerate(days)
        if day.hit_ratio is not None
    ]


def _y(ratio: float, lowest: float) -> float:
    return round((1 - ratio) / (1 - lowest) * 100, 3)
