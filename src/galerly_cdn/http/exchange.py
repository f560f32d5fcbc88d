"""Runs one exchange: the handler's response or an error's is sent, and the finished exchange is recorded.

`ExchangeRunner.run` serves the public application (below), the admin application and the resizer function.
An error response holds the error's code and public sentence; details go to the logs only.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from galerly_cdn.errors import Disconnected, GalerlyError
from galerly_cdn.http import lifetimes, responses
from galerly_cdn.http.negotiation import accepts_html
from galerly_cdn.http.request import Request, empty_scope
from galerly_cdn.http.responses import Conditions, Response
from galerly_cdn.telemetry import AccessRecord, printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from typing import Any

    from galerly_cdn.clock import Clock
    from galerly_cdn.http.body_stream import Stream
    from galerly_cdn.http.cache_status import CacheStatus
    from galerly_cdn.http.client_address import Network
    from galerly_cdn.http.request import Message, Receive, Scope, Send
    from galerly_cdn.http.responses import Headers, PreparedResponse
    from galerly_cdn.model import Target
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry

_MAX_LOGGED_PATH = 1024
_FILES = (b"/resize", b"/original")
_log = logging.getLogger(__name__)


class Exchange(Request):
    """One request and its response.

    The handler sets `is_private` before it can fail for a private key; the runner sets all else.
    """

    __slots__ = ("duration_ms", "error", "is_private", "sent_bytes", "status", "total_ms")

    def __init__(self, scope: Scope, request_id: str, trusted: tuple[Network, ...] = ()) -> None:
        super().__init__(scope, request_id, trusted)
        self.is_private = False
        """Whether an error response must not be cached or be readable by other sites."""
        self.status = 0
        self.error: GalerlyError | None = None
        self.duration_ms = 0.0
        """Until the response was ready to be sent."""
        self.total_ms = 0.0
        """Until the response was sent."""
        self.sent_bytes = 0
        """Of the body."""

    @property
    def conditions(self) -> Conditions:
        """The headers that decide between 200, 206, 304 and 416; Range is defined for GET only (§14.2)."""
        header = self.headers.get
        byte_range = header(b"range") if self.method == "GET" else None
        return Conditions(header(b"if-none-match"), byte_range, header(b"if-range"))

    @property
    def shows_html(self) -> bool:
        """Whether an error response is a page for a browser's window."""
        return False

    def response_headers(self) -> Headers:
        """The headers that this exchange adds to its response, an error response included."""
        return []


E = TypeVar("E", bound=Exchange)
T = TypeVar("T")


class ExchangeRunner(Generic[E]):
    """Runs exchanges of one kind. `now_s` is monotonic; `record` is called once for each exchange."""

    def __init__(self, settings: Settings, now_s: Callable[[], float], record: Callable[[E], None]) -> None:
        self._settings = settings
        self._now_s = now_s
        self._record = record

    async def run(
        self, exchange: E, handler: Callable[[E], Awaitable[Response]], send: Send | None = None
    ) -> Response:
        """Run the handler, send its response or the error's by ASGI's `send`, and record the exchange.

        Without `send`, the caller sends the returned response, whose body is not a stream.
        """
        started_s = self._now_s()
        try:
            response = await handler(exchange)
            if response.stream is not None and exchange.method != "HEAD":
                await response.stream.begin()
        except Exception as error:  # noqa: BLE001 - every request gets a response
            response = self._failure(exchange, error)
        exchange.duration_ms = self._elapsed_ms(started_s)
        exchange.status = response.status
        headers = [*response.headers, *exchange.response_headers()]
        if exchange.is_forwarded:
            headers += lifetimes.for_fronts(response.headers)
        response = Response(response.status, headers, response.body, response.stream)
        try:
            if send is None:
                exchange.sent_bytes = len(_sent_body(exchange, response))
            else:
                await _send(send, exchange, response)
        except Exception as error:  # noqa: BLE001 - too late for a response: the server ends the connection
            exchange.error = _known(exchange, error)
        finally:
            exchange.total_ms = self._elapsed_ms(started_s)
            self._record(exchange)
        return response

    def refuse(self, exchange: E, error: GalerlyError) -> Response:
        """The error response to a request that could not be read; recorded here, sent by the caller."""
        response = self._failure(exchange, error)
        exchange.status, exchange.sent_bytes = response.status, len(response.body)
        self._record(exchange)
        return response

    def _failure(self, exchange: E, error: Exception) -> Response:
        exchange.error = _known(exchange, error)
        if exchange.shows_html:
            return responses.failure_page(exchange.error, exchange.request_id)
        return responses.failure(
            exchange.error, exchange.request_id, self._settings, is_private=exchange.is_private
        )

    def _elapsed_ms(self, started_s: float) -> float:
        return round((self._now_s() - started_s) * 1000, 3)


