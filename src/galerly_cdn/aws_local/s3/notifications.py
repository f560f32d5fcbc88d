"""Builds the events that S3 sends to EventBridge, and converts versitygw's webhook notifications to them.

Source: the S3 User Guide, "EventBridge event message structure". Keys are not percent-encoded in it.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Literal

from galerly_cdn.aws_local.cloudformation.stack import ACCOUNT, REGION
from galerly_cdn.aws_local.http.origin_exchange import OriginResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest

CREATED: Literal["Object Created"] = "Object Created"
DELETED: Literal["Object Deleted"] = "Object Deleted"
_NAMES = {
    "s3:ObjectCreated:Put": (CREATED, "PutObject"),
    "s3:ObjectCreated:Copy": (CREATED, "CopyObject"),
    "s3:ObjectCreated:CompleteMultipartUpload": (CREATED, "CompleteMultipartUpload"),
    "s3:ObjectRemoved:Delete": (DELETED, "DeleteObject"),
    "s3:ObjectRemoved:DeleteObjects": (DELETED, "DeleteObject"),
}
"""The detail-type and reason by versitygw's event name. No rule that is modelled matches other events."""

REASONS = [
    "PutObject",
    "POST Object",
    "CopyObject",
    "CompleteMultipartUpload",
    "DeleteObject",
    "Lifecycle Expiration",
]
"""The reasons of S3's events (User Guide, "Using EventBridge"). Nothing expires here: no lifecycle is run."""

Event = dict[str, Any]


class Notifications:
    """Receives versitygw's notifications (`--event-webhook-url`), and publishes S3's events.

    versitygw sends a test notification when it starts, and needs a response. So this must be listening before
    the event bus exists, which is then assigned to `publish`.
    """

    def __init__(self) -> None:
        self.publish: Callable[[Event], None] = lambda _: None

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """Always 200: versitygw does not retry a notification."""
        for event in events(request.body):
            self.publish(event)
        return OriginResponse(200, {}, b"")


def events(body: bytes) -> Iterator[Event]:
    """EventBridge's events for versitygw's records. A test notification has no records."""
    for record in json.loads(body).get("Records", []):
        if record["eventName"] in _NAMES:
            kind, reason = _NAMES[record["eventName"]]
            s3, time = record["s3"], record["eventTime"]
            yield object_event(kind, s3["bucket"]["name"], s3["object"]["key"], reason=reason, time=time)


def object_event(kind: str, bucket: str, key: str, *, reason: str, time: str) -> Event:
    """The event of a change of one object. `time` is in the format of RFC 3339.

    Size, ETag and version are omitted: versitygw reports them wrongly for copies, and no function reads them.
    """
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.s3",
        "account": ACCOUNT,
        "time": time,
        "region": REGION,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {"version": "0", "bucket": {"name": bucket}, "object": {"key": key}, "reason": reason},
    }
