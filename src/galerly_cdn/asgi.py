"""One exchange with a viewer: an ASGI scope in, a handler's response and an access record out.

Whatever a handler raises becomes an answer here; nothing but an error's code and sentence leaves.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from galerly_cdn import deliver
from galerly_cdn.deliver import Conditions
from galerly_cdn.errors import GalerlyError
from galerly_cdn.telemetry import AccessRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from galerly_cdn.config import Settings
    from galerly_cdn.deliver import Response
    from galerly_cdn.origin import Wanted
    from galerly_cdn.telemetry import Telemetry

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_READ = frozenset({b"accept", b"if-none-match", b"range", b"if-range"})
_MAX_LOGGED_PATH = 1024
_log = logging.getLogger(__name__)


class Visit:
    """One request on its way, and what is learned of it for the headers and the access record."""

    __slots__ = (
        "cache",
        "client",
        "headers",
        "method",
        "negotiated",
        "query",
        "raw_path",
        "stages_ms",
        "wanted",
    )

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.client: str = scope["client"][0] if scope["client"] else ""
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _READ:  # a repeated header is one list (RFC 9110 §5.3)
                self.headers[name] = self.headers[name] + b", " + value if name in self.headers else value
        self.wanted: Wanted | None = None
        self.negotiated = False
        self.cache = ""
        self.stages_ms: dict[str, float] = {}

    @property
    def conditions(self) -> Conditions:
        """What decides between 200, 206, 304 and 416."""
        read = self.headers.get
        return Conditions(read(b"if-none-match"), read(b"range"), read(b"if-range"))


if TYPE_CHECKING:
    Handler = Callable[[Visit], Awaitable[Response]]


class Application:
    """The ASGI application: `route` names the handler of a path."""

    def __init__(
        self, route: Callable[[bytes], Handler], settings: Settings, telemetry: Telemetry
    ) -> None:
        self._route = route
        self._settings = settings
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, send, record."""
        started_s = self._telemetry.monotonic()
        request_id = self._telemetry.next_request_id()
        visit = Visit(scope)
        error: GalerlyError | None = None
        try:
            response = await self._route(visit.raw_path)(visit)
        except GalerlyError as raised:
            error = raised
            response = deliver.failure(raised, request_id, self._settings)
        except Exception as unforeseen:
            _log.exception("request %s", request_id)
            error = GalerlyError(type(unforeseen).__name__)
            response = deliver.failure(error, request_id, self._settings)
        duration_ms = round((self._telemetry.monotonic() - started_s) * 1000, 3)
        await _send(send, visit, response, duration_ms)
        self._telemetry.record(
            AccessRecord(
                time_s=round(self._telemetry.wall(), 3),
                request_id=request_id,
                client=visit.client,
                method=visit.method,
                path=visit.raw_path[:_MAX_LOGGED_PATH].decode("ascii", "backslashreplace"),
                status=response.status,
                bytes=0 if visit.method == "HEAD" else len(response.body),
                duration_ms=duration_ms,
                cache=visit.cache,
                stages_ms=visit.stages_ms,
                reason=error.code if error else "",
                detail=error.detail if error else "",
                **_names(visit.wanted),
            )
        )


async def _send(send: Send, visit: Visit, response: Response, duration_ms: float) -> None:
    headers = response.headers
    if visit.negotiated:
        headers.append(deliver.NEGOTIATED)
    if visit.cache:
        headers.append((b"cache-status", b"galerly-cdn; " + visit.cache.encode()))
    headers.append((b"server-timing", _server_timing(visit.stages_ms, duration_ms)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = b"" if visit.method == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})


def _server_timing(stages_ms: dict[str, float], total_ms: float) -> bytes:
    """Server-Timing (W3C): the stages of a miss, and the total."""
    stages = "".join(f"{name};dur={spent}, " for name, spent in stages_ms.items())
    return f"{stages}total;dur={total_ms}".encode()


def _names(wanted: Wanted | None) -> dict[str, str]:
    """What was wanted, in the access record's words."""
    if wanted is None:
        return {}
    target = wanted.target
    return {"key": wanted.key, "size": str(target.size), "format": target.format or "own"}
