"""Authenticates clients of the admin side: by bearer token or session, or on loopback without one.

A page in a browser on this machine is not a local client. A website can reach the loopback address under a
name of its own (DNS rebinding), which the Host header shows, or by a cross-site request, which Origin and
Sec-Fetch-Site show.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from galerly_cdn.admin.sessions import Sessions, csrf_token, has_csrf_token
from galerly_cdn.errors import (
    CrossSite,
    CsrfTokenMismatch,
    Misdirected,
    SettingsError,
    Unauthorized,
)
from galerly_cdn.http.front_refresh import MIN_TOKEN_BYTES
from galerly_cdn.http.urls import is_loopback
from galerly_cdn.settings.load import admin_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from galerly_cdn.settings.table import Settings

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 §2.1 `b64token`."""
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]+)")
_ORIGIN = re.compile(rb"https?://(.+)")
LOOPBACK = "loopback"


class Authenticator:
    """Authenticates requests. `is_local`: the listener's address is loopback. `now_s` is monotonic."""

    def __init__(self, tokens: Iterable[str], *, is_local: bool, now_s: Callable[[], float]) -> None:
        self._digests = tuple(hashlib.sha256(one.encode("ascii")).digest() for one in tokens)
        self._is_local = is_local
        self._sessions = Sessions(now_s)

    @property
    def needs_login(self) -> bool:
        """Whether there are tokens; without one, every client of this machine is allowed."""
        return bool(self._digests)

    def authenticate(
        self, headers: Mapping[bytes, bytes], *, is_open: bool, is_change: bool = False, is_use: bool = True
    ) -> str:
        """The client for the audit log: `loopback`, or `token` or `session` and the start of a SHA-256.

        `is_open`: on loopback, the operation needs no token. `is_change`: a session needs its CSRF token.
        `is_use`: the request delays a session's expiry. Raises `CrossSite`, `CsrfTokenMismatch`,
        `Misdirected`, `Unauthorized`.
        """
        check_site(headers)
        client = self._token_client(headers.get(b"authorization", b""))
        if client:
            return client
        session = self._sessions.find(headers, is_use=is_use)
        if session is not None:
            if is_change and not has_csrf_token(headers):
                raise CsrfTokenMismatch
            return session.who
        if not self._is_local or (self._digests and not is_open):
            raise Unauthorized
        host = headers.get(b"host", b"")
        if not is_loopback(host.decode("latin-1")):
            raise Misdirected(f"the Host header is {host!r}")
        return LOOPBACK

    def log_in(self, token: str, headers: Mapping[bytes, bytes], *, is_secure: bool) -> tuple[str, str]:
        """Begin a session in place of the browser's former one; its id, and the client for the audit log.

        `is_secure`: the browser's connection has TLS. Raises `Unauthorized`.
        """
        name = self._token_name(token.encode("utf-8", "surrogatepass"))
        if not name:
            raise Unauthorized
        self._sessions.end(headers)
        who = f"session {name}"
        return self._sessions.begin(who, is_secure=is_secure), who

    def log_out(self, headers: Mapping[bytes, bytes]) -> None:
        """End the session of a request."""
        self._sessions.end(headers)

    def csrf_token(self, headers: Mapping[bytes, bytes]) -> str:
        """The CSRF token for a page of a request's session; empty for a request without a session."""
        return csrf_token(headers) if self._sessions.find(headers, is_use=False) is not None else ""

    def _token_client(self, authorization: bytes) -> str:
        """`token` and the token's name; empty for a wrong one."""
        matched = _BEARER.fullmatch(authorization)
        name = self._token_name(matched[1] if matched else b"")
        return f"token {name}" if name else ""

    def _token_name(self, token: bytes) -> str:
        """The start of the token's SHA-256; empty for a wrong one.

        Digests are compared whole and with every token, so that the time reveals nothing.
        """
        digest = hashlib.sha256(token).digest()
        equal = [one for one in self._digests if hmac.compare_digest(digest, one)]
        return equal[0].hex()[:8] if equal else ""


def check_scheme(headers: Mapping[bytes, bytes], *, is_tls: bool) -> None:
    """Raise `CrossSite` for a request over TLS by a page without it, which anybody on its way may have made.

    `is_tls`: this server has ended the TLS. Behind a proxy that ends it, `Origin` has it alone.
    """
    if is_tls and headers.get(b"origin", b"").startswith(b"http:"):
        raise CrossSite


def check_site(headers: Mapping[bytes, bytes]) -> None:
    """Raise `CrossSite` for a request by another site's page."""
    if not _is_same_site(headers, headers.get(b"host", b"")):
        raise CrossSite


def _is_same_site(headers: Mapping[bytes, bytes], host: bytes) -> bool:
    """Whether the client is a program, a browser's address bar, or a page of this server."""
    if headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
        return False
    origin = headers.get(b"origin")
    matched = None if origin is None else _ORIGIN.fullmatch(origin)
    return origin is None or (matched is not None and matched[1] == host)


def authenticator(settings: Settings, now_s: Callable[[], float]) -> Authenticator:
    """An authenticator by the settings; `now_s` is monotonic.

    Raises `SettingsError` for a public address without a token.
    """
    is_local = is_loopback(settings.admin_host)
    tokens = _strong_tokens(settings) if settings.admin_token_file else ()
    if not (tokens or is_local):
        raise SettingsError([f"admin_host {settings.admin_host} is not loopback: set admin_token_file"])
    return Authenticator(tokens, is_local=is_local, now_s=now_s)


def _strong_tokens(settings: Settings) -> tuple[str, ...]:
    """The tokens of the file. Raises `SettingsError` if there is none, or if one is weak or malformed."""
    file, tokens = settings.admin_token_file, admin_tokens(settings)
    if not tokens:
        raise SettingsError([f"admin_token_file: {file} contains no token"])
    if not all(len(one) >= MIN_TOKEN_BYTES and _TOKEN.fullmatch(one) for one in tokens):
        problem = f"a token has fewer than {MIN_TOKEN_BYTES} characters, or others than A-Za-z0-9._~+/-"
        raise SettingsError([f"admin_token_file: {file}: {problem}; `openssl rand -hex 32` makes one"])
    return tokens
