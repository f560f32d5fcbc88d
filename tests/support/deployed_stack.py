"""A whole deployed stack for the tests: our template on versitygw, whose changes reach the functions."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from galerly_cdn.aws_local import stack as chain
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest
from galerly_cdn.aws_local.s3.notifications import Notifications
from tests.support import local_cloudfront, s3_servers
from tests.support.lambda_functions import SOURCES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
    from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse
    from galerly_cdn.aws_local.s3.notifications import Message
    from galerly_cdn.aws_local.stack import RunningStack
    from tests.support.s3_servers import Objects


@dataclass
class Stack:
    """What runs, and its bucket as any other client sees it."""

    chain: RunningStack
    bucket: Objects
    clock: local_cloudfront.Clock
    heard: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)

    async def ask(self, path: str, **headers: str) -> ViewerResponse:
        """A viewer's GET."""
        return await self.chain.cloud.edge.respond(
            ViewerRequest(
                method="GET", scheme="https", host=local_cloudfront.HOST, raw_path=path, headers=headers
            )
        )

    async def put(self, key: str, content: bytes) -> None:
        """By any S3 client; the event is published when it returns."""
        await asyncio.to_thread(self.bucket.put, f"originals/{key}", content)
        await self._is_heard(f"originals/{key}")

    async def remove(self, key: str) -> None:
        await asyncio.to_thread(self.bucket.remove, f"originals/{key}")
        await self._is_heard(f"originals/{key}")

    async def _is_heard(self, name: str) -> None:
        while (await self.heard.get())["detail"]["object"]["key"] != name:
            pass

    async def later(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due by then."""
        self.clock.now_s += seconds
        await self.chain.events.settle()

    def renditions(self) -> set[str]:
        return {name for name in self.bucket.names() if name.startswith("resized/")}

    def queue(self, name: str) -> int:
        """How many messages lie in a queue, seen or not."""
        (found,) = [one for arn, one in self.chain.events.queues.items() if arn.endswith(f":local-{name}")]
        return len(found.messages)

    def watch(self, function: str) -> list[OriginRequest]:
        """What a function asks of the bucket from now on."""
        seen: list[OriginRequest] = []

        async def note(request: OriginRequest, _answer: object) -> None:
            seen.append(request)

        self.chain.guards[function].after = note
        return seen


@asynccontextmanager
async def stack(folder: Path, text: str = local_cloudfront.PLAIN, **given: str) -> AsyncIterator[Stack]:
    """A stack over a server of its own, which needs to be told where to post before it starts."""
    notifications, clock = Notifications(), local_cloudfront.Clock()
    with ExitStack() as servers:
        servers.enter_context(s3_servers.credentials())
        async with api_server.listen(notifications) as webhook:
            server = await asyncio.to_thread(
                servers.enter_context, s3_servers.versitygw(folder, webhook=webhook)
            )
            bucket = await asyncio.to_thread(server.bucket)
            deployment = local_cloudfront.deployed(text, server.endpoint, BucketName=bucket.name, **given)
            code = chain.FunctionCode(str(SOURCES))
            async with chain.start(deployment, code, notifications=notifications, clock=clock) as running:
                made = Stack(running, bucket, clock)
                publish = notifications.publish

                def heard(message: Message) -> None:
                    publish(message)
                    made.heard.put_nowait(message)

                notifications.publish = heard
                yield made
