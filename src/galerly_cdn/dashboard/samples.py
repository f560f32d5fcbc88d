"""Computes what a CDN did between two readings of its counters: rates, ratios, percentiles, targets. Pure.

What a hit is, and what the targets are, is defined in `insight`: this module counts the same things from the
server's counters instead of its log.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from galerly_cdn.insight.outcomes import Tier
from galerly_cdn.insight.report import Lines, Percentiles, ReasonCount, Report, StatusCount
from galerly_cdn.insight.targets import judge
from galerly_cdn.serialization import Value
from galerly_cdn.telemetry import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from galerly_cdn.insight.report import Target
    from galerly_cdn.telemetry import TrafficStatistics

K = TypeVar("K", int, str)

INTERVAL_S = 10.0
"""Between two samples."""
HISTORY_S = 3600.0
NOW_S = 60.0
"""The figures of *now* are those of the last minute."""
_LEFT = 499
_FIRST_ERROR = 400
_NO_LINES = Lines(read=0, counted=0, inner=0, left_out=0, other=0, malformed=0)
_HITS = frozenset({"hit", "stale"})
"""The results that `access_outcome` calls cache hits; `stored` is its store hit."""


class Totals(Value, frozen=True, kw_only=True):
    """The responses to viewers since the start, as `insight.outcomes` divides them."""

    requests: int
    cache_hits: int
    store_hits: int
    """With the pictures that were copied from a stored one."""
    renders: int
    """Viewers who waited for a render, but for those who waited for another one's."""
    shared_renders: int
    left: int
    bytes: int
    errors_by_status: dict[int, int]
    errors_by_code: dict[str, int]
    hit_buckets: tuple[int, ...]
    """Durations until the first byte of pictures, in the buckets of `Histogram`."""
    miss_buckets: tuple[int, ...]

    @property
    def hits(self) -> int:
        return self.cache_hits + self.store_hits

    @property
    def pictures(self) -> int:
        return self.hits + self.renders + self.shared_renders

    @property
    def errors(self) -> int:
        return sum(self.errors_by_status.values())


class Load(Value, frozen=True, kw_only=True):
    """What the server holds at one moment. A length that cannot be read is NaN."""

    workers: int
    busy: int
    queued: int
    cache_bytes: float
    """Of the renditions in memory."""
    memory_bytes: float
    """Resident, of the server's process."""
    worker_bytes: float
    """Resident, of the render processes."""
    cpu_s: float
    """Spent by the server's process since its start."""
    disk_free_bytes: float
    disk_bytes: float


class Sample(Value, frozen=True, kw_only=True):
    """One reading of the counters. `time_s` is since the epoch, `clock_s` is monotonic."""

    time_s: float
    clock_s: float
    totals: Totals
    load: Load


def count_totals(traffic: TrafficStatistics) -> Totals:
    """The totals of the statistics that the server keeps."""
    results: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    sent_bytes = requests = 0
    hit_durations, miss_durations = Histogram(), Histogram()
    for (result, _, _, status), tally in traffic.answers.items():
        requests += tally.times
        sent_bytes += tally.bytes
        if status >= _FIRST_ERROR:
            statuses[status] += tally.times
        elif result:
            results[result] += tally.times
            (miss_durations if result == "miss" else hit_durations).merge(tally)
    copies, renders = (_times(traffic.stages.get(stage)) for stage in ("copy", "render"))
    left = statuses.pop(_LEFT, 0)
    return Totals(
        requests=requests,
        cache_hits=sum(results[result] for result in _HITS),
        store_hits=results["stored"] + copies,
        renders=renders,
        shared_renders=max(0, results["miss"] - copies - renders),
        left=left,
        bytes=sent_bytes,
        errors_by_status=dict(statuses),
        errors_by_code={code: times for code, times in traffic.refusals.items() if code != "disconnected"},
        hit_buckets=tuple(hit_durations.buckets),
        miss_buckets=tuple(miss_durations.buckets),
    )


class Period(Value, frozen=True, kw_only=True):
    """What happened between two samples."""

    end_s: float
    """Since the epoch."""
    seconds: float
    totals: Totals
    """Of the period alone."""
    load: Load
    """At its end."""
    cpu_cores: float
    """CPU time of the server's process per second."""

    @property
    def hit_ratio(self) -> float | None:
        return _ratio(self.totals.hits, self.totals.pictures)

    @property
    def cache_hit_ratio(self) -> float | None:
        """Of the pictures, those that were in memory."""
        return _ratio(self.totals.cache_hits, self.totals.pictures)

    @property
    def error_ratio(self) -> float | None:
        return _ratio(self.totals.errors, self.totals.requests)

    def per_second(self, number: float) -> float:
        """A number of the period as a rate."""
        return number / self.seconds if self.seconds else 0.0

    @property
    def hit_time(self) -> Percentiles | None:
        return percentiles(self.totals.hit_buckets)

    @property
    def render_time(self) -> Percentiles | None:
        """Of the pictures that were no hits in the server's memory or store."""
        return percentiles(self.totals.miss_buckets)


