"""Reads the requests of one client's connection, and bounds what the client may request and hold.

A plain hit is answered while its request is parsed; the application runs for every other request, in a task.
Every error response has a JSON body and ends the connection; nothing that follows it is processed. An error
that arrives while a response is being sent ends the connection after that response. A request with a body is
the last one of its connection; the body is dropped unread unless the listener takes bodies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from galerly_cdn.errors import (
    BadRequest,
    GalerlyError,
    HeadersTooLarge,
    HeadersTooSlow,
    TooManyConnections,
    UrlTooLong,
)
from galerly_cdn.http.responses import field_lines
from galerly_cdn.server.cycle import RequestCycle
from galerly_cdn.server.framing import check_head, origin_form
from galerly_cdn.server.transport import LINGER_S, ResponseTransport, peer_of

if TYPE_CHECKING:
    from galerly_cdn.http.request import Scope
    from galerly_cdn.http.responses import Response
    from galerly_cdn.server.listener import ListenerState
    from galerly_cdn.server.transport import Peer

MAX_URL_BYTES = 4 * 1024
MAX_HEADER_BYTES = 32 * 1024
MAX_PIPELINED = 16
"""Requests of one connection that may wait for the response to an earlier one, and plain hits that are
answered before other connections have their turn. No browser pipelines."""
_FIELD_OVERHEAD_BYTES = 4
"""Bytes of a header field beside its name and value: `: ` and the end of the line."""


class Connection(asyncio.Protocol):
    """One client's connection."""

    transport: ResponseTransport
    cycle: RequestCycle
    """The last request that the application gets; those before it may be in progress still."""

    def __init__(
        self, state: ListenerState, loop: asyncio.AbstractEventLoop | None = None, peer: Peer | None = None
    ) -> None:
        """`peer` is the client, where the other end of the connection is a proxy that has named it."""
        self.state = state
        self.loop = loop or asyncio.get_running_loop()
        self._settings = state.settings
        self._parser: HttpRequestParser = HttpRequestParser(self)
        # A request after the last one of a connection is an error of this class, not of the parser
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._peer = peer
        self._address = ""
        self._scheme = "http"
        self._unfinished: deque[RequestCycle] = deque()
        """The request whose response is in progress, and those that wait for it."""
        # the request that is being parsed
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_in_head = False
        self._received_bytes = 0
        self._first_chunk_bytes = 0
        self._head_bytes = 0
        self._hits = 0
        """Plain hits in the bytes that arrived last."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since_s: float | None = None
        """When the last response was complete; None while there is a request, or a part of one."""

    # start and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream
        self.state.add(self)
        self.transport = ResponseTransport(transport, self.loop, self._settings.write_deadline_s)
        self._peer = self._peer or peer_of(transport)
        self._address = self._peer[0] if self._peer else ""
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._start_head_timer(self._settings.header_deadline_s)
        if not self.state.limit.acquire(self._address):
            self._send_error(TooManyConnections())
            transport.close()  # without lingering, which would hold the connection for longer

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.state.discard(self)
        self.state.limit.release(self._address)
        self.transport.connection_lost()
        self._cancel_head_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for cycle in self._unfinished:
            cycle.disconnect()

    def drain(self) -> None:
        """Respond with `Connection: close` to a request in progress, unless its response has begun."""
        if self._unfinished and not self.cycle.is_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End the connection after a request in progress, or one that is arriving; else close it."""
        if self._unfinished:
            self.cycle.keep_alive = False
        elif self._head_timer is None:
            self.transport.close()
        else:
            self._start_head_timer(LINGER_S)

    def abort(self) -> None:
        """End the connection now and drop unsent bytes."""
        self.transport.abort()

    # reading

    def data_received(self, data: bytes) -> None:
        if self.transport.is_ended:
            return
        self._idle_since_s = None
        self._received_bytes = len(data)
        self._head_bytes += self._received_bytes
        self._hits = 0
        try:
            self._parser.feed_data(data)
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
        if self._unfinished or self._head_timer is not None or self.transport.is_ended:
            return
        if self._hits and not self._is_in_head:
            self._start_idle_timer()
        else:
            self._start_head_timer(self._settings.header_deadline_s)

    def eof_received(self) -> None:
        """Let the transport close: a client that half-closes counts as disconnected."""

    def on_message_begin(self) -> None:
        if self._unfinished and (not self.cycle.keep_alive or len(self._unfinished) > MAX_PIPELINED):
            raise BadRequest("a request follows the last one of its connection")
        self._url = b""
        self._headers = []
        self._is_in_head = True
        self._head_bytes = 0
        self._first_chunk_bytes = self._received_bytes

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_URL_BYTES:
            raise UrlTooLong

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head, then answer a plain hit, or run the application."""
        self._is_in_head = False
        self._cancel_head_timer()
        # An upper bound first, which costs less: the chunks may hold more than the head.
        if self._first_chunk_bytes + self._head_bytes > MAX_HEADER_BYTES:
            header_bytes = sum(
                len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in self._headers
            )
            if header_bytes > MAX_HEADER_BYTES:
                raise HeadersTooLarge
        version = self._parser.get_http_version()
        method = self._parser.get_method()
        has_body = check_head(version, self._headers)
        raw_path, _, query = origin_form(method, self._url).partition(b"?")
        scope: Scope = {
            "type": "http",
            "scheme": self._scheme,
            "client": self._peer,
            "method": method.decode("ascii"),
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
        }
        is_upgrade = self._parser.should_upgrade()
        is_last = version == "1.0" or has_body or self.state.is_draining or is_upgrade
        keep_alive = not is_last and self._parser.should_keep_alive()
        if keep_alive and self._answer_hit(scope):
            return
        takes_body = has_body and self.state.takes_bodies
        if takes_body and is_upgrade:  # llhttp would leave the body to the new protocol
            raise BadRequest("a request with a body cannot upgrade")
        awaits_100 = takes_body and version == "1.1" and _expects_100(self._headers)
        cycle = RequestCycle(self, scope, keep_alive=keep_alive, has_body=takes_body, awaits_100=awaits_100)
        if has_body and not takes_body:
            cycle.request_complete()
        self._start_cycle(cycle)

    def _answer_hit(self, scope: Scope) -> bool:
        """Answer a plain hit at once, without a task and a cycle; whether the request was one.

        A request waits for its turn behind others, and while the client has not read the responses before.
        """
        if self._unfinished or self.transport.is_full or self._hits >= MAX_PIPELINED:
            return False
        answer = self.state.answer_hit(scope)
        if answer is None:
            return False
        self._hits += 1
        head = self.state.head_start(answer.status) + answer.lines + b"\r\n"
        self.transport.writelines((head, answer.body))
        return True

    def _start_cycle(self, cycle: RequestCycle) -> None:
        self.cycle = cycle
        self._unfinished.append(cycle)
        if len(self._unfinished) > 1:
            self.transport.pause_reading()
        else:
            self.state.start(self.loop, cycle.run())

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body; if the listener takes no bodies, drop it and read no more."""
        if self.state.takes_bodies:
            self.cycle.body_received(body)
        else:
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._unfinished:  # else the request was a plain hit, or its response is complete
            self.cycle.request_complete()

    def on_response_complete(self) -> None:
        """Start the next request of the connection; without one, wait for it."""
        self._unfinished.popleft()
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        if self._unfinished:
            self.state.start(self.loop, self._unfinished[0].run())
        else:
            self._start_idle_timer()

    # deadlines

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
            self.transport.close()

    def _start_idle_timer(self) -> None:
        """Close the connection after `idle_s` without a request. A running timer is not started again."""
        self._idle_since_s = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self._settings.idle_s, self._on_idle_timeout)

    def _on_idle_timeout(self) -> None:
        self._idle_timer = None
        if self._idle_since_s is None:
            return
        remaining_s = self._idle_since_s + self._settings.idle_s - self.loop.time()
        if remaining_s > 0:
            self._idle_timer = self.loop.call_later(remaining_s, self._on_idle_timeout)
        else:
            self.transport.close()

    # writing

    def pause_writing(self) -> None:
        self.transport.pause_writing()

    def resume_writing(self) -> None:
        self.transport.resume_writing()

    def error_response(self, error: GalerlyError) -> Response:
        """The response to a request that the application did not get, or did not respond to."""
        return self.state.refuse(error, self._address)

    def _send_error(self, error: GalerlyError) -> None:
        self._cancel_head_timer()
        if self._unfinished:
            self.cycle.fail(error)
            return
        response = self.error_response(error)
        lines = field_lines([*response.headers, (b"connection", b"close")])
        # The parser knows the method once the target has begun
        is_head = bool(self._url) and self._parser.get_method() == b"HEAD"
        body = b"" if is_head else response.body  # RFC 9110 §9.3.2
        self.transport.write(self.state.head_start(response.status) + lines + b"\r\n" + body)
        self.transport.close()


def _expects_100(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the client waits for 100 Continue before it sends the body (RFC 9110 §10.1.1)."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
