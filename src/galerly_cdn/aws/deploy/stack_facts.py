"""Reads the facts of a stack for `galerly-cdn doctor`: what AWS says of its resources and of the last day."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import boto, stack_metrics
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.insight.doctor.stack import Behavior, Distribution, StackFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
    from galerly_cdn.aws.deploy.stack import StackState

_RESOURCES = ("Distribution", "PathOnly", "Resizer", "ResizerLogs", "Bucket")
_QUEUES = ("PrewarmFailed", "JanitorFailed")
"""Queues that a parameter may leave out."""
_USED = re.compile(r"Max Memory Used: ([0-9]+) MB")
_MAX_PAGES = 20
"""Pages of the log, which hold a megabyte each: the highest use shows in them."""
_DAY = dt.timedelta(hours=24)


def read(
    state: StackState, resources: Mapping[str, str], fetch: Callable[[str], ViewerResponse], now: dt.datetime
) -> StackFacts:
    """The facts of a stack in the 24 hours before `now`. `fetch` sends one request as a viewer.

    `resources` are the physical IDs by logical ID. Raises `AwsRefused`, and `DeploymentFailed` for a stack
    that is not galerly-cdn's, or that lacks resources.
    """
    missing = [one for one in _RESOURCES if one not in resources]
    if missing:
        raise DeploymentFailed(
            f"the stack is {state.status} and has no {', '.join(missing)}: deploy it again"
        )
    distribution = _distribution(resources["Distribution"])
    lifetimes = _lifetimes(resources["PathOnly"])
    resizer = _resizer(resources["Resizer"])
    queues = {one: resources[one].rpartition("/")[2] for one in _QUEUES if one in resources}
    return StackFacts(
        status=state.status,
        domain=state.parameters.get("Domain", ""),
        growth_limit_gb=float(state.parameters["RenditionGigabytesPerDay"]),
        distribution=distribution,
        functions=dict(_functions(distribution.behaviors)),
        via=_via(fetch(f"{state.outputs['Address']}/")),
        function_policy=_policy("lambda", "get_policy", FunctionName=resources["Resizer"]),
        bucket_policy=_policy("s3", "get_bucket_policy", Bucket=resources["Bucket"]),
        min_ttl_s=lifetimes["MinTTL"],
        max_ttl_s=lifetimes["MaxTTL"],
        timeout_s=resizer["Timeout"],
        memory_mb=resizer["MemorySize"],
        memory_used_mb=_memory_used(resources["ResizerLogs"], now),
        metrics=stack_metrics.read(resources["Distribution"], resources["Resizer"], queues, now - _DAY, now),
    )


def _distribution(distribution_id: str) -> Distribution:
    with boto.aws_errors():
        described = boto.client("cloudfront").get_distribution(Id=distribution_id)["Distribution"]
    config = described["DistributionConfig"]
    (resizer,) = (one for one in config["Origins"]["Items"] if "CustomOriginConfig" in one)
    behaviors = [
        {"PathPattern": "*", **config["DefaultCacheBehavior"]},
        *config.get("CacheBehaviors", {}).get("Items", ()),
    ]
    return Distribution(
        arn=described["ARN"],
        status=described["Status"],
        is_enabled=config["Enabled"],
        price_class=config.get("PriceClass", ""),
        aliases=tuple(config.get("Aliases", {}).get("Items", ())),
        behaviors=tuple(Behavior(one["PathPattern"], _viewer_function(one)) for one in behaviors),
        resizer_attempts=resizer["ConnectionAttempts"],
        resizer_read_timeout_s=resizer["CustomOriginConfig"]["OriginReadTimeout"],
    )


def _viewer_function(behavior: Mapping[str, Any]) -> str:
    """The ARN of a behaviour's viewer-request function; empty for none."""
    associations = [
        *behavior.get("FunctionAssociations", {}).get("Items", ()),
        *behavior.get("LambdaFunctionAssociations", {}).get("Items", ()),
    ]
    arns = [
        str(one.get("FunctionARN") or one["LambdaFunctionARN"])
        for one in associations
        if one["EventType"] == "viewer-request"
    ]
    return arns[0] if arns else ""


def _functions(behaviors: Iterable[Behavior]) -> Iterator[tuple[str, str]]:
    """The state of each CloudFront function. Raises `AwsRefused`."""
    for arn in sorted({one.function for one in behaviors if ":function/" in one.function}):
        name = arn.rpartition("/")[2]
        live, latest = _code(name, "LIVE"), _code(name, "DEVELOPMENT")
        yield name, "never published" if live is None else "published" if live == latest else "changed since"


def _code(name: str, stage: str) -> bytes | None:
    """The code of a CloudFront function; None if it has none in this stage."""
    cloudfront = boto.client("cloudfront")
    with boto.aws_errors():
        try:
            code: bytes = cloudfront.get_function(Name=name, Stage=stage)["FunctionCode"].read()
        except cloudfront.exceptions.NoSuchFunctionExists:
            return None
    return code


def _via(response: ViewerResponse) -> str:
    return response.headers.get("via", "") or str(response)


def _policy(service: str, method: str, **parameters: str) -> str:
    """The policy of a resource, in JSON; empty for none."""
    with boto.aws_errors():
        client = boto.client(service)
        try:
            return str(getattr(client, method)(**parameters)["Policy"])
        except client.exceptions.ClientError as error:
            if boto.error_code(error) in {"ResourceNotFoundException", "NoSuchBucketPolicy"}:
                return ""
            raise


def _lifetimes(policy_id: str) -> Mapping[str, int]:
    """MinTTL and MaxTTL of a cache policy, in seconds."""
    with boto.aws_errors():
        found = boto.client("cloudfront").get_cache_policy(Id=policy_id)["CachePolicy"]
    lifetimes: Mapping[str, int] = found["CachePolicyConfig"]
    return lifetimes


def _resizer(name: str) -> Mapping[str, int]:
    with boto.aws_errors():
        found: Mapping[str, int] = boto.client("lambda").get_function_configuration(FunctionName=name)
    return found


def _memory_used(group: str, now: dt.datetime) -> int | None:
    """The most memory that an invocation used in a day, in MB; None if there was none."""
    used: list[int] = []
    with boto.aws_errors():
        pages = boto.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(
            logGroupName=group,
            filterPattern='"Max Memory Used"',
            startTime=int((now - _DAY).timestamp() * 1000),
            endTime=int(now.timestamp() * 1000),
        )
        for page in itertools.islice(found, _MAX_PAGES):
            used += [int(one) for event in page["events"] for one in _USED.findall(event["message"])]
    return max(used, default=None)
