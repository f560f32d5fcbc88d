"""Builds a stack over a real S3 server, and a proxy of that server that injects faults."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from galerly_cdn.aws.deploy import template
from galerly_cdn.aws_local import stack
from galerly_cdn.aws_local.faults import Fault
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.http_client import HttpClient
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest, ViewerResponse
from galerly_cdn.settings.table import Settings
from tests.support import lambda_functions, local_cloudfront

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.aws_local.stack import RunningStack
    from tests.support import s3_servers

CLOUDFRONT = "Amazon CloudFront"
_DENIED = OriginResponse(
    403, {"content-type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"
)


@dataclass
class S3Proxy:
    """A proxy of the S3 server: functions' requests get `fault`, CloudFront's requests pass.

    With a `method` only requests of that method get the fault. With `SLOW` a request waits until `released`
    is set.
    """

    inner: HttpClient
    fault: Fault | None = None
    method: str = ""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request waits."""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def respond(self, request: OriginRequest) -> OriginResponse:
        is_cloudfront = request.headers.get("user-agent") == CLOUDFRONT
        if self.fault is None or is_cloudfront or self.method not in {"", request.method}:
            return await self.inner.respond(request)
        if self.fault is Fault.DOWN:
            raise ConnectionResetError
        if self.fault is Fault.FORBIDDEN:
            return _DENIED
        self.waiting.set()
        await self.released.wait()
        return await self.inner.respond(request)

    def inject(self, fault: Fault, method: str = "") -> None:
        """Injects a fault from now on."""
        self.fault, self.method = fault, method

    def clear(self) -> None:
        """Ends the fault. Waiting requests continue."""
        self.fault = None
        self.released.set()


@dataclass
class S3FaultStack:
    """A running stack, the proxy, the clock, and the access log."""

    running: RunningStack
    proxy: S3Proxy
    clock: local_cloudfront.Clock
    access_log: list[dict[str, str]]
    proxy_server: AsyncExitStack
    port: int

    @asynccontextmanager
    async def without_s3(self) -> AsyncIterator[None]:
        """Until the block ends nothing listens at the S3 server's address."""
        await self.proxy_server.aclose()
        yield
        await self.proxy_server.enter_async_context(api_server.listen(self.proxy, self.port))

    async def request(self, path: str, method: str = "GET", **headers: str) -> ViewerResponse:
        """The response to a request; `_` in the names of headers stands for `-`."""
        raw_path, _, query = path.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.running.cloudfront.edge.respond(
            ViewerRequest(
                method=method,
                scheme="https",
                host=local_cloudfront.HOST,
                raw_path=raw_path,
                query=query,
                headers=named,
            )
        )

    async def follow_redirects(self, path: str, limit: int = 3) -> list[ViewerResponse]:
        """All responses up to the first that is not a redirect, as a browser requests them."""
        responses = [await self.request(path)]
        while responses[-1].status == 302:
            assert len(responses) <= limit, [response.headers["location"] for response in responses]
            responses.append(await self.request(responses[-1].headers["location"]))
        return responses


@asynccontextmanager
async def start(
    bucket: s3_servers.Objects,
    settings: Settings | None = None,
    root: str = str(lambda_functions.SOURCES),
    **parameters: str,
) -> AsyncIterator[S3FaultStack]:
    """Runs a stack over a bucket until the block ends, with the functions' code in `root`."""
    clock, access_log = local_cloudfront.Clock(), list[dict[str, str]]()
    proxy = S3Proxy(HttpClient(bucket.server.endpoint, 5.0))
    text = template.render(settings or Settings())
    async with AsyncExitStack() as proxy_server:
        endpoint = await proxy_server.enter_async_context(api_server.listen(proxy))
        deployment = local_cloudfront.deployment(text, endpoint, BucketName=bucket.name, **parameters)
        code = stack.FunctionCode(root)
        async with stack.start(deployment, code, clock=clock, record=access_log.append) as running:
            port = urlsplit(endpoint).port or 0
            yield S3FaultStack(running, proxy, clock, access_log, proxy_server, port)


async def run_command(variables: dict[str, str], *arguments: str) -> str:
    """The output of a `galerly-cdn` command with these environment variables.

    The event loop runs meanwhile, so that the command can use servers in this process.
    """
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "galerly-cdn",
        *arguments,
        env={"PATH": os.environ["PATH"], **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    return stdout.decode()
