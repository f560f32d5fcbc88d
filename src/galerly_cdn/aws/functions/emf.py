"""Formats metrics as log lines in CloudWatch's embedded metric format (EMF).

CloudWatch User Guide, "Specification: Embedded metric format". CloudWatch reads the metrics from the log,
so they cost no request. The template's alarms use them. Pure.
"""

from __future__ import annotations

from galerly_cdn.serialization import to_json

NAMESPACE = "galerly-cdn"
UNITS = {"RenditionBytes": "Bytes", "RenderTime": "Milliseconds", "StoredButUnreadable": "Count"}
"""Units by metric name: bytes rendered, time to render them, and requests for renditions that were
stored already, which means that CloudFront cannot read the bucket."""


def metric_line(function: str, metrics: dict[str, float], now_s: float) -> bytes:
    """A JSON line with values of metrics in `UNITS`, for the function of this name.

    `now_s` is in seconds since the epoch.
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName"]],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in metrics],
    }
    metadata = {"Timestamp": int(now_s * 1000), "CloudWatchMetrics": [directive]}
    return to_json({"_aws": metadata, "FunctionName": function, **metrics})
