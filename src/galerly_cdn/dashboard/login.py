"""Logs operators in with an admin token, and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.admin import sessions
from galerly_cdn.admin.request import PAGES_PATH
from galerly_cdn.admin.routes import Route
from galerly_cdn.dashboard.site import HOME_PATH, LOGIN_PATH, redirect
from galerly_cdn.errors import GalerlyError, MalformedBody, TooManyLogins, Unauthorized
from galerly_cdn.http.client_address import rate_limit_key
from galerly_cdn.http.responses import Response
from galerly_cdn.rate_limit import RateLimit
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.admin.auth import Authenticator
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.dashboard.site import Site

_FAILURES_PER_MINUTE = 5
"""Of one client."""
_FAILURES_PER_MINUTE_OF_ALL = 30
_ALL_CLIENTS = ""
_WRONG_TOKEN = "This is not one of the admin tokens."  # noqa: S105 - a sentence


class LoginForm(Value, frozen=True):
    """The fields of the form."""

    token: str
    username: str = ""
    """Not read: password managers keep a token under a name."""


class Logins:
    """Handles the form to log in, logins and logouts. `now_s` is monotonic, in seconds."""

    def __init__(self, site: Site, authenticator: Authenticator, now_s: Callable[[], float]) -> None:
        self._site = site
        self._authenticator = authenticator
        self._now_s = now_s
        self._failures = RateLimit(_FAILURES_PER_MINUTE)
        self._failures_of_all = RateLimit(_FAILURES_PER_MINUTE_OF_ALL)

    def routes(self) -> tuple[Route, ...]:
        """The routes of the form, of logging in and of logging out."""
        return (
            Route("GET", LOGIN_PATH, self._form, "The form to log in", {}, is_public=True),
            Route("POST", LOGIN_PATH, self._log_in, "Log in", {}, is_public=True),
            Route("POST", f"{PAGES_PATH}/logout", self._log_out, "Log out", {}),
        )

    async def _form(self, request: AdminRequest) -> Response:
        if not self._authenticator.needs_login or self._authenticator.csrf_token(request.headers):
            return redirect(HOME_PATH)
        return await self._site.render(request, "login.html", {"problem": ""})

    async def _log_in(self, request: AdminRequest) -> Response:
        try:
            form = await request.form(LoginForm)
            session_id = self._check(form.token.strip(), request)
        except (MalformedBody, TooManyLogins, Unauthorized) as error:
            request.error = error
            return await self._refused(request, error)
        request.outcome = "logged-in"
        cookie = sessions.cookie(session_id, is_secure=request.is_secure)
        return redirect(HOME_PATH, (b"set-cookie", cookie))

    def _check(self, token: str, request: AdminRequest) -> str:
        """The id of a new session. Nothing is awaited, so that no other attempt gets between.

        Raises `TooManyLogins`, `Unauthorized`.
        """
        now_s, client = self._now_s(), rate_limit_key(request.client)
        for limit, key in ((self._failures, client), (self._failures_of_all, _ALL_CLIENTS)):
            if limit.is_exceeded(key, now_s):
                raise TooManyLogins
        try:
            session_id, request.who = self._authenticator.log_in(
                token, request.headers, is_secure=request.is_secure
            )
        except Unauthorized:
            self._failures.record(client, now_s)
            self._failures_of_all.record(_ALL_CLIENTS, now_s)
            raise
        return session_id

    async def _refused(self, request: AdminRequest, error: GalerlyError) -> Response:
        problem = _WRONG_TOKEN if isinstance(error, Unauthorized) else error.public
        values = {"problem": problem, "code": error.code, "request_id": request.request_id}
        response = await self._site.render(request, "login.html", values, error.status)
        return Response(response.status, [*response.headers, *error.headers()], response.body)

    async def _log_out(self, request: AdminRequest) -> Response:
        self._authenticator.log_out(request.headers)
        request.outcome = "logged-out"
        cookie = sessions.expired_cookie(is_secure=request.is_secure)
        response = redirect(LOGIN_PATH, (b"set-cookie", cookie))
        if not request.is_part:
            return response
        return Response(204, [*response.headers[2:], (b"hx-redirect", LOGIN_PATH.encode())])
