"""Formats a cost report for a terminal. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from galerly_cdn.insight.cost import Group, Line
    from galerly_cdn.insight.cost_comparison import Alternative, SpecificationFigure
    from galerly_cdn.insight.cost_report import GalleryCost
    from galerly_cdn.insight.cost_result import CostReport

GROUPS: dict[Group, str] = {
    "storage": "Storage, each month",
    "views": "Views, each month",
    "operation": "Operation, each month",
    "uploads": "Uploads, once",
}


def format_usd(amount: float) -> str:
    """Dollars with two decimals; below $1 with up to three digits: $45.04, $0.85, $0.161, $0.00074."""
    if amount >= 1 or amount == 0:
        return f"${amount:,.2f}" if amount else "$0"
    digits = 2 - math.floor(math.log10(amount))
    text = f"{amount:.{digits}f}".rstrip("0")
    return f"${text}" + "0" * (4 - len(text))


def format_quantity(quantity: float) -> str:
    """A quantity with at most two decimals, or two significant digits below 1."""
    if quantity == int(quantity) or quantity >= 1000:
        return f"{quantity:,.0f}"
    if quantity >= 1:
        return f"{quantity:,.2f}"
    return f"{quantity:.{1 - math.floor(math.log10(quantity))}f}".rstrip("0")


def format_rate(usd: float, per: float, unit: str) -> str:
    """A price with all its decimals, at least two: `$0.005 per 1,000 requests`, `$0.30 per metric`."""
    units = unit.removesuffix("s") if per == 1 else f"{per:,.0f} {unit}"
    text = f"{usd:.10f}".rstrip("0")
    decimals = max(2, len(text.partition(".")[2]))
    return f"${usd:.{decimals}f} per {units}"


def format_price(line: Line) -> str:
    """The price of a line. ° marks one that was not checked on the provider's page."""
    tier = ", less beyond a quantity" if line.is_tiered else ""
    return format_rate(line.usd, line.per, line.unit) + tier + ("" if line.is_checked else " °")


def format_gallery(name: str | None) -> str:
    """A gallery's name; originals outside a folder are in the gallery with an empty name."""
    return "(others)" if name is None else name or "(no folder)"


def format_report(report: CostReport) -> str:
    """The lines by group, the sums, the comparison with the specification, alternatives and galleries."""
    return "\n".join(_lines(report))


def _lines(report: CostReport) -> Iterator[str]:
    tier = "with the free tier" if report.free_tier else "at list price, without the free tier"
    yield f"The AWS deployment, {tier}; {report.region}, prices of {report.prices_date}"
    for group, title in GROUPS.items():
        yield from _group(title, [line for line in report.lines if line.group == group])
    yield ""
    yield from _table(
        [
            ("Each month", format_usd(report.monthly_usd)),
            ("Once, for the uploads", format_usd(report.one_off_usd)),
            ("100,000 views", format_usd(report.per_100k_views_usd)),
        ],
        right={1},
    )
    yield "\nThe specification's example at today's list prices"
    yield from _figures(report.specification)
    yield "\nOther ways to serve 100,000 of these views"
    yield from _alternatives(report.alternatives)
    if report.by_gallery:
        yield "\nGalleries: their part of the views, each month"
        yield from _galleries(report.by_gallery)
    if not all(line.is_checked for line in report.lines):
        yield "\n° not checked on the provider's page: check it before you rely on it (--prices)"


def _group(title: str, lines: list[Line]) -> Iterator[str]:
    if not lines:
        return
    yield f"\n{title}"
    rows = [
        (
            f"  {line.item}",
            format_quantity(line.quantity),
            f"− {format_quantity(line.free)} free" if line.free else "",
            f"× {format_price(line)}",
            f"= {format_usd(line.amount_usd)}",
        )
        for line in lines
    ]
    yield from _table(rows, right={1, 2})
    yield f"  together {format_usd(sum(line.amount_usd for line in lines))}"


def _figures(figures: Iterable[SpecificationFigure]) -> Iterator[str]:
    rows = [
        (
            f"  {row.item}",
            "-" if row.specification_usd is None else format_usd(row.specification_usd),
            format_usd(row.computed_usd),
            row.note,
        )
        for row in figures
    ]
    return _table(rows, heads=("", "it says", "computed", ""), right={1, 2})


def _alternatives(found: Iterable[Alternative]) -> Iterator[str]:
    rows = [
        (
            f"  {one.name}",
            "?" if one.per_100k_views_usd is None else format_usd(one.per_100k_views_usd),
            one.specification or "-",
            one.note,
        )
        for one in found
    ]
    return _table(rows, heads=("", "computed", "specification", ""), right={1, 2})


def _galleries(found: Iterable[GalleryCost]) -> Iterator[str]:
    rows = [
        (
            f"  {format_gallery(one.gallery)}",
            format_quantity(round(one.requests)),
            f"{one.bytes / 1e9:,.3f} GB",
            "?" if one.renders is None else format_quantity(round(one.renders)),
            format_usd(one.monthly_usd),
        )
        for one in found
    ]
    return _table(rows, heads=("", "requests", "sent", "renders", "cost"), right={1, 2, 3, 4})


def _table(
    rows: Sequence[tuple[str, ...]], right: Iterable[int], heads: tuple[str, ...] | None = None
) -> Iterator[str]:
    """Rows with aligned columns; the last column is not padded."""
    everything = rows if heads is None else [heads, *rows]
    aligned_right = set(right)
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    for row in everything:
        cells = (
            cell.rjust(width) if number in aligned_right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
