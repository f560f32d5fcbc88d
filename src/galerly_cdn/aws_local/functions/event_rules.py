"""Where does a change in the bucket lead? By a rule to a queue, from the queue to a function.

Source: the EventBridge User Guide, "Event patterns"; the AWS Lambda Developer Guide, "Using Lambda with SQS".
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.functions import queues as queue
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
    from galerly_cdn.aws_local.s3.notifications import Message

_TOLD = {
    ("source",): ["aws.s3"],
    ("detail-type",): [notifications.CREATED, notifications.DELETED],
    ("detail", "bucket", "name"): None,
    ("detail", "object", "key"): None,
}
"""What of a message a rule may ask, and which values there are: None for any."""


class Target(Property, frozen=True):
    id: str
    arn: str


class Rule(Property, frozen=True):
    """AWS::Events::Rule."""

    event_pattern: dict[str, Any]
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        """Refuse a pattern that would be matched wrongly, or never."""
        _check(self.event_pattern, ())


class ScalingConfig(Property, frozen=True):
    maximum_concurrency: int


class EventSourceMapping(Property, frozen=True):
    """AWS::Lambda::EventSourceMapping."""

    event_source_arn: str
    function_name: str
    batch_size: Literal[1]
    scaling_config: ScalingConfig


class PolledQueue(Value, frozen=True):
    """From which queue a function gets its messages, and how many at once."""

    queue_arn: str
    function: str
    concurrency: int


class EventFlow(Value, frozen=True):
    """Rules and queues by ARN, and who polls; functions by their logical names."""

    rules: dict[str, Rule]
    queues: dict[str, QueueDescription]
    polled: tuple[PolledQueue, ...]


@dataclass(frozen=True)
class Deliveries:
    """EventBridge's default bus and the queues behind it, at work."""

    rules: Mapping[str, Rule]
    queues: Mapping[str, Queue]
    pollers: tuple[Poller, ...]
    buckets: frozenset[str]
    """Those that tell EventBridge."""

    def publish(self, message: Message) -> None:
        """Put a change into every queue that a rule names and that lets it in."""
        if message["detail"]["bucket"]["name"] not in self.buckets:
            return
        for arn, rule in self.rules.items():
            if matches(rule.event_pattern, message):
                for target in rule.targets:
                    own = self.queues[target.arn]
                    if own.takes_from("events.amazonaws.com", arn):
                        own.send(json.dumps(message))

    async def settle(self) -> None:
        """Bring all that is due by the clock, and wait for what comes of it."""
        await asyncio.gather(*(one.settle() for one in self.pollers))

    async def run(self) -> None:
        """Bring whatever is due whenever it is, until cancelled; by a clock that nobody moves."""
        async with asyncio.TaskGroup() as tasks:
            for one in self.pollers:
                tasks.create_task(one.run())


class Poller:
    """Brings a queue's messages to its function, one at a time, so many at once."""

    def __init__(self, own: Queue, function: Invocable, concurrency: int, clock: Callable[[], float]) -> None:
        self._queue = own
        self._function = function
        self._concurrency = concurrency
        self._clock = clock

    async def settle(self) -> None:
        """Bring all that is due, and wait for what comes of it; what fails will be due again."""
        await asyncio.gather(*(self._bring() for _ in range(self._concurrency)))

    async def run(self) -> None:
        """Bring whatever is due whenever it is, by a clock that nobody moves."""
        while True:
            self._queue.arrived.clear()
            await self.settle()
            due_s = self._queue.due_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_s is None else max(0.0, due_s - self._clock())):
                    await self._queue.arrived.wait()

    async def _bring(self) -> None:
        while message := self._queue.receive():
            with suppress(Throttled, TimedOut, Crashed, FunctionFailed):
                await self._function.invoke(queue.sqs_event(message, self._queue.arn))
                self._queue.delete(message)


def read(stack: Stack, functions: Mapping[str, FunctionWithRole]) -> EventFlow:
    """The way from changes to functions. Raises `UnmodelledProperty` for what leads out of the template.

    Raises `SettingsError` where Lambda would refuse to poll.
    """
    queues = queue.read(stack)
    rules = {}
    for name, rule in stack.all(Rule, "AWS::Events::Rule").items():
        for target in rule.targets:
            if target.arn not in queues:
                raise UnmodelledProperty(name, "Targets", f"there is no queue {target.arn}")
        rules[str(stack.refer(name, "Arn"))] = rule
    polled = []
    for name, one in stack.all(EventSourceMapping, "AWS::Lambda::EventSourceMapping").items():
        if one.event_source_arn not in queues:
            raise UnmodelledProperty(name, "EventSourceArn", f"there is no queue {one.event_source_arn}")
        logical = next((own for own, told in functions.items() if told.name == one.function_name), None)
        if logical is None:
            raise UnmodelledProperty(name, "FunctionName", f"there is no function {one.function_name}")
        roles.check_poller(functions[logical], one.event_source_arn)
        polled.append(PolledQueue(one.event_source_arn, logical, one.scaling_config.maximum_concurrency))
    return EventFlow(rules, queues, tuple(polled))


def start(
    flow: EventFlow, functions: Mapping[str, Invocable], buckets: frozenset[str], clock: Callable[[], float]
) -> Deliveries:
    """The flow at work, with nothing on its way."""
    queues = queue.start(flow.queues, clock)
    pollers = tuple(
        Poller(queues[one.queue_arn], functions[one.function], one.concurrency, clock) for one in flow.polled
    )
    return Deliveries(flow.rules, queues, pollers, buckets)


def matches(pattern: Mapping[str, Any], message: Mapping[str, Any]) -> bool:
    """Whether a message has all that a pattern asks: of each list a value, or a beginning."""
    return all(
        matches(wanted, message.get(name, {}))
        if isinstance(wanted, dict)
        else any(_is(one, message.get(name)) for one in wanted)
        for name, wanted in pattern.items()
    )


def _is(wanted: str | dict[str, str], value: object) -> bool:
    if isinstance(wanted, dict):
        return isinstance(value, str) and value.startswith(wanted["prefix"])
    return value == wanted


def _check(pattern: object, at: tuple[str, ...]) -> None:
    """Raises `ValueError`."""
    if isinstance(pattern, dict):
        for name, below in pattern.items():
            _check(below, (*at, name))
        return
    path = ".".join(at)
    if at not in _TOLD or not isinstance(pattern, list):
        raise ValueError(f"EventPattern.{path} is not modelled")
    known = _TOLD[at]
    for one in pattern:
        is_prefix = isinstance(one, dict) and [*one] == ["prefix"] and isinstance(one["prefix"], str)
        if not is_prefix and not (isinstance(one, str) and (known is None or one in known)):
            raise ValueError(f"EventPattern.{path}: {one} is not modelled")
