"""What may one connection ask and hold? uvicorn's HTTP protocol, bounded and strict.

Every refusal carries our JSON error and ends the connection; nothing after it is ever answered. An error
behind an answer under way ends the connection after that answer. A body is its connection's last request,
and dropped unread unless the listener takes bodies.
"""

from __future__ import annotations

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
from galerly_cdn.server.cycle import RequestCycle
from galerly_cdn.server.framing import check_head, origin_form
from galerly_cdn.server.transport import LINGER_S, ResponseTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn import Config
    from uvicorn.server import ServerState

    from galerly_cdn.http.responses import Response
    from galerly_cdn.server.connection_limit import ConnectionLimit
    from galerly_cdn.settings.table import Settings

MAX_URL_BYTES = 4 * 1024
MAX_HEADER_BYTES = 32 * 1024
MAX_PIPELINED = 16
"""Requests of one connection that may wait for the one before; no browser pipelines at all."""
_FIELD_BYTES = 4
"""`: ` and the line's end: what a header takes beside its name and value."""


class ConnectionConfig(NamedTuple):
    """What all connections of one listener share."""

    settings: Settings
    refuse: Callable[[GalerlyError, str], Response]
    crowd: ConnectionLimit
    takes_bodies: bool = False


class Connection(HttpToolsProtocol):
    """One client's connection. The base parses, calls the application and writes its answers."""

    cycle: RequestCycle
    outlet: ResponseTransport
    parser: HttpRequestParser

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        terms: ConnectionConfig,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = terms.settings
        self._terms = terms
        self._address = ""
        self._in_head = False
        self._fed_bytes = 0
        self._first_bytes = 0
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_draining = False

    # its life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows
        super().connection_made(transport)
        self.outlet = ResponseTransport(transport, self.loop, self._settings.write_deadline_s)
        self.transport = cast("asyncio.Transport", self.outlet)
        self._address = self.client[0] if self.client else ""
        self._await_head(self._settings.header_deadline_s)
        if not self._terms.crowd.join(self._address):
            self._refuse(TooManyConnections())
            transport.close()  # no lingering: that is for clients within bounds

    def connection_lost(self, exc: Exception | None) -> None:
        self.outlet.lost()
        self._cancel_head_timer()
        self._terms.crowd.leave(self._address)
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

    def abort(self) -> None:
        """End now, whatever is unsent."""
        self.outlet.abort()

    @property
    def _is_answering(self) -> bool:
        cycle: RequestCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    # reading

    def data_received(self, data: bytes) -> None:
        if self.outlet.is_ended:
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
        if not self._is_answering and self._head_timer is None and not self.outlet.is_ended:
            self._await_head(self._settings.header_deadline_s)

    def on_message_begin(self) -> None:
        if self._is_answering and (not self.cycle.keep_alive or len(self.pipeline) >= MAX_PIPELINED):
            raise BadRequest("after the connection's last request")
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._first_bytes = self._fed_bytes

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_URL_BYTES:
            raise UrlTooLong

    def on_headers_complete(self) -> None:
        """Check the head, then have it answered; in place of the base's, which also finds a path in `*`."""
        self._in_head = False
        self._cancel_head_timer()
        if self._first_bytes + self._head_bytes > MAX_HEADER_BYTES:  # at most; there may be more in it
            taken_bytes = sum(len(name) + len(value) + _FIELD_BYTES for name, value in self.headers)
            if taken_bytes > MAX_HEADER_BYTES:
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
        takes_body = has_body and self._terms.takes_bodies
        if takes_body and is_upgrade:
            raise BadRequest("a body and an upgrade")  # llhttp takes the body for the other protocol
        cycle = RequestCycle(
            self,
            keep_alive=not is_last and self.parser.should_keep_alive(),
            has_body=takes_body,
            awaits_100=takes_body and self.expect_100_continue and version == "1.1",
        )
        if has_body and not takes_body:
            cycle.more_body = False
            cycle.message_event.set()
        self._begin(cycle)

    def _begin(self, cycle: RequestCycle) -> None:
        has_to_wait = self._is_answering
        application = cast("Any", self.app)
        self.cycle = cycle  # pyright: ignore[reportIncompatibleVariableOverride] - a `Cycle` is one
        if has_to_wait:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, application))
        else:
            self._start_asgi_task(cycle, application)

    def on_body(self, body: bytes) -> None:
        """Keep it until that is enough for now; where no bodies are taken, drop it and read no more."""
        if self._terms.takes_bodies:
            super().on_body(body)
            self.cycle.took(len(body))
        else:
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

    def refusal(self, error: GalerlyError) -> Response:
        """The answer to what the application was not asked, or did not answer."""
        return self._terms.refuse(error, self._address)

    def _refuse(self, error: GalerlyError) -> None:
        self._cancel_head_timer()
        if self._is_answering:
            self.cycle.fail(error)
            return
        response = self.refusal(error)
        fields = [*self.server_state.default_headers, *response.headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.outlet.write(STATUS_LINE[response.status] + head + b"\r\n" + response.body)
        self.outlet.close()
