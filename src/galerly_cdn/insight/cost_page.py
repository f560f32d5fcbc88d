"""Formats a cost report as one self-contained HTML file with charts, without a script.

The charts show the monthly cost against the views and against the hit ratio of the same workload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.insight import cost_chart, cost_text, pages
from galerly_cdn.insight.cost import estimate
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.insight.cost import Workload
    from galerly_cdn.insight.cost_chart import Chart
    from galerly_cdn.insight.cost_result import CostReport
    from galerly_cdn.insight.prices import Price

_POINTS = 60
_WORST_HIT_RATIO = 0.8


def render_page(report: CostReport, prices: Mapping[str, Price]) -> str:
    """The page's HTML."""
    return _render("cost_page", report, prices)


def render_body(report: CostReport, prices: Mapping[str, Price]) -> str:
    """The page's main part, for an element of the class `cost` on a page with `cost_page.css`."""
    return _render("cost_page_body", report, prices)


def _render(template: str, report: CostReport, prices: Mapping[str, Price]) -> str:
    filters: dict[str, Callable[..., object]] = {
        "usd": cost_text.format_usd,
        "quantity": cost_text.format_quantity,
        "gallery": cost_text.format_gallery,
        "price": cost_text.format_price,
    }
    values = {
        "report": report,
        "groups": cost_text.GROUPS,
        "charts": (_views_chart(report, prices), _hit_ratio_chart(report, prices)),
        "width": cost_chart.WIDTH,
        "height": cost_chart.HEIGHT,
        "left": cost_chart.LEFT,
        "right": cost_chart.RIGHT,
    }
    return pages.render(template, filters, values)


def _views_chart(report: CostReport, prices: Mapping[str, Price]) -> Chart:
    """From no views to three times those of the workload."""
    views = report.workload.views or 100_000.0
    numbers = [3 * views * point / _POINTS for point in range(_POINTS + 1)]
    series = _series([(number, replaced(report.workload, views=number)) for number in numbers], prices)
    return cost_chart.draw(
        "Cost against views",
        "views in a month",
        cost_chart.Axis(0.0, 3 * views, (0.0, views, 2 * views, 3 * views), _short),
        series,
        (report.workload.views, report.monthly_usd),
        summary=_summary(series, "views", _short),
        y_label=_short_usd,
    )


def _hit_ratio_chart(report: CostReport, prices: Mapping[str, Price]) -> Chart:
    """From 80 % hits, or the ratio of the workload if it is worse, to 100 %."""
    worst = min(_WORST_HIT_RATIO, report.workload.hit_ratio)
    ratios = [worst + (1 - worst) * point / _POINTS for point in range(_POINTS + 1)]
    workloads = [(ratio, replaced(report.workload, hit_ratio=min(1.0, ratio))) for ratio in ratios]
    ticks = tuple(worst + (1 - worst) * part / 4 for part in range(5))
    series = _series(workloads, prices)
    return cost_chart.draw(
        "Cost against hit ratio",
        "hits in CloudFront's caches",
        cost_chart.Axis(worst, 1.0, ticks, _percent),
        series,
        (report.workload.hit_ratio, report.monthly_usd),
        summary=_summary(series, "hits", _percent),
        y_label=_short_usd,
    )


_Series = list[tuple[str, list[tuple[float, float]]]]


def _series(workloads: list[tuple[float, Workload]], prices: Mapping[str, Price]) -> _Series:
    return [
        (name, [(x, estimate(work, prices, free_tier=free).monthly_usd) for x, work in workloads])
        for name, free in (("list price", False), ("with the free tier", True))
    ]


def _summary(series: _Series, what: str, label: Callable[[float], str]) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for name, points in series:
        (low, low_usd), (high, high_usd) = points[0], points[-1]
        parts.append(
            f"{name}: {cost_text.format_usd(low_usd)} at {label(low)} {what}, "
            f"{cost_text.format_usd(high_usd)} at {label(high)}"
        )
    return "; ".join(parts) + "."


def _short(number: float) -> str:
    """A number with at most three digits and a unit: 33.3k, 1.5M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:.3g}"


def _short_usd(amount: float) -> str:
    return f"${amount / 1000:g}k" if amount >= 10_000 else f"${amount:g}"


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.3g} %"
