"""Builds a deployed stack: our template over versitygw, whose events reach the Lambda functions."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from galerly_cdn.aws_local import stack
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest
from galerly_cdn.aws_local.s3.notifications import Notifications
from galerly_cdn.model import facts_key
from tests.support import local_cloudfront, s3_servers
from tests.support.lambda_functions import SOURCES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
    from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse
    from galerly_cdn.aws_local.s3.notifications import Event
    from galerly_cdn.aws_local.stack import RunningStack
    from tests.support.s3_servers import Objects


@dataclass
class DeployedStack:
    """A running stack, its clock, and its bucket as any other S3 client uses it."""

    running: RunningStack
    bucket: Objects
    clock: local_cloudfront.Clock
    published: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    async def request(self, path: str, **headers: str) -> ViewerResponse:
        """The response to a viewer's GET."""
        return await self.running.cloudfront.edge.respond(
            ViewerRequest(
                method="GET", scheme="https", host=local_cloudfront.HOST, raw_path=path, headers=headers
            )
        )

    async def put(self, key: str, content: bytes) -> None:
        """Puts an original by an S3 client, and returns when its event has been published."""
        await asyncio.to_thread(self.bucket.put, f"originals/{key}", content)
        await self._wait_for_event(f"originals/{key}")

    async def remove(self, key: str) -> None:
        """Deletes an original by an S3 client, and returns when its event has been published."""
        await asyncio.to_thread(self.bucket.remove, f"originals/{key}")
        await self._wait_for_event(f"originals/{key}")

    async def _wait_for_event(self, key: str) -> None:
        while (await self.published.get())["detail"]["object"]["key"] != key:
            pass

    async def advance(self, seconds: float) -> None:
        """Advances the clock, delivers all messages that are due by then, and waits for the functions."""
        self.clock.now_s += seconds
        await self.running.event_bus.deliver_due()

    def renditions(self) -> set[str]:
        """The keys of all stored renditions."""
        names = {one for one in self.bucket.names() if one.startswith("resized/") and not is_record(one)}
        return {one for one in names if not one.startswith("resized/recipes/")}

    def records(self) -> set[str]:
        """The keys of all stored fact records."""
        return set(filter(is_record, self.bucket.names()))

    def queue_length(self, name: str) -> int:
        """The number of messages in a queue, visible or not."""
        (queue,) = [
            queue for arn, queue in self.running.event_bus.queues.items() if arn.endswith(f":local-{name}")
        ]
        return len(queue.messages)

    def record_s3_requests(self, function: str) -> list[OriginRequest]:
        """A list to which every later S3 request of a function is added."""
        requests: list[OriginRequest] = []

        async def record(request: OriginRequest, _response: object) -> None:
            requests.append(request)

        self.running.role_checks[function].after = record
        return requests


def is_record(name: str) -> bool:
    """Whether an object is a fact record."""
    return name.startswith(f"resized/{facts_key('')}")


@asynccontextmanager
async def start(
    folder: Path, text: str = local_cloudfront.TEMPLATE, *, bucket_name: str = "", **parameters: str
) -> AsyncIterator[DeployedStack]:
    """Runs a stack over an S3 server of its own until the block ends.

    The server cannot be shared: the address of its event webhook is set when it starts. `bucket_name` is of
    a bucket that an earlier server made in this folder; by default a new one is made.
    """
    notifications, clock = Notifications(), local_cloudfront.Clock()
    with ExitStack() as servers:
        servers.enter_context(s3_servers.credentials())
        async with api_server.listen(notifications) as webhook:
            server = await asyncio.to_thread(
                servers.enter_context, s3_servers.versitygw(folder, webhook=webhook)
            )
            bucket = s3_servers.Objects(server, bucket_name) if bucket_name else server.bucket()
            deployment = local_cloudfront.deployment(
                text, server.endpoint, BucketName=bucket.name, **parameters
            )
            code = stack.FunctionCode(str(SOURCES))
            async with stack.start(deployment, code, notifications=notifications, clock=clock) as running:
                deployed = DeployedStack(running, bucket, clock)
                publish = notifications.publish

                def publish_and_record(event: Event) -> None:
                    publish(event)
                    deployed.published.put_nowait(event)

                notifications.publish = publish_and_record
                yield deployed
