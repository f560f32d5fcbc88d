"""What does a monitor see? The counts of telemetry, in Prometheus' words. prometheus_client's door.

Nothing is counted for it on the way of a request: what telemetry has added up is read when it is asked for.
"""

from __future__ import annotations

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
from galerly_cdn.admin.answers import whole
from galerly_cdn.errors import by_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

    from galerly_cdn.admin.call import Call
    from galerly_cdn.deliver import Response
    from galerly_cdn.telemetry import Tally, Telemetry

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

    async def answer(self, _call: Call) -> Response:
        """The text format 1.0.0."""
        return whole(generate_latest(self._registry), CONTENT_TYPE_LATEST)


class _Collected(Collector):
    def __init__(
        self, telemetry: Telemetry, gauges: Mapping[str, tuple[str, Callable[[], float]]], libvips: str
    ) -> None:
        self._telemetry = telemetry
        self._gauges = gauges
        self._libvips = libvips

    def collect(self) -> Iterable[Metric]:
        traffic = self._telemetry.traffic
        yield InfoMetricFamily(
            "galerly_build", "What runs here.", value={"version": __version__, "libvips": self._libvips}
        )
        yield from self._answers()
        yield _counted(
            "galerly_response_bytes", "Bytes of bodies sent to viewers.", {"result": traffic.bytes}
        )
        yield _counted("galerly_errors", "Answers that were errors.", {"code": traffic.refusals})
        yield _timed(
            "galerly_request_duration_seconds",
            "From a request to its answer's first byte.",
            "result",
            traffic.durations,
        )
        yield _timed(
            "galerly_fill_duration_seconds", "The stages of filling a miss.", "stage", traffic.stages
        )
        counts = self._telemetry.counters.snapshot()
        events = {event: times for event, times in counts.items() if event not in _NO_EVENTS}
        yield _counted(
            "galerly_events", "What happened behind the answers: renders, store trouble.", {"event": events}
        )
        for name, (meaning, ask) in self._gauges.items():
            yield GaugeMetricFamily(f"galerly_{name}", meaning, value=ask())

    def _answers(self) -> Iterable[Metric]:
        responses = CounterMetricFamily("galerly_responses", "Answers to viewers.", labels=["status"])
        pictures = CounterMetricFamily(
            "galerly_pictures",
            "Pictures that were asked for: hit (memory), stored (the store), stale, miss.",
            labels=["result", "size", "format"],
        )
        by_status: dict[int, int] = {}
        by_picture: dict[tuple[str, str, str], int] = {}
        for (result, size, form, status), times in self._telemetry.traffic.answers.items():
            by_status[status] = by_status.get(status, 0) + times
            if result and size:
                by_picture[result, size, form] = by_picture.get((result, size, form), 0) + times
        for status, times in by_status.items():
            responses.add_metric([str(status)], times)
        for labels, times in by_picture.items():
            pictures.add_metric(labels, times)
        yield responses
        yield pictures


def _counted(name: str, meaning: str, labelled: Mapping[str, Mapping[str, int]]) -> Metric:
    """A counter of one label."""
    ((label, counts),) = labelled.items()
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, times in counts.items():
        family.add_metric([value], times)
    return family


def _timed(name: str, meaning: str, label: str, tallies: Mapping[str, Tally]) -> Metric:
    """A histogram of one label."""
    family = HistogramMetricFamily(name, meaning, labels=[label])
    for value, tally in tallies.items():
        bounds = [*(str(one) for one in tally.BOUNDS_S), "+Inf"]
        family.add_metric(
            [value], list(zip(bounds, accumulate(tally.buckets), strict=True)), sum_value=tally.seconds
        )
    return family
