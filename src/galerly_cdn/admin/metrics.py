"""What does a monitor see? The counts of telemetry, in Prometheus' words. prometheus_client's door.

Nothing is counted for it on the way of a request: what telemetry has added up is read when it is asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from galerly_cdn import __version__
from galerly_cdn.admin.responses import body_response
from galerly_cdn.errors import by_code
from galerly_cdn.telemetry import Histogram, TrafficStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.http.responses import Response
    from galerly_cdn.telemetry import Telemetry

_NO_EVENTS = frozenset(by_code())
"""What the counters hold of refusals: traffic tells them by what viewers were answered."""


class Metrics:
    """Answers `metrics`. `gauges` are what is now: a name, what it means, and how to ask."""

    def __init__(
        self, telemetry: Telemetry, gauges: Mapping[str, tuple[str, Callable[[], float]]], libvips: str
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(telemetry, gauges, libvips))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    async def answer(self, _call: AdminRequest) -> Response:
        """The text format 1.0.0."""
        return body_response(generate_latest(self._registry), CONTENT_TYPE_LATEST)


class _Collected(Collector):
    def __init__(
        self, telemetry: Telemetry, gauges: Mapping[str, tuple[str, Callable[[], float]]], libvips: str
    ) -> None:
        self._telemetry = telemetry
        self._traffic = telemetry.traffic or TrafficStatistics()
        self._gauges = gauges
        self._libvips = libvips

    def collect(self) -> Iterable[Metric]:
        build = {"version": __version__, "libvips": self._libvips}
        yield InfoMetricFamily("galerly_build", "What runs here.", value=build)
        yield from self._answers()
        yield _counted("galerly_errors", "Answers that were errors.", "code", self._traffic.refusals)
        yield _timed(
            "galerly_fill_duration_seconds", "The stages of filling a miss.", "stage", self._traffic.stages
        )
        counts = self._telemetry.counters.snapshot()
        events = {event: times for event, times in counts.items() if event not in _NO_EVENTS}
        meaning = "What happened behind the answers: renders, store trouble."
        yield _counted("galerly_events", meaning, "event", events)
        for name, (meaning, ask) in self._gauges.items():
            yield GaugeMetricFamily(f"galerly_{name}", meaning, value=ask())

    def _answers(self) -> Iterable[Metric]:
        """The tallies of all kinds of answers, summed up in four ways."""
        by_status: Counter[str] = Counter()
        bytes_by_result: Counter[str] = Counter()
        times: defaultdict[str, Histogram] = defaultdict(Histogram)
        pictures = CounterMetricFamily(
            "galerly_pictures",
            "Pictures asked for, by what they were: hit (in memory), stored (in the store), stale, miss.",
            labels=["result", "size", "format"],
        )
        by_picture: Counter[tuple[str, str, str]] = Counter()
        for (result, size, form, status), tally in self._traffic.answers.items():
            by_status[str(status)] += tally.times
            bytes_by_result[result] += tally.bytes
            times[result].merge(tally)
            if result and size:
                by_picture[result, size, form] += tally.times
        for labels, number in by_picture.items():
            pictures.add_metric(labels, number)
        yield pictures
        yield _counted("galerly_responses", "Answers to viewers.", "status", by_status)
        meaning = "Bytes of bodies sent to viewers."
        yield _counted("galerly_response_bytes", meaning, "result", bytes_by_result)
        meaning = "From a request to its answer's first byte."
        yield _timed("galerly_request_duration_seconds", meaning, "result", times)


def _counted(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Metric:
    """A counter of one label."""
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, times in counts.items():
        family.add_metric([value], times)
    return family


def _timed(name: str, meaning: str, label: str, tallies: Mapping[str, Histogram]) -> Metric:
    """A histogram of one label."""
    family = HistogramMetricFamily(name, meaning, labels=[label])
    for value, tally in tallies.items():
        bounds = [*(str(one) for one in tally.BOUNDS_S), "+Inf"]
        family.add_metric(
            [value], list(zip(bounds, accumulate(tally.buckets), strict=True)), sum_value=tally.seconds
        )
    return family
