"""Serves ASGI applications over HTTP and HTTPS until a signal, and stops without truncating a response.

One process and one event loop run all listeners. `framing` refuses ambiguous requests, `connection` bounds
what a client may hold. This package is the only importer of httptools and uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import resource
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.errors import GalerlyError
from galerly_cdn.http import responses
from galerly_cdn.http.responses import Response
from galerly_cdn.serialization import Value
from galerly_cdn.server.connection import Connection
from galerly_cdn.server.listener import ListenerState, no_hit
from galerly_cdn.server.notifier import Notifier
from galerly_cdn.server.proxy_connection import ProxyConnection
from galerly_cdn.server.sockets import ListeningSocket, bind
from galerly_cdn.server.tls import TlsConnection
from galerly_cdn.settings.networks import NO_CLIENTS, Networks
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from galerly_cdn.server import listener
    from galerly_cdn.server.certificate import Certificate
    from galerly_cdn.server.processes import hit_processes
    from galerly_cdn.server.transport import Peer

    Application = listener.Application
    AnswerHit = listener.AnswerHit
    HitProcesses = hit_processes.HitProcesses

T = TypeVar("T")

_log = logging.getLogger(__name__)

FILES_PER_CONNECTION = 2
"""The socket, and the original that is being downloaded."""
SPARE_FILES = 256
"""Further open files: originals being rendered, renditions being written, pipes of worker processes."""


def refuse(error: GalerlyError, client: str) -> Response:  # noqa: ARG001 - a listener's own `refuse` may record it
    """The response to a request that does not reach the application."""
    return responses.failure(error, secrets.token_hex(8), Settings())


class Listener(Value, frozen=True, kw_only=True):
    """An address to listen on, and the application that it serves."""

    application: Application
    host: str
    """An address, a name, or `unix:/path`."""
    port: int
    sockets: tuple[ListeningSocket, ...] = ()
    """Sockets that listen already; the host and the port are then not listened on."""
    proxies: Networks = NO_CLIENTS
    """Clients whose connections begin with a PROXY protocol header."""
    takes_bodies: bool = False
    """Pass request bodies to the application, a chunk at a time; otherwise they are dropped unread."""
    refuse: Callable[[GalerlyError, str], Response] = refuse
    """Called with an error and the client's address; makes the response to a request that does not reach
    the application, and may record it."""
    answer_hit: AnswerHit = no_hit
    """Called with the ASGI scope of a request that keeps its connection open; makes the response if that
    needs no waiting, else returns None, and the application gets the request."""
    processes: HitProcesses | None = None
    """Processes that answer plain hits of this listener; there must be none with a certificate or proxies."""
    on_ready: Callable[[str], None] = lambda _: None
    """Called with the address, such as `http://127.0.0.1:8000/` or `unix:/run/public.sock`, once connections
    are accepted."""


async def serve(
    *listeners: Listener,
    settings: Settings,
    on_drain: Callable[[], Awaitable[None] | None] = lambda: None,
    notifier: Notifier | None = None,
) -> bool:
    """Serve until SIGTERM or SIGINT; True if every request in progress got its complete response.

    Once all listeners listen, their `on_ready` is called in order. A signal calls `on_drain`; from then on
    each response ends its connection. New requests are served until it has returned and `drain_delay_s` is
    over. Then the server accepts no connections, closes idle ones and finishes responses in progress within
    `drain_s`. A second signal ends it at once. SIGHUP is logged and ignored. The `notifier` tells a service
    manager. The connection limits of the settings hold for each listener by itself; all listeners use the
    certificate, if the settings name one.

    Raises `SettingsError` if an address cannot be listened on, or if the certificate is unfit.
    """
    certificate = _load_certificate(settings)
    notifier = notifier or Notifier()
    _check_file_limit(len(listeners), settings.max_connections)
    with contextlib.ExitStack() as stack:
        servers = [_open_server(listener, settings, certificate, stack) for listener in listeners]
        try:
            with _stop_on_signals(servers) as signals:
                await _start(servers, listeners, notifier)
                await _run_each_second(servers, certificate, signals.first)
                notifier.stopping(
                    f"answers requests for {settings.drain_delay_s:g} s more, then finishes those in progress"
                )
                await _drain(servers, on_drain)
                await _run_each_second(servers, certificate, signals.second, settings.drain_delay_s)
                for server in servers:
                    await server.close()
                await asyncio.gather(*(server.shutdown() for server in servers))
        finally:
            notifier.close()
            await asyncio.gather(*(server.end() for server in servers))
    return all(server.is_clean for server in servers)


def _open_server(
    listener: Listener, settings: Settings, certificate: Certificate | None, stack: contextlib.ExitStack
) -> _Server:
    """The server of a listener, its sockets open until the stack ends. Raises `SettingsError`."""
    sockets = listener.sockets or (bind(listener.host, listener.port),)
    for one in sockets:
        stack.enter_context(one)
    return _Server(listener, sockets, settings, certificate)


async def _start(servers: list[_Server], listeners: tuple[Listener, ...], notifier: Notifier) -> None:
    """Accept connections, then tell so."""
    for server in servers:
        await server.startup()
    addresses = [server.url for server in servers]
    for listener, address in zip(listeners, addresses, strict=True):
        listener.on_ready(address)
    notifier.ready(f"serves {' and '.join(addresses)}")


async def _drain(servers: list[_Server], on_drain: Callable[[], Awaitable[None] | None]) -> None:
    """Let each response end its connection, and tell the application."""
    for server in servers:
        server.drain()
    draining = on_drain()
    if inspect.isawaitable(draining):
        await draining


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


class _Signals:
    """The events that the first and the second SIGTERM or SIGINT set."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()


