"""Defines the report: the JSON of `galerly-cdn report --json`. A field that cannot be known is null. Pure.

Times are in UTC, lengths in bytes, durations in milliseconds. docs/report.schema.json is made from this.
"""

from __future__ import annotations

from typing import Annotated

from galerly_cdn.insight.outcomes import Tier
from galerly_cdn.serialization import Meta, Value

VERSION = 1
"""Raised when a field is removed or changes its meaning; a new field does not raise it."""


class Lines(Value, frozen=True, kw_only=True):
    """How many lines were read, and what they were. The five kinds add up to `read`."""

    read: int
    counted: Annotated[int, Meta(description="Requests, logged by the outermost tier.")]
    inner: Annotated[int, Meta(description="The same requests as an inner tier logged them.")]
    left_out: Annotated[int, Meta(description="Before --since, or of another gallery than --gallery.")]
    other: Annotated[int, Meta(description="Audit records, metrics and other lines that are no requests.")]
    malformed: Annotated[int, Meta(description="Lines that are no record of a log: cut off, or plain text.")]


class Percentiles(Value, frozen=True, kw_only=True):
    """Durations of some requests: half, 95 % and 99 % of them took at most so long."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Group(Value, frozen=True, kw_only=True):
    """The requests of one size, format, gallery or day."""

    name: Annotated[str, Meta(description="The size, format, gallery or day (2026-11-30).")]
    requests: int
    pictures: int
    hits: int
    hit_ratio: float | None
    bytes: int
    errors: int
    renders: int | None
    outdated: Annotated[
        int | None, Meta(description="Of the renders, those of a replaced original or a changed setting.")
    ]
    renditions: Annotated[int | None, Meta(description="Renditions that were stored where there was none.")]


class Share(Value, frozen=True):
    """The gallery, size or client with most misses of a day."""

    name: str
    misses: int
    outdated: Annotated[
        int, Meta(description="Of the misses, renders of a replaced original or a changed setting.")
    ]
    hits: Annotated[int, Meta(description="Its hits on that day.")]
    most_in_a_minute: Annotated[int, Meta(description="Its misses in the minute that has most of them.")]
    photographs: Annotated[int, Meta(description="How many photographs the misses are of.")]
    sizes: Annotated[int, Meta(description="How many sizes the misses are of.")]
    formats: Annotated[int, Meta(description="How many formats the misses are of.")]
    first: Annotated[str, Meta(description="Time of its first miss, ISO 8601.")]
    last: Annotated[str, Meta(description="Time of its last miss.")]


class LowestDay(Value, frozen=True, kw_only=True):
    """The day with the lowest hit ratio, and where its misses are."""

    day: str
    hit_ratio: float
    misses: Annotated[int, Meta(description="Pictures that were no hits.")]
    outdated: Annotated[
        int | None, Meta(description="Renders of a replaced original or a changed setting, on that day.")
    ]
    gallery: Share | None
    size: Share | None
    client: Annotated[Share | None, Meta(description="Null if the logs name no client.")]
    outdated_gallery: Annotated[
        Share | None, Meta(description="The gallery with most of the outdated renders, which are its misses.")
    ]


class StatusCount(Value, frozen=True):
    """Error responses of one status."""

    status: int
    requests: int


class ReasonCount(Value, frozen=True):
    """Error responses of one code (docs/errors.md), as the server or the resizer logged it."""

    reason: str
    requests: int


class Photograph(Value, frozen=True, kw_only=True):
    """A photograph that is among those requested most."""

    key: str
    requests: int
    bytes: int


class RefusedSize(Value, frozen=True, kw_only=True):
    """A size or format that was requested and is not in the allow-list."""

    size: str
    requests: int
    clients: int


class Sweep(Value, frozen=True, kw_only=True):
    """A client that requested many photographs that do not exist, or many sizes that are not allowed."""

    client: str
    kind: Annotated[str, Meta(description="`keys` or `sizes`.")]
    different: Annotated[int, Meta(description="How many different keys or sizes it requested.")]
    requests: int


class SlowOriginal(Value, frozen=True, kw_only=True):
    """An original whose renders are among the slowest."""

    key: str
    renders: int
    max_ms: float
    mean_ms: float


class Growth(Value, frozen=True, kw_only=True):
    """Renditions that were stored where there was none. A rendition that is stored anew is not counted."""

    renditions: int
    bytes: Annotated[int, Meta(description="Of the renditions that were sent; prewarming sends none.")]
    prewarmed: Annotated[int, Meta(description="Of the renditions, those made by the prewarm function.")]


class Target(Value, frozen=True, kw_only=True):
    """One of the four targets."""

    name: Annotated[str, Meta(description="`hit-ratio`, `render-time`, `errors` or `growth`.")]
    title: str
    wanted: Annotated[str, Meta(description="The target, for people: > 95 %.")]
    value: Annotated[str, Meta(description="The value, for people; empty if it is not known.")]
    is_met: Annotated[bool | None, Meta(description="Null if the logs do not say.")]
    advice: Annotated[str, Meta(description="What to do if it is missed, or how to find out.")]


class Report(Value, frozen=True, kw_only=True):
    """What the logs say about a CDN."""

    version: int = VERSION
    tier: Annotated[Tier | None, Meta(description="The outermost tier in the logs, whose lines are counted.")]
    first: Annotated[str, Meta(description="Time of the first request, ISO 8601; empty without requests.")]
    last: Annotated[str, Meta(description="Time of the last request.")]
    days: Annotated[float, Meta(description="Days from the first request to the last one.")]
    lines: Lines
    requests: Annotated[int, Meta(description="All requests: pictures, downloads, pages, errors.")]
    pictures: Annotated[int, Meta(description="Requests that were answered with a picture, or 304.")]
    hits: Annotated[
        int, Meta(description="Cache hits behind CloudFront or nginx; cache and store hits on one machine.")
    ]
    hit_ratio: Annotated[float | None, Meta(description="hits / pictures.")]
    cache_hits: Annotated[
        int, Meta(description="Answered by CloudFront's or nginx's cache, or the server's memory.")
    ]
    store_hits: Annotated[int | None, Meta(description="Answered from the store, without a render.")]
    shared_renders: Annotated[
        int | None, Meta(description="Waited for a render that another request had started.")
    ]
    renders: Annotated[
        int | None,
        Meta(description="Requests that started a render. Null for CloudFront or nginx alone."),
    ]
    bytes: Annotated[int, Meta(description="Sent to viewers, as logged.")]
    saved_bytes: Annotated[
        int | None, Meta(description="What the originals would have had in excess. Null without --store.")
    ]
    errors: Annotated[int, Meta(description="Responses with a status of 400 or more, without 499.")]
    error_ratio: Annotated[float | None, Meta(description="errors / requests.")]
    left: Annotated[int, Meta(description="Requests whose viewer left before the response.")]
    hit_time: Annotated[Percentiles | None, Meta(description="Until the first byte of a hit.")]
    render_time: Annotated[
        Percentiles | None, Meta(description="Until the first byte of a picture that was rendered.")
    ]
    by_size: tuple[Group, ...]
    by_format: Annotated[tuple[Group, ...], Meta(description="`own` is JPEG or PNG, by the original.")]
    by_gallery: tuple[Group, ...]
    by_day: tuple[Group, ...]
    lowest_day: LowestDay | None
    by_status: tuple[StatusCount, ...]
    by_reason: tuple[ReasonCount, ...]
    top_photographs: tuple[Photograph, ...]
    refused_sizes: tuple[RefusedSize, ...]
    sweeps: tuple[Sweep, ...]
    slowest_originals: tuple[SlowOriginal, ...]
    growth: Growth | None
    targets: tuple[Target, ...]
