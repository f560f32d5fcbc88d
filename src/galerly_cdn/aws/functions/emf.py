"""Metrics as log lines: CloudWatch's embedded metric format, which costs no request.

CloudWatch User Guide, "Specification: Embedded metric format". The template's alarms read them. Pure.
"""

from __future__ import annotations

from galerly_cdn.serialization import to_json

NAMESPACE = "galerly-cdn"
UNITS = {"RenditionBytes": "Bytes", "RenderTime": "Milliseconds", "StoredButUnreadable": "Count"}
"""What was rendered; how long that took; renditions asked for although they are stored: an alarm."""


def metric_line(function: str, metrics: dict[str, float], now_s: float) -> bytes:
    """The line that tells metrics of `UNITS` of a function, by its name; `now_s` since the epoch."""
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName"]],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in metrics],
    }
    about = {"Timestamp": int(now_s * 1000), "CloudWatchMetrics": [directive]}
    return to_json({"_aws": about, "FunctionName": function, **metrics})
