"""Answers one request to the admin API, from path to response. Read `AdminApplication._answer` first.

routes.find           method and path → operation
authenticate          a bearer token, or a client on this machine
handler               parameters and body → library → a value, or lines of values
run                   the response or the error is sent as JSON, not to be cached (`http/exchange.py`)
audit                 of a change: the client and the outcome
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.admin import openapi
from galerly_cdn.admin.request import AdminRequest
from galerly_cdn.admin.responses import JSON, body_response
from galerly_cdn.admin.routes import Route, Routes
from galerly_cdn.http import responses
from galerly_cdn.http.exchange import ExchangeRunner
from galerly_cdn.serialization import to_json
from galerly_cdn.telemetry import AuditRecord, printable

if TYPE_CHECKING:
    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.clock import Clock
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry


class AdminApplication:
    """The ASGI application of the admin API."""

    def __init__(
        self,
        routes: tuple[Route, ...],
        authenticator: Authenticator,
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Clock,
    ) -> None:
        openapi_route = Route("GET", "/openapi.json", self._openapi, "This description", {200: dict})
        self._routes = Routes((*routes, openapi_route))
        self._authenticator = authenticator
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._runner = ExchangeRunner[AdminRequest](settings, clock.monotonic, self._audit)
        self._openapi_document = to_json(openapi.openapi_document(self._routes.routes)) + b"\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one exchange."""
        request = AdminRequest(
            scope, receive, self._telemetry.next_request_id(), self._settings.trusted_networks
        )
        request.route, request.named = self._routes.find(request.method, request.raw_path)
        await self._runner.run(request, self._answer, send)

    def refuse(self, error: GalerlyError, client: str) -> Response:  # noqa: ARG002 - the listener passes it
        """The error response to a request that could not be read. It changed nothing: no audit record."""
        return responses.failure(error, self._telemetry.next_request_id(), self._settings, is_private=True)

    async def _answer(self, request: AdminRequest) -> Response:
        """The response of the operation; without authentication, a client learns nothing of what exists."""
        if request.route.is_probe:
            return await request.route.handler(request)
        request.who = self._authenticator.authenticate(request.headers, is_open=request.route.is_open)
        return await request.route.handler(request)

    async def _openapi(self, _request: AdminRequest) -> Response:
        return body_response(self._openapi_document, JSON)

    def _audit(self, request: AdminRequest) -> None:
        route, error = request.route, request.error
        if not route.is_change:
            return
        self._telemetry.audit(
            AuditRecord(
                time_s=round(self._clock.wall(), 3),
                request_id=request.request_id,
                client=request.client,
                who=request.who,
                action=f"{route.method} {route.path}",
                outcome=error.code if error else request.outcome,
                status=request.status,
                duration_ms=request.total_ms,
                subject=request.subject,
                bytes=request.length_bytes,
                detail=printable(error.detail) if error else "",
            )
        )
