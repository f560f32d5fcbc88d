"""Who may ask the admin side? Whoever has the token; on loopback, without one, whoever is on this machine.

A browser on this machine is not its owner. A website reaches us by a name of its own that it points at
127.0.0.1 (DNS rebinding: its Host betrays it) or by a request across sites (Origin and Sec-Fetch-Site do).
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
    """Lets requests in, and says who came. `is_local`: the listener's address is loopback."""

    def __init__(self, tokens: Iterable[str], *, is_local: bool) -> None:
        self._digests = tuple(hashlib.sha256(one.encode("ascii")).digest() for one in tokens)
        self._is_local = is_local

    def admit(self, headers: Mapping[bytes, bytes], *, is_open: bool) -> str:
        """Who asks: `loopback`, or `token` and the beginning of its SHA-256, for the audit log.

        `is_open`: on loopback it takes no token. Raises `CrossSite`, `Misdirected`, `Unauthorized`.
        """
        host = headers.get(b"host", b"")
        if not _is_same_site(headers, host):
            raise CrossSite
        who = self._bearer(headers.get(b"authorization", b""))
        if who:
            return who
        if not self._is_local:
            raise Unauthorized
        if not is_loopback(host.decode("latin-1")):
            raise Misdirected(repr(host))
        if is_open or not self._digests:
            return LOOPBACK
        raise Unauthorized

    def _bearer(self, authorization: bytes) -> str:
        """Whose token it is; empty for nobody's. Each is compared whole, whatever it begins with."""
        matched = _BEARER.fullmatch(authorization)
        given = hashlib.sha256(matched[1] if matched else b"").digest()
        found = [one for one in self._digests if hmac.compare_digest(given, one)]
        return f"token {found[0].hex()[:8]}" if found and matched else ""


def _is_same_site(headers: Mapping[bytes, bytes], host: bytes) -> bool:
    """Whether a program asks, somebody by a browser's address bar, or a page that we served."""
    if headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
        return False
    origin = headers.get(b"origin")
    matched = None if origin is None else _ORIGIN.fullmatch(origin)
    return origin is None or (matched is not None and matched[1] == host)


def authenticator(settings: Settings) -> Authenticator:
    """As the settings say. Raises `SettingsError` for an address that others reach, without a token."""
    is_local = is_loopback(settings.admin_host)
    tokens = _fit_tokens(settings) if settings.admin_token_file else ()
    if not (tokens or is_local):
        raise SettingsError([f"admin_host {settings.admin_host} is not loopback: it needs admin_token_file"])
    return Authenticator(tokens, is_local=is_local)


def _fit_tokens(settings: Settings) -> tuple[str, ...]:
    """At least one, and none that could be guessed. Raises `SettingsError`."""
    file, tokens = settings.admin_token_file, admin_tokens(settings)
    if not tokens:
        raise SettingsError([f"admin_token_file: {file} holds no token"])
    if not all(len(one) >= MIN_TOKEN_BYTES and _TOKEN.fullmatch(one) for one in tokens):
        problem = f"a token is shorter than {MIN_TOKEN_BYTES} characters, or not of A-Za-z0-9._~+/- alone"
        raise SettingsError([f"admin_token_file: {file}: {problem}; `openssl rand -hex 32` makes one"])
    return tokens
