"""How do requests reach the application, and how does the process stop? uvicorn's door.

One process, one event loop. `framing` decides which requests can be read in one way only, `connection`
what a client may take and hold. A stop truncates no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import resource
import secrets
import signal
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

import uvloop
from uvicorn import Config, Server

from galerly_cdn import deliver
from galerly_cdn.config import Settings
from galerly_cdn.errors import GalerlyError, SettingsError
from galerly_cdn.listener.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping

    from galerly_cdn.deliver import Response

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

T = TypeVar("T")

SPARE_FILES = 256
"""Files beside the connections: originals being read, renditions being written, workers' pipes."""


def refuse(error: GalerlyError, client: str) -> Response:  # noqa: ARG001 - for those who record it
    """The answer to what never reached the application."""
    return deliver.failure(error, secrets.token_hex(8), Settings())


async def serve(
    application: Application,
    settings: Settings,
    *,
    refuse: Callable[[GalerlyError, str], Response] = refuse,
    on_ready: Callable[[str], None] = lambda _: None,
    on_drain: Callable[[], Awaitable[None] | None] = lambda: None,
) -> bool:
    """Serve until SIGTERM or SIGINT; True if everything under way was answered.

    `on_ready` gets the address, `http://127.0.0.1:8000/`, once connections are accepted. On a signal
    `on_drain` is called (new requests are answered until it is done), then nothing new is accepted, idle
    connections are closed and answers under way finished within `drain_s`. A second signal ends at once.
    `refuse` makes (and may record) the answer to what never reaches the application: an error and the
    client's address. Raises `SettingsError` if host and port cannot be listened on.
    """
    allow_files(settings.max_connections + SPARE_FILES)
    listening = _bind(settings.host, settings.port)
    clients: Counter[str] = Counter()
    protocol = functools.partial(Connection, settings=settings, refuse=refuse, clients=clients)
    config = Config(
        cast("Any", application),
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=cast("int", settings.idle_s),
        timeout_graceful_shutdown=cast("int", settings.drain_s),
    )
    server = _Server(config, functools.partial(on_ready, _address(listening)), on_drain)
    try:
        await server.serve(sockets=[listening])
    finally:
        server.abort()
    return server.is_clean


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on the event loop `serve` was measured on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def allow_files(wanted: int) -> None:
    """Raise the soft limit of open files to `wanted`, or as far as the hard one: a connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        return socket.create_server(place[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else "there is no such host"
        raise SettingsError([f"host, port: cannot listen on {host}:{port}: {reason}"]) from error


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(Server):
    """uvicorn's server with its signals, its ticking and its stop made ours."""

    def __init__(
        self, config: Config, on_ready: Callable[[], None], on_drain: Callable[[], Awaitable[None] | None]
    ) -> None:
        super().__init__(config)
        self.is_clean = True
        self._on_ready = on_ready
        self._on_drain = on_drain
        self._stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Not uvicorn's, which raises the signal again at the end: the process would not exit with 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self._stopping.is_set():
            self.force_exit = True
            self.abort()
        self.should_exit = True
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def main_loop(self) -> None:
        """Keep the Date header current, once per second, until the first signal."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stopping.wait()
        draining = self._on_drain()
        if inspect.isawaitable(draining):
            await draining

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; whoever has connected already is answered, also if the loop has not got round to them."""
        protocol = functools.partial(
            cast("Callable[..., Connection]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )
        for listening in sockets or []:
            with contextlib.suppress(OSError):  # BlockingIOError: no one is left
                while True:
                    accepted, _ = listening.accept()
                    await asyncio.get_running_loop().connect_accepted_socket(protocol, accepted)
        await super().shutdown(sockets)

    def abort(self) -> None:
        """Listen no more, and end what is left; nothing is, unless we were cancelled or out of time."""
        for listening in getattr(self, "servers", []):
            listening.close()
        for connection in list(self.server_state.connections):
            self.is_clean = False
            cast("Connection", connection).outlet.abort()
