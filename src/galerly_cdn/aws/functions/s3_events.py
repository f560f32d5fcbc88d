"""What happened to originals in the bucket? S3's events, by EventBridge, out of a queue.

Amazon S3 User Guide, "EventBridge event message structure": keys are not escaped there. Pure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from galerly_cdn.errors import MalformedKey
from galerly_cdn.http.urls import checked_key
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ObjectChange(Value, frozen=True):
    """An original that was put (`is_put`) or deleted; `is_again`: it was begun before, and ended badly."""

    key: str
    is_put: bool
    is_again: bool


def object_changes(event: Mapping[str, Any], folder: str) -> Iterator[ObjectChange]:
    """The changes to originals below `folder` of the bucket, in the messages of an event.

    What no address can name (a console's "folder", say) is no original. Raises `KeyError` and `ValueError`
    for a message that EventBridge did not write.
    """
    for record in event["Records"]:
        told = json.loads(record["body"])
        name = told["detail"]["object"]["key"]
        if not name.startswith(folder):
            continue
        try:
            key = checked_key(name.removeprefix(folder))
        except MalformedKey:
            continue
        yield ObjectChange(
            key=key,
            is_put=told["detail-type"] == "Object Created",
            is_again=int(record["attributes"]["ApproximateReceiveCount"]) > 1,
        )
