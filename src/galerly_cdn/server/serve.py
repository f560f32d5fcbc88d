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
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import uvloop
from uvicorn import Config, Server

from galerly_cdn.errors import GalerlyError, SettingsError
from galerly_cdn.http import responses
from galerly_cdn.http.responses import Response
from galerly_cdn.serialization import Value
from galerly_cdn.server.connection import Connection, ConnectionConfig
from galerly_cdn.server.connection_limit import ConnectionLimit
from galerly_cdn.server.tls import TlsConnection
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.server.certificate import Certificate

    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

T = TypeVar("T")

FILES_EACH = 2
"""A connection is a file, and what it downloads another."""
SPARE_FILES = 256
"""Files beside those: originals being rendered, renditions being written, workers' pipes."""


def refuse(error: GalerlyError, client: str) -> Response:  # noqa: ARG001 - for those who record it
    """The answer to what never reached the application."""
    return responses.failure(error, secrets.token_hex(8), Settings())


class Listener(Value, frozen=True, kw_only=True):
    """An address to listen on, and who answers there."""

    application: Application
    host: str
    port: int
    takes_bodies: bool = False
    """Hand requests' bodies to the application, a chunk at a time; else they are dropped unread."""
    refuse: Callable[[GalerlyError, str], Response] = refuse
    """Makes (and may record) the answer to what never reaches the application: an error, the client."""
    on_ready: Callable[[str], None] = lambda _: None
    """Gets the address, `http://127.0.0.1:8000/` (or https), once connections are accepted."""


async def serve(
    *listeners: Listener,
    settings: Settings,
    on_drain: Callable[[], Awaitable[None] | None] = lambda: None,
) -> bool:
    """Serve until SIGTERM or SIGINT; True if everything under way was answered.

    `on_ready` of each is called in order, once all of them listen. On a signal `on_drain` is called (new
    requests are answered until it is done), then nothing new is accepted, idle connections are closed and
    answers under way finished within `drain_s`. A second signal ends at once. Each listener has the caps
    of the settings to itself, and all of them show its certificate, if there is one.

    Raises `SettingsError` if one of the addresses cannot be listened on, or for a certificate that is unfit.
    """
    certificate = _certificate(settings)
    allow_files(len(listeners) * settings.max_connections * FILES_EACH + SPARE_FILES)
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(_bind(one.host, one.port)) for one in listeners]
        servers = [
            _Server(one, bound, settings, certificate) for one, bound in zip(listeners, sockets, strict=True)
        ]
        try:
            with _stopping(servers) as stopping:
                for server in servers:
                    await server.startup()
                for one, bound in zip(listeners, sockets, strict=True):
                    one.on_ready(_address(bound, "http" if certificate is None else "https"))
                await _tick(servers, certificate, stopping)
                draining = on_drain()
                if inspect.isawaitable(draining):
                    await draining
                for server in servers:
                    await server.close()
                await asyncio.gather(*(server.shutdown() for server in servers))
        finally:
            for server in servers:
                server.abort()
    return all(server.is_clean for server in servers)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on the event loop `serve` was measured on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def allow_files(wanted: int) -> None:
    """Raise the soft limit of open files to `wanted`, or as far as the hard one."""
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


def _address(bound: socket.socket, scheme: str) -> str:
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


@contextlib.contextmanager
def _stopping(servers: list[_Server]) -> Generator[asyncio.Event, None, None]:
    """Set by the first SIGTERM or SIGINT; the second ends the servers at once.

    Not uvicorn's handlers, which raise the signal again at the end: the process would not exit with 0.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            for server in servers:
                server.force_exit = True
                server.abort()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _tick(servers: list[_Server], certificate: Certificate | None, stopping: asyncio.Event) -> None:
    """Keep the Date headers and the certificate current, once per second, until a stop."""
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await stopping.wait()
        for server in servers:
            await server.on_tick(0)
        if certificate is not None:
            certificate.refresh()


def _certificate(settings: Settings) -> Certificate | None:
    """None where the settings name none. Raises `SettingsError`."""
    if not settings.tls_certificate:
        return None
    from galerly_cdn.server.certificate import Certificate  # noqa: PLC0415 - cryptography's start-up time

    return Certificate(Path(settings.tls_certificate), Path(settings.tls_key))


def _protocol(
    listener: Listener, settings: Settings, certificate: Certificate | None
) -> Callable[..., asyncio.Protocol]:
    """Makes what speaks with one client; its arguments are uvicorn's four."""
    terms = ConnectionConfig(settings, listener.refuse, ConnectionLimit(settings), listener.takes_bodies)
    connection = functools.partial(Connection, terms=terms)
    if certificate is None:
        return connection

    def tunnel(**given: Any) -> TlsConnection:  # noqa: ANN401 - uvicorn's
        return TlsConnection(
            functools.partial(connection, **given), certificate, given["server_state"], terms
        )

    return tunnel


class _Server(Server):
    """uvicorn's server of one listener: it accepts, and its stop is made ours."""

    def __init__(
        self,
        listener: Listener,
        bound: socket.socket,
        settings: Settings,
        certificate: Certificate | None,
    ) -> None:
        super().__init__(
            Config(
                cast("Any", listener.application),
                http=cast("type[asyncio.Protocol]", _protocol(listener, settings, certificate)),
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
        )
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self.is_clean = True
        self._bound = bound

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.on_tick(0)
        await super().startup(sockets or [self._bound])

    async def close(self) -> None:
        """Accept no more, but whoever has connected already, also if the loop has not got round to them."""
        protocol = functools.partial(
            cast("Callable[..., Connection]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )
        with contextlib.suppress(OSError):  # BlockingIOError: no one is left
            while True:
                accepted, _ = self._bound.accept()
                await asyncio.get_running_loop().connect_accepted_socket(protocol, accepted)
        for listening in self.servers:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    def abort(self) -> None:
        """Listen no more, and end what is left; nothing is, unless we were cancelled or out of time."""
        for listening in getattr(self, "servers", []):
            listening.close()
        for connection in list(self.server_state.connections):
            self.is_clean = False
            cast("Connection | TlsConnection", connection).abort()
