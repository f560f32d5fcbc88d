"""Defines the requests that drop a picture from the cache of a front. Pure.

A request with the secret in the header `Galerly-Refresh` is not a viewer's: HEAD asks whether the front has
an entry, GET drops it, so that the next viewer's request asks a node. The front names the result in a header
of the same name. The secret opens nothing else: whoever knows it can make fronts ask nodes, and reads no
private picture by it.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac

from galerly_cdn.errors import SettingsError

HEADER = "Galerly-Refresh"
MIN_TOKEN_BYTES = 32
"""Of a token of the admin API, from which the secret is derived. A front's configuration, which everybody may
read, has a digest of the secret: a short token could be guessed from it."""
_PURPOSE = b"galerly-cdn refresh of fronts"
_NOT_CONFIGURED = (
    "fronts: they accept no request without a secret, which is derived from the admin API's token: "
    "set GALERLY_ADMIN_TOKEN, or admin_token_file"
)
_WEAK = (
    f"fronts: the admin API's token has fewer than {MIN_TOKEN_BYTES} characters, and could be guessed from a "
    "front's configuration; `openssl rand -hex 32` makes one"
)


class Entry(enum.StrEnum):
    """What a front tells of an entry, in the header `Galerly-Refresh`."""

    FRESH = "fresh"
    """It is used without asking a node."""
    STALE = "stale"
    """It is used only after a node has confirmed it, or while no node answers."""
    ABSENT = "absent"
    TOGETHER = "together"
    """The front (Varnish) drops a photograph's pictures by one request, and does not tell what it has."""
    DROPPED = "dropped"
    """It is not used any more."""


def entry(value: str | None) -> Entry | None:
    """What a front has told; None from one that does not know the secret, or is no front."""
    return Entry(value) if value in set(Entry) else None


def secret(token: str) -> str:
    """The secret of the fronts, 64 hexadecimal digits, derived from the token of the admin API.

    Who finds it, in a front's traffic for example, does not learn the token (HMAC, RFC 2104). Raises
    `SettingsError` without a token, and for a short one.
    """
    if not token:
        raise SettingsError([_NOT_CONFIGURED])
    if len(token) < MIN_TOKEN_BYTES:
        raise SettingsError([_WEAK])
    return hmac.new(token.encode("ascii"), _PURPOSE, hashlib.sha256).hexdigest()


def secret_md5(token: str) -> str:
    """What a front compares the secret with: its MD5 in base64url, as nginx's `secure_link` takes it.

    It is no secret: 256 bits cannot be guessed from their digest. Raises as `secret` does.
    """
    digest = hashlib.md5(secret(token).encode("ascii"), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
