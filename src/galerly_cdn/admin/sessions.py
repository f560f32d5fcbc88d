"""Keeps the sessions of operators who logged in with an admin token, and reads and writes their cookie.

The server keeps a digest of each session's id, never the id. The CSRF token is derived from the id, which a
page cannot read (HttpOnly), so that it proves that the server wrote the page for this session.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING

from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IDLE_S = 60 * 60
"""A session ends when it was not used for this long. Requests that a page repeats by itself are no use."""
LIFETIME_S = 12 * 60 * 60
"""A session ends this long after its login, whether it was used or not."""
MAX_SESSIONS = 64
"""A further login ends the session that was not used for longest."""
CSRF_HEADER = b"x-csrf-token"
COOKIE = "galerly_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Over TLS. A browser takes it only from this very host, over TLS, for `/` (RFC 6265bis §4.1.3.2)."""
_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Strict"
_ID = re.compile(rb"[A-Za-z0-9_-]{43}")
"""256 bits in base64url without padding (RFC 4648 §5)."""


class Session(Value, frozen=True):
    """One login. Times are monotonic, in seconds."""

    who: str
    """The client for the audit log."""
    is_secure: bool
    """Whether the login came over TLS: then only `SECURE_COOKIE` carries it."""
    began_s: float
    used_s: float

    def is_over(self, now_s: float) -> bool:
        """Whether it has expired."""
        return now_s - self.used_s >= IDLE_S or now_s - self.began_s >= LIFETIME_S


class Sessions:
    """The sessions of one process. `now_s` is monotonic, in seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._by_digest: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def begin(self, who: str, *, is_secure: bool) -> str:
        """Begin a session, and return its new id."""
        now_s = self._now_s()
        self._by_digest = {digest: one for digest, one in self._by_digest.items() if not one.is_over(now_s)}
        while len(self._by_digest) >= MAX_SESSIONS:
            del self._by_digest[min(self._by_digest, key=lambda digest: self._by_digest[digest].used_s)]
        session_id = secrets.token_urlsafe(32)
        self._by_digest[_digest(session_id)] = Session(who, is_secure, began_s=now_s, used_s=now_s)
        return session_id

    def find(self, headers: Mapping[bytes, bytes], *, is_use: bool = True) -> Session | None:
        """The session whose cookie a request has; None if it has none, or an expired one.

        `is_use`: the request delays the session's expiry.
        """
        session_id, is_secure = _sent_id(headers)
        digest, now_s = _digest(session_id), self._now_s()
        session = self._by_digest.get(digest)
        if session is None or session.is_secure != is_secure:
            return None
        if session.is_over(now_s):
            del self._by_digest[digest]
            return None
        if is_use:
            self._by_digest[digest] = replaced(session, used_s=now_s)
        return session

    def end(self, headers: Mapping[bytes, bytes]) -> None:
        """End the session whose cookie a request has, if there is one."""
        self._by_digest.pop(_digest(_sent_id(headers)[0]), None)


def csrf_token(headers: Mapping[bytes, bytes]) -> str:
    """The CSRF token of the session whose cookie a request has; empty without a cookie."""
    session_id, _ = _sent_id(headers)
    return hashlib.sha256(f"csrf {session_id}".encode()).hexdigest() if session_id else ""


def has_csrf_token(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request with a session's cookie has its CSRF token too."""
    wanted = csrf_token(headers).encode()
    return bool(wanted) and hmac.compare_digest(headers.get(CSRF_HEADER, b""), wanted)


def cookie(session_id: str, *, is_secure: bool) -> bytes:
    """The value of Set-Cookie that gives a browser the session's id, until the browser is closed."""
    if is_secure:
        return f"{SECURE_COOKIE}={session_id}; {_ATTRIBUTES}; Secure".encode()
    return f"{COOKIE}={session_id}; {_ATTRIBUTES}".encode()


def expired_cookie(*, is_secure: bool) -> bytes:
    """The value of Set-Cookie that removes the cookie."""
    return cookie("", is_secure=is_secure) + b"; Max-Age=0"


def _digest(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode("ascii")).digest()


def _sent_id(headers: Mapping[bytes, bytes]) -> tuple[str, bool]:
    """The id in the Cookie header, and whether it is in `SECURE_COOKIE`, which overrides the other one.

    It is empty if the cookie is absent or malformed. It is also empty if the cookie is sent twice: another
    site of the same domain, or a program on another port of this machine, has added one.
    """
    found: dict[bytes, list[bytes]] = {}
    for pair in headers.get(b"cookie", b"").split(b";"):
        name, _, value = pair.strip(b" \t").partition(b"=")
        found.setdefault(name, []).append(value)
    for cookie_name in (SECURE_COOKIE, COOKIE):
        values = found.get(cookie_name.encode())
        if values is not None:
            is_id = len(values) == 1 and _ID.fullmatch(values[0]) is not None
            return values[0].decode("ascii") if is_id else "", cookie_name == SECURE_COOKIE
    return "", False
