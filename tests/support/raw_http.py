"""Serves an application on a free port, and sends raw HTTP requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from galerly_cdn.http.exchange import HitAnswer
from galerly_cdn.server import serve
from galerly_cdn.server.listener import no_hit
from galerly_cdn.settings.networks import UNIX
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.server.processes.hit_processes import HitProcesses
    from galerly_cdn.server.serve import Application

T = TypeVar("T")

TIMEOUT_S = 20.0
"""Keeps a failing test from hanging; no passing test waits for it."""


class Echo:
    """An ASGI application that responds with its request as JSON; `routes` are other applications by path."""

    def __init__(self, **routes: Application) -> None:
        self.routes = {f"/{name}".encode(): route for name, route in routes.items()}
        self.raw_paths: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.raw_paths.append(scope["raw_path"])
        route = self.routes.get(scope["raw_path"])
        if route is not None:
            await route(scope, receive, send)
            return
        await answer(send, _echo(scope))

    def answer_hit(self, scope: Scope) -> HitAnswer | None:
        """Respond as `__call__` does, without waiting; None for a path that has a route."""
        if scope["raw_path"] in self.routes:
            return None
        self.raw_paths.append(scope["raw_path"])
        body = _echo(scope)
        return HitAnswer(200, b"content-length: %d\r\n" % len(body), body)


def _echo(scope: Scope) -> bytes:
    request = {
        "method": scope["method"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "client": scope["client"][0],
    }
    return json.dumps(request).encode()


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    """Send a complete response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Viewer:
    """One connection, without an HTTP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """The next response, which has to have a Content-Length (or be a 304)."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.splitlines()
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, body

    async def read_to_end(self) -> bytes:
        """Everything that the server sends until it ends the connection."""
        return await self.reader.read()


class Served:
    """A running server; `tls` is the context of its HTTPS viewers."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self.tls = tls
        self.result: asyncio.Future[bool]
        """What `serve` returns once it has stopped."""
        parts = urlsplit(address)
        self.host, self.port = parts.hostname, parts.port

    @contextlib.asynccontextmanager
    async def viewer(self) -> AsyncIterator[Viewer]:
        name = "localhost" if self.tls else None
        if self.address.startswith(UNIX):
            path = self.address.removeprefix(UNIX)
            reader, writer = await asyncio.open_unix_connection(path, ssl=self.tls, server_hostname=name)
        else:
            reader, writer = await asyncio.open_connection(
                self.host, self.port, ssl=self.tls, server_hostname=name
            )
        try:
            yield Viewer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def get(path: str = "/", *more: str) -> bytes:
    """The bytes of a GET request; `more` are header lines."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: cdn.example", *more, "", ""]).encode()


@contextlib.asynccontextmanager
async def serving(
    application: Application,
    settings: Settings = Settings(port=0),  # noqa: B008 - frozen
    refuse: Callable[[GalerlyError, str], Response] = serve.refuse,
    *,
    takes_bodies: bool = False,
    answer_hit: Callable[[Scope], HitAnswer | None] = no_hit,
    processes: HitProcesses | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Served]:
    """Serve the application on a free loopback port."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    listener = serve.Listener(
        application=application,
        host=settings.host,
        port=settings.port,
        proxies=settings.proxy_protocol_networks,
        takes_bodies=takes_bodies,
        answer_hit=answer_hit,
        processes=processes,
        refuse=refuse,
        on_ready=ready.set_result,
    )
    running = asyncio.ensure_future(serve.serve(listener, settings=settings))
    served = Served(await ready, tls)
    served.result = running
    try:
        yield served
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test on the event loop that the server uses."""

    async def with_timeout() -> T:
        async with asyncio.timeout(TIMEOUT_S):
            return await test

    return serve.run(with_timeout())
