"""Exports the telemetry's counts as Prometheus metrics. The only importer of prometheus_client.

Requests cost nothing extra: the totals that telemetry keeps are read when `/metrics` is requested.
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
from galerly_cdn.admin.metric_table import EVENTS, LABELS, MEANINGS
from galerly_cdn.admin.responses import body_response
from galerly_cdn.errors import CommandError, by_code
from galerly_cdn.telemetry import Histogram, TrafficStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.http.responses import Response
    from galerly_cdn.telemetry import Telemetry

    Gauges = Mapping[str, Callable[[], float | Mapping[str, float]]]
    """By a name of `metric_table`, a function that reads the value, or the values by the metric's label."""

_ERROR_CODES = frozenset(by_code())
"""Counters with these names count errors, which `galerly_errors` exports from the traffic statistics."""
_MAX_GALLERIES = 20
"""Galleries that are exported. A series that leaves them ends; the bytes of all are in another metric."""
_VIEWERS_CODES = tuple(code for code, kind in by_code().items() if not issubclass(kind, CommandError))


class Metrics:
    """Handles `/metrics`."""

    def __init__(self, telemetry: Telemetry, gauges: Gauges, libvips: str) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_TelemetryCollector(telemetry, gauges, libvips))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    async def export(self, _request: AdminRequest) -> Response:
        """Return every metric in Prometheus' text format 1.0.0."""
        return body_response(generate_latest(self._registry), CONTENT_TYPE_LATEST)


class _TelemetryCollector(Collector):
    def __init__(self, telemetry: Telemetry, gauges: Gauges, libvips: str) -> None:
        self._telemetry = telemetry
        self._traffic = telemetry.traffic or TrafficStatistics()
        self._gauges = gauges
        self._libvips = libvips

    def collect(self) -> Iterable[Metric]:
        build = {"version": __version__, "libvips": self._libvips}
        yield InfoMetricFamily("galerly_build", MEANINGS["galerly_build_info"], value=build)
        yield from self._response_metrics()
        # A series that begins above 0 has no increase: a rule would miss the first error or event.
        yield _counter("galerly_errors", "code", dict.fromkeys(_VIEWERS_CODES, 0) | self._traffic.refusals)
        yield _histogram("galerly_fill_duration_seconds", "stage", self._traffic.stages)
        yield _histogram("galerly_render_duration_seconds", "kind", self._traffic.renders)
        yield _counter("galerly_gallery_bytes", "gallery", self._traffic.galleries.largest(_MAX_GALLERIES))
        counts = self._telemetry.counters.snapshot()
        events = {event: times for event, times in counts.items() if event not in _ERROR_CODES}
        yield _counter("galerly_events", "event", dict.fromkeys(EVENTS, 0) | events)
        for name, read in self._gauges.items():
            yield _gauge(name, read())

    def _response_metrics(self) -> Iterable[Metric]:
        """Four metrics from the tallies by result, size, format and status."""
        by_status: Counter[str] = Counter()
        bytes_by_result: Counter[str] = Counter()
        durations: defaultdict[str, Histogram] = defaultdict(Histogram)
        pictures = CounterMetricFamily(
            "galerly_pictures",
            MEANINGS["galerly_pictures_total"],
            labels=["result", "size", "format"],
        )
        by_picture: Counter[tuple[str, str, str]] = Counter()
        for (result, size, image_format, status), tally in self._traffic.answers.items():
            by_status[str(status)] += tally.times
            bytes_by_result[result] += tally.bytes
            durations[result].merge(tally)
            if result and size:
                by_picture[result, size, image_format] += tally.times
        for labels, times in by_picture.items():
            pictures.add_metric(labels, times)
        yield pictures
        yield _counter("galerly_responses", "status", by_status)
        yield _counter("galerly_response_bytes", "result", bytes_by_result)
        yield _histogram("galerly_request_duration_seconds", "result", durations)


def _gauge(name: str, value: float | Mapping[str, float]) -> Metric:
    """A gauge, with one label if there is a value for each."""
    if isinstance(value, (int, float)):
        return GaugeMetricFamily(name, MEANINGS[name], value=value)
    family = GaugeMetricFamily(name, MEANINGS[name], labels=[LABELS[name]])
    for label, one in value.items():
        family.add_metric([label], one)
    return family


def _counter(name: str, label: str, counts: Mapping[str, int]) -> Metric:
    """A counter with one label."""
    family = CounterMetricFamily(name, MEANINGS[f"{name}_total"], labels=[label])
    for value, times in counts.items():
        family.add_metric([value], times)
    return family


def _histogram(name: str, label: str, tallies: Mapping[str, Histogram]) -> Metric:
    """A histogram with one label."""
    family = HistogramMetricFamily(name, MEANINGS[name], labels=[label])
    for value, tally in tallies.items():
        bounds = [*(str(bound) for bound in tally.BOUNDS_S), "+Inf"]
        family.add_metric(
            [value], list(zip(bounds, accumulate(tally.buckets), strict=True)), sum_value=tally.seconds
        )
    return family
