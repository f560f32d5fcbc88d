"""Estimates what the AWS deployment costs: quantity × price = amount, line by line. Pure.

A line belongs to one of four groups: `storage` and `operation` (each month), `views` (each month, in
proportion to the views), and `uploads` (once, for the originals of the workload). The quantities of requests
are those that the template's functions make, which tests count.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from galerly_cdn.serialization import Meta, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from galerly_cdn.insight.prices import Price

Group = Literal["storage", "views", "operation", "uploads"]
Driver = Literal["", "bytes", "requests", "misses", "renders"]

MONTH_HOURS = 730
"""Hours in a month, as AWS's pricing calculator counts them."""
REGIONS = (
    "north-america",
    "europe",
    "africa-middle-east",
    "south-america",
    "japan",
    "oceania",
    "asia",
    "india",
)
"""The regions of viewers that have a price of their own."""

# What the functions do for one render or event; tests/unit/insight/test_cost_counts.py counts it.
RENDER_READS = 5
"""S3 reads of the resizer for a render: the original's head twice and its bytes, the rendition, the facts."""
EVENT_READS = 2
"""S3 reads of the janitor for an event, beside one for each target: the original's head and the facts."""
EVENT_LISTS = 2
"""S3 lists of the janitor for an event that is alone in its batch: the stored targets, and the versions."""
PREWARM_READS, PREWARM_READS_PER_RENDITION = 3, 3
"""S3 reads of prewarm for an original and for each rendition; the originals' heads are among them."""
QUEUE_REQUESTS = 3
"""SQS requests for an event: it is sent, received and deleted."""
POLLS_PER_MINUTE = 15
"""Five pollers that wait 20 s each at an empty queue (AWS Lambda Developer Guide, "Using Lambda with Amazon
SQS")."""
COLD_START_RATIO, COLD_START_S = 0.01, 0.8
"""Cold starts are under 1 % of calls (AWS Lambda Developer Guide, "Cold starts and latency"); 0.8 s is the
limit of `benchmarks.cold_start`. AWS bills them since 2025-08."""
JANITOR_GB, JANITOR_S = 512 / 1024, 0.5
EDGE_GB, EDGE_S = 128 / 1024, 0.002
"""Memory of the viewer function as Lambda@Edge, and the seconds of a call."""
DISTRIBUTION_METRICS = 8
"""Metrics of the monitoring subscription."""
ALARM_METRICS, PREWARM_ALARM_METRICS = 11, 2
"""Metrics that the template's alarms read; an alarm is billed for each."""
OWN_METRICS, PREWARM_METRICS = 3, 1
"""Metrics that the functions write (`emf.UNITS`)."""
ACCESS_LINE_BYTES, CALL_LINES_BYTES = 700, 1000
"""Bytes of a line of the access log, and of a function's log for one call."""


class Workload(Value, frozen=True, kw_only=True):
    """What is stored, requested and uploaded. The defaults are the specification's example."""

    views: Annotated[float, Meta(ge=0)] = 100_000
    """Requests for pictures in a month."""
    hit_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.99
    """The share that CloudFront's caches answer."""
    render_ratio: Annotated[float, Meta(ge=0, le=1)] = 1
    """The share of the misses that are rendered; S3 has the others."""
    view_bytes: Annotated[float, Meta(ge=0)] = 100_000
    originals: Annotated[float, Meta(ge=0)] = 1000
    """Originals that are uploaded once, and stored."""
    original_bytes: Annotated[float, Meta(ge=0)] = 5_000_000
    renditions: Annotated[float, Meta(ge=0)] = 4
    """Renditions of an original: sizes × formats that viewers request."""
    rendition_bytes: Annotated[float, Meta(ge=0)] = 500_000
    replaced: Annotated[float, Meta(ge=0)] = 0
    """Originals that are replaced or deleted in a month."""
    render_s: Annotated[float, Meta(ge=0)] = 1
    memory_mb: Annotated[float, Meta(gt=0)] = 1769
    """The template's `Memory`."""
    targets: Annotated[int, Meta(ge=0)] = 45
    """Sizes × formats of the allow-list, for each of which the janitor looks."""
    retained_days: Annotated[float, Meta(ge=0)] = 30
    """The template's `DeletedOriginalDays` and `LogDays`."""
    viewers: tuple[tuple[str, float], ...] = (("north-america", 1.0),)
    """Regions with their shares of the views, which add up to 1."""
    has_shield: bool = True
    has_janitor: bool = True
    has_prewarm: bool = False
    is_lambda_edge: bool = False
    """Whether the viewer function is Lambda@Edge, not a CloudFront Function."""

    @property
    def misses(self) -> float:
        return self.views * (1 - self.hit_ratio)

    @property
    def renders(self) -> float:
        return self.misses * self.render_ratio

    @property
    def memory_gb(self) -> float:
        """Memory as Lambda bills it: a GB has 1024 MB (AWS Lambda Pricing, the examples)."""
        return self.memory_mb / 1024


