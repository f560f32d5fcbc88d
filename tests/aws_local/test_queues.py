"""Event rules, SQS queues and pollers, from an S3 event to the function."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.aws.functions import s3_events
from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty
from galerly_cdn.aws_local.functions import event_rules, queues
from galerly_cdn.aws_local.functions.event_rules import Batching, EventBus, Poller
from galerly_cdn.aws_local.functions.queues import Queue, QueueDescription, QueueResource, RedrivePolicy
from galerly_cdn.aws_local.functions.runtime import Crashed, FunctionFailed, Throttled, TimedOut
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.iam.policies import PolicyDocument
from galerly_cdn.aws_local.s3 import notifications
from galerly_cdn.aws_local.s3.notifications import CREATED, DELETED, Notifications
from tests.support import local_cloudfront

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws_local.s3.notifications import Event

NAME = "originals/g/a b+é.jpg"
NO_PERMISSIONS = PolicyDocument("2012-10-17", ())


class Function:
    """A fake runtime: records events, raises `failure`, and waits until `released` is set."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.result: object = None
        self.events: list[Mapping[str, Any]] = []
        self.running = 0
        self.max_running = 0
        self.invoked = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()

    async def invoke(self, event: Mapping[str, Any]) -> object:
        self.events.append(event)
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        self.invoked.set()
        await self.released.wait()
        self.running -= 1
        if self.failure:
            raise self.failure
        return self.result


def s3_event(
    kind: str = CREATED,
    key: str = NAME,
    bucket: str = "galerly-1",
    *,
    reason: str = "PutObject",
    **more: object,
) -> Event:
    event = notifications.object_event(kind, bucket, key, reason=reason, time="2026-11-25T01:16:28Z")
    return {**event, **more}


def event_bus(
    text: str = local_cloudfront.TEMPLATE, clock: Callable[[], float] = lambda: 0.0, **parameters: str
) -> EventBus:
    """Our template's event bus, with functions that do nothing."""
    plan = local_cloudfront.read_plan(text, **parameters)
    functions = dict.fromkeys(plan.functions, Function())
    return event_rules.start(plan.event_flow, functions, plan.event_buckets, clock)


def queue_lengths(bus: EventBus) -> dict[str, int]:
    """The number of messages by queue, without empty queues."""
    return {
        arn.rpartition("-")[2]: len(queue.messages) for arn, queue in bus.queues.items() if queue.messages
    }


@pytest.mark.parametrize(
    ("event", "lengths"),
    [
        (s3_event(), {"PrewarmQueue": 1, "JanitorQueue": 1}),
        (s3_event(DELETED, reason="DeleteObject"), {"JanitorQueue": 1}),
        (s3_event(DELETED, reason="Lifecycle Expiration"), {}),
        (s3_event(reason="CompleteMultipartUpload"), {"PrewarmQueue": 1, "JanitorQueue": 1}),
        (s3_event(key="resized/800x600/a.jpg"), {}),
        (s3_event(key="Originals/a.jpg"), {}),
        (s3_event(key="originals"), {}),
        (s3_event(bucket="galerly-2"), {}),
        (s3_event(source="aws.other"), {}),
        (s3_event("Object Restore Completed"), {}),
    ],
)
def test_publish_sends_an_event_to_the_queues_whose_rules_match(
    event: Event, lengths: dict[str, int]
) -> None:
    bus = event_bus(Prewarm="on")
    bus.publish(event)
    assert queue_lengths(bus) == lengths


