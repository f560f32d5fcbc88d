"""Between a change and a function: rules match, queues delay, hide and give up, pollers bring."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.aws.functions import s3_events
from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty
from galerly_cdn.aws_local.functions import event_rules
from galerly_cdn.aws_local.functions import queues as queue
from galerly_cdn.aws_local.functions.event_rules import Deliveries, Poller
from galerly_cdn.aws_local.functions.queues import Queue, QueueDescription, QueueResource, RedrivePolicy
from galerly_cdn.aws_local.functions.runtime import Crashed, FunctionFailed, Throttled, TimedOut
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.iam.policies import PolicyDocument
from galerly_cdn.aws_local.s3 import notifications as notification
from galerly_cdn.aws_local.s3.notifications import CREATED, DELETED, Notifications
from tests.support import local_cloudfront

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws_local.s3.notifications import Message

NAME = "originals/g/a b+é.jpg"
NOBODY = PolicyDocument("2012-10-17", ())


class Function:
    """In a runtime's place: notes events; fails as it is told; waits where it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.events: list[Mapping[str, Any]] = []
        self.at_once = 0
        self.most = 0
        self.came = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def invoke(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.came.set()
        await self.go_on.wait()
        self.at_once -= 1
        if self.failure:
            raise self.failure


def change(kind: str = CREATED, key: str = NAME, bucket: str = "galerly-1", **more: object) -> Message:
    told = notification.message(kind, bucket, key, reason="PutObject", time="2026-11-25T01:16:28Z")
    return {**told, **more}


def flowing(
    text: str = local_cloudfront.PLAIN, clock: Callable[[], float] = lambda: 0.0, **given: str
) -> Deliveries:
    """Our template's flow, with functions that do nothing."""
    plan = local_cloudfront.planned(text, **given)
    (own,) = plan.buckets.values()
    functions = dict.fromkeys(plan.functions, Function())
    return event_rules.start(plan.flow, functions, frozenset({own.name} if own.tells else ()), clock)


def lengths(flow: Deliveries) -> dict[str, int]:
    """Of the queues that have something, how much."""
    return {arn.rpartition("-")[2]: len(one.messages) for arn, one in flow.queues.items() if one.messages}


@pytest.mark.parametrize(
    ("message", "queues"),
    [
        (change(), {"PrewarmQueue": 1, "JanitorQueue": 1}),
        (change(DELETED), {"JanitorQueue": 1}),
        (change(key="resized/800x600/a.jpg"), {}),
        (change(key="Originals/a.jpg"), {}),
        (change(key="originals"), {}),
        (change(bucket="galerly-2"), {}),
        (change(source="aws.other"), {}),
        (change("Object Restore Completed"), {}),
    ],
)
def test_a_change_comes_to_the_queues_whose_rules_want_it(message: Message, queues: dict[str, int]) -> None:
    flow = flowing(Prewarm="on")
    flow.publish(message)
    assert lengths(flow) == queues


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
def test_each_link_between_a_change_and_the_janitor_is_needed(path: str, value: object) -> None:
    if path == "JanitorRule":  # who names it has to go too

        def change_(resources: dict[str, Any]) -> None:
            local_cloudfront.put(path, None)(resources)
            local_cloudfront.put(f"{POLICY}/Condition", None)(resources)

        text = local_cloudfront.changed(change_)
    else:
        text = local_cloudfront.changed(local_cloudfront.put(path, value))
    flow = flowing(text)
    flow.publish(change())
    assert lengths(flow) == {}


@pytest.mark.parametrize(
    ("path", "value", "told"),
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
        ("JanitorSource/Properties/BatchSize", 10, "JanitorSource: BatchSize"),
        ("JanitorSource/Properties/FilterCriteria", {}, "JanitorSource: .*FilterCriteria"),
        ("JanitorSource/Properties/EventSourceArn", "arn:x", "JanitorSource: .*no queue arn:x"),
        ("JanitorSource/Properties/FunctionName", "other", "JanitorSource: .*no function other"),
        ("Bucket/Properties/VersioningConfiguration/Status", "Suspended", "Bucket: Versioning"),
        ("Bucket/Properties/NotificationConfiguration", {"QueueConfigurations": []}, "QueueConfigurations"),
    ],
)
def test_what_is_not_modelled_of_events_stops_the_start(path: str, value: object, told: str) -> None:
    with pytest.raises(UnmodelledProperty, match=told):
        local_cloudfront.planned(local_cloudfront.changed(local_cloudfront.put(path, value)), Prewarm="on")


def test_a_message_is_what_the_functions_read() -> None:
    flow = flowing()
    flow.publish(change(DELETED))
    (own,) = [one for one in flow.queues.values() if one.messages]
    own.messages[0].received = 2
    event = queue.sqs_event(own.messages[0], own.arn)
    assert [*s3_events.object_changes(event, "originals/")] == [
        s3_events.ObjectChange(key="g/a b+é.jpg", is_put=False, is_redelivered=True)
    ]


# ------------------------------------------------------------------------------- what versitygw tells


