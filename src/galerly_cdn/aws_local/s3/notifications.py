"""What does S3 tell EventBridge of a change? Its messages; and versitygw's own, turned into them.

Source: the S3 User Guide, "EventBridge event message structure": keys are told as they are.
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
"""versitygw's names of changes; no rule is modelled that would want others."""

Message = dict[str, Any]


class Notifications:
    """Takes what versitygw posts (`--event-webhook-url`), and publishes what S3 would.

    The server wants a response before it starts, so this is there before anybody listens to `publish`.
    """

    def __init__(self) -> None:
        self.publish: Callable[[Message], None] = lambda _: None

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """Always 200: the server does not try again."""
        for one in messages(request.body):
            self.publish(one)
        return OriginResponse(200, {}, b"")


def messages(body: bytes) -> Iterator[Message]:
    """versitygw's records as EventBridge's messages; those of a test have no records."""
    for record in json.loads(body).get("Records", []):
        if record["eventName"] in _NAMES:
            kind, reason = _NAMES[record["eventName"]]
            told, time = record["s3"], record["eventTime"]
            yield message(kind, told["bucket"]["name"], told["object"]["key"], reason=reason, time=time)


def message(kind: str, bucket: str, key: str, *, reason: str, time: str) -> Message:
    """A change of one object; `time` as RFC 3339 writes it.

    Size, ETag and version are left out: the server tells them wrongly of copies, and no function reads them.
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
