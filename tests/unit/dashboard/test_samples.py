"""What is computed from two readings of the counters, against what the same requests are in a report."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.dashboard.samples import (
    HISTORY_S,
    INTERVAL_S,
    Load,
    Period,
    Sample,
    between,
    count_totals,
    judge_period,
    latest,
    percentiles,
    steps,
)
from galerly_cdn.http.cache_status import COPY, MEMORY_HIT, MISS, OUTDATED, STORE_HIT, CacheStatus, stale_hit
from galerly_cdn.insight.outcomes import PICTURES, Outcome, Tier, access_outcome, hits_of
from galerly_cdn.serialization import replaced
from galerly_cdn.telemetry import AccessRecord, Histogram, TrafficStatistics

NONE = CacheStatus()
REQUESTS: dict[str, tuple[int, CacheStatus | None, tuple[str, ...]]] = {
    "hit from memory": (200, MEMORY_HIT, ()),
    "hit that the browser has": (304, MEMORY_HIT, ()),
    "hit from the store": (200, STORE_HIT, ()),
    "stale hit": (200, stale_hit(5.0), ()),
    "render": (200, replaced(MISS, stored=True), ("queue", "open", "render", "put")),
    "render of a replaced original": (200, replaced(OUTDATED, stored=True), ("render",)),
    "shared render": (200, replaced(MISS, collapsed=True), ()),
    "copy": (200, replaced(MISS, stored=True, detail=COPY), ("copy", "put")),
    "download": (200, None, ()),
    "unknown address": (404, None, ()),
    "miss that failed": (503, MISS, ()),
    "viewer who left": (499, MISS, ()),
}


def recorded(names: list[str], duration_ms: float = 3.0) -> TrafficStatistics:
    traffic = TrafficStatistics()
    for name in names:
        status, cache, stages = REQUESTS[name]
        record = AccessRecord(
            time_s=0.0,
            request_id="1",
            client="",
            method="GET",
            path="/",
            status=status,
            bytes=100,
            duration_ms=duration_ms,
            reason="some-code" if status >= 400 else "",
            stages_ms=dict.fromkeys(stages, 1.0) or None,
        )
        traffic.add(record, cache.result if cache is not None else "")
    return traffic


def load(**changes: float) -> Load:
    nothing = Load(
        workers=2,
        busy=0,
        queued=0,
        cache_bytes=0.0,
        memory_bytes=1e6,
        worker_bytes=0.0,
        cpu_s=0.0,
        disk_free_bytes=math.nan,
        disk_bytes=math.nan,
    )
    return replaced(nothing, **changes)


def sample(clock_s: float, names: list[str] | None = None, **changes: float) -> Sample:
    totals = count_totals(recorded(names or []))
    return Sample(time_s=1e9 + clock_s, clock_s=clock_s, totals=totals, load=load(**changes))


def period(names: list[str], duration_ms: float = 3.0) -> Period:
    before, after = sample(0), sample(60)
    return between(before, replaced(after, totals=count_totals(recorded(names, duration_ms))))


@given(st.lists(st.sampled_from(sorted(REQUESTS))))
def test_requests_are_divided_as_a_report_of_the_log_divides_them(names: list[str]) -> None:
    outcomes = []
    for name in names:
        status, cache, stages = REQUESTS[name]
        parameters = cache.parameters if cache is not None else ""
        outcomes.append(access_outcome(status, parameters, has_render="render" in stages))
    totals = count_totals(recorded(names))
    assert totals.requests == len(names)
    assert totals.pictures == sum(one in PICTURES for one in outcomes)
    assert totals.hits == sum(one in hits_of(Tier.SERVER) for one in outcomes)
    assert totals.cache_hits == outcomes.count(Outcome.CACHE_HIT)
    assert totals.renders == outcomes.count(Outcome.RENDER)
    assert totals.shared_renders == outcomes.count(Outcome.SHARED_RENDER)
    assert totals.errors == sum(totals.errors_by_code.values()) - totals.left == outcomes.count(Outcome.ERROR)
    assert totals.left == outcomes.count(Outcome.LEFT)


def test_period_has_the_differences_of_its_samples() -> None:
    older = sample(100, ["render", "unknown address"], cpu_s=1.0)
    newer = sample(110, ["render"] * 3 + ["hit from memory"] * 6 + ["unknown address"] * 2, cpu_s=3.5, busy=1)
    found = between(older, newer)
    assert (found.seconds, found.end_s, found.cpu_cores) == (10, newer.time_s, 0.25)
    assert (found.totals.requests, found.totals.renders, found.totals.errors) == (9, 2, 1)
    assert found.totals.errors_by_code == {"some-code": 1}
    assert found.per_second(found.totals.requests) == 0.9
    assert found.hit_ratio == found.cache_hit_ratio == 0.75
    assert found.error_ratio == pytest.approx(1 / 9)
    assert found.load.busy == 1


def test_period_without_requests_has_no_ratio_and_no_time() -> None:
    found = between(sample(5), sample(5))
    assert (found.hit_ratio, found.error_ratio, found.hit_time, found.render_time) == (None,) * 4
    assert (found.per_second(0), found.cpu_cores) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("times_s", "seconds", "found_s"),
    [
        ([0], 60, 0),
        ([0, 10], 60, 10),
        ([0, 10, 20, 30, 40, 50, 60, 70], 60, 60),
        ([0, 10, 20, 30, 40, 50, 60, 61], 60, 61),
        ([0, 100, 101], 60, 1),
        ([number * INTERVAL_S for number in range(361)], HISTORY_S, HISTORY_S),
    ],
)
def test_latest_period_begins_with_the_sample_nearest_to_its_length(
    times_s: list[float], seconds: float, found_s: float
) -> None:
    assert latest([sample(at_s) for at_s in times_s], seconds).seconds == found_s


@given(st.lists(st.floats(1, 400), max_size=50), st.sampled_from([INTERVAL_S, 60.0, 300.0]))
def test_steps_are_adjacent_and_end_with_the_newest_sample(gaps_s: list[float], seconds: float) -> None:
    at_s = 0.0
    samples = [sample(at_s)]
    for gap_s in gaps_s:
        at_s += gap_s
        samples.append(sample(at_s))
    periods = steps(samples, seconds)
    assert bool(periods) <= bool(gaps_s)
    if periods:
        assert periods[-1].end_s == samples[-1].time_s
        assert sum(one.seconds for one in periods) == pytest.approx(at_s)
    if seconds > INTERVAL_S:
        assert all(one.seconds >= seconds - INTERVAL_S for one in periods[1:])
    else:
        assert len(periods) == len(gaps_s)


@given(st.lists(st.floats(0.0001, 9.0), min_size=1, max_size=200))
def test_percentiles_are_in_the_bucket_of_the_duration_of_that_rank(durations_s: list[float]) -> None:
    histogram = Histogram()
    for one in durations_s:
        histogram.add(one)
    found = percentiles(histogram.buckets)
    assert found is not None
    bounds = (0.0, *Histogram.BOUNDS_S)
    for share, value_ms in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        true_s = sorted(durations_s)[math.ceil(share * len(durations_s)) - 1]
        upper = next(number for number, bound in enumerate(bounds) if true_s <= bound)
        assert bounds[upper - 1] * 1000 <= value_ms <= bounds[upper] * 1000 + 1e-9
    assert found.p50_ms <= found.p95_ms <= found.p99_ms


def test_duration_above_the_last_bound_counts_as_it_does() -> None:
    histogram = Histogram()
    histogram.add(60.0)
    found = percentiles(histogram.buckets)
    assert found is not None
    assert found.p99_ms == Histogram.BOUNDS_S[-1] * 1000
    assert percentiles([0] * len(histogram.buckets)) is None


@pytest.mark.parametrize(
    ("names", "duration_ms", "met"),
    [
        ([], 3.0, [None, None, None, None]),
        (["hit from memory"] * 99 + ["render"], 3.0, [True, True, True, None]),
        (["hit from memory"] * 94 + ["render"] * 6, 3.0, [False, True, True, None]),
        (["hit from memory"] * 99 + ["render"], 4000.0, [True, False, True, None]),
        (["hit from memory"] * 999 + ["unknown address"], 3.0, [True, None, False, None]),
        (["hit from memory"] * 999 + ["viewer who left"], 3.0, [True, None, True, None]),
    ],
)
def test_targets_of_a_period_are_those_of_the_report(
    names: list[str], duration_ms: float, met: list[bool | None]
) -> None:
    targets = judge_period(period(names, duration_ms))
    assert [one.name for one in targets] == ["hit-ratio", "render-time", "errors", "growth"]
    assert [one.is_met for one in targets] == met
