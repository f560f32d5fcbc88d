"""Shows what the CDN does now, the four targets, and the last hour in charts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.dashboard.recent_errors import reason
from galerly_cdn.dashboard.samples import HISTORY_S, NOW_S, judge_period, latest, steps
from galerly_cdn.dashboard.site import HOME_PATH
from galerly_cdn.insight.lowest_day import HIT_RATIO
from galerly_cdn.insight.targets import ERROR_RATIO, RENDER_MS
from galerly_cdn.insight.units import count, duration, length, percent
from galerly_cdn.render.pool.worker_state import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.admin.routes import Route
    from galerly_cdn.dashboard.sampler import Sampler
    from galerly_cdn.dashboard.samples import Period
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.insight.report import Percentiles, Target
    from galerly_cdn.render.pool.supervisor import WorkerFacts

_TABLE_STEP_S = 300.0
_PHASES = {
    Phase.STARTING: "starting",
    Phase.FREE: "free",
    Phase.WORKING: "at work",
    Phase.RESPONDED: "at work",
    Phase.PAUSED: "between two pictures",
}
_ENDING = "ending"
_ALMOST_FULL = 0.1
"""The share of a disk that should be free."""


class Figure(NamedTuple):
    """A figure of now: its name, its value, and what it consists of."""

    name: str
    value: str
    note: str = ""
    is_bad: bool = False


class NowPage:
    """The page *Now*, and the figures in it, which it requests every 10 seconds."""

    def __init__(self, sampler: Sampler, workers: Callable[[], Sequence[WorkerFacts]]) -> None:
        self._sampler = sampler
        self._workers = workers

    def routes(self, site: Site) -> tuple[Route, ...]:
        """The routes of the page and of its figures."""
        return (
            site.view(HOME_PATH, "now.html", self._show),
            site.view(f"{HOME_PATH}/figures", "now_figures.html", self._show, is_polled=True),
        )

    async def _show(self, _request: AdminRequest) -> Mapping[str, object]:
        history = self._sampler.history
        samples = [*history, self._sampler.read()]
        hour = latest(samples, HISTORY_S)
        by_code = sorted(hour.totals.errors_by_code.items(), key=lambda item: (-item[1], item[0]))
        return {
            "figures": figures(latest(samples, NOW_S)),
            "targets": [(one, _advice(one)) for one in judge_period(hour)],
            "minutes": max(round(hour.seconds / 60), 1),
            "errors": [(code, times, reason(code, times).sentence) for code, times in by_code],
            "workers": [
                (
                    one.pid,
                    _PHASES.get(one.phase, _ENDING),
                    count(one.responses),
                    _length(one.resident_bytes or math.nan),
                )
                for one in self._workers()
            ],
            "series": series(steps(history)),
            "rows": [row(period) for period in reversed(steps(samples, _TABLE_STEP_S))],
        }


def figures(now: Period) -> list[Figure]:
    """The figures of the last minute; those that miss a target, or soon will, are marked."""
    return [*_traffic(now), *_machine(now)]


def _traffic(now: Period) -> tuple[Figure, ...]:
    totals, hit_ratio, errors = now.totals, now.hit_ratio, now.error_ratio
    render_time = now.render_time
    return (
        Figure(
            "Requests", f"{rate(now.per_second(totals.requests))} / s", f"{length(totals.bytes)} in a minute"
        ),
        Figure(
            "Hits",
            percent(hit_ratio),
            f"{percent(now.cache_hit_ratio)} from memory",
            is_bad=hit_ratio is not None and hit_ratio <= HIT_RATIO,
        ),
        Figure("95 % of hits within", *_times(now.hit_time)),
        Figure(
            "95 % of renders within",
            *_times(render_time),
            is_bad=render_time is not None and render_time.p95_ms >= RENDER_MS,
        ),
        Figure(
            "Errors",
            percent(errors, 3),
            f"{count(totals.errors)} in a minute",
            is_bad=errors is not None and errors >= ERROR_RATIO,
        ),
    )


def _machine(now: Period) -> tuple[Figure, ...]:
    load = now.load
    free = load.disk_free_bytes / load.disk_bytes if load.disk_bytes else math.nan
    disk = Figure(
        "Disk",
        f"{_length(load.disk_free_bytes)} free",
        f"of {_length(load.disk_bytes)} for renditions",
        is_bad=free < _ALMOST_FULL,
    )
    return (
        Figure(
            "Queue", count(load.queued), "viewers who wait for a worker", is_bad=load.queued > load.workers
        ),
        Figure("Workers", f"{load.busy} of {load.workers}", "at work", is_bad=not load.workers),
        Figure(
            "Memory",
            _length(load.memory_bytes),
            f"{_length(load.worker_bytes)} in workers, {_length(load.cache_bytes)} of pictures",
        ),
        Figure("CPU", f"{now.cpu_cores:.2f} cores", "of the server, without workers"),
        Figure("Disk", "–", "renditions are in a remote store") if math.isnan(free) else disk,
    )


def series(periods: Sequence[Period]) -> dict[str, list[float | None]]:
    """The charts' values, in the order of time; null where there is none. Ratios are in percent."""
    values: dict[str, list[float | None]] = {"time": [round(one.end_s, 1) for one in periods]}
    for name, read in _SERIES.items():
        values[name] = [_rounded(read(one)) for one in periods]
    return values


