"""Answers one request to the admin API, from path to response. Read `AdminApplication._answer` first.

routes.find           method and path → operation
authenticate          a bearer token, a session of the dashboard, or a client on this machine
handler               parameters and body → library → a value, or lines of values
run                   the response or the error is sent as JSON, not to be cached (`http/exchange.py`)
audit                 of a change: the client and the outcome
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from galerly_cdn.admin import openapi
from galerly_cdn.admin.auth import check_scheme, check_site
from galerly_cdn.admin.request import AdminRequest
from galerly_cdn.admin.responses import JSON, body_response
from galerly_cdn.admin.routes import Route, Routes
from galerly_cdn.errors import GalerlyError
from galerly_cdn.http import responses
from galerly_cdn.http.exchange import ExchangeRunner
from galerly_cdn.serialization import to_json
from galerly_cdn.telemetry import AuditRecord, printable

if TYPE_CHECKING:
    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.clock import Clock
    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.http.responses import Response
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.telemetry import Telemetry


class Pages(Protocol):
    """The pages for people: their routes, and the answer to what fails in their space of paths."""

    @property
    def routes(self) -> tuple[Route, ...]: ...

    async def failure(self, request: AdminRequest, error: GalerlyError) -> Response:
        """The page, or the redirect, that a browser gets in place of the page it requested."""
        ...


class AdminApplication:
    """The ASGI application of the admin API, and of the dashboard's pages where there are any."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        routes: tuple[Route, ...],
        authenticator: Authenticator,
        settings: Settings,
        telemetry: Telemetry,
        *,
        clock: Clock,
        pages: Pages | None = None,
    ) -> None:
        openapi_route = Route("GET", "/openapi.json", self._openapi, "This description", {200: dict})
        described = (*routes, openapi_route)
        self._pages = pages
        self._routes = Routes((*described, *(pages.routes if pages is not None else ())))
        self._authenticator = authenticator
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._runner = ExchangeRunner[AdminRequest](settings, clock.monotonic, self._audit)
        self._openapi_document = to_json(openapi.openapi_document(described)) + b"\n"

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
        try:
            return await self._operate(request)
        except GalerlyError as error:
            if self._pages is None or not request.is_of_page:
                raise
            request.error = error
            return await self._pages.failure(request, error)

    async def _operate(self, request: AdminRequest) -> Response:
        route = request.route
        if route.is_probe:
            request.who = self._recognized(request)
            return await route.handler(request)
        check_scheme(request.headers, is_tls=request.is_tls)
        if route.is_public:
            check_site(request.headers)
        else:
            request.who = self._authenticator.authenticate(
                request.headers,
                is_open=route.is_open,
                is_change=route.is_change,
                is_use=not route.is_polled,
            )
        return await route.handler(request)

    def _recognized(self, request: AdminRequest) -> str:
        """The client of a probe, if it authenticates itself; else empty, and it is answered as well."""
        try:
            return self._authenticator.authenticate(request.headers, is_open=True, is_use=False)
        except GalerlyError:
            return ""

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
