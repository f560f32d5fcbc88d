"""Reads the logs of all functions of a stack, also those that Lambda@Edge writes in other regions."""

from __future__ import annotations

import datetime as dt
import heapq
from typing import TYPE_CHECKING

from galerly_cdn.aws.deploy import boto
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_EDGE = "/aws/lambda/us-east-1."
"""Lambda@Edge writes into a group of this prefix, in the region that is nearest to the edge location."""
_OVERLAP_MS = 10_000
"""CloudWatch makes events readable out of order; those of this long are read again."""


class LogGroup(Value, frozen=True):
    """A log group, its region, and the function that writes to it."""

    name: str
    region: str
    function: str


class LogLine(Value, frozen=True, order=True):
    """A line of a function's log; `at_ms` is in milliseconds of the epoch."""

    at_ms: int
    region: str
    function: str
    text: str

    def __str__(self) -> str:
        time = dt.datetime.fromtimestamp(self.at_ms / 1000, dt.UTC)
        return f"{time:%Y-%m-%d %H:%M:%S}  {self.function}  {self.text.rstrip()}"


def find_groups(stack: str) -> list[LogGroup]:
    """The log groups of a stack's functions. Lambda@Edge's are looked for in all enabled regions.

    Raises `AwsRefused`.
    """
    with boto.aws_errors():
        resources = boto.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    groups = [
        LogGroup(one["PhysicalResourceId"], boto.REGION, one["LogicalResourceId"].removesuffix("Logs"))
        for one in resources
        if one["ResourceType"] == "AWS::Logs::LogGroup" and "PhysicalResourceId" in one
    ]
    if not any(one["LogicalResourceId"].endswith("ViewerEdge") for one in resources):
        return groups
    return groups + [group for region in _enabled_regions() for group in _edge_groups(stack, region)]


def _edge_groups(stack: str, region: str) -> Iterator[LogGroup]:
    prefix = f"{_EDGE}{stack}-"
    with boto.aws_errors():
        pages = boto.client("logs", region).get_paginator("describe_log_groups")
        for page in pages.paginate(logGroupNamePrefix=prefix):
            for one in page.get("logGroups", []):
                yield LogGroup(one["logGroupName"], region, one["logGroupName"].removeprefix(prefix))


def _enabled_regions() -> list[str]:
    """The regions that are enabled in the account."""
    with boto.aws_errors():
        found = (
            boto.client("account")
            .get_paginator("list_regions")
            .paginate(RegionOptStatusContains=["ENABLED", "ENABLED_BY_DEFAULT"])
        )
        return [one["RegionName"] for page in found for one in page["Regions"]]


class LogReader:
    """Reads new lines of log groups, each once."""

    def __init__(self, groups: Sequence[LogGroup], since_ms: int) -> None:
        self._groups = groups
        self._since_ms = dict.fromkeys(groups, since_ms)
        self._seen: dict[str, int] = {}

    def read(self) -> Iterator[LogLine]:
        """The lines that were not read before, in the order of time. Raises `AwsRefused`."""
        yield from heapq.merge(*[sorted(self._read(group)) for group in self._groups])
        oldest_ms = min(self._since_ms.values(), default=0) - _OVERLAP_MS
        self._seen = {event_id: at_ms for event_id, at_ms in self._seen.items() if at_ms >= oldest_ms}

    def _read(self, group: LogGroup) -> Iterator[LogLine]:
        since_ms = self._since_ms[group]
        start_ms = max(0, since_ms - _OVERLAP_MS if self._seen else since_ms)
        with boto.aws_errors():
            pages = boto.client("logs", group.region).get_paginator("filter_log_events")
            for page in pages.paginate(logGroupName=group.name, startTime=start_ms):
                for event in page["events"]:
                    at_ms = event["timestamp"]
                    if event["eventId"] not in self._seen:
                        self._seen[event["eventId"]] = at_ms
                        self._since_ms[group] = max(self._since_ms[group], at_ms)
                        yield LogLine(at_ms, group.region, group.function, event["message"])
