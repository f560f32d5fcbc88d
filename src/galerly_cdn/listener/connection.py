"""What may one connection ask and hold? uvicorn's HTTP protocol, bounded and strict.

Every refusal carries our JSON error and ends the connection; nothing after it is ever answered. An error
behind an answer under way ends the connection after that answer. Request bodies are dropped unread.
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
from galerly_cdn.listener.outlet import LINGER_S, Outlet

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Callable

    from uvicorn import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from galerly_cdn.config import Settings
    from galerly_cdn.deliver import Response

MAX_URL_BYTES = 4 * 1024
MAX_HEADER_BYTES = 32 * 1024
MAX_PIPELINED = 16
"""Requests of one connection that may wait for the one before; no browser pipelines at all."""
_FIELD_BYTES = 4
"""`: ` and the line's end: what a header takes beside its name and value."""


class Connection(HttpToolsProtocol):
    """One client's connection. The base parses, calls the application and writes its answers."""

    outlet: Outlet

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
        self._refusal = refuse
        self._clients = clients
        self._address = ""
        self._in_head = False
        self._head_bytes = 0
        self._fed_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_draining = False

    # its life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.outlet = Outlet(transport, self.loop, self._settings.write_deadline_s)
        self.transport = cast("asyncio.Transport", self.outlet)
        self._address = self.client[0] if self.client else ""
        self._clients[self._address] += 1
        self._await_head(self._settings.header_deadline_s)
        if self._is_one_too_many():
            self._refuse(TooManyConnections())
            transport.close()  # no lingering: that is for clients within bounds

    def connection_lost(self, exc: Exception | None) -> None:
        self.outlet.lost()
        self._cancel_head_timer()
        self._clients[self._address] -= 1
        if not self._clients[self._address]:
            del self._clients[self._address]
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer, with `Connection: close`, what is under way or may just be arriving; else end."""
        self._is_draining = True
        if self._is_answering:
            self.cycle.keep_alive = False
        elif self._head_timer is None:
            self.outlet.close()
        else:
            self._await_head(LINGER_S)

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > self._settings.max_connections:
            return True
        opened = self._clients[self._address]
        return opened > self._settings.max_connections_per_client and not is_loopback(self._address)

    # reading

    def data_received(self, data: bytes) -> None:
        if self.outlet.is_closing():
            return
        self._unset_keepalive_if_required()
        self._fed_bytes = len(data)
        self._head_bytes += self._fed_bytes
        try:
            self.parser.feed_data(data)
            if self._in_head and self._head_bytes > MAX_HEADER_BYTES + MAX_URL_BYTES:
                raise HeadersTooLarge
        except HttpParserUpgrade:
            pass  # not done, so answered as HTTP/1.1 (RFC 9110 §7.8): the last answer of the connection
        except HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, GalerlyError) else BadRequest(repr(cause)))
        except HttpParserError as error:
            self._refuse(BadRequest(str(error)))
        except GalerlyError as error:
            self._refuse(error)
        if not self._is_answering and self._head_timer is None and not self.outlet.is_closing():
            self._await_head(self._settings.header_deadline_s)

    def on_message_begin(self) -> None:
        if self._is_answering and (not self.cycle.keep_alive or len(self.pipeline) >= MAX_PIPELINED):
            raise BadRequest("after the connection's last request")
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise UrlTooLong

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_head_timer()
        if self._head_bytes + self._fed_bytes > MAX_HEADER_BYTES:  # at most; there may be more in it
            taken_bytes = sum(len(name) + len(value) + _FIELD_BYTES for name, value in self.headers)
            if taken_bytes > MAX_HEADER_BYTES:
                raise HeadersTooLarge
        has_body = check_head(self.parser.get_http_version(), self.headers)
        self.url = origin_form(self.parser.get_method(), self.url)
        self.expect_100_continue = False  # a body is never wanted, so never invited
        super().on_headers_complete()
        self.scope["raw_path"], _, self.scope["query_string"] = self.url.partition(b"?")
        cycle = self.cycle
        cycle.send_500_response = functools.partial(self._fail, cycle)  # type: ignore[method-assign]
        if has_body or self._is_draining or self.parser.should_upgrade():
            cycle.keep_alive = False
        if has_body:
            cycle.more_body = False
            cycle.message_event.set()

    def on_body(self, body: bytes) -> None:  # noqa: ARG002 - that is the point
        """Drop it and take no more: the application is told of an empty one."""
        self.flow.pause_reading()

    def _await_head(self, deadline_s: float) -> None:
        self._cancel_head_timer()
        self._head_timer = self.loop.call_later(deadline_s, self._head_is_late)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._fed_bytes:
            self._refuse(HeadersTooSlow())
        else:
            self.outlet.close()

    # writing

    def pause_writing(self) -> None:
        super().pause_writing()
        self.outlet.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.outlet.resume()

    def _refuse(self, error: GalerlyError) -> None:
        self._cancel_head_timer()
        if self._is_answering:
            self.cycle.keep_alive = False
            return
        response = self._refusal(error, self._address)
        fields = [*self.server_state.default_headers, *response.headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.outlet.write(STATUS_LINE[response.status] + head + b"\r\n" + response.body)
        self.outlet.close()

    async def _fail(self, cycle: RequestResponseCycle) -> None:
        """The application raised, or returned, before it answered."""
        response = self._refusal(GalerlyError(), self._address)
        headers = [*response.headers, (b"connection", b"close")]
        await cycle.send({"type": "http.response.start", "status": response.status, "headers": headers})
        await cycle.send({"type": "http.response.body", "body": response.body, "more_body": False})
