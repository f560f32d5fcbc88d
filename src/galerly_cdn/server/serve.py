"""Serves ASGI applications over HTTP and HTTPS until a signal, and stops without truncating a response.

One process and one event loop run all listeners. `framing` refuses ambiguous requests, `connection` bounds
what a client may hold. This package is the only importer of httptools and uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import resource
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.errors import GalerlyError, SettingsError
from galerly_cdn.http import responses
from galerly_cdn.http.responses import Response
from galerly_cdn.serialization import Value
from galerly_cdn.server.connection import Connection
from galerly_cdn.server.listener import ListenerState, no_hit
from galerly_cdn.server.tls import TlsConnection
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from galerly_cdn.server import listener
    from galerly_cdn.server.certificate import Certificate
    from galerly_cdn.server.processes import hit_processes

    Application = listener.Application
    AnswerHit = listener.AnswerHit
    HitProcesses = hit_processes.HitProcesses

T = TypeVar("T")

_log = logging.getLogger(__name__)

FILES_PER_CONNECTION = 2
"""The socket, and the original that is being downloaded."""
_BACKLOG = 2048
"""Connections that the kernel holds until they are accepted."""
SPARE_FILES = 256
"""Further open files: originals being rendered, renditions being written, pipes of worker processes."""


def refuse(error: GalerlyError, client: str) -> Response:  # noqa: ARG001 - a listener's own `refuse` may record it
    """The response to a request that does not reach the application."""
    return responses.failure(error, secrets.token_hex(8), Settings())


class Listener(Value, frozen=True, kw_only=True):
    """An address to listen on, and the application that it serves."""

    application: Application
    host: str
    port: int
    takes_bodies: bool = False
    """Pass request bodies to the application, a chunk at a time; otherwise they are dropped unread."""
    refuse: Callable[[GalerlyError, str], Response] = refuse
    """Called with an error and the client's address; makes the response to a request that does not reach
    the application, and may record it."""
    answer_hit: AnswerHit = no_hit
    """Called with the ASGI scope of a request that keeps its connection open; makes the response if that
    needs no waiting, else returns None, and the application gets the request."""
    processes: HitProcesses | None = None
    """Processes that answer plain hits of this listener; none of them gets a connection with TLS."""
    on_ready: Callable[[str], None] = lambda _: None
    """Called with the address, such as `http://127.0.0.1:8000/`, once connections are accepted."""


async def serve(
    *listeners: Listener,
    settings: Settings,
    on_drain: Callable[[], Awaitable[None] | None] = lambda: None,
) -> bool:
    """Serve until SIGTERM or SIGINT; True if every request in progress got its complete response.

    Once all listeners listen, their `on_ready` is called in order. A signal calls `on_drain`; new requests
    are served until it returns. Then the server accepts no connections, closes idle ones and finishes
    responses in progress within `drain_s`. A second signal ends it at once. SIGHUP is logged and ignored. The
    connection limits of the settings hold for each listener by itself; all listeners use the certificate, if
    the settings name one.

    Raises `SettingsError` if an address cannot be listened on, or if the certificate is unfit.
    """
    certificate = _load_certificate(settings)
    _check_file_limit(len(listeners), settings.max_connections)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bind(listener.host, listener.port)) for listener in listeners]
        servers = [
            _Server(listener, bound, settings, certificate)
            for listener, bound in zip(listeners, sockets, strict=True)
        ]
        try:
            with _stop_on_signals(servers) as stopping:
                for server in servers:
                    await server.startup()
                for listener, bound in zip(listeners, sockets, strict=True):
                    listener.on_ready(_url(bound, "http" if certificate is None else "https"))
                await _run_each_second(servers, certificate, stopping)
                draining = on_drain()
                if inspect.isawaitable(draining):
                    await draining
                for server in servers:
                    await server.close()
                await asyncio.gather(*(server.shutdown() for server in servers))
        finally:
            await asyncio.gather(*(server.end() for server in servers))
    return all(server.is_clean for server in servers)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on uvloop, the event loop that `serve` was measured on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _check_file_limit(listeners: int, max_connections: int) -> None:
    """Raise the limit of open files as far as `max_connections` needs; log a line if it stays lower."""
    wanted = files_needed(listeners, max_connections)
    limit = raise_file_limit(wanted)
    if limit < wanted:
        room = max(0, limit - SPARE_FILES) // (listeners * FILES_PER_CONNECTION)
        _log.warning(
            "the limit of open files is %d, and max_connections = %d needs %d: from about %d connections on, "
            "new ones are reset. Raise the hard limit (`ulimit -Hn %d`, or systemd's LimitNOFILE=), or lower "
            "max_connections",
            limit,
            max_connections,
            wanted,
            room,
            wanted,
        )


def files_needed(listeners: int, max_connections: int) -> int:
    """The open files of a server whose listeners have `max_connections` each."""
    return listeners * max_connections * FILES_PER_CONNECTION + SPARE_FILES


def raise_file_limit(wanted: int) -> int:
    """Raise the soft limit of open files to `wanted`, or to the hard limit if that is lower.

    Returns the limit that holds then; `wanted` if there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(soft, limit)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else "the host name is unknown"
        raise SettingsError([f"host, port: cannot listen on {host}:{port}: {reason}"]) from error


