"""One exchange with a viewer: an ASGI scope in, a handler's response and an access record out.

Whatever a handler raises becomes an answer here; nothing but an error's code and sentence leaves.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from galerly_cdn.errors import GalerlyError
from galerly_cdn.http import responses
from galerly_cdn.http.request import Request
from galerly_cdn.http.responses import Conditions
from galerly_cdn.telemetry import AccessRecord, printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.clock import Clock
    from galerly_cdn.http.body_stream import Stream
    from galerly_cdn.http.client_address import Network
    from galerly_cdn.http.request import Message, Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.model import Target
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry

_MAX_LOGGED_PATH = 1024
_log = logging.getLogger(__name__)


class Exchange(Request):
    """One request on its way, and what is learned of it for the headers and the access record."""

    __slots__ = (
        "cache",
        "error",
        "is_private",
        "key",
        "negotiated",
        "sent_bytes",
        "stages_ms",
        "target",
    )

    def __init__(self, scope: Scope, request_id: str, trusted: tuple[Network, ...] = ()) -> None:
        super().__init__(scope, request_id, trusted)
        self.key = ""
        self.target: Target | None = None
        self.is_private = False
        self.negotiated = False
        self.cache = ""
        self.sent_bytes = 0
        self.error: GalerlyError | None = None
        self.stages_ms: dict[str, float] = {}

    @property
    def conditions(self) -> Conditions:
        """What decides between 200, 206, 304 and 416; Range is GET's alone (RFC 9110 §14.2)."""
        read = self.headers.get
        asked = read(b"range") if self.method == "GET" else None
        return Conditions(read(b"if-none-match"), asked, read(b"if-range"))


if TYPE_CHECKING:
    Handler = Callable[[Exchange], Awaitable[Response]]


class Application:
    """The ASGI application: `route` names the handler of a path."""

    def __init__(
        self,
        route: Callable[[bytes], Handler],
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Clock,
        trusted_proxies: tuple[Network, ...],
    ) -> None:
        self._route = route
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._trusted = trusted_proxies

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer, send, record."""
        started_s = self._clock.monotonic()
        visit = Exchange(scope, self._telemetry.next_request_id(), self._trusted)
        try:
            response = await self._route(visit.raw_path)(visit)
        except GalerlyError as error:
            response = self._failure(visit, error)
        except Exception as unforeseen:  # noqa: BLE001 - the viewer gets an answer, the log the trace
            _log.exception("request %s", visit.request_id)
            response = self._failure(visit, GalerlyError(type(unforeseen).__name__))
        duration_ms = round((self._clock.monotonic() - started_s) * 1000, 3)
        try:
            await _send(send, visit, response, duration_ms)
        except GalerlyError as error:  # too late for an answer: the listener ends what is not whole
            visit.error = error
        except Exception as unforeseen:  # noqa: BLE001 - likewise
            _log.exception("request %s", visit.request_id)
            visit.error = GalerlyError(type(unforeseen).__name__)
        self._record(visit, response, duration_ms)

    def refuse(self, error: GalerlyError, client: str) -> Response:
        """The answer to what never became a request, counted and logged as any other."""
        nothing = {"method": "", "raw_path": b"", "query_string": b"", "client": (client, 0), "headers": []}
        visit = Exchange(nothing, self._telemetry.next_request_id())
        response = self._failure(visit, error)
        visit.sent_bytes = len(response.body)
        self._record(visit, response, 0.0)
        return response

    def _failure(self, visit: Exchange, error: GalerlyError) -> Response:
        visit.error = error
        return responses.failure(error, visit.request_id, self._settings, is_private=visit.is_private)

    def _record(self, visit: Exchange, response: Response, duration_ms: float) -> None:
        error, target = visit.error, visit.target
        self._telemetry.record(
            AccessRecord(
                time_s=round(self._clock.wall(), 3),
                request_id=visit.request_id,
                client=visit.client,
                method=visit.method,
                path=printable(visit.raw_path[:_MAX_LOGGED_PATH].decode("latin-1")),
                status=response.status,
                bytes=visit.sent_bytes,
                duration_ms=duration_ms,
                key=visit.key,
                size=str(target.size) if target else "",
                format=target.format or "own" if target else "",
                cache=visit.cache,
                stages_ms=visit.stages_ms or None,
                reason=error.code if error else "",
                detail=printable(error.detail) if error else "",
            )
        )


async def _send(send: Send, visit: Exchange, response: Response, duration_ms: float) -> None:
    """Send a response and count its bytes. Raises `Disconnected`, and what reading a stream raises."""
    headers = [*response.headers]
    if visit.negotiated:
        headers.append(responses.NEGOTIATED)
    if visit.cache:
        headers.append((b"cache-status", b"galerly-cdn; " + visit.cache.encode()))
    headers.append((b"server-timing", _server_timing(visit.stages_ms, duration_ms)))
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    if response.stream is not None:
        await _send_stream(send, visit, start, response.stream)
        return
    await send(start)
    body = b"" if visit.method == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})
    visit.sent_bytes = len(body)


async def _send_stream(send: Send, visit: Exchange, start: Message, stream: Stream) -> None:
    """Send a chunk at a time, each when the one before it is taken; never less than was promised."""
    try:
        await send(start)
        if visit.method != "HEAD":
            async for chunk in stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                visit.sent_bytes += len(chunk)
            if visit.sent_bytes != stream.length_bytes:
                raise GalerlyError(f"{visit.sent_bytes} bytes of {stream.length_bytes}")
        await send({"type": "http.response.body", "body": b""})
    finally:
        await stream.close()


def _server_timing(stages_ms: dict[str, float], total_ms: float) -> bytes:
    """Server-Timing (W3C): the stages of a miss, and the total."""
    stages = [b"%b;dur=%.3f, " % (name.encode(), spent) for name, spent in stages_ms.items()]
    return b"".join([*stages, b"total;dur=%.3f" % total_ms])
