"""Authenticates clients of the admin API: by bearer token, or on loopback without one as a local client.

A page in a browser on this machine is not a local client. A website can reach the loopback address under a
name of its own (DNS rebinding), which the Host header shows, or by a cross-site request, which Origin and
Sec-Fetch-Site show.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from galerly_cdn.errors import CrossSite, Misdirected, SettingsError, Unauthorized
from galerly_cdn.http.urls import is_loopback
from galerly_cdn.settings.load import admin_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from galerly_cdn.settings.table import Settings

MIN_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 §2.1 `b64token`."""
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]+)")
_ORIGIN = re.compile(rb"https?://(.+)")
LOOPBACK = "loopback"


class Authenticator:
    """Authenticates requests. `is_local`: the listener's address is loopback."""

    def __init__(self, tokens: Iterable[str], *, is_local: bool) -> None:
        self._digests = tuple(hashlib.sha256(one.encode("ascii")).digest() for one in tokens)
        self._is_local = is_local

    def authenticate(self, headers: Mapping[bytes, bytes], *, is_open: bool) -> str:
        """The client for the audit log: `loopback`, or `token` and the beginning of its SHA-256.

        `is_open`: on loopback, the operation needs no token. Raises `CrossSite`, `Misdirected`,
        `Unauthorized`.
        """
        host = headers.get(b"host", b"")
        if not _is_same_site(headers, host):
            raise CrossSite
        client = self._token_client(headers.get(b"authorization", b""))
        if client:
            return client
        if not self._is_local:
            raise Unauthorized
        if not is_loopback(host.decode("latin-1")):
            raise Misdirected(f"the Host header is {host!r}")
        if is_open or not self._digests:
            return LOOPBACK
        raise Unauthorized

    def _token_client(self, authorization: bytes) -> str:
        """The token's name; empty for a wrong one.

        Digests are compared whole and with every token, so that the time reveals nothing.
        """
        matched = _BEARER.fullmatch(authorization)
        digest = hashlib.sha256(matched[1] if matched else b"").digest()
        equal = [one for one in self._digests if hmac.compare_digest(digest, one)]
        return f"token {equal[0].hex()[:8]}" if equal and matched else ""


def _is_same_site(headers: Mapping[bytes, bytes], host: bytes) -> bool:
    """Whether the client is a program, a browser's address bar, or a page of this server."""
    if headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
        return False
    origin = headers.get(b"origin")
    matched = None if origin is None else _ORIGIN.fullmatch(origin)
    return origin is None or (matched is not None and matched[1] == host)


def authenticator(settings: Settings) -> Authenticator:
    """An authenticator by the settings. Raises `SettingsError` for a public address without a token."""
    is_local = is_loopback(settings.admin_host)
    tokens = _strong_tokens(settings) if settings.admin_token_file else ()
    if not (tokens or is_local):
        raise SettingsError([f"admin_host {settings.admin_host} is not loopback: set admin_token_file"])
    return Authenticator(tokens, is_local=is_local)


def _strong_tokens(settings: Settings) -> tuple[str, ...]:
    """The tokens of the file. Raises `SettingsError` if there is none, or if one is weak or malformed."""
    file, tokens = settings.admin_token_file, admin_tokens(settings)
    if not tokens:
        raise SettingsError([f"admin_token_file: {file} contains no token"])
    if not all(len(one) >= MIN_TOKEN_BYTES and _TOKEN.fullmatch(one) for one in tokens):
        problem = f"a token has fewer than {MIN_TOKEN_BYTES} characters, or others than A-Za-z0-9._~+/-"
        raise SettingsError([f"admin_token_file: {file}: {problem}; `openssl rand -hex 32` makes one"])
    return tokens
