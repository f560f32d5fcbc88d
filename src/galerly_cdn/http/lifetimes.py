"""Decides how long an answer may be kept: by viewers, and by the fronts (nginx, Varnish, a CDN). Pure.

A front keeps what viewers may keep, but asks the node again after `FRONT_S`: what a front holds can be
replaced, what a browser holds cannot. Viewers are told by `Cache-Control` (RFC 9111 §5.2.2, RFC 8246), fronts
by `CDN-Cache-Control` (RFC 9213), which is sent to `trusted_proxies` alone. The configuration of nginx is
made from the same values.

answer                                   viewers            fronts
a picture, an original                   a year, immutable  FRONT_S
the same for a signed request            an hour, private   FRONT_S if each request is checked, else not kept
an error with `max_age_s`                `max_age_s`        `max_age_s`, at most FRONT_S
every other error, so 416, 403 and 503   not kept           not kept
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn import model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.errors import GalerlyError

FRONT_S = 10
"""How long a front answers without asking a node, which is how long a replaced picture may stay."""
IMMUTABLE = model.IMMUTABLE.encode()
PRIVATE = b"private, max-age=3600"
"""For responses to signed requests: no shared cache may store them."""
NO_STORE = b"no-store"
FRONT_HEADER = b"cdn-cache-control"
_PUBLIC = re.compile(rb"public, max-age=([0-9]+)(?:, immutable)?")


def of_error(error: GalerlyError, *, is_private: bool) -> bytes:
    """`Cache-Control` of an error response. Nothing is told of a private folder that a cache may keep."""
    if is_private or error.max_age_s is None:
        return NO_STORE
    return b"public, max-age=%d" % error.max_age_s


def front_s(max_age_s: int | None) -> int:
    """How many seconds a front keeps what viewers keep for `max_age_s`; 0 for what they may not keep."""
    return min(FRONT_S, max_age_s or 0)


def for_fronts(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The header that tells a front how long it may keep a response with these headers; none if not at all.

    A front obeys `no-store` and `private` without it.
    """
    cache_control = next((value for name, value in headers if name == b"cache-control"), b"")
    kept = _PUBLIC.fullmatch(cache_control)
    return [(FRONT_HEADER, b"max-age=%d" % front_s(int(kept[1])))] if kept else []
