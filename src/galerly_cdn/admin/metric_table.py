"""Describes every metric and every counted event. docs/metrics.md is made from these tables."""

from __future__ import annotations

from typing import NamedTuple


class MetricDescription(NamedTuple):
    """A metric under the name that Prometheus stores, without the suffixes of a histogram."""

    name: str
    labels: str
    unit: str
    meaning: str
    query: str
    """PromQL."""


METRICS = (
    MetricDescription(
        "galerly_build_info",
        "version, libvips",
        "always 1",
        "The versions that run.",
        "count by (version, libvips) (galerly_build_info)",
    ),
    MetricDescription(
        "galerly_pictures_total",
        "result, size, format",
        "requests",
        "Requested pictures by result: hit (in memory), stored (in the store), stale, miss.",
        'sum(rate(galerly_pictures_total{result!="miss"}[1h])) / sum(rate(galerly_pictures_total[1h]))',
    ),
    MetricDescription(
        "galerly_responses_total",
        "status",
        "responses",
        "Responses to viewers.",
        'sum(rate(galerly_responses_total{status=~"5.."}[5m])) / sum(rate(galerly_responses_total[5m]))',
    ),
    MetricDescription(
        "galerly_response_bytes_total",
        "result",
        "bytes",
        "Bytes of response bodies sent to viewers.",
        "sum by (result) (rate(galerly_response_bytes_total[5m]))",
    ),
    MetricDescription(
        "galerly_request_duration_seconds",
        "result",
        "seconds (histogram)",
        "Time from a request to its response's first byte.",
        "histogram_quantile(0.95, sum by (le, result) (rate(galerly_request_duration_seconds_bucket[5m])))",
    ),
    MetricDescription(
        "galerly_fill_duration_seconds",
        "stage",
        "seconds (histogram)",
        "The stages of filling a miss: queue, open, render, put, head; copy in place of the first three.",
        "histogram_quantile(0.95, sum by (le, stage) (rate(galerly_fill_duration_seconds_bucket[5m])))",
    ),
    MetricDescription(
        "galerly_render_duration_seconds",
        "kind",
        "seconds (histogram)",
        "A worker's time for the first picture of an original, by its kind (jpeg, png, webp, gif, tiff, "
        "avif, heic, raw): reading, decoding, scaling and encoding, which libvips does in one pass.",
        "histogram_quantile(0.95, sum by (le, kind) (rate(galerly_render_duration_seconds_bucket[1h])))",
    ),
    MetricDescription(
        "galerly_gallery_bytes_total",
        "gallery",
        "bytes",
        "Bytes of pictures and originals sent, of the 20 galleries with most. A gallery is a key's folder.",
        "topk(5, sum by (gallery) (rate(galerly_gallery_bytes_total[1h])))",
    ),
    MetricDescription(
        "galerly_errors_total",
        "code",
        "responses",
        "Error responses.",
        "topk(5, sum by (code) (rate(galerly_errors_total[5m])))",
    ),
    MetricDescription(
        "galerly_events_total",
        "event",
        "events",
        "Events such as renders and store failures.",
        "sum by (event) (increase(galerly_events_total[1h])) > 0",
    ),
    MetricDescription(
        "galerly_workers",
        "",
        "processes",
        "Render processes that are ready or at work.",
        "min_over_time(galerly_workers[10m])",
    ),
    MetricDescription(
        "galerly_worker_states",
        "state",
        "processes",
        "Render processes by state: starting, free, working, responded (its picture is being taken over), "
        "paused (between two pictures of a warming), stopping, and those that ended and are being replaced "
        "(start_failed, crashed, timed_out, discarded).",
        "sum by (state) (galerly_worker_states) > 0",
    ),
    MetricDescription(
        "galerly_renders_in_progress",
        "",
        "renders",
        "Calls in a worker's hands.",
        "galerly_renders_in_progress / galerly_workers",
    ),
    MetricDescription(
        "galerly_render_queue",
        "",
        "renders",
        "Viewers' calls that wait for a worker.",
        "galerly_render_queue / galerly_workers",
    ),
    MetricDescription(
        "galerly_render_queue_age_seconds",
        "",
        "seconds",
        "How long the oldest viewer's call that has no worker yet has waited; 0 if there is none.",
        "max_over_time(galerly_render_queue_age_seconds[10m])",
    ),
    MetricDescription(
        "galerly_memory_cache_bytes",
        "",
        "bytes",
        "Bytes of hot renditions in memory.",
        "sum(galerly_memory_cache_bytes)",
    ),
    MetricDescription(
        "galerly_renditions_bytes",
        "",
        "bytes",
        "Disk space of the stored renditions and fact records, in whole blocks. NaN until the folder has "
        "been read after a start; not exported for a remote store.",
        "galerly_renditions_bytes / galerly_renditions_disk_size_bytes",
    ),
    MetricDescription(
        "galerly_renditions_files",
        "",
        "files",
        "Stored renditions and fact records. NaN until the folder has been read after a start; not exported "
        "for a remote store.",
        "delta(galerly_renditions_files[1d])",
    ),
    MetricDescription(
        "galerly_renditions_disk_free_bytes",
        "",
        "bytes",
        "Free bytes of the renditions' disk; not exported for a remote store.",
        "predict_linear(galerly_renditions_disk_free_bytes[1d], 4 * 86400)",
    ),
    MetricDescription(
        "galerly_renditions_disk_size_bytes",
        "",
        "bytes",
        "Size of the renditions' disk; not exported for a remote store.",
        "galerly_renditions_disk_free_bytes / galerly_renditions_disk_size_bytes",
    ),
)

MEANINGS = {one.name: one.meaning for one in METRICS}
LABELS = {one.name: one.labels for one in METRICS}

EVENTS = {
    "render": "A picture was rendered.",
    "rendition-evicted": "A rendition was removed because the folder of renditions was over its limit.",
    "rendition-corrupt": "A stored rendition was damaged, and is rendered again.",
    "rendition-unreadable": "A rendition could not be read from the store.",
    "rendition-not-stored": "A rendition was sent to its viewer, and the store did not take it.",
    "facts-corrupt": "A stored fact record was damaged.",
    "facts-unreadable": "A fact record could not be read from the store.",
    "facts-not-stored": "The store did not take a fact record.",
    "copy": "A picture was copied from its other address, with or without the format's name.",
    "recipes-unreadable": "The list of recipes could not be read from the store.",
    "recipes-not-stored": "The store did not take an entry of the list of recipes.",
    "original-changed": "An original changed while it was rendered; it was rendered again.",
    "fill-dropped": "A render was dropped before it began, because its viewers had left.",
    "warm-dropped": "An upload was not warmed, because too many were waiting.",
    "warm-failed": "The warming of an upload ended with an error.",
    "warm-interrupted": "The warming of an original was ended for viewers, and goes on at a later request.",
    "hit-process-ended": "A process that answers hits ended, and was replaced.",
    "worker-crashed": "A worker process died.",
    "worker-killed": "A worker process was killed at its deadline.",
    "worker-failed": "A worker process could not start.",
    "worker-recycled": "A worn worker process was replaced, which is normal.",
    "store-failed": "A request to the remote store failed or timed out.",
    "store-spared": "A request was not sent to the remote store, because the circuit breaker was open.",
    "store-key-skipped": "An object with a key that cannot be served was listed.",
    "access-record-dropped": "A line of the access log was lost, because its reader was slow or had ended.",
}
"""What `galerly_events_total` counts. Each is exported from 0, so that a rule sees the first one."""