RULE, POLICY = "JanitorRule/Properties", "JanitorQueuePolicy/Properties/PolicyDocument/Statement/0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Bucket/Properties/NotificationConfiguration", None),
        ("Bucket/Properties/NotificationConfiguration", {}),
        (
            "Bucket/Properties/NotificationConfiguration",
            {"EventBridgeConfiguration": {"EventBridgeEnabled": False}},
        ),
        ("JanitorRule", None),
        (f"{RULE}/EventPattern/detail-type", ["Object Deleted"]),
        (f"{RULE}/EventPattern/detail/bucket/name", ["galerly-2"]),
        (f"{RULE}/EventPattern/detail/object/key", [{"prefix": "photos/"}]),
        (f"{RULE}/Targets", []),
        ("JanitorQueuePolicy", None),
        (f"{POLICY}/Principal", {"Service": "s3.amazonaws.com"}),
        (f"{POLICY}/Action", "sqs:ReceiveMessage"),
        (f"{POLICY}/Resource", {"Fn::GetAtt": ["JanitorFailed", "Arn"]}),
        (f"{POLICY}/Condition", {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["Bucket", "Arn"]}}}),
        (f"{POLICY}/Effect", "Deny"),
        ("JanitorQueuePolicy/Properties/Queues", [{"Ref": "JanitorFailed"}]),
    ],
)
def test_publish_reaches_no_queue_without_each_part_of_the_template(path: str, value: object) -> None:
    if path == "JanitorRule":  # the queue policy names the rule, so its condition is removed too

        def remove_rule(resources: dict[str, Any]) -> None:
            local_cloudfront.set_value(path, None)(resources)
            local_cloudfront.set_value(f"{POLICY}/Condition", None)(resources)

        text = local_cloudfront.changed_template(remove_rule)
    else:
        text = local_cloudfront.changed_template(local_cloudfront.set_value(path, value))
    bus = event_bus(text)
    bus.publish(s3_event())
    assert queue_lengths(bus) == {}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (f"{RULE}/State", "DISABLED", "JanitorRule: .*State"),
        (f"{RULE}/ScheduleExpression", "rate(1 day)", "JanitorRule: .*ScheduleExpression"),
        (f"{RULE}/EventPattern/account", ["1"], "JanitorRule: .*account is not modelled"),
        (f"{RULE}/EventPattern/source", ["aws.ec2"], "source: aws.ec2 is not modelled"),
        (f"{RULE}/EventPattern/source", "aws.s3", "source is not modelled"),
        (f"{RULE}/EventPattern/detail-type", ["Object Tags Added"], "Object Tags Added is not modelled"),
        (f"{RULE}/EventPattern/detail/object/size", [{"numeric": [">", 1]}], "size is not modelled"),
        (f"{RULE}/EventPattern/detail/object/key", [{"suffix": ".jpg"}], "suffix.* is not modelled"),
        (f"{RULE}/EventPattern/detail/object/key", [{"prefix": {"equals-ignore-case": "a"}}], "not modelled"),
        (f"{RULE}/Targets/0/InputPath", "$.detail", "InputPath"),
        (f"{RULE}/Targets/0/Arn", "arn:aws:sqs:::other", "JanitorRule: Targets: there is no queue"),
        ("JanitorQueue/Properties/FifoQueue", True, "JanitorQueue: .*FifoQueue"),
        (
            "JanitorQueue/Properties/RedrivePolicy/deadLetterTargetArn",
            "arn:x",
            "JanitorQueue: .*no queue arn:x",
        ),
        ("JanitorQueuePolicy/Properties/Queues", [{"Ref": "PrewarmQueue"}], "PrewarmQueuePolicy.*one policy"),
        ("JanitorSource/Properties/BatchSize", 10_001, "JanitorSource: BatchSize"),
        ("JanitorSource/Properties/MaximumBatchingWindowInSeconds", 0, "BatchSize above 10 needs"),
        ("JanitorSource/Properties/FunctionResponseTypes", ["Others"], "JanitorSource: FunctionResponse"),
        ("JanitorSource/Properties/FilterCriteria", {}, "JanitorSource: .*FilterCriteria"),
        ("JanitorSource/Properties/EventSourceArn", "arn:x", "JanitorSource: .*no queue arn:x"),
        ("JanitorSource/Properties/FunctionName", "other", "JanitorSource: .*no function other"),
        ("Bucket/Properties/VersioningConfiguration/Status", "Suspended", "Bucket: Versioning"),
        ("Bucket/Properties/NotificationConfiguration", {"QueueConfigurations": []}, "QueueConfigurations"),
    ],
)
def test_an_unmodelled_property_of_events_raises_unmodelled_property(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(UnmodelledProperty, match=message):
        local_cloudfront.read_plan(
            local_cloudfront.changed_template(local_cloudfront.set_value(path, value)), Prewarm="on"
        )


def test_sqs_event_is_read_by_our_functions() -> None:
    bus = event_bus()
    bus.publish(s3_event(DELETED))
    (queue,) = [queue for queue in bus.queues.values() if queue.messages]
    queue.messages[0].receive_count = 2
    event = queues.sqs_event(queue.messages, queue.arn)
    (change,) = s3_events.object_changes(event, "originals/")
    assert (change.key, change.is_put, change.is_redelivered) == ("g/a b+é.jpg", False, True)
    assert change.message_id == queue.messages[0].id


# ------------------------------------------------------------------------------- versitygw's notifications


def record(name: str, key: str = NAME, bucket: str = "galerly-1") -> dict[str, Any]:
    """A record of a versitygw notification."""
    s3 = {"bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}/{key}"}, "object": {"key": key}}
    return {"eventName": name, "eventTime": "2026-11-25T01:16:28Z", "s3": s3}


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("s3:ObjectCreated:Put", CREATED, "PutObject"),
        ("s3:ObjectCreated:Copy", CREATED, "CopyObject"),
        ("s3:ObjectCreated:CompleteMultipartUpload", CREATED, "CompleteMultipartUpload"),
        ("s3:ObjectRemoved:Delete", DELETED, "DeleteObject"),
        ("s3:ObjectRemoved:DeleteObjects", DELETED, "DeleteObject"),
    ],
)
async def test_a_webhook_notification_is_published_as_an_s3_event(name: str, kind: str, reason: str) -> None:
    webhook, published = Notifications(), list[Any]()
    webhook.publish = published.append
    body = json.dumps({"Records": [record(name)]}).encode()
    response = await webhook.respond(OriginRequest("POST", "http", "h", "/", "", {}, body))
    assert response.status == 200
    (event,) = published
    assert (event["source"], event["detail-type"]) == ("aws.s3", kind)
    assert event["resources"] == ["arn:aws:s3:::galerly-1"]
    assert event["time"] == "2026-11-25T01:16:28Z"
    assert event["detail"]["bucket"] == {"name": "galerly-1"}
    assert (event["detail"]["object"]["key"], event["detail"]["reason"]) == (NAME, reason)


