"""Reads S3's object events, which EventBridge writes into a queue.

Amazon S3 User Guide, "EventBridge event message structure": unlike in S3's own notifications, keys are not
percent-encoded. Pure.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from galerly_cdn.errors import MalformedKey
from galerly_cdn.http.urls import checked_key
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ObjectChange(Value, frozen=True):
    """An original that was put (`is_put`) or deleted.

    `at_s` is when, in whole seconds of the epoch. `is_redelivered`: the queue delivered the message
    `message_id` before, and handling it failed or timed out.
    """

    key: str
    is_put: bool
    is_redelivered: bool
    message_id: str
    at_s: float


def object_changes(event: Mapping[str, Any], folder: str) -> Iterator[ObjectChange]:
    """The changes to originals below `folder` of the bucket, in a queue's event.

    Objects whose names are no valid keys, such as the "folders" that the S3 console makes, are skipped.
    Raises `KeyError` and `ValueError` for a message that EventBridge did not write.
    """
    for record in event["Records"]:
        message = json.loads(record["body"])
        name = message["detail"]["object"]["key"]
        if not name.startswith(folder):
            continue
        try:
            key = checked_key(name.removeprefix(folder))
        except MalformedKey:
            continue
        yield ObjectChange(
            key=key,
            is_put=message["detail-type"] == "Object Created",
            is_redelivered=int(record["attributes"]["ApproximateReceiveCount"]) > 1,
            message_id=record["messageId"],
            at_s=datetime.fromisoformat(message["time"]).timestamp(),
        )
