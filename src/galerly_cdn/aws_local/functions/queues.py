"""Implements SQS queues: delay, visibility timeout and dead-letter queue, by the clock of the caller.

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
    from collections.abc import Callable, Mapping, Sequence

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
    """A message. `visible_s` is when it can next be received, in seconds of the epoch."""

    body: str
    sent_s: float
    visible_s: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receive_count: int = 0


class QueueDescription(Value, frozen=True):
    """A queue's properties and policy, as the template has them."""

    arn: str
    properties: QueueResource
    policy: PolicyDocument


class Queue:
    """A running queue. `message_sent` is set whenever a message is sent."""

    def __init__(self, description: QueueDescription, clock: Callable[[], float]) -> None:
        self.arn = description.arn
        self.messages: list[Message] = []
        self.dead_letter_queue: Queue | None = None
        self.message_sent = asyncio.Event()
        self._properties = description.properties
        self._policy = description.policy
        self._clock = clock

    def accepts_from(self, service: str, source_arn: str) -> bool:
        """Whether a service may send messages on behalf of a resource of the account."""
        context = {"aws:sourcearn": source_arn, "aws:sourceaccount": ACCOUNT, "aws:securetransport": "true"}
        access = Access(service=service, action="sqs:SendMessage", resource=self.arn, context=context)
        return self._policy.allows(access)

    def send(self, body: str) -> None:
        """Sends a message, which can be received after the queue's delay."""
        now_s = self._clock()
        self.messages.append(Message(body, now_s, now_s + self._properties.delay_seconds))
        self.message_sent.set()

    def receive(self) -> Message | None:
        """The first visible message, which is then hidden for the visibility timeout.

        A message that was received `maxReceiveCount` times is moved to the dead-letter queue instead.
        """
        now_s = self._clock()
        for message in [message for message in self.messages if message.visible_s <= now_s]:
            if self._is_dead(message):
                self.messages.remove(message)
                assert self.dead_letter_queue is not None  # noqa: S101 - set together with the redrive policy
                self.dead_letter_queue.messages.append(message)
                continue
            message.receive_count += 1
            message.visible_s = now_s + self._properties.visibility_timeout_s
            return message
        return None

    def delete(self, message: Message) -> None:
        """Deletes a message that has been processed."""
        self.messages.remove(message)

    def next_visible_s(self) -> float | None:
        """When the next message can be received; None for an empty queue."""
        return min((message.visible_s for message in self.messages), default=None)

    def _is_dead(self, message: Message) -> bool:
        redrive = self._properties.redrive_policy
        return redrive is not None and message.receive_count >= redrive.max_receive_count


def read_queues(stack: Stack) -> dict[str, QueueDescription]:
    """All queues by ARN. Raises `UnmodelledProperty` for an unknown dead-letter queue."""
    policies = stack.all(QueuePolicy, "AWS::SQS::QueuePolicy")
    queues: dict[str, QueueDescription] = {}
    dead_letter_arns: dict[str, str] = {}
    for name, properties in stack.all(QueueResource, "AWS::SQS::Queue").items():
        arn = str(stack.refer(name, "Arn"))
        queues[arn] = QueueDescription(arn, properties, _policy(policies, stack.identity(name)))
        if properties.redrive_policy:
            dead_letter_arns[name] = properties.redrive_policy.dead_letter_target_arn
    for name, arn in dead_letter_arns.items():
        if arn not in queues:
            raise UnmodelledProperty(name, "RedrivePolicy", f"there is no queue {arn}")
    return queues


def start(descriptions: Mapping[str, QueueDescription], clock: Callable[[], float]) -> dict[str, Queue]:
    """Empty queues by ARN, each connected with its dead-letter queue."""
    queues = {arn: Queue(description, clock) for arn, description in descriptions.items()}
    for arn, description in descriptions.items():
        if redrive := description.properties.redrive_policy:
            queues[arn].dead_letter_queue = queues[redrive.dead_letter_target_arn]
    return queues


def _policy(policies: Mapping[str, QueuePolicy], url: str) -> PolicyDocument:
    """The queue's policy. Without one no service may send. Raises `UnmodelledProperty` for two."""
    documents = [policy.policy_document for policy in policies.values() if url in policy.queues]
    if len(documents) > 1:
        raise UnmodelledProperty(", ".join(policies), "Queues", "a queue has one policy")
    return documents[0] if documents else PolicyDocument("2012-10-17", ())


def sqs_event(messages: Sequence[Message], arn: str) -> dict[str, Any]:
    """The event by which Lambda passes messages to a function (Developer Guide, "Using Lambda with SQS")."""
    return {"Records": [_record(message, arn) for message in messages]}


def _record(message: Message, arn: str) -> dict[str, Any]:
    return {
        "messageId": message.id,
        "receiptHandle": f"{message.id}-{message.receive_count}",
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.receive_count),
            "SentTimestamp": str(int(message.sent_s * 1000)),
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": REGION,
    }
