"""Routes S3 events by EventBridge rules to SQS queues, and polls the queues for the Lambda functions.

Source: the EventBridge User Guide, "Event patterns"; the AWS Lambda Developer Guide, "Using Lambda with SQS".
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.functions import queues
from galerly_cdn.aws_local.functions.queues import QueueDescription
from galerly_cdn.aws_local.functions.runtime import Crashed, FunctionFailed, Throttled, TimedOut
from galerly_cdn.aws_local.iam import roles
from galerly_cdn.aws_local.s3 import notifications
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws_local.cloudformation.stack import Stack
    from galerly_cdn.aws_local.functions.function_url import Invocable
    from galerly_cdn.aws_local.functions.queues import Queue
    from galerly_cdn.aws_local.iam.roles import FunctionWithRole
    from galerly_cdn.aws_local.s3.notifications import Event

_EVENT_FIELDS = {
    ("source",): ["aws.s3"],
    ("detail-type",): [notifications.CREATED, notifications.DELETED],
    ("detail", "bucket", "name"): None,
    ("detail", "object", "key"): None,
}
"""The fields of an event that a pattern may match, with the possible values (None: any)."""


class Target(Property, frozen=True):
    id: str
    arn: str


class Rule(Property, frozen=True):
    """AWS::Events::Rule."""

    event_pattern: dict[str, Any]
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        """Raises `ValueError` for a pattern that is not modelled."""
        _check_pattern(self.event_pattern, ())


class ScalingConfig(Property, frozen=True):
    maximum_concurrency: int


class EventSourceMapping(Property, frozen=True):
    """AWS::Lambda::EventSourceMapping."""

    event_source_arn: str
    function_name: str
    batch_size: Literal[1]
    scaling_config: ScalingConfig


class PolledQueue(Value, frozen=True):
    """A queue that is polled for a function, and how many messages are processed concurrently."""

    queue_arn: str
    function: str
    """The function's logical name."""
    concurrency: int


class EventFlow(Value, frozen=True):
    """The template's rules and queues by ARN, and the queues that are polled."""

    rules: dict[str, Rule]
    queues: dict[str, QueueDescription]
    polled_queues: tuple[PolledQueue, ...]


@dataclass(frozen=True)
class EventBus:
    """EventBridge's running default event bus, with the queues that its rules send to."""

    rules: Mapping[str, Rule]
    queues: Mapping[str, Queue]
    pollers: tuple[Poller, ...]
    buckets: frozenset[str]
    """Names of the buckets that send events to EventBridge."""

    def publish(self, event: Event) -> None:
        """Sends an event to the targets of all rules that match, if the queue's policy allows it."""
        if event["detail"]["bucket"]["name"] not in self.buckets:
            return
        for arn, rule in self.rules.items():
            if matches(rule.event_pattern, event):
                for target in rule.targets:
                    queue = self.queues[target.arn]
                    if queue.accepts_from("events.amazonaws.com", arn):
                        queue.send(json.dumps(event))

    async def deliver_due(self) -> None:
        """Delivers all messages that are due by the clock, and waits for the functions."""
        await asyncio.gather(*(poller.deliver_due() for poller in self.pollers))

    async def run(self) -> None:
        """Delivers messages when they are due, until cancelled. The clock must be the real time."""
        async with asyncio.TaskGroup() as tasks:
            for poller in self.pollers:
                tasks.create_task(poller.run())


class Poller:
    """Invokes a function with the messages of a queue: one for each event, at most `concurrency` at once."""

    def __init__(
        self, queue: Queue, function: Invocable, concurrency: int, clock: Callable[[], float]
    ) -> None:
        self._queue = queue
        self._function = function
        self._concurrency = concurrency
        self._clock = clock

    async def deliver_due(self) -> None:
        """Delivers all messages that are due, and waits for the function. A failed one becomes due again."""
        await asyncio.gather(*(self._deliver() for _ in range(self._concurrency)))

    async def run(self) -> None:
        """Delivers messages when they are due, until cancelled. The clock must be the real time."""
        while True:
            self._queue.message_sent.clear()
            await self.deliver_due()
            due_s = self._queue.next_visible_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_s is None else max(0.0, due_s - self._clock())):
                    await self._queue.message_sent.wait()

    async def _deliver(self) -> None:
        while message := self._queue.receive():
            with suppress(Throttled, TimedOut, Crashed, FunctionFailed):
                await self._function.invoke(queues.sqs_event(message, self._queue.arn))
                self._queue.delete(message)


def read_event_flow(stack: Stack, functions: Mapping[str, FunctionWithRole]) -> EventFlow:
    """The template's rules, queues and event source mappings.

    Raises `UnmodelledProperty` for a reference to something outside the template, `SettingsError` if Lambda
    would refuse to poll a queue.
    """
    described = queues.read_queues(stack)
    rules = {}
    for name, rule in stack.all(Rule, "AWS::Events::Rule").items():
        for target in rule.targets:
            if target.arn not in described:
                raise UnmodelledProperty(name, "Targets", f"there is no queue {target.arn}")
        rules[str(stack.refer(name, "Arn"))] = rule
    polled = []
    for name, mapping in stack.all(EventSourceMapping, "AWS::Lambda::EventSourceMapping").items():
        if mapping.event_source_arn not in described:
            raise UnmodelledProperty(name, "EventSourceArn", f"there is no queue {mapping.event_source_arn}")
        logical = next(
            (key for key, function in functions.items() if function.name == mapping.function_name), None
        )
        if logical is None:
            raise UnmodelledProperty(name, "FunctionName", f"there is no function {mapping.function_name}")
        roles.check_poller(functions[logical], mapping.event_source_arn)
        polled.append(
            PolledQueue(mapping.event_source_arn, logical, mapping.scaling_config.maximum_concurrency)
        )
    return EventFlow(rules, described, tuple(polled))


def start(
    flow: EventFlow, functions: Mapping[str, Invocable], buckets: frozenset[str], clock: Callable[[], float]
) -> EventBus:
    """The event bus with empty queues."""
    started = queues.start(flow.queues, clock)
    pollers = tuple(
        Poller(started[polled.queue_arn], functions[polled.function], polled.concurrency, clock)
        for polled in flow.polled_queues
    )
    return EventBus(flow.rules, started, pollers, buckets)


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether each field of a pattern matches the event: by a value, or a prefix, of the field's list."""
    return all(
        matches(expected, event.get(name, {}))
        if isinstance(expected, dict)
        else any(_matches_value(value, event.get(name)) for value in expected)
        for name, expected in pattern.items()
    )


def _matches_value(expected: str | dict[str, str], value: object) -> bool:
    if isinstance(expected, dict):
        return isinstance(value, str) and value.startswith(expected["prefix"])
    return value == expected


def _check_pattern(pattern: object, field: tuple[str, ...]) -> None:
    """Raises `ValueError` for a pattern that is not modelled."""
    if isinstance(pattern, dict):
        for name, nested in pattern.items():
            _check_pattern(nested, (*field, name))
        return
    path = ".".join(field)
    if field not in _EVENT_FIELDS or not isinstance(pattern, list):
        raise ValueError(f"EventPattern.{path} is not modelled")
    known = _EVENT_FIELDS[field]
    for value in pattern:
        is_prefix = isinstance(value, dict) and [*value] == ["prefix"] and isinstance(value["prefix"], str)
        if not is_prefix and not (isinstance(value, str) and (known is None or value in known)):
            raise ValueError(f"EventPattern.{path}: {value} is not modelled")
