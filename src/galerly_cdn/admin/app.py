"""One request to the admin side, from its path to its answer. Read `Admin._answer` first.

routes.find      method and path → operation
door.admit       a token, or somebody on this machine
handler          what was asked → the archive → a value, or lines of values
deliver          the answer or the error, as JSON that nobody keeps
audit            of a change, who made it and what came of it
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from galerly_cdn.admin import openapi
from galerly_cdn.admin.request import AdminRequest
from galerly_cdn.admin.responses import JSON, JsonLines, body_response
from galerly_cdn.admin.routes import Route, Routes
from galerly_cdn.errors import GalerlyError
from galerly_cdn.http import responses
from galerly_cdn.serialization import to_json
from galerly_cdn.telemetry import AuditRecord, printable

if TYPE_CHECKING:
    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.clock import Clock
    from galerly_cdn.http.client_address import Network
    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry

_log = logging.getLogger(__name__)


class AdminApplication:
    """The ASGI application of the admin side."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        routes: tuple[Route, ...],
        door: Authenticator,
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Clock,
        trusted_proxies: tuple[Network, ...],
    ) -> None:
        described = Route("GET", "/openapi.json", self._describe, "This description", {200: dict})
        self._routes = Routes((*routes, described))
        self._door = door
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._trusted = trusted_proxies
        self._description = to_json(openapi.openapi_document(self._routes.routes)) + b"\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, send, record what was changed."""
        started_s = self._clock.monotonic()
        call = AdminRequest(scope, receive, self._telemetry.next_request_id(), self._trusted)
        call.route, call.named = self._routes.find(call.method, call.raw_path)
        response = await self._answered(call)
        try:
            await _send(send, call, response)
        except GalerlyError as error:  # too late for an answer: the listener ends what is not whole
            call.error = error
        finally:
            self._audit(call, response.status, started_s)

    def refuse(self, error: GalerlyError, client: str) -> Response:  # noqa: ARG002 - it changed nothing
        """The answer to what never became a request."""
        return self._failure(error, self._telemetry.next_request_id())

    async def _answered(self, call: AdminRequest) -> Response | JsonLines:
        """The answer, an error's too."""
        try:
            return await self._answer(call)
        except GalerlyError as error:
            call.error = error
        except Exception as unforeseen:  # noqa: BLE001 - the client gets an answer, the log the trace
            _log.exception("request %s", call.request_id)
            call.error = GalerlyError(type(unforeseen).__name__)
        return self._failure(call.error, call.request_id)

    async def _answer(self, call: AdminRequest) -> Response | JsonLines:
        """What the operation answers. Whoever may not ask is told nothing of what there is."""
        call.who = self._door.admit(call.headers, is_open=call.route.is_open)
        response = await call.route.handler(call)
        return await response.begun() if isinstance(response, JsonLines) else response

    async def _describe(self, _call: AdminRequest) -> Response:
        return body_response(self._description, JSON)

    def _failure(self, error: GalerlyError, request_id: str) -> Response:
        return responses.failure(error, request_id, self._settings, is_private=True)

    def _audit(self, call: AdminRequest, status: int, started_s: float) -> None:
        route, error = call.route, call.error
        if not route.is_change:
            return
        self._telemetry.audit(
            AuditRecord(
                time_s=round(self._clock.wall(), 3),
                request_id=call.request_id,
                client=call.client,
                who=call.who,
                action=f"{route.method} {route.path}",
                outcome=error.code if error else call.outcome,
                status=status,
                duration_ms=round((self._clock.monotonic() - started_s) * 1000, 3),
                subject=call.subject,
                bytes=call.length_bytes,
                detail=printable(error.detail) if error else "",
            )
        )


async def _send(send: Send, call: AdminRequest, response: Response | JsonLines) -> None:
    """Raises `Disconnected`, and what making lines raises."""
    start = {"type": "http.response.start", "status": response.status, "headers": response.headers}
    if isinstance(response, JsonLines):
        async with contextlib.aclosing(response.values):
            await send(start)
            async for line in response.encoded():
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        return
    await send(start)
    body = b"" if call.method == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})