class Line(Value, frozen=True):
    """One line of the estimate. `amount_usd` is (`quantity` − `free`) × `usd` ÷ `per`, tiers applied."""

    group: Group
    item: str
    quantity: float
    free: float
    unit: str
    price: str
    usd: float
    per: float
    amount_usd: float
    source: str
    date: dt.date
    is_checked: bool
    is_tiered: bool
    """Whether a part of the quantity has a lower price than `usd`."""
    driver: Driver
    """What the amount of a `views` line is in proportion to."""


class Estimate(Value, frozen=True):
    """All lines. With the free tier, its monthly quantities go to the monthly lines first."""

    lines: tuple[Line, ...]

    def sum_usd(self, *groups: Group) -> float:
        return sum(line.amount_usd for line in self.lines if line.group in groups)

    @property
    def monthly_usd(self) -> float:
        return self.sum_usd("storage", "views", "operation")

    @property
    def one_off_usd(self) -> float:
        return self.sum_usd("uploads")


class Quantity(NamedTuple):
    """A quantity of the workload that has a price."""

    group: Group
    item: str
    quantity: float
    price: str
    driver: Driver = ""


def estimate(workload: Workload, prices: Mapping[str, Price], *, free_tier: bool) -> Estimate:
    """The cost of a workload on AWS, at list price or with the free tier of each month."""
    return Estimate(
        priced(
            (
                *_storage(workload),
                *_views(workload),
                *_operation(workload),
                *_uploads(workload),
            ),
            prices,
            free_tier=free_tier,
        )
    )


def per_100k_views_usd(found: Estimate, workload: Workload) -> float:
    """The cost of the lines in proportion to the views, for 100,000 of them."""
    return found.sum_usd("views") / workload.views * 100_000 if workload.views else 0.0


def priced(
    quantities: Iterable[Quantity], prices: Mapping[str, Price], *, free_tier: bool
) -> tuple[Line, ...]:
    """The lines of quantities above 0. Lines of one price share its tiers and its free quantity, in order."""
    used: defaultdict[str, float] = defaultdict(float)
    free_used: defaultdict[str, float] = defaultdict(float)
    lines = []
    for one in quantities:
        if not one.quantity:
            continue
        price = prices[one.price]
        allowance = price.free_with or one.price
        free = min(max(0.0, price.free - free_used[allowance]), one.quantity) if free_tier else 0.0
        start = used[one.price]
        end = start + one.quantity
        used[one.price] = end
        free_used[allowance] += one.quantity
        lines.append(
            Line(
                one.group,
                one.item,
                one.quantity,
                free,
                price.unit,
                one.price,
                price.usd,
                price.per,
                price.amount_usd(start + free, end),
                price.source,
                price.date,
                price.is_checked,
                bool(price.above) and end > price.above[0][0],
                one.driver,
            )
        )
    return tuple(lines)


def _storage(work: Workload) -> Iterator[Quantity]:
    originals = work.originals * work.original_bytes / 1e9
    renditions = work.originals * work.renditions * work.rendition_bytes / 1e9
    months = work.retained_days * 24 / MONTH_HOURS
    yield Quantity("storage", "originals", originals, "s3-storage")
    yield Quantity("storage", "renditions", renditions, "s3-storage")
    old = work.replaced * work.original_bytes / 1e9 * months
    yield Quantity("storage", "replaced and deleted originals that can be restored", old, "s3-storage")


def _views(work: Workload) -> Iterator[Quantity]:
    for region, share in work.viewers:
        sent = work.views * work.view_bytes / 1e9 * share
        yield Quantity("views", f"bytes to viewers: {region}", sent, f"cloudfront-bytes-{region}", "bytes")
    for region, share in work.viewers:
        requests, price = work.views * share, f"cloudfront-requests-{region}"
        yield Quantity("views", f"HTTPS requests: {region}", requests, price, "requests")
    if work.is_lambda_edge:
        compute = work.views * EDGE_S * EDGE_GB
        yield Quantity("views", "viewer function: calls", work.views, "lambda-edge-calls", "requests")
        yield Quantity("views", "viewer function: compute", compute, "lambda-edge-compute", "requests")
    else:
        yield Quantity("views", "viewer function", work.views, "cloudfront-function", "requests")
    yield Quantity("views", "misses: S3 reads by CloudFront", work.misses, "s3-get", "misses")
    if work.has_shield:
        passed = work.misses + work.renders
        yield Quantity("views", "misses: Origin Shield", passed, "origin-shield", "misses")
    yield from _renders("views", "misses", work.renders, work)


