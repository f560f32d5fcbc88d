"""Caches the origins' responses: freshness, revalidation, invalidation, and request collapsing.

One object for each cache key, without a limit of memory. Concurrent misses of one key make one origin
request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from galerly_cdn.aws_local.cloudfront import invalidations
from galerly_cdn.aws_local.cloudfront.cache_ttl import ttl_s
from galerly_cdn.aws_local.http.viewer_exchange import Outcome, ViewerResponse
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.aws_local.cloudfront.cache_policies import CacheKey, CachePolicyConfig
    from galerly_cdn.aws_local.http.origin_exchange import OriginResponse

    Fetch = Callable[[dict[str, str]], Awaitable[OriginResponse]]
    """Sends the request to the origins, with these headers in addition to its own."""


class CachedResponse(Value, frozen=True):
    """A response, with the times at which it was stored and expires, in seconds of the epoch."""

    response: ViewerResponse
    tags: frozenset[str]
    stored_s: float
    expires_s: float


class Cache:
    """The cache of one distribution. `clock` returns seconds of the epoch."""

    def __init__(self, clock: Callable[[], float], tag_header: str, error_ttls_s: dict[int, float]) -> None:
        self._clock = clock
        self._tag_header = tag_header
        self._error_ttls_s = error_ttls_s
        self._entries: dict[CacheKey, CachedResponse] = {}
        self._in_flight: dict[CacheKey, asyncio.Event] = {}
        self._invalidations: list[invalidations.Invalidation] = []

    async def respond(self, key: CacheKey, policy: CachePolicyConfig, fetch: Fetch) -> Outcome:
        """The cached response if it is fresh, else the origins' response.

        A HEAD request may be answered from the cached response to a GET.
        """
        for candidate in dict.fromkeys((replaced(key, method="GET"), key)):
            if hit := self._fresh(candidate):
                return hit
        if fetched := self._in_flight.get(key):
            await fetched.wait()
            return self._fresh(key) or await self._fill(key, policy, fetch)
        self._in_flight[key] = asyncio.Event()
        try:
            return await self._fill(key, policy, fetch)
        finally:
            self._in_flight.pop(key).set()

    def invalidate(self, *texts: str) -> None:
        """Removes the objects that these paths and `#tags` name, and does not store those being fetched.

        Raises `ValueError` for a text that is neither a path nor a tag.
        """
        parsed = [invalidations.Invalidation.parse(text) for text in texts]
        self._invalidations += parsed
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if not any(invalidation.matches(key.path, entry.tags) for invalidation in parsed)
        }

    def _fresh(self, key: CacheKey) -> Outcome | None:
        entry = self._entries.get(key)
        if entry is None or self._clock() >= entry.expires_s:
            return None
        return Outcome(self._with_age(entry), "Hit" if entry.response.status < 400 else "Error")

    async def _fill(self, key: CacheKey, policy: CachePolicyConfig, fetch: Fetch) -> Outcome:
        """The origins' response. A stale object is revalidated by its ETag."""
        stale = self._entries.get(key)
        if stale is not None and stale.response.status >= 400:
            stale = None
        etag = stale.response.headers.get("etag") if stale else None
        before = len(self._invalidations)
        fetched = await fetch({"if-none-match": etag} if etag else {})
        if stale is not None and (fetched.status == 304 or fetched.status >= 500):
            return self._revalidated(key, policy, stale, fetched)
        entry = self._entry(policy, fetched)
        if entry is None:
            self._entries.pop(key, None)
        elif not any(one.matches(key.path, entry.tags) for one in self._invalidations[before:]):
            self._entries[key] = entry
        response = ViewerResponse(fetched.status, fetched.headers, fetched.body)
        return Outcome(response, "Miss" if fetched.status < 400 else "Error")

    def _revalidated(
        self, key: CacheKey, policy: CachePolicyConfig, stale: CachedResponse, fetched: OriginResponse
    ) -> Outcome:
        """The stale object: renewed by a 304, or served for as long as the origin's error would be cached."""
        now_s = self._clock()
        if fetched.status == 304:
            new = {name: value for name, value in fetched.headers.items() if name != "content-length"}
            headers = stale.response.headers | new
            entry = self._entry(policy, replaced(fetched, status=stale.response.status, headers=headers))
            renewed = entry and replaced(entry, response=replaced(stale.response, headers=headers))
        else:
            error_s = ttl_s(fetched.status, fetched.headers, policy, self._error_ttls_s, now_s) or 0.0
            renewed = replaced(stale, expires_s=now_s + error_s)
        if renewed is not None and self._entries.get(key) is stale:
            self._entries[key] = renewed
        return Outcome(self._with_age(renewed or stale), "RefreshHit" if fetched.status == 304 else "Hit")

    def _entry(self, policy: CachePolicyConfig, fetched: OriginResponse) -> CachedResponse | None:
        """The response as it is cached; None if it must not be."""
        now_s = self._clock()
        fresh_s = ttl_s(fetched.status, fetched.headers, policy, self._error_ttls_s, now_s)
        if fresh_s is None:
            return None
        tags = invalidations.parse_tags(fetched.headers.get(self._tag_header, ""))
        response = ViewerResponse(fetched.status, fetched.headers, fetched.body)
        return CachedResponse(response, tags, now_s, now_s + fresh_s)

    def _with_age(self, entry: CachedResponse) -> ViewerResponse:
        """The response with its Age header (RFC 9111 §5.1)."""
        age_s = int(self._clock() - entry.stored_s)
        return replaced(entry.response, headers={**entry.response.headers, "age": str(age_s)})