_SERIES: dict[str, Callable[[Period], float | None]] = {
    "requests": lambda one: one.per_second(one.totals.requests),
    "errors": lambda one: one.per_second(one.totals.errors),
    "hits": lambda one: _percent(one.hit_ratio),
    "memory_hits": lambda one: _percent(one.cache_hit_ratio),
    "hit_ms": lambda one: one.hit_time.p95_ms if one.hit_time else None,
    "render_ms": lambda one: one.render_time.p95_ms if one.render_time else None,
    "busy": lambda one: one.load.busy,
    "queued": lambda one: one.load.queued,
    "memory_mb": lambda one: (one.load.memory_bytes + one.load.worker_bytes) / 1e6,
    "cache_mb": lambda one: one.load.cache_bytes / 1e6,
    "cpu": lambda one: one.cpu_cores,
}


def row(period: Period) -> tuple[float, tuple[str, ...]]:
    """The end of a period, and its values for the table that says what the charts show."""
    totals, load = period.totals, period.load
    return period.end_s, (
        rate(period.per_second(totals.requests)),
        rate(period.per_second(totals.errors)),
        percent(period.hit_ratio),
        percent(period.cache_hit_ratio),
        _p95(period.hit_time),
        _p95(period.render_time),
        count(load.busy),
        count(load.queued),
        _length(load.memory_bytes + load.worker_bytes),
        f"{period.cpu_cores:.2f}",
    )


def rate(per_second: float) -> str:
    """A rate, with decimals where it is small."""
    return (
        f"{per_second:,.0f}"
        if per_second >= 100
        else f"{per_second:.2g}"
        if 0 < per_second < 1
        else f"{per_second:.1f}"
    )


def _advice(target: Target) -> str:
    """What to do about a target that is missed, and where one that is unknown here is known."""
    if target.name == "growth":
        return "It is a figure of whole days: the report of the logs has it."
    return target.advice if target.is_met is False else ""


def _times(times: Percentiles | None) -> tuple[str, str]:
    """The duration that 95 % do not exceed, and those of 50 % and 99 % beside it."""
    if times is None:
        return "–", "none in a minute"
    return duration(times.p95_ms), f"50 % {duration(times.p50_ms)}, 99 % {duration(times.p99_ms)}"


def _p95(times: Percentiles | None) -> str:
    return "–" if times is None else duration(times.p95_ms)


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100


def _rounded(value: float | None) -> float | None:
    """A value of a chart: four significant digits; null for NaN, which JSON lacks."""
    return None if value is None or math.isnan(value) else float(f"{value:.4g}")


def _length(length_bytes: float) -> str:
    return "–" if math.isnan(length_bytes) else length(int(length_bytes))