def _known(exchange: Exchange, error: Exception) -> GalerlyError:
    """The error itself; an unforeseen one is logged with its traceback, and is `internal`."""
    if isinstance(error, GalerlyError):
        return error
    _log.error("request %s", exchange.request_id, exc_info=error)
    return GalerlyError(type(error).__name__)


def _sent_body(exchange: Exchange, response: Response) -> bytes:
    """A response to HEAD has no body (RFC 9110 §9.3.2)."""
    return b"" if exchange.method == "HEAD" else response.body


async def _send(send: Send, exchange: Exchange, response: Response) -> None:
    """Send a response and count its bytes. Raises `Disconnected`, and what reading a stream raises."""
    start = {"type": "http.response.start", "status": response.status, "headers": response.headers}
    if response.stream is not None:
        await _send_stream(send, exchange, start, response.stream)
        return
    await send(start)
    body = _sent_body(exchange, response)
    await send({"type": "http.response.body", "body": body})
    exchange.sent_bytes = len(body)


async def _send_stream(send: Send, exchange: Exchange, start: Message, stream: Stream) -> None:
    """Send each chunk when the one before it was taken.

    Without the last message, the server ends the connection: the client sees that the body is incomplete.
    """
    try:
        await send(start)
        if exchange.method != "HEAD":
            async for chunk in stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                exchange.sent_bytes += len(chunk)
            if stream.length_bytes is not None and stream.length_bytes != exchange.sent_bytes:
                raise GalerlyError(f"{exchange.sent_bytes} bytes of {stream.length_bytes}")
        await send({"type": "http.response.body", "body": b""})
    finally:
        await stream.close()


