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
    from galerly_cdn.aws_local.functions.queues import Message, Queue
    from galerly_cdn.aws_local.iam.roles import FunctionWithRole
    from galerly_cdn.aws_local.s3.notifications import Event

_EVENT_FIELDS = {
    ("source",): ["aws.s3"],
    ("detail-type",): [notifications.CREATED, notifications.DELETED],
    ("detail", "bucket", "name"): None,
    ("detail", "object", "key"): None,
    ("detail", "reason"): notifications.REASONS,
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


class EventSourceMapping(Property, frozen=True, kw_only=True):
    """AWS::Lambda::EventSourceMapping."""

    event_source_arn: str
    function_name: str
    batch_size: int
    maximum_batching_window_in_seconds: int = 0
    function_response_types: tuple[Literal["ReportBatchItemFailures"], ...] = ()
    scaling_config: ScalingConfig

    def __post_init__(self) -> None:
        """Raises `ValueError` for sizes that Lambda refuses for a standard queue."""
        if not 1 <= self.batch_size <= 10_000 or not 0 <= self.maximum_batching_window_in_seconds <= 300:
            raise ValueError("BatchSize is at most 10000, MaximumBatchingWindowInSeconds at most 300")
        if self.batch_size > 10 and not self.maximum_batching_window_in_seconds:
            raise ValueError("BatchSize above 10 needs MaximumBatchingWindowInSeconds")


class Batching(Value, frozen=True):
    """How many messages are passed in one event, and how long Lambda waits for them.

    With `reports_failures`, the function's result names the messages that failed.
    """

    size: int = 1
    window_s: float = 0.0
    reports_failures: bool = False


class PolledQueue(Value, frozen=True):
    """A queue that is polled for a function, and how many batches of messages are processed concurrently."""

    queue_arn: str
    function: str
    """The function's logical name."""
    concurrency: int
    batching: Batching


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
    """Invokes a function with batches of a queue's messages, at most `concurrency` events at once.

    AWS runs several pollers for a queue, each of which fills a batch of its own; here it is one.
    """

    def __init__(
        self,
        queue: Queue,
        function: Invocable,
        concurrency: int,
        clock: Callable[[], float],
        batching: Batching = Batching(),  # noqa: B008 - a frozen value
    ) -> None:
        self._queue = queue
        self._function = function
        self._concurrency = concurrency
        self._clock = clock
        self._batching = batching
        self._batch: list[Message] = []
        self._due_s = 0.0
        """When the batch is passed on, full or not."""

    async def deliver_due(self) -> None:
        """Delivers all batches that are due, and waits for the function. A failed message is due again."""
        await asyncio.gather(*(self._deliver() for _ in range(self._concurrency)))

    async def run(self) -> None:
        """Delivers messages when they are due, until cancelled. The clock must be the real time."""
        while True:
            self._queue.message_sent.clear()
            await self.deliver_due()
            due_s = self._queue.next_visible_s()
            if self._batch:
                due_s = min(self._due_s, due_s or self._due_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_s is None else max(0.0, due_s - self._clock())):
                    await self._queue.message_sent.wait()

    async def _deliver(self) -> None:
        while batch := self._next_batch():
            with suppress(Throttled, TimedOut, Crashed, FunctionFailed):
                result = await self._function.invoke(queues.sqs_event(batch, self._queue.arn))
                failed = _failed_messages(result) if self._batching.reports_failures else set[str]()
                for message in batch:
                    if message.id not in failed:
                        self._queue.delete(message)

    def _next_batch(self) -> list[Message]:
        """A batch that is full, or whose window has ended; else an empty list."""
        while len(self._batch) < self._batching.size:
            visible_s = self._queue.next_visible_s()
            message = self._queue.receive()
            if message is None:
                break
            if not self._batch and visible_s is not None:
                self._due_s = visible_s + self._batching.window_s
            self._batch.append(message)
        if len(self._batch) < self._batching.size and self._clock() < self._due_s:
            return []
        batch, self._batch = self._batch, []
        return batch


def _failed_messages(result: Any) -> set[str]:  # noqa: ANN401 - any JSON
    """The messages to deliver again (AWS Lambda Developer Guide, "Reporting batch item failures")."""
    failures = (result or {}).get("batchItemFailures") or []
    return {one["itemIdentifier"] for one in failures}


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
            PolledQueue(
                mapping.event_source_arn,
                logical,
                mapping.scaling_config.maximum_concurrency,
                Batching(
                    mapping.batch_size,
                    mapping.maximum_batching_window_in_seconds,
                    reports_failures=bool(mapping.function_response_types),
                ),
            )
        )
    return EventFlow(rules, described, tuple(polled))


def start(
    flow: EventFlow, functions: Mapping[str, Invocable], buckets: frozenset[str], clock: Callable[[], float]
) -> EventBus:
    """The event bus with empty queues."""
    started = queues.start(flow.queues, clock)
    pollers = tuple(
        Poller(
            started[polled.queue_arn], functions[polled.function], polled.concurrency, clock, polled.batching
        )
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