@pytest.mark.parametrize(
    "notification",
    [{"Event": "s3:TestEvent"}, {"Records": []}, {"Records": [record("s3:ObjectTagging:Put")]}],
)
def test_a_webhook_notification_without_a_change_publishes_nothing(notification: dict[str, Any]) -> None:
    assert [*notifications.events(json.dumps(notification).encode())] == []


# -------------------------------------------------------------------------------------------- queues


def make_queues(
    clock: local_cloudfront.Clock,
    *,
    delay_s: int = 0,
    visibility_timeout_s: int = 30,
    max_receive_count: int = 3,
) -> tuple[Queue, Queue]:
    """A queue, and its dead-letter queue."""
    redrive = RedrivePolicy("dead", max_receive_count)
    properties = QueueResource(
        delay_seconds=delay_s, visibility_timeout_s=visibility_timeout_s, redrive_policy=redrive
    )
    both = queues.start(
        {
            "own": QueueDescription("own", properties, NO_PERMISSIONS),
            "dead": QueueDescription("dead", QueueResource(), NO_PERMISSIONS),
        },
        clock,
    )
    return both["own"], both["dead"]


def test_a_message_is_visible_after_the_delay_and_hidden_after_each_receive() -> None:
    clock = local_cloudfront.Clock(1000.0)
    queue, _ = make_queues(clock, delay_s=90)
    assert (queue.receive(), queue.next_visible_s()) == (None, None)
    queue.send("a")
    assert queue.next_visible_s() == 1090
    clock.now_s = 1089.9
    assert queue.receive() is None
    clock.now_s = 1090.0
    message = queue.receive()
    assert message is not None
    assert (message.body, message.receive_count, queue.next_visible_s()) == ("a", 1, 1120)
    assert queue.receive() is None
    clock.now_s = 1120.0
    assert queue.receive() is message
    assert message.receive_count == 2
    queue.delete(message)
    clock.now_s = 9999.0
    assert (queue.receive(), queue.next_visible_s()) == (None, None)


def test_a_message_received_too_often_moves_to_the_dead_letter_queue() -> None:
    clock = local_cloudfront.Clock(0.0)
    queue, dead = make_queues(clock, visibility_timeout_s=10, max_receive_count=3)
    queue.send("bad")
    queue.send("good")
    for attempt in range(3):
        clock.now_s = attempt * 10.0
        message = queue.receive()
        assert message is not None
        assert (message.body, message.receive_count) == ("bad", attempt + 1)
    clock.now_s = 30.0
    message = queue.receive()  # the dead message does not block the next one
    assert message is not None
    assert message.body == "good"
    assert [item.body for item in dead.messages] == ["bad"]
    assert [item.body for item in queue.messages] == ["good"]