@contextlib.contextmanager
def _stop_on_signals(servers: list[_Server]) -> Generator[_Signals, None, None]:
    """The events of the signals that stop the server; the second signal ends the servers at once."""
    loop = asyncio.get_running_loop()
    signals = _Signals()

    def stop() -> None:
        if signals.first.is_set():
            signals.second.set()
            for server in servers:
                server.force()
        signals.first.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Its default is to end the process at once, when a terminal closes or an init script says "reload"
    loop.add_signal_handler(
        signal.SIGHUP, _log.warning, "SIGHUP is ignored: restart to read the settings again"
    )
    try:
        yield signals
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _run_each_second(
    servers: list[_Server],
    certificate: Certificate | None,
    ended: asyncio.Event,
    duration_s: float = math.inf,
) -> None:
    """Update the Date headers and the certificate once per second, until the event or for a duration."""
    clock = asyncio.get_running_loop().time
    end_s = clock() + duration_s
    while not ended.is_set() and (remaining_s := end_s - clock()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(1, remaining_s)):
                await ended.wait()
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
        sockets: tuple[ListeningSocket, ...],
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
        self._sockets = sockets
        self._proxies = listener.proxies
        self._drain_s = settings.drain_s
        self._certificate = certificate
        self._listening: list[asyncio.Server] = []

    @property
    def url(self) -> str:
        """The address of the first socket."""
        return self._sockets[0].url("https" if self._certificate else "http")

    def _protocol(self) -> asyncio.Protocol:
        if not self._proxies:
            return self._connection()
        return ProxyConnection(self._connection, self.state, self._proxies)

    def _connection(self, peer: Peer | None = None) -> Connection | TlsConnection:
        """A protocol for a new connection, of the client `peer` if it is not that of the socket."""
        if self._processes is not None:
            return self._processes.connection()
        if self._certificate is None:
            return Connection(self.state, peer=peer)
        return TlsConnection(lambda: Connection(self.state), self._certificate, self.state, peer)

    async def startup(self) -> None:
        """Accept connections."""
        self.tick()
        if self._processes is not None:
            self._processes.start(self.state)
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            self._listening.append(await one.listen(loop, self._protocol))

    def tick(self) -> None:
        """Set the Date of the responses; once per second."""
        self.state.set_date(SYSTEM_CLOCK.wall())

    def drain(self) -> None:
        """Let each response end its connection; new connections are still accepted."""
        if self._processes is not None:
            self._processes.drain()
        self.state.drain()

    async def close(self) -> None:
        """Accept the connections in the sockets' backlogs, then none; close those that are idle."""
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            one.remove_file()
            while (accepted := one.accept()) is not None:
                await loop.connect_accepted_socket(self._protocol, accepted)
        self._stop_listening()
        self.state.shutdown()

    async def shutdown(self) -> None:
        """Wait until all requests have ended, for at most `drain_s` or until `force`; cancel those left."""
        try:
            async with asyncio.timeout(self._drain_s):
                await self.state.wait_until_idle()
        except TimeoutError:
            left = len(self.state.connections)
            _log.error("%d connections did not end within drain_s = %g", left, self._drain_s)
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
            self.is_clean = self.is_clean and not self._processes.broken

    def _stop_listening(self) -> None:
        for one in self._listening:
            one.close()
