"""The whole chain for the tests: our template end to end, on a real S3 server, with a gate in front of it."""

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
from galerly_cdn.aws_local import stack as chain
from galerly_cdn.aws_local.faults import Fault
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.http_client import HttpClient
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest, ViewerResponse
from galerly_cdn.aws_local.stack import FunctionCode
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
class Gate:
    """Stands before the S3 server: what the functions ask of it meets `fault`, CloudFront passes.

    With a `method` it is for requests of that alone. A request that meets `SLOW` is held until `opened`.
    """

    inner: HttpClient
    fault: Fault | None = None
    method: str = ""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def respond(self, request: OriginRequest) -> OriginResponse:
        is_cloudfront = request.headers.get("user-agent") == CLOUDFRONT
        if self.fault is None or is_cloudfront or self.method not in {"", request.method}:
            return await self.inner.respond(request)
        if self.fault is Fault.DOWN:
            raise ConnectionResetError
        if self.fault is Fault.FORBIDDEN:
            return _DENIED
        self.held.set()
        await self.opened.wait()
        return await self.inner.respond(request)

    def close(self, fault: Fault, method: str = "") -> None:
        """From now on."""
        self.fault, self.method = fault, method

    def open(self) -> None:
        """Let everything pass, what is held too."""
        self.fault = None
        self.opened.set()


@dataclass
class Whole:
    """A running chain, its clock, and the lines of its access log."""

    chain: RunningStack
    gate: Gate
    clock: local_cloudfront.Clock
    lines: list[dict[str, str]]
    listening: AsyncExitStack
    port: int

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Nothing listens at the S3 server's address."""
        await self.listening.aclose()
        yield
        await self.listening.enter_async_context(api_server.listen(self.gate, self.port))

    async def ask(self, path: str, method: str = "GET", **headers: str) -> ViewerResponse:
        raw_path, _, query = path.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.chain.cloud.edge.respond(
            ViewerRequest(
                method=method,
                scheme="https",
                host=local_cloudfront.HOST,
                raw_path=raw_path,
                query=query,
                headers=named,
            )
        )

    async def follow(self, path: str, most: int = 3) -> list[ViewerResponse]:
        """The answers on the way to one that leads nowhere else, as a browser goes it."""
        answers = [await self.ask(path)]
        while answers[-1].status == 302:
            assert len(answers) <= most, [answer.headers["location"] for answer in answers]
            answers.append(await self.ask(answers[-1].headers["location"]))
        return answers


@asynccontextmanager
async def whole(
    bucket: s3_servers.Objects,
    settings: Settings | None = None,
    root: str = str(lambda_functions.SOURCES),
    **given: str,
) -> AsyncIterator[Whole]:
    """A chain over a bucket, with the functions' code from the checkout or from `root`."""
    clock, lines = local_cloudfront.Clock(), list[dict[str, str]]()
    gate = Gate(HttpClient(bucket.server.endpoint, 5.0))
    text = template.render(settings or Settings())
    async with AsyncExitStack() as listening:
        endpoint = await listening.enter_async_context(api_server.listen(gate))
        deployment = local_cloudfront.deployed(text, endpoint, BucketName=bucket.name, **given)
        async with chain.start(deployment, FunctionCode(root), clock=clock, record=lines.append) as running:
            yield Whole(running, gate, clock, lines, listening, urlsplit(endpoint).port or 0)


async def command(variables: dict[str, str], *arguments: str) -> str:
    """What a command of ours prints that has these variables; it may ask what runs in this process."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "galerly-cdn",
        *arguments,
        env={"PATH": os.environ["PATH"], **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, problems = await process.communicate()
    assert process.returncode == 0, problems
    return told.decode()
