"""Judges the four targets of the specification (*Key Metrics to Monitor*), and says what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.insight.lowest_day import HIT_RATIO, busy_client
from galerly_cdn.insight.outcomes import CACHES, Tier
from galerly_cdn.insight.report import Target
from galerly_cdn.insight.units import count, duration, percent

if TYPE_CHECKING:
    from galerly_cdn.insight.report import Report

RENDER_MS = 2000.0
"""Of 95 % of the requests that waited for a render."""
ERROR_RATIO = 0.001
GROWTH = 2.0
"""How much more than on the mean day before may be stored on the last day."""
MIN_RENDITIONS = 100
"""Fewer new renditions on a day are no growth, whatever the days before."""
_MORE_DAYS = "Read the logs of at least two days."
_INNER_LOGS = {
    Tier.CLOUDFRONT: "CloudFront's log does not say what was rendered: add the lines of the resizer's log.",
    Tier.NGINX: "nginx's log does not say what was rendered: add the lines of the nodes' logs.",
}
_SLOW_RENDERS = "Large or progressive originals take longest; more memory or workers help if renders wait."


def judge(report: Report) -> tuple[Target, ...]:
    """The targets; `report.targets` is not looked at."""
    return _hit_ratio(report), _render_time(report), _errors(report), _growth(report)


def _hit_ratio(report: Report) -> Target:
    ratio = report.hit_ratio
    title = "Cache hit ratio" if report.tier in CACHES else "Hit ratio, memory and store"
    return Target(
        name="hit-ratio",
        title=title,
        wanted=f"> {percent(HIT_RATIO, 0)}",
        value="" if ratio is None else percent(ratio),
        is_met=None if ratio is None else ratio > HIT_RATIO,
        advice=_advice_on_misses(report) if ratio is not None else "The logs have no picture.",
    )


def _advice_on_misses(report: Report) -> str:
    """What most of the misses are; `lowest_day` says where they are."""
    if report.renders is None:
        return _inner_log(report)
    parts = []
    outdated = sum(day.outdated or 0 for day in report.by_day)
    client = busy_client(report.lowest_day)
    if client and client.misses * 2 > report.renders:
        parts.append(f"Most renders are of one client, {client.name}: see the lowest day.")
    elif outdated * 2 > report.renders:
        parts.append("Most renders replace renditions: originals were replaced, or settings changed.")
    elif client:
        parts.append("Several causes have the renders: see the lowest day.")
    elif report.renders:
        parts.append("Most renders are of pictures that nobody had requested: warm galleries when they open.")
    if report.tier in CACHES and (report.store_hits or 0) > report.renders:
        parts.append("Most misses are in the store already: look for invalidations and for short lifetimes.")
    return " ".join(parts)


def _render_time(report: Report) -> Target:
    time = report.render_time
    slowest = ", ".join(original.key for original in report.slowest_originals[:3])
    known = f"The slowest originals: {slowest}. " if slowest else ""
    return Target(
        name="render-time",
        title="Time to a rendered picture, 95 %",
        wanted=f"< {RENDER_MS / 1000:g} s",
        value="" if time is None else duration(time.p95_ms),
        is_met=None if time is None else time.p95_ms < RENDER_MS,
        advice=known + _SLOW_RENDERS if time else _unknown_renders(report),
    )


def _inner_log(report: Report) -> str:
    """Which log tells what was rendered, where the outermost tier's does not."""
    return "" if report.tier is None else _INNER_LOGS.get(report.tier, "")


def _unknown_renders(report: Report) -> str:
    return _inner_log(report) if report.renders is None else "Nothing was rendered."


def _errors(report: Report) -> Target:
    ratio = report.error_ratio
    statuses = ", ".join(f"{count(one.requests)} × {one.status}" for one in report.by_status[:3])
    server = sum(one.requests for one in report.by_status if one.status >= 500)
    whose = (
        "Most are the CDN's own: galerly-cdn's log has their details."
        if server * 2 > report.errors
        else "Most are requests for what does not exist or is not allowed: look at the pages that link there."
    )
    sweep = next(iter(report.sweeps), None)
    by_sweep = f" {sweep.client} alone tried {count(sweep.different)} {sweep.kind}." if sweep else ""
    if sweep and sweep.requests * 2 > report.errors:
        whose = "Most are of one client: unless it is yours, block its address."
    return Target(
        name="errors",
        title="Error responses (4xx, 5xx)",
        wanted=f"< {percent(ERROR_RATIO, 1)}",
        value="" if ratio is None else percent(ratio, 3),
        is_met=None if ratio is None else ratio < ERROR_RATIO,
        advice=f"{statuses}. {whose}{by_sweep}" if report.errors else "",
    )


def _growth(report: Report) -> Target:
    days = [(day.name, day.renditions) for day in report.by_day if day.renditions is not None]
    title, wanted = "Renditions stored on the last day", f"≤ {GROWTH:g} × the mean"
    if len(days) < 2:
        advice = _inner_log(report) if report.renders is None else _MORE_DAYS
        return Target(name="growth", title=title, wanted=wanted, value="", is_met=None, advice=advice)
    last, stored = days.pop()
    mean = sum(renditions for _, renditions in days) / len(days)
    grown = max(report.by_gallery, key=lambda group: group.renditions or 0, default=None)
    where = f" Most are in the gallery {grown.name or '/'} ({count(grown.renditions)})." if grown else ""
    client = busy_client(report.lowest_day)
    if client and report.lowest_day and report.lowest_day.day == last:
        where = f" On the last day {client.name} alone had {count(client.misses)} misses."
    return Target(
        name="growth",
        title=title,
        wanted=wanted,
        value=f"{count(stored)}, {count(round(mean))} a day before",
        is_met=stored <= max(MIN_RENDITIONS, GROWTH * mean),
        advice=f"New galleries and new sizes grow the store once; a sweep of sizes grows it on.{where}",
    )