def record(name: str, key: str = NAME, bucket: str = "galerly-1") -> dict[str, Any]:
    told = {"bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}/{key}"}, "object": {"key": key}}
    return {"eventName": name, "eventTime": "2026-11-25T01:16:28Z", "s3": told}


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
async def test_what_the_server_posts_is_published_as_s3_would(name: str, kind: str, reason: str) -> None:
    notifications, heard = Notifications(), list[Any]()
    notifications.publish = heard.append
    body = json.dumps({"Records": [record(name)]}).encode()
    answer = await notifications.respond(OriginRequest("POST", "http", "h", "/", "", {}, body))
    assert answer.status == 200
    (message,) = heard
    assert (message["source"], message["detail-type"]) == ("aws.s3", kind)
    assert message["resources"] == ["arn:aws:s3:::galerly-1"]
    assert message["time"] == "2026-11-25T01:16:28Z"
    assert message["detail"]["bucket"] == {"name": "galerly-1"}
    assert (message["detail"]["object"]["key"], message["detail"]["reason"]) == (NAME, reason)


@pytest.mark.parametrize(
    "told", [{"Event": "s3:TestEvent"}, {"Records": []}, {"Records": [record("s3:ObjectTagging:Put")]}]
)
def test_what_is_no_change_is_not_published(told: dict[str, Any]) -> None:
    assert [*notification.messages(json.dumps(told).encode())] == []


# -------------------------------------------------------------------------------------------- queues


def made(
    clock: local_cloudfront.Clock, *, delay: int = 0, hidden: int = 30, most: int = 3
) -> tuple[Queue, Queue]:
    """A queue, and its dead-letter queue."""
    redrive = RedrivePolicy("dead", most)
    told = QueueResource(delay_seconds=delay, visibility_timeout_s=hidden, redrive_policy=redrive)
    both = queue.start(
        {
            "own": QueueDescription("own", told, NOBODY),
            "dead": QueueDescription("dead", QueueResource(), NOBODY),
        },
        clock,
    )
    return both["own"], both["dead"]


def test_a_message_comes_after_the_delay_and_hides_until_it_is_deleted() -> None:
    clock = local_cloudfront.Clock(1000.0)
    own, _ = made(clock, delay=90)
    assert (own.receive(), own.due_s()) == (None, None)
    own.send("a")
    assert own.due_s() == 1090
    clock.now_s = 1089.9
    assert own.receive() is None
    clock.now_s = 1090.0
    message = own.receive()
    assert message is not None
    assert (message.body, message.received, own.due_s()) == ("a", 1, 1120)
    assert own.receive() is None
    clock.now_s = 1120.0
    assert own.receive() is message
    assert message.received == 2
    own.delete(message)
    clock.now_s = 9999.0
    assert (own.receive(), own.due_s()) == (None, None)


def test_after_as_many_tries_as_it_may_have_a_message_is_set_aside() -> None:
    clock = local_cloudfront.Clock(0.0)
    own, dead = made(clock, hidden=10, most=3)
    own.send("bad")
    own.send("good")
    for turn in range(3):
        clock.now_s = turn * 10.0
        message = own.receive()
        assert message is not None
        assert (message.body, message.received) == ("bad", turn + 1)
    clock.now_s = 30.0
    message = own.receive()  # what is dead does not stand in the way
    assert message is not None
    assert message.body == "good"
    assert [one.body for one in dead.messages] == ["bad"]
    assert [one.body for one in own.messages] == ["good"]


# ------------------------------------------------------------------------------------------- pollers


async def test_what_is_done_is_gone_and_nothing_comes_twice() -> None:
    clock, function = local_cloudfront.Clock(), Function()
    own, _ = made(clock)
    for body in ("a", "b", "c"):
        own.send(body)
    await Poller(own, function, 2, clock).settle()
    assert [one["Records"][0]["body"] for one in function.events] == ["a", "b", "c"]
    assert own.messages == []


@pytest.mark.parametrize("failure", [FunctionFailed(), Crashed(), TimedOut(), Throttled()])
async def test_what_fails_comes_again_when_it_is_visible_until_it_is_set_aside(failure: Exception) -> None:
    clock, function = local_cloudfront.Clock(), Function(failure)
    own, dead = made(clock, hidden=360, most=3)
    own.send("a")
    poller = Poller(own, function, 1, clock)
    for _ in range(5):
        await poller.settle()
        await poller.settle()
        clock.now_s += 360
    received = [one["Records"][0]["attributes"]["ApproximateReceiveCount"] for one in function.events]
    assert received == ["1", "2", "3"]
    assert (len(own.messages), len(dead.messages)) == (0, 1)


async def test_no_more_events_at_once_than_the_template_says() -> None:
    clock, function = local_cloudfront.Clock(), Function()
    function.go_on.clear()
    own, _ = made(clock)
    for body in "abcde":
        own.send(body)
    settling = asyncio.create_task(Poller(own, function, 2, clock).settle())
    await function.came.wait()
    function.go_on.set()
    await settling
    assert len(function.events) == 5
    assert function.most == 2


async def test_by_real_time_a_message_is_brought_when_it_is_due() -> None:
    clock, function = asyncio.get_running_loop().time, Function()
    told = QueueResource(delay_seconds=1)
    own = Queue(QueueDescription("own", told, NOBODY), clock)
    flow = Deliveries({}, {"own": own}, (Poller(own, function, 1, clock),), frozenset())
    running = asyncio.create_task(flow.run())
    sent_s = clock()
    own.send("a")
    await function.came.wait()
    assert clock() - sent_s >= 1
    function.came.clear()
    own.send("b")
    await function.came.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [one["Records"][0]["body"] for one in function.events] == ["a", "b"]