def _url(bound: socket.socket, scheme: str) -> str:
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


@contextlib.contextmanager
def _stop_on_signals(servers: list[_Server]) -> Generator[asyncio.Event, None, None]:
    """An event that the first SIGTERM or SIGINT sets; a second one ends the servers at once."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            for server in servers:
                server.force()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Its default is to end the process at once, when a terminal closes or an init script says "reload"
    loop.add_signal_handler(
        signal.SIGHUP, _log.warning, "SIGHUP is ignored: restart to read the settings again"
    )
    try:
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _run_each_second(
    servers: list[_Server], certificate: Certificate | None, stopping: asyncio.Event
) -> None:
    """Update the Date headers and the certificate once per second, until the server stops."""
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await stopping.wait()
        for server in servers:
            server.tick()
        if certificate is not None:
            certificate.refresh()


def _load_certificate(settings: Settings) -> Certificate | None:
    """The certificate, or None if the settings name none. Raises `SettingsError`."""
    if not settings.tls_certificate:
        return None
    from galerly_cdn.server.certificate import Certificate  # noqa: PLC0415 - cryptography's import time

    return Certificate(Path(settings.tls_certificate), Path(settings.tls_key))


class _Server:
    """Accepts the connections of one listener, and lets them end."""

    def __init__(
        self,
        listener: Listener,
        bound: socket.socket,
        settings: Settings,
        certificate: Certificate | None,
    ) -> None:
        self.state = ListenerState(
            listener.application,
            settings,
            listener.refuse,
            takes_bodies=listener.takes_bodies,
            answer_hit=listener.answer_hit,
        )
        self.is_clean = True
        self._processes = listener.processes
        self._bound = bound
        self._drain_s = settings.drain_s
        self._certificate = certificate
        self._listening: asyncio.Server | None = None

    def _protocol(self) -> asyncio.Protocol:
        if self._processes is not None and self._certificate is None:
            return self._processes.connection()
        connection = functools.partial(Connection, self.state)
        return TlsConnection(connection, self._certificate, self.state) if self._certificate else connection()

    async def startup(self) -> None:
        """Accept connections."""
        self.tick()
        if self._processes is not None:
            self._processes.start(self.state)
        self._listening = await asyncio.get_running_loop().create_server(
            self._protocol, sock=self._bound, backlog=_BACKLOG
        )

    def tick(self) -> None:
        """Set the Date of the responses; once per second."""
        self.state.set_date(SYSTEM_CLOCK.wall())

    async def close(self) -> None:
        """Accept the connections in the socket's backlog, then none; close those that are idle."""
        with contextlib.suppress(OSError):  # BlockingIOError: the backlog is empty
            while True:
                accepted, _ = self._bound.accept()
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, accepted)
        self._stop_listening()
        if self._processes is not None:
            self._processes.drain()
        for connection in self.state.connections:
            connection.shutdown()

    async def shutdown(self) -> None:
        """Wait until all requests have ended, for at most `drain_s` or until `force`; cancel those left."""
        try:
            async with asyncio.timeout(self._drain_s):
                await self.state.wait_until_idle()
        except TimeoutError:
            _log.error("%d requests did not end within drain_s = %g", len(self.state.tasks), self._drain_s)
        for task in self.state.tasks:
            task.cancel()

    def force(self) -> None:
        """End at once."""
        self.state.stop_waiting()
        self.abort()

    def abort(self) -> None:
        """Stop listening, and abort the connections that are left after a cancellation or `drain_s`."""
        self._stop_listening()
        for connection in self.state.connections:
            self.is_clean = False
            connection.abort()

    async def end(self) -> None:
        """As `abort`; then end the processes, which send their last records."""
        self.abort()
        if self._processes is not None:
            await self._processes.stop()

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.close()
