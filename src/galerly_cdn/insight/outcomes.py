"""Defines what a hit is, once for all ways to run the CDN: the outcome of a logged request. Pure.

A picture is answered in one of three ways:

- cache hit: a cache in front of the store had it, which is CloudFront's, nginx's or the server's memory;
- store hit: the store had it, so that nothing was rendered;
- render: the viewer waited for a render.

The hits are the cache hits where CloudFront or nginx is in front, and the cache and store hits on one
machine.
"""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """What wrote a line of a log."""

    CLOUDFRONT = "cloudfront"
    NGINX = "nginx"
    """A front, with the configuration that `galerly-cdn nginx` prints."""
    SERVER = "server"
    """`galerly-cdn serve`."""
    RESIZER = "resizer"
    """The function that renders what CloudFront does not find in the store."""


OUTERMOST_FIRST = tuple(Tier)
"""A request is logged by each tier that it reaches: only the lines of the outermost tier are counted."""

CACHES = frozenset({Tier.CLOUDFRONT, Tier.NGINX})
"""The tiers that only cache: what was rendered is told by the lines of the tiers behind them."""


class Outcome(StrEnum):
    """How a logged request ended."""

    CACHE_HIT = "cache hit"
    STORE_HIT = "store hit"
    RENDER = "render"
    SHARED_RENDER = "shared render"
    """The viewer waited for a render that another request had started."""
    MISS = "miss"
    """The cache in front had no picture: a store hit or a render. Only an inner tier's line says which."""
    ERROR = "error"
    LEFT = "left"
    """The viewer closed the connection before there was a response."""
    OTHER = "other"
    """No picture: a download of an original, a page, a redirect."""


PICTURES = frozenset(
    {Outcome.CACHE_HIT, Outcome.STORE_HIT, Outcome.RENDER, Outcome.SHARED_RENDER, Outcome.MISS}
)
"""The outcomes in which the viewer got a picture, or 304 for one that it has: the hit ratio is of them."""


def hits_of(tier: Tier) -> frozenset[Outcome]:
    """The outcomes that are hits, where this tier is the outermost."""
    if tier in CACHES:
        return frozenset({Outcome.CACHE_HIT})
    return frozenset({Outcome.CACHE_HIT, Outcome.STORE_HIT})


def access_outcome(status: int, cache: str, *, has_render: bool) -> Outcome:
    """The outcome of an access record, by its status and the parameters of its Cache-Status (RFC 9211).

    `has_render`: it has the duration of a render. A rendition that was copied from a stored one has none.
    """
    if status == 499:
        return Outcome.LEFT
    if status >= 400:
        return Outcome.ERROR
    first, *parameters = cache.split("; ")
    if first == "hit":
        return Outcome.STORE_HIT if "detail=store" in parameters else Outcome.CACHE_HIT
    if not first.startswith("fwd="):
        return Outcome.OTHER
    if "collapsed" in parameters:
        return Outcome.SHARED_RENDER
    return Outcome.RENDER if has_render else Outcome.STORE_HIT


_CLOUDFRONT_HITS = frozenset({"Hit", "RefreshHit", "OriginShieldHit"})


def cloudfront_outcome(status: int, result: str, response_result: str, *, is_picture: bool) -> Outcome:
    """The outcome of a line of CloudFront's standard log (v2).

    `result` is x-edge-result-type, `response_result` is x-edge-response-result-type: the latter is the result
    of the cache if the former is `Error` because the viewer left during the download. The status is 0
    if the viewer left before the response. `is_picture`: the path is that of a picture.

    Source: the CloudFront Developer Guide, "Standard logging reference", the log file fields.
    """
    if status == 0:
        return Outcome.LEFT
    if status >= 400:
        return Outcome.ERROR
    if not is_picture:
        return Outcome.OTHER
    known = response_result if result == "Error" else result
    if known in _CLOUDFRONT_HITS:
        return Outcome.CACHE_HIT
    return Outcome.MISS if known == "Miss" and (status < 300 or status == 304) else Outcome.OTHER


_NGINX_HITS = frozenset({"HIT", "REVALIDATED", "STALE"})


def nginx_outcome(status: int, result: str, *, is_picture: bool) -> Outcome:
    """The outcome of a line of nginx's log. `result` is `$upstream_cache_status`; empty if nothing is cached.

    Source: nginx.org, ngx_http_upstream_module, embedded variables.
    """
    if status == 499:
        return Outcome.LEFT
    if status >= 400:
        return Outcome.ERROR
    if not is_picture:
        return Outcome.OTHER
    return Outcome.CACHE_HIT if result in _NGINX_HITS else Outcome.MISS
