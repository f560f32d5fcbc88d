"""Reads a stack's metrics of a period from CloudWatch, by one GetMetricData request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from galerly_cdn.aws.deploy import boto
from galerly_cdn.insight.doctor.stack import Metrics

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

_PERIOD_S = 3600

Series = dict[str, float]
"""The values of a metric, by the time of each."""


class _Metric(NamedTuple):
    namespace: str
    name: str
    dimensions: dict[str, str]
    statistic: str


def read(
    distribution: str, resizer: str, queues: Mapping[str, str], start: dt.datetime, end: dt.datetime
) -> Metrics:
    """The metrics of a distribution's ID and a function's name. Raises `AwsRefused`.

    `queues` are the names of queues, by what they are called in the result. Rates are averages weighted by
    the requests of each hour.
    """
    viewers = {"DistributionId": distribution, "Region": "Global"}
    function = {"FunctionName": resizer}
    metrics = {
        "requests": _Metric("AWS/CloudFront", "Requests", viewers, "Sum"),
        "ratio": _Metric("AWS/CloudFront", "CacheHitRate", viewers, "Average"),
        "rate5xx": _Metric("AWS/CloudFront", "5xxErrorRate", viewers, "Average"),
        "rate4xx": _Metric("AWS/CloudFront", "4xxErrorRate", viewers, "Average"),
        "errors": _Metric("AWS/Lambda", "Errors", function, "Sum"),
        "throttles": _Metric("AWS/Lambda", "Throttles", function, "Sum"),
        "rendered": _Metric("galerly-cdn", "RenditionBytes", function, "Sum"),
    }
    for number, name in enumerate(queues.values()):
        metrics[f"queue{number}"] = _Metric(
            "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": name}, "Maximum"
        )
    found = _fetch(metrics, start, end)
    requests = found["requests"]
    return Metrics(
        requests=sum(requests.values()),
        hit_ratio=_weighted(found["ratio"], requests),
        rate_5xx=_weighted(found["rate5xx"], requests),
        rate_4xx=_weighted(found["rate4xx"], requests),
        function_errors=sum(found["errors"].values()),
        throttles=sum(found["throttles"].values()),
        rendered_bytes=sum(found["rendered"].values()),
        failed_events={
            shown: max(found[f"queue{number}"].values(), default=0.0) for number, shown in enumerate(queues)
        },
    )


def _weighted(rates: Series, requests: Series) -> float | None:
    """The rate of all requests; None without data. Hours in which nothing was requested do not count."""
    weights = {time: requests.get(time, 0.0) for time in rates}
    total = sum(weights.values())
    return sum(rates[time] * weight for time, weight in weights.items()) / total if total else None


def _fetch(metrics: Mapping[str, _Metric], start: dt.datetime, end: dt.datetime) -> dict[str, Series]:
    queries = [
        {
            "Id": name,
            "MetricStat": {
                "Metric": {
                    "Namespace": metric.namespace,
                    "MetricName": metric.name,
                    "Dimensions": [{"Name": key, "Value": value} for key, value in metric.dimensions.items()],
                },
                "Period": _PERIOD_S,
                "Stat": metric.statistic,
            },
        }
        for name, metric in metrics.items()
    ]
    found: dict[str, Series] = {name: {} for name in metrics}
    with boto.aws_errors():
        pages = boto.client("cloudwatch").get_paginator("get_metric_data")
        for page in pages.paginate(MetricDataQueries=queries, StartTime=start, EndTime=end):
            for result in page["MetricDataResults"]:
                found[result["Id"]].update(_series(result))
    return found


def _series(result: Mapping[str, Any]) -> Series:
    return {f"{time}": value for time, value in zip(result["Timestamps"], result["Values"], strict=True)}
