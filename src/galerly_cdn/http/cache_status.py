"""The Cache-Status of a response (RFC 9211), as a value and as its header."""

from __future__ import annotations

import functools

from galerly_cdn.serialization import Value

_CACHE = b"galerly-cdn; "
"""This cache's name, an sf-token (RFC 9211 §2)."""


class CacheStatus(Value, frozen=True, cache_hash=True):
    """How the edge obtained a rendition."""

    forwarded: str = ""
    """Why it was not served from the cache, as a value of RFC 9211's `fwd`; empty for a hit."""
    stale_s: int | None = None
    """Age of the last check of the original's version, if it cannot be checked now; a negative `ttl`."""
    detail: str = ""
    stored: bool = False
    collapsed: bool = False

    @property
    def parameters(self) -> str:
        """The parameters after the cache's name, as the header and the access log write them."""
        return _parameters(self)

    @property
    def header(self) -> tuple[bytes, bytes]:
        """The response header."""
        return b"cache-status", _CACHE + self.parameters.encode()

    @property
    def result(self) -> str:
        """The label of the metrics: `hit` (from memory), `stored` (from the store), `stale` or `miss`."""
        if self.forwarded:
            return "miss"
        if self.stale_s is not None:
            return "stale"
        return "stored" if self.detail else "hit"


@functools.lru_cache(maxsize=256)  # the few that are frequent
def _parameters(status: CacheStatus) -> str:
    parts = [f"fwd={status.forwarded}" if status.forwarded else "hit"]
    if status.stale_s is not None:
        parts.append(f"ttl=-{status.stale_s}")
    if status.detail:
        parts.append(f"detail={status.detail}")
    if status.stored:
        parts.append("stored")
    if status.collapsed:
        parts.append("collapsed")
    return "; ".join(parts)


MEMORY_HIT = CacheStatus()
STORE_HIT = CacheStatus(detail="store")
MISS = CacheStatus(forwarded="uri-miss")
"""There is no rendition."""
OUTDATED = CacheStatus(forwarded="stale")
"""There is one, of an older version of the original or of an older recipe."""
COPY = "copy"
"""The `detail` of a miss that was no render: the same picture was stored under another target."""


def stale_hit(age_s: float) -> CacheStatus:
    """A hit while the store is unreachable; the original's version was last checked `age_s` seconds ago."""
    return CacheStatus(stale_s=int(age_s), detail="store-unreachable")