# ------------------------------------------------------------------------------------------- pollers


async def test_a_processed_message_is_deleted_and_not_delivered_again() -> None:
    clock, function = local_cloudfront.Clock(), Function()
    queue, _ = make_queues(clock)
    for body in ("a", "b", "c"):
        queue.send(body)
    await Poller(queue, function, 2, clock).deliver_due()
    assert [item["Records"][0]["body"] for item in function.events] == ["a", "b", "c"]
    assert queue.messages == []


@pytest.mark.parametrize("failure", [FunctionFailed(), Crashed(), TimedOut(), Throttled()])
async def test_a_failed_message_is_delivered_again_until_the_dead_letter_queue(failure: Exception) -> None:
    clock, function = local_cloudfront.Clock(), Function(failure)
    queue, dead = make_queues(clock, visibility_timeout_s=360, max_receive_count=3)
    queue.send("a")
    poller = Poller(queue, function, 1, clock)
    for _ in range(5):
        await poller.deliver_due()
        await poller.deliver_due()
        clock.now_s += 360
    received = [item["Records"][0]["attributes"]["ApproximateReceiveCount"] for item in function.events]
    assert received == ["1", "2", "3"]
    assert (len(queue.messages), len(dead.messages)) == (0, 1)


async def test_a_batch_is_delivered_when_it_is_full_or_its_window_ends() -> None:
    clock, function = local_cloudfront.Clock(0.0), Function()
    queue, _ = make_queues(clock, delay_s=90, visibility_timeout_s=400)
    poller = Poller(queue, function, 2, clock, Batching(3, 60.0))
    queue.send("a")
    for now_s, bodies in ((90.0, "b"), (149.0, ""), (150.0, "cde"), (240.0, ""), (241.0, "f")):
        clock.now_s = now_s
        await poller.deliver_due()
        for body in bodies:
            queue.send(body)
    clock.now_s = 331.0
    await poller.deliver_due()
    batches = [[record["body"] for record in event["Records"]] for event in function.events]
    assert batches == [["a"], ["b", "c", "d"], ["e", "f"]]


async def test_a_message_of_a_batch_that_fails_is_delivered_again_alone() -> None:
    clock, function = local_cloudfront.Clock(0.0), Function()
    queue, _ = make_queues(clock, visibility_timeout_s=10)
    poller = Poller(queue, function, 1, clock, Batching(2, 0.0, reports_failures=True))
    for body in ("a", "b"):
        queue.send(body)
    function.result = {"batchItemFailures": [{"itemIdentifier": queue.messages[1].id}]}
    await poller.deliver_due()
    function.result = None
    clock.now_s = 10.0
    await poller.deliver_due()
    batches = [[record["body"] for record in event["Records"]] for event in function.events]
    assert (batches, queue.messages) == ([["a", "b"], ["b"]], [])


async def test_poller_limits_concurrent_events() -> None:
    clock, function = local_cloudfront.Clock(), Function()
    function.released.clear()
    queue, _ = make_queues(clock)
    for body in "abcde":
        queue.send(body)
    delivery = asyncio.create_task(Poller(queue, function, 2, clock).deliver_due())
    await function.invoked.wait()
    function.released.set()
    await delivery
    assert len(function.events) == 5
    assert function.max_running == 2


async def test_run_delivers_a_message_when_it_is_due_by_the_real_time() -> None:
    clock, function = asyncio.get_running_loop().time, Function()
    properties = QueueResource(delay_seconds=1)
    queue = Queue(QueueDescription("own", properties, NO_PERMISSIONS), clock)
    bus = EventBus({}, {"own": queue}, (Poller(queue, function, 1, clock),), frozenset())
    running = asyncio.create_task(bus.run())
    sent_s = clock()
    queue.send("a")
    await function.invoked.wait()
    assert clock() - sent_s >= 1
    function.invoked.clear()
    queue.send("b")
    await function.invoked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [item["Records"][0]["body"] for item in function.events] == ["a", "b"]