async def _disconnection(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


class ViewerExchange(Exchange):
    """An exchange with a viewer, and what its handler learned for the headers and the access log.

    Only `Edge.answer`, `Downloads.answer` and their counterpart in the resizer write to it, each field where
    it becomes known: an error response and its record need what was known before the error.
    """

    __slots__ = ("cache_status", "key", "negotiated", "receive", "stages_ms", "target")

    def __init__(self, scope: Scope, request_id: str, trusted: tuple[Network, ...] = ()) -> None:
        super().__init__(scope, request_id, trusted)
        self.key = ""
        self.target: Target | None = None
        self.negotiated = False
        """Whether the response's format depends on `Accept`."""
        self.cache_status: CacheStatus | None = None
        self.stages_ms: dict[str, float] = {}
        """Durations of the stages of a fill."""
        self.receive: Receive | None = None
        """ASGI's `receive`; None where a client's disconnecting is not reported."""

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. When the client disconnects, cancels it and raises `Disconnected`."""
        task = asyncio.current_task()
        if self.receive is None or task is None:
            return await work
        has_left = is_over = False

        def cancel_work(ended: asyncio.Task[None]) -> None:
            nonlocal has_left
            if not (is_over or ended.cancelled() or ended.exception()):
                has_left = task.cancel()

        disconnection = asyncio.create_task(_disconnection(self.receive))
        disconnection.add_done_callback(cancel_work)
        try:
            return await work
        except asyncio.CancelledError:
            if has_left and not task.uncancel():
                raise Disconnected from None
            raise
        finally:
            is_over = True
            disconnection.cancel()

    @property
    def shows_html(self) -> bool:
        """For a browser's window, except at addresses of pictures and originals: they are the same on AWS."""
        return not self.raw_path.startswith(_FILES) and accepts_html(self.headers.get(b"accept", b""))

    def response_headers(self) -> Headers:
        """Vary, Cache-Status, and Server-Timing with the stages of a fill and the total (W3C)."""
        headers: Headers = []
        if self.negotiated:
            headers.append(responses.NEGOTIATED)
        if self.cache_status is not None:
            headers.append(self.cache_status.header)
        timing = b"total;dur=%.3f" % self.duration_ms
        if self.stages_ms:
            stages = [b"%b;dur=%.3f, " % (name.encode(), spent) for name, spent in self.stages_ms.items()]
            timing = b"".join([*stages, timing])
        headers.append((b"server-timing", timing))
        return headers

    def access_record(self, time_s: float) -> AccessRecord:
        """The record for the access log; `time_s` is seconds since the epoch."""
        error, target = self.error, self.target
        return AccessRecord(
            time_s=round(time_s, 3),
            request_id=self.request_id,
            client=self.client,
            method=self.method,
            path=_logged_path(self.raw_path[:_MAX_LOGGED_PATH]),
            status=self.status,
            bytes=self.sent_bytes,
            duration_ms=self.duration_ms,
            key=self.key,
            size=_logged_size(target) if target else "",
            format=target.format or "own" if target else "",
            cache=self.cache_status.parameters if self.cache_status else "",
            stages_ms=self.stages_ms or None,
            reason=error.code if error else "",
            detail=printable(error.detail) if error else "",
        )


@functools.lru_cache(maxsize=16)
def _status_line(status: CacheStatus) -> bytes:
    return responses.field_lines([status.header])


@functools.lru_cache(maxsize=2048)
def _logged_path(raw_path: bytes) -> str:
    return printable(raw_path.decode("latin-1"))


@functools.lru_cache(maxsize=256)
def _logged_size(target: Target) -> str:
    return str(target.size)


if TYPE_CHECKING:
    AudienceOf = Callable[[Mapping[bytes, bytes]], "Audience"]
    Handler = Callable[[ViewerExchange], Awaitable[Response]]


_NEGOTIATED_LINE = responses.field_lines([responses.NEGOTIATED])
_FRONT_LINE = responses.field_lines(lifetimes.for_fronts([(b"cache-control", lifetimes.IMMUTABLE)]))
_TIMING_LINE = responses.field_lines([(b"server-timing", b"total;dur=%.3f")])


class Audience(NamedTuple):
    """Who may read a response."""

    is_shared: bool
    """Whether it has the headers `responses.SHARING`."""
    last_lines: bytes = b""
    """Header lines that say on what the audience depends; they follow all others."""


_EVERYBODY = Audience(is_shared=True)


class HitAnswer(NamedTuple):
    """A whole response that is ready to be sent: its status, the lines of its headers, and its body."""

    status: int
    lines: bytes
    """All headers but those that the server adds, each with its line end."""
    body: bytes


class Application:
    """The public ASGI application. `route` returns the handler of a path."""

    exchange_type: type[ViewerExchange] = ViewerExchange

    def __init__(
        self,
        route: Callable[[bytes], Handler],
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Clock,
        find_hit: Callable[[ViewerExchange], PreparedResponse | None],
    ) -> None:
        """`find_hit` returns the rendition of a request that can be answered without waiting, or None."""
        self._route = route
        self._find_hit = find_hit
        self._telemetry = telemetry
        self._clock = clock
        self._trusted_proxies = settings.trusted_networks
        self._runner = ExchangeRunner[ViewerExchange](settings, clock.monotonic, self._record)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one exchange."""
        exchange = self.exchange_type(scope, self._telemetry.next_request_id(), self._trusted_proxies)
        exchange.receive = receive
        await self._runner.run(exchange, self._route(exchange.raw_path), send)

    def answer_hit(self, scope: Scope, audience_of: AudienceOf | None = None) -> HitAnswer | None:
        """The answer to a plain hit, byte for byte that of `__call__`, recorded; None for another request.

        `audience_of` tells by the request's headers who may read the response.
        """
        started_s = self._clock.monotonic()
        exchange = self.exchange_type(scope, "", self._trusted_proxies)
        try:
            prepared = self._find_hit(exchange)
        except Exception:  # noqa: BLE001 - `__call__` meets the same error, answers and records it
            return None
        if prepared is None:
            return None
        exchange.request_id = self._telemetry.next_request_id()
        audience = _EVERYBODY if audience_of is None else audience_of(exchange.headers)
        shared = prepared.lines.shared if audience.is_shared else prepared.lines.unreadable
        if responses.is_unmodified(prepared, exchange.headers.get(b"if-none-match")):
            exchange.status, content, body = 304, b"", b""
        else:
            exchange.status, content = 200, prepared.lines.content
            body = b"" if exchange.method == "HEAD" else prepared.rendition.body
        exchange.sent_bytes = len(body)
        exchange.total_ms = exchange.duration_ms = round((self._clock.monotonic() - started_s) * 1000, 3)
        negotiated = _NEGOTIATED_LINE if exchange.negotiated else b""
        status = _status_line(exchange.cache_status) if exchange.cache_status else b""
        timing = _TIMING_LINE % exchange.duration_ms
        front = _FRONT_LINE if exchange.is_forwarded else b""
        self._record(exchange)
        lines = b"".join((shared, content, negotiated, status, timing, front, audience.last_lines))
        return HitAnswer(exchange.status, lines, body)

    def refuse(self, error: GalerlyError, client: str) -> Response:
        """The response to a request that could not be read, counted and logged as any other."""
        exchange = ViewerExchange(empty_scope(client), self._telemetry.next_request_id())
        return self._runner.refuse(exchange, error)

    def _record(self, exchange: ViewerExchange) -> None:
        status = exchange.cache_status
        self._telemetry.record(exchange.access_record(self._clock.wall()), status.result if status else "")