def _renders(group: Group, of: str, renders: float, work: Workload) -> Iterator[Quantity]:
    """The resizer's calls, each of which renders and stores one picture."""
    compute = renders * work.render_s * work.memory_gb
    cold = renders * COLD_START_RATIO * COLD_START_S * work.memory_gb
    yield Quantity(group, f"{of}: resizer, compute", compute, "lambda-arm64", "renders")
    yield Quantity(group, f"{of}: resizer, cold starts", cold, "lambda-arm64", "renders")
    yield Quantity(group, f"{of}: resizer, calls", renders, "lambda-calls", "renders")
    yield Quantity(group, f"{of}: S3 reads by the resizer", renders * RENDER_READS, "s3-get", "renders")
    yield Quantity(group, f"{of}: S3 puts of renditions", renders, "s3-put", "renders")


def _operation(work: Workload) -> Iterator[Quantity]:
    yield Quantity("operation", "CloudFront's additional metrics", DISTRIBUTION_METRICS, "cloudfront-metrics")
    prewarm = int(work.has_prewarm)
    metrics = OWN_METRICS + prewarm * PREWARM_METRICS
    yield Quantity("operation", "metrics of the functions", metrics, "cloudwatch-metrics")
    alarms = ALARM_METRICS - (not work.has_janitor) + prewarm * PREWARM_ALARM_METRICS
    yield Quantity("operation", "alarms", alarms, "cloudwatch-alarms")
    yield Quantity("operation", "dashboard", 1, "cloudwatch-dashboards")
    access_gb = work.views * ACCESS_LINE_BYTES / 1e9
    yield Quantity("operation", "access log: delivery to S3", access_gb, "log-delivery")
    kept_gb = access_gb * work.retained_days * 24 / MONTH_HOURS
    yield Quantity("operation", "access log: storage", kept_gb, "s3-storage")
    yield Quantity("operation", "log of the resizer", work.renders * CALL_LINES_BYTES / 1e9, "log-ingestion")
    polls = POLLS_PER_MINUTE * 60 * MONTH_HOURS * (work.has_janitor + work.has_prewarm)
    yield Quantity("operation", "queues of janitor and prewarm: polling", polls, "sqs")
    if work.has_janitor:
        yield from _events("operation", "replaced and deleted", work.replaced, work)
        # each stale rendition is looked at once more before it is deleted; S3 bills no DELETE
        deleted = work.replaced * work.renditions
        yield Quantity("operation", "replaced and deleted: S3 reads before a delete", deleted, "s3-get")
    yield Quantity("operation", "invalidations", work.replaced, "cloudfront-invalidation")


def _uploads(work: Workload) -> Iterator[Quantity]:
    yield Quantity("uploads", "S3 puts of originals", work.originals, "s3-put")
    yield Quantity("uploads", "S3 puts of fact records", work.originals, "s3-put")
    renders = work.originals * work.renditions
    if work.has_prewarm:
        yield from _prewarm(renders, work)
    else:
        yield Quantity("uploads", "first requests: S3 reads by CloudFront", renders, "s3-get")
        yield from _renders("uploads", "first requests", renders, work)
    if work.has_janitor:
        yield from _events("uploads", "uploads", work.originals, work)


def _prewarm(renders: float, work: Workload) -> Iterator[Quantity]:
    """One call for each original. Its pictures share a decode, so the compute is an upper bound."""
    seconds = renders * work.render_s + work.originals * COLD_START_RATIO * COLD_START_S
    reads = work.originals * PREWARM_READS + renders * PREWARM_READS_PER_RENDITION
    yield Quantity("uploads", "prewarm: compute", seconds * work.memory_gb, "lambda-arm64")
    yield Quantity("uploads", "prewarm: calls", work.originals, "lambda-calls")
    yield Quantity("uploads", "prewarm: S3 reads", reads, "s3-get")
    yield Quantity("uploads", "prewarm: S3 puts of renditions", renders, "s3-put")
    yield Quantity("uploads", "prewarm: events", work.originals, "eventbridge")
    yield Quantity("uploads", "prewarm: queue", work.originals * QUEUE_REQUESTS, "sqs")


def _events(group: Group, of: str, events: float, work: Workload) -> Iterator[Quantity]:
    """The janitor's part in events of originals."""
    yield Quantity(group, f"{of}: janitor, events", events, "eventbridge")
    yield Quantity(group, f"{of}: janitor, queue", events * QUEUE_REQUESTS, "sqs")
    yield Quantity(group, f"{of}: janitor, calls", events, "lambda-calls")
    yield Quantity(group, f"{of}: janitor, compute", events * JANITOR_S * JANITOR_GB, "lambda-arm64")
    reads = events * (EVENT_READS + work.targets)
    yield Quantity(group, f"{of}: janitor, S3 reads", reads, "s3-get")
    yield Quantity(group, f"{of}: janitor, S3 lists", events * EVENT_LISTS, "s3-put")