def between(older: Sample, newer: Sample) -> Period:
    """What happened between two samples of one process."""
    before, after = older.totals, newer.totals
    seconds = newer.clock_s - older.clock_s
    cpu_s = newer.load.cpu_s - older.load.cpu_s
    return Period(
        end_s=newer.time_s,
        seconds=seconds,
        totals=Totals(
            requests=after.requests - before.requests,
            cache_hits=after.cache_hits - before.cache_hits,
            store_hits=after.store_hits - before.store_hits,
            renders=after.renders - before.renders,
            shared_renders=max(0, after.shared_renders - before.shared_renders),
            left=after.left - before.left,
            bytes=after.bytes - before.bytes,
            errors_by_status=_increase(after.errors_by_status, before.errors_by_status),
            errors_by_code=_increase(after.errors_by_code, before.errors_by_code),
            hit_buckets=_differences(after.hit_buckets, before.hit_buckets),
            miss_buckets=_differences(after.miss_buckets, before.miss_buckets),
        ),
        load=newer.load,
        cpu_cores=cpu_s / seconds if seconds else 0.0,
    )


def latest(samples: Sequence[Sample], seconds: float) -> Period:
    """What happened in the last `seconds`, or since the first sample. There is at least one sample."""
    newest = samples[-1]
    # A sample is taken late rather than early: half an interval of tolerance keeps the period whole.
    earliest_s = newest.clock_s - seconds - INTERVAL_S / 2
    return between(next(one for one in samples if one.clock_s >= earliest_s), newest)


def steps(samples: Sequence[Sample], seconds: float = INTERVAL_S) -> list[Period]:
    """The periods of `seconds` up to the newest sample, oldest first; those of each sample by default.

    The oldest period is shorter if the samples end within it.
    """
    if seconds > INTERVAL_S:
        samples = _thinned(samples, seconds)
    return [between(older, newer) for older, newer in pairwise(samples)]


def percentiles(buckets: Sequence[int]) -> Percentiles | None:
    """Percentiles of durations in the buckets of `Histogram`; None if there is none.

    Within a bucket, durations are taken for evenly distributed. Those above the last bound count as it does.
    """
    if not sum(buckets):
        return None
    p50, p95, p99 = (_quantile(buckets, share) * 1000 for share in (0.5, 0.95, 0.99))
    return Percentiles(p50_ms=p50, p95_ms=p95, p99_ms=p99)


def judge_period(period: Period) -> tuple[Target, ...]:
    """The four targets of the report, for a period. The growth is unknown: it is that of whole days."""
    totals = period.totals
    by_status = sorted(totals.errors_by_status.items(), key=lambda item: -item[1])
    report = Report(
        tier=Tier.SERVER,
        first="",
        last="",
        days=period.seconds / 86_400,
        lines=_NO_LINES,
        requests=totals.requests,
        pictures=totals.pictures,
        hits=totals.hits,
        hit_ratio=period.hit_ratio,
        cache_hits=totals.cache_hits,
        store_hits=totals.store_hits,
        shared_renders=totals.shared_renders,
        renders=totals.renders,
        bytes=totals.bytes,
        saved_bytes=None,
        errors=totals.errors,
        error_ratio=period.error_ratio,
        left=totals.left,
        hit_time=period.hit_time,
        render_time=period.render_time,
        by_size=(),
        by_format=(),
        by_gallery=(),
        by_day=(),
        lowest_day=None,
        by_status=tuple(StatusCount(status, times) for status, times in by_status),
        by_reason=tuple(ReasonCount(*item) for item in totals.errors_by_code.items()),
        top_photographs=(),
        refused_sizes=(),
        sweeps=(),
        slowest_originals=(),
        growth=None,
        targets=(),
    )
    return judge(report)


def _thinned(samples: Sequence[Sample], seconds: float) -> list[Sample]:
    """The samples that are about `seconds` apart, with the newest and the oldest one, oldest first."""
    kept: list[Sample] = []
    for sample in reversed(samples):
        if not kept or kept[-1].clock_s - sample.clock_s >= seconds - INTERVAL_S / 2:
            kept.append(sample)
    if samples and kept[-1] is not samples[0]:
        kept.append(samples[0])
    return kept[::-1]


def _quantile(buckets: Sequence[int], share: float) -> float:
    """The duration in seconds that `share` of the durations do not exceed."""
    wanted = share * sum(buckets)
    bounds = (0.0, *Histogram.BOUNDS_S, Histogram.BOUNDS_S[-1])
    below = 0
    for number, times in enumerate(buckets):
        if times and below + times >= wanted:
            lower, upper = bounds[number], bounds[number + 1]
            return lower + (upper - lower) * (wanted - below) / times
        below += times
    return bounds[-1]


def _times(durations: Histogram | None) -> int:
    return durations.times if durations is not None else 0


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _increase(after: Mapping[K, int], before: Mapping[K, int]) -> dict[K, int]:
    return {key: times - before.get(key, 0) for key, times in after.items() if times > before.get(key, 0)}


def _differences(after: Iterable[int], before: Iterable[int]) -> tuple[int, ...]:
    return tuple(one - other for one, other in zip(after, before, strict=True))
