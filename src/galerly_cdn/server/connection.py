"""Bounds what one connection may request and hold; a stricter version of uvicorn's HTTP protocol.

Every error response has a JSON body and ends the connection; nothing that follows it is processed. An error
that arrives while a response is being sent ends the connection after that response. A request with a body is
the last one of its connection; the body is dropped unread unless the listener takes bodies.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from galerly_cdn.errors import (
    BadRequest,
    GalerlyError,
    HeadersTooLarge,
    HeadersTooSlow,
    TooManyConnections,
    UrlTooLong,
)
from galerly_cdn.http.responses import field_lines
from galerly_cdn.http.urls import is_loopback
from galerly_cdn.server.cycle import RequestCycle
from galerly_cdn.server.framing import check_head, origin_form
from galerly_cdn.server.transport import LINGER_S, ResponseTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn import Config
    from uvicorn.server import ServerState

    from galerly_cdn.http.exchange import HitAnswer
    from galerly_cdn.http.request import Scope
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings

MAX_URL_BYTES = 4 * 1024
MAX_HEADER_BYTES = 32 * 1024
MAX_PIPELINED = 16
"""Requests of one connection that may wait for the response to an earlier one. No browser pipelines."""
_FIELD_OVERHEAD_BYTES = 4
"""Bytes of a header field beside its name and value: `: ` and the end of the line."""


class ConnectionLimit:
    """Counts the connections of one listener, in all and by client address."""

    def __init__(self, settings: Settings) -> None:
        self._max = settings.max_connections
        self._max_per_client = settings.max_connections_per_client
        self._count = 0
        self._count_by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    def acquire(self, address: str) -> bool:
        """Count a connection until its `release`; False if it exceeds a limit.

        Loopback addresses have no limit per client.
        """
        self._count += 1
        self._count_by_address[address] += 1
        if self._count > self._max:
            return False
        return self._count_by_address[address] <= self._max_per_client or is_loopback(address)

    def release(self, address: str) -> None:
        """Stop counting a connection, whether `acquire` allowed it or not."""
        self._count -= 1
        self._count_by_address[address] -= 1
        if not self._count_by_address[address]:
            del self._count_by_address[address]


def no_hit(_scope: Scope) -> HitAnswer | None:
    """Leaves every request to the application."""
    return None


class ConnectionConfig(NamedTuple):
    """The configuration that all connections of one listener share."""

    settings: Settings
    refuse: Callable[[GalerlyError, str], Response]
    limit: ConnectionLimit
    takes_bodies: bool = False
    answer_hit: Callable[[Scope], HitAnswer | None] = no_hit


class Connection(HttpToolsProtocol):
    """One client's connection. The base class parses, calls the application and writes its responses."""

    cycle: RequestCycle
    response_transport: ResponseTransport
    parser: HttpRequestParser

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connection_config: ConnectionConfig,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = connection_config.settings
        self._connection_config = connection_config
        self._address = ""
        self.url = b""
        self._is_in_head = False
        self._received_bytes = 0
        self._first_chunk_bytes = 0
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_draining = False
        self._hits = 0
        """Plain hits in the bytes that arrived last."""

    # start and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows
        super().connection_made(transport)
        self.response_transport = ResponseTransport(transport, self.loop, self._settings.write_deadline_s)
        self.transport = cast("asyncio.Transport", self.response_transport)
        self._address = self.client[0] if self.client else ""
        self._start_head_timer(self._settings.header_deadline_s)
        if not self._connection_config.limit.acquire(self._address):
            self._send_error(TooManyConnections())
            transport.close()  # without lingering, which would hold the connection for longer

    def connection_lost(self, exc: Exception | None) -> None:
        self.response_transport.connection_lost()
        self._cancel_head_timer()
        self._connection_config.limit.release(self._address)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Respond with `Connection: close` to a request in progress, or one that is arriving; else close."""
        self._is_draining = True
        if self._is_responding:
            self.cycle.keep_alive = False
        elif self._head_timer is None:
            self.response_transport.close()
        else:
            self._start_head_timer(LINGER_S)

    def abort(self) -> None:
        """End the connection now and drop unsent bytes."""
        self.response_transport.abort()

    @property
    def _is_responding(self) -> bool:
        cycle: RequestCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    # reading

    def data_received(self, data: bytes) -> None:
        if self.response_transport.is_ended:
            return
        self._unset_keepalive_if_required()
        self._received_bytes = len(data)
        self._hits = 0
        self._head_bytes += self._received_bytes
        try:
            self.parser.feed_data(data)
            if self._is_in_head and self._head_bytes > MAX_HEADER_BYTES + MAX_URL_BYTES:
                raise HeadersTooLarge
        except HttpParserUpgrade:
            pass  # ignored: the response is HTTP/1.1 (RFC 9110 §7.8), and the last of the connection
        except HttpParserCallbackError as error:
            cause = error.__context__
            self._send_error(cause if isinstance(cause, GalerlyError) else BadRequest(repr(cause)))
        except HttpParserError as error:
            self._send_error(BadRequest(str(error)))
        except GalerlyError as error:
            self._send_error(error)
        if self._is_responding or self._head_timer is not None or self.response_transport.is_ended:
            return
        if self._hits and not self._is_in_head:
            self._start_idle_timer()
        else:
            self._start_head_timer(self._settings.header_deadline_s)

    def on_message_begin(self) -> None:
        if self._is_responding and (not self.cycle.keep_alive or len(self.pipeline) >= MAX_PIPELINED):
            raise BadRequest("a request follows the last one of its connection")
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0
        self._first_chunk_bytes = self._received_bytes

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_URL_BYTES:
            raise UrlTooLong

    def on_headers_complete(self) -> None:
        """Check the head, then run the request. Replaces the base method, which also finds a path in `*`."""
        self._is_in_head = False
        self._cancel_head_timer()
        # An upper bound first, which costs less: the chunks may hold more than the head.
        if self._first_chunk_bytes + self._head_bytes > MAX_HEADER_BYTES:
            header_bytes = sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in self.headers)
            if header_bytes > MAX_HEADER_BYTES:
                raise HeadersTooLarge
        version = self.parser.get_http_version()
        method = self.parser.get_method()
        has_body = check_head(version, self.headers)
        target = origin_form(method, self.url)
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        scope = self.scope
        scope["http_version"] = version
        scope["method"] = method.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        is_upgrade = self.parser.should_upgrade()
        is_last = version == "1.0" or has_body or self._is_draining or is_upgrade
        keep_alive = not is_last and self.parser.should_keep_alive()
        if keep_alive and self._answer_hit():
            return
        takes_body = has_body and self._connection_config.takes_bodies
        if takes_body and is_upgrade:  # llhttp would leave the body to the new protocol
            raise BadRequest("a request with a body cannot upgrade")
        cycle = RequestCycle(
            self,
            keep_alive=keep_alive,
            has_body=takes_body,
            awaits_100=takes_body and self.expect_100_continue and version == "1.1",
        )
        if has_body and not takes_body:
            cycle.more_body = False
            cycle.message_event.set()
        self._start_cycle(cycle)

    def _answer_hit(self) -> bool:
        """Answer a plain hit at once, without a task and a cycle; whether the request was one.

        A request waits for its turn behind others, and while the client has not read the responses before.
        """
        if self._is_responding or self.flow.write_paused or self._hits >= MAX_PIPELINED:
            return False
        answer = self._connection_config.answer_hit(cast("Scope", self.scope))
        if answer is None:
            return False
        self._hits += 1
        date = field_lines(self.server_state.default_headers)
        self.response_transport.writelines(
            (STATUS_LINE[answer.status] + date + answer.lines + b"\r\n", answer.body)
        )
        return True

    def _start_idle_timer(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _start_cycle(self, cycle: RequestCycle) -> None:
        must_wait = self._is_responding
        application = cast("Any", self.app)
        self.cycle = cycle  # pyright: ignore[reportIncompatibleVariableOverride] - `RequestCycle` is a subclass
        if must_wait:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, application))
        else:
            self._start_asgi_task(cycle, application)

    def on_body(self, body: bytes) -> None:
        """Buffer a part of the body; if the listener takes no bodies, drop it and read no more."""
        if self._connection_config.takes_bodies:
            super().on_body(body)
            self.cycle.body_received(len(body))
        else:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        if self._is_responding:  # else the request was a plain hit, whose response is written
            super().on_message_complete()

    def _start_head_timer(self, deadline_s: float) -> None:
        self._cancel_head_timer()
        self._head_timer = self.loop.call_later(deadline_s, self._on_head_timeout)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        if self._received_bytes:
            self._send_error(HeadersTooSlow())
        else:
            self.response_transport.close()

    # writing

    def pause_writing(self) -> None:
        super().pause_writing()
        self.response_transport.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.response_transport.resume_writing()

    def error_response(self, error: GalerlyError) -> Response:
        """The response to a request that the application did not get, or did not respond to."""
        return self._connection_config.refuse(error, self._address)

    def _send_error(self, error: GalerlyError) -> None:
        self._cancel_head_timer()
        if self._is_responding:
            self.cycle.fail(error)
            return
        response = self.error_response(error)
        fields = [*self.server_state.default_headers, *response.headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        # The parser knows the method once the target has begun
        is_head = bool(self.url) and self.parser.get_method() == b"HEAD"
        body = b"" if is_head else response.body  # RFC 9110 §9.3.2
        self.response_transport.write(STATUS_LINE[response.status] + head + b"\r\n" + body)
        self.response_transport.close()
