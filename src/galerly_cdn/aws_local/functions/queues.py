"""When does a message come out of a queue, how often, and where does it end? On a clock that is told.

Source: the Amazon SQS Developer Guide, "Delay queues", "Visibility timeout", "Using dead-letter queues".
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.cloudformation.stack import ACCOUNT, REGION
from galerly_cdn.aws_local.iam.policies import Access, PolicyDocument, QueuePolicy
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws_local.cloudformation.stack import Stack


class RedrivePolicy(
    Property,
    frozen=True,
    rename={"dead_letter_target_arn": "deadLetterTargetArn", "max_receive_count": "maxReceiveCount"},
):
    dead_letter_target_arn: str
    max_receive_count: int


class QueueResource(Property, frozen=True, kw_only=True):
    """AWS::SQS::Queue."""

    delay_seconds: int = 0
    visibility_timeout_s: int = 30
    redrive_policy: RedrivePolicy | None = None


@dataclass
class Message:
    """`visible_s` is when it can be received next, seconds of the epoch; `received` how often it was."""

    body: str
    sent_s: float
    visible_s: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    received: int = 0


class QueueDescription(Value, frozen=True):
    """A queue as the template has it, and who may send."""

    arn: str
    told: QueueResource
    policy: PolicyDocument


class Queue:
    """A queue at work; `arrived` is set whenever something was sent."""

    def __init__(self, described: QueueDescription, clock: Callable[[], float]) -> None:
        self.arn = described.arn
        self.messages: list[Message] = []
        self.dead: Queue | None = None
        self.arrived = asyncio.Event()
        self._told = described.told
        self._policy = described.policy
        self._clock = clock

    def takes_from(self, service: str, source_arn: str) -> bool:
        """Whether a service may send, for a resource of the account."""
        context = {"aws:sourcearn": source_arn, "aws:sourceaccount": ACCOUNT, "aws:securetransport": "true"}
        access = Access(service=service, action="sqs:SendMessage", resource=self.arn, context=context)
        return self._policy.allows(access)

    def send(self, body: str) -> None:
        """Put a message in, to be received after the queue's delay."""
        now_s = self._clock()
        self.messages.append(Message(body, now_s, now_s + self._told.delay_seconds))
        self.arrived.set()

    def receive(self) -> Message | None:
        """The first message that can be received; hidden from now on for the visibility timeout.

        One that was received as often as it may be goes to the dead-letter queue instead.
        """
        now_s = self._clock()
        for message in [one for one in self.messages if one.visible_s <= now_s]:
            if self._is_dead(message):
                self.messages.remove(message)
                assert self.dead is not None  # noqa: S101 - connected with its redrive policy
                self.dead.messages.append(message)
                continue
            message.received += 1
            message.visible_s = now_s + self._told.visibility_timeout_s
            return message
        return None

    def delete(self, message: Message) -> None:
        """Forget a message that somebody is done with."""
        self.messages.remove(message)

    def due_s(self) -> float | None:
        """When the next message can be received; None for an empty queue."""
        return min((one.visible_s for one in self.messages), default=None)

    def _is_dead(self, message: Message) -> bool:
        redrive = self._told.redrive_policy
        return redrive is not None and message.received >= redrive.max_receive_count


def read(stack: Stack) -> dict[str, QueueDescription]:
    """All queues, by ARN. Raises `UnmodelledProperty` for a dead-letter queue that is none of them."""
    policies = stack.all(QueuePolicy, "AWS::SQS::QueuePolicy")
    found: dict[str, QueueDescription] = {}
    wanted: dict[str, str] = {}
    for name, told in stack.all(QueueResource, "AWS::SQS::Queue").items():
        arn = str(stack.refer(name, "Arn"))
        found[arn] = QueueDescription(arn, told, _policy(policies, stack.identity(name)))
        if told.redrive_policy:
            wanted[name] = told.redrive_policy.dead_letter_target_arn
    for name, dead in wanted.items():
        if dead not in found:
            raise UnmodelledProperty(name, "RedrivePolicy", f"there is no queue {dead}")
    return found


def start(described: Mapping[str, QueueDescription], clock: Callable[[], float]) -> dict[str, Queue]:
    """The queues, empty, each with its dead-letter queue."""
    queues = {arn: Queue(one, clock) for arn, one in described.items()}
    for arn, one in described.items():
        if redrive := one.told.redrive_policy:
            queues[arn].dead = queues[redrive.dead_letter_target_arn]
    return queues


def _policy(policies: Mapping[str, QueuePolicy], url: str) -> PolicyDocument:
    """The queue's policy; without one no service may send. Raises `UnmodelledProperty` for two."""
    found = [one.policy_document for one in policies.values() if url in one.queues]
    if len(found) > 1:
        raise UnmodelledProperty(", ".join(policies), "Queues", "a queue has one policy")
    return found[0] if found else PolicyDocument("2012-10-17", ())


def sqs_event(message: Message, arn: str) -> dict[str, Any]:
    """The message as Lambda hands it to a function (Developer Guide, "Using Lambda with Amazon SQS")."""
    record = {
        "messageId": message.id,
        "receiptHandle": f"{message.id}-{message.received}",
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.received),
            "SentTimestamp": str(int(message.sent_s * 1000)),
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": REGION,
    }
    return {"Records": [record]}
