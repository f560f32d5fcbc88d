"""What may one connection take and hold? uvicorn's HTTP protocol, bounded and strict.

Every refusal carries our JSON error and ends the connection; nothing after it is ever answered. An error
behind an answer under way waits for that answer. Request bodies are dropped unread.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from galerly_cdn.errors import (
    BadRequest,
    GalerlyError,
    HeadersTooLarge,
    HeadersTooSlow,
    TooManyConnections,
    UrlTooLong,
)
from galerly_cdn.listener.framing import check_head, is_loopback, origin_form

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Callable

    from uvicorn import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from galerly_cdn.config import Settings
    from galerly_cdn.deliver import Response

LINGER_S = 1.0
"""How long a closed connection's input is still read and dropped: closing over unread bytes is a reset,
and a reset makes the client drop the answer it has not read yet (RFC 9112 §9.6)."""
PROGRESS_BYTES = 64 * 1024
"""What a slow reader has to take within each `write_deadline_s`, or the rest."""
MAX_PIPELINED = 16
"""Requests of one connection that may wait for the one before; no browser pipelines at all."""
MAX_URL_BYTES = 4 * 1024
MAX_HEADER_BYTES = 32 * 1024
_FIELD_BYTES = 4
"""`: ` and the line's end: what a header takes beside its name and value."""


class _Outlet:
    """The transport as uvicorn's request cycle sees it: its `close` is the connection's own."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self.write = transport.write
        self.is_closing = connection.is_closing
        self.close = connection.finish


class Connection(HttpToolsProtocol):
    """uvicorn's connection, bounded and strict."""

    def __init__(  # noqa: PLR0913 - uvicorn's four and ours
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        refuse: Callable[[GalerlyError, str], Response],
        clients: Counter[str],
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self._refuse_with = refuse
        self._clients = clients
        self._address = ""
        self._socket: asyncio.Transport
        self._head_bytes = 0
        self._fed_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._is_draining = False
        self._is_finished = False

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def is_closing(self) -> bool:
        return self._is_finished or self._socket.is_closing()

    # the connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket = transport
        self.transport = cast("asyncio.Transport", _Outlet(self, transport))
        self._address = self.client[0] if self.client else ""
        self._clients[self._address] += 1
        self._await_head(self._settings.header_deadline_s)
        if self._is_one_too_many():
            self._write(self._refuse_with(TooManyConnections(), self._address))
            self._is_finished = True
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_finished = True
        self._clients[self._address] -= 1
        if not self._clients[self._address]:
            del self._clients[self._address]
        self._cancel_timers()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer what has begun to arrive and what is under way, with `Connection: close`; else finish."""
        self._is_draining = True
        if self._is_answering:
            self.cycle.keep_alive = False
        elif self._head_timer is None:
            self.finish()
        else:
            self._await_head(LINGER_S)

    def finish(self) -> None:
        """Send what is written, then the end, and read on for a moment: see `LINGER_S`."""
        if self._is_finished:
            return
        self._is_finished = True
        self._cancel_timers()
        self._unset_keepalive_if_required()
        self._socket.write_eof()
        self.flow.resume_reading()
        self._head_timer = self.loop.call_later(LINGER_S, self._watch_writing)

    def abort(self) -> None:
        self._socket.abort()

    # reading

    def data_received(self, data: bytes) -> None:
        if self._is_finished:
            return
        self._unset_keepalive_if_required()
        self._fed_bytes = len(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if self._head_timer is not None and self._head_bytes > MAX_HEADER_BYTES + MAX_URL_BYTES:
                raise HeadersTooLarge
        except HttpParserUpgrade:
            return  # answered as if nothing had been asked, and then closed: see `on_headers_complete`
        except GalerlyError as error:
            self._refuse(error)
        except HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, GalerlyError) else BadRequest(repr(cause)))
        except HttpParserError as error:
            self._refuse(BadRequest(str(error)))
        if not self._is_answering and self._head_timer is None:
            self._await_head(self._settings.header_deadline_s)

    def on_message_begin(self) -> None:
        if self._is_answering and (not self.cycle.keep_alive or len(self.pipeline) >= MAX_PIPELINED):
            raise BadRequest("after the connection's last request")
        super().on_message_begin()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise UrlTooLong

    def on_headers_complete(self) -> None:
        self._cancel_head_timer()
        size_bytes = self._head_bytes + self._fed_bytes
        if size_bytes > MAX_HEADER_BYTES:  # an upper bound: requests before this one may be in it
            size_bytes = sum(len(name) + len(value) + _FIELD_BYTES for name, value in self.headers)
            if size_bytes > MAX_HEADER_BYTES:
                raise HeadersTooLarge
        method = self.parser.get_method()
        has_body = check_head(self.parser.get_http_version(), self.headers)
        self.url = origin_form(method, self.url)
        self.expect_100_continue = False  # a body is never wanted, so never invited
        super().on_headers_complete()
        cycle = self.cycle
        cycle.send_500_response = functools.partial(self._fail, cycle)  # type: ignore[method-assign]
        self.scope["raw_path"], _, self.scope["query_string"] = self.url.partition(b"?")
        if has_body or self._is_draining or self.parser.should_upgrade():
            cycle.keep_alive = False
        if has_body:
            cycle.more_body = False
            cycle.message_event.set()

    def on_body(self, body: bytes) -> None:  # noqa: ARG002 - that is the point
        """Drop it: the application is told of an empty one, and the connection ends after the answer."""
        self.flow.pause_reading()

    # writing

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None and not self._is_finished:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_writing(self) -> None:
        """Look again in `write_deadline_s`; end the connection unless enough was taken by then."""
        self._unsent_bytes = self._socket.get_write_buffer_size()
        if self._is_finished and not self._unsent_bytes:
            self._socket.close()
            return
        self._write_timer = self.loop.call_later(self._settings.write_deadline_s, self._check_writing)

    def _check_writing(self) -> None:
        left_bytes = self._socket.get_write_buffer_size()
        if left_bytes and left_bytes > self._unsent_bytes - PROGRESS_BYTES:
            self._socket.abort()
        else:
            self._watch_writing()

    # refusing

    def _refuse(self, error: GalerlyError) -> None:
        """Answer with the error and finish; behind an answer under way, only finish after that."""
        self._cancel_head_timer()
        if self._is_answering:
            self.cycle.keep_alive = False
            return
        self._write(self._refuse_with(error, self._address))
        self.finish()

    def _write(self, response: Response) -> None:
        fields = [*self.server_state.default_headers, *response.headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self._socket.write(STATUS_LINE[response.status] + head + b"\r\n" + response.body)

    async def _fail(self, cycle: RequestResponseCycle) -> None:
        """The application raised before it answered."""
        response = self._refuse_with(GalerlyError(), self._address)
        headers = [*response.headers, (b"connection", b"close")]
        await cycle.send({"type": "http.response.start", "status": response.status, "headers": headers})
        await cycle.send({"type": "http.response.body", "body": response.body, "more_body": False})

    # deadlines and bounds

    def _await_head(self, deadline_s: float) -> None:
        self._cancel_head_timer()
        self._head_timer = self.loop.call_later(deadline_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._head_bytes or self._fed_bytes:
            self._refuse(HeadersTooSlow())
        else:
            self.finish()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_timers(self) -> None:
        self._cancel_head_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > self._settings.max_connections:
            return True
        mine = self._clients[self._address]
        return mine > self._settings.max_connections_per_client and not is_loopback(self._address)
