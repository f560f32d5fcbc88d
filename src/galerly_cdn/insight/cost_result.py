"""The result of `galerly-cdn cost`, and its JSON. Pure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from galerly_cdn.insight.cost import Line, Workload, estimate, per_100k_views_usd
from galerly_cdn.insight.cost_comparison import (
    Alternative,
    SpecificationFigure,
    alternatives,
    specification_figures,
)
from galerly_cdn.insight.cost_report import GalleryCost, gallery_costs
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.insight.cost_comparison import Machines
    from galerly_cdn.insight.cost_report import TrafficReport
    from galerly_cdn.insight.prices import Price


class CostReport(Value, frozen=True, kw_only=True):
    """Everything that the command shows. Amounts are in US dollars, without tax."""

    workload: Workload
    free_tier: bool
    region: str = "us-east-1"
    prices_date: dt.date
    """The oldest date of the prices that the lines use."""
    lines: tuple[Line, ...]
    monthly_usd: float
    one_off_usd: float
    per_100k_views_usd: float
    """The lines of the group `views`, for 100,000 views."""
    specification: tuple[SpecificationFigure, ...]
    alternatives: tuple[Alternative, ...]
    by_gallery: tuple[GalleryCost, ...] = ()


def cost_report(
    workload: Workload,
    prices: Mapping[str, Price],
    machines: Machines,
    report: TrafficReport | None = None,
    *,
    free_tier: bool,
) -> CostReport:
    """The estimate with its comparisons; the galleries are those of `report`."""
    found = estimate(workload, prices, free_tier=free_tier)
    return CostReport(
        workload=workload,
        free_tier=free_tier,
        prices_date=min(line.date for line in found.lines),
        lines=found.lines,
        monthly_usd=found.monthly_usd,
        one_off_usd=found.one_off_usd,
        per_100k_views_usd=per_100k_views_usd(found, workload),
        specification=specification_figures(prices),
        alternatives=alternatives(workload, prices, machines, free_tier=free_tier),
        by_gallery=() if report is None else gallery_costs(report, workload, found),
    )
