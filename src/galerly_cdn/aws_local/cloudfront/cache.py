"""What is kept of the origins' answers, and who has to ask them again?

One object for each key, no limit of memory. Misses of one key that come together ask once.
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

    Ask = Callable[[dict[str, str]], Awaitable[OriginResponse]]
    """Asks the origins, with these headers beside the others."""


class CachedResponse(Value, frozen=True):
    """A response, since when and until when; seconds of the epoch."""

    response: ViewerResponse
    tags: frozenset[str]
    since_s: float
    until_s: float


class Cache:
    """`clock` tells seconds of the epoch."""

    def __init__(self, clock: Callable[[], float], tag_header: str, error_ttls_s: dict[int, float]) -> None:
        self._clock = clock
        self._tag_header = tag_header
        self._error_ttls_s = error_ttls_s
        self._kept: dict[CacheKey, CachedResponse] = {}
        self._asking: dict[CacheKey, asyncio.Event] = {}
        self._invalidations: list[invalidations.Invalidation] = []

    async def respond(self, key: CacheKey, policy: CachePolicyConfig, ask: Ask) -> Outcome:
        """What is kept and fresh, else what the origins answer. A HEAD is answered from a cached GET."""
        for one in dict.fromkeys((replaced(key, method="GET"), key)):
            if found := self._fresh(one):
                return found
        if other := self._asking.get(key):
            await other.wait()
            return self._fresh(key) or await self._fill(key, policy, ask)
        self._asking[key] = asyncio.Event()
        try:
            return await self._fill(key, policy, ask)
        finally:
            self._asking.pop(key).set()

    def invalidate(self, *texts: str) -> None:
        """Forget what these paths and `#tags` name, also what is just being asked. Raises `ValueError`."""
        read = [invalidations.Invalidation.read(text) for text in texts]
        self._invalidations += read
        self._kept = {
            key: kept
            for key, kept in self._kept.items()
            if not any(one.concerns(key.path, kept.tags) for one in read)
        }

    def _fresh(self, key: CacheKey) -> Outcome | None:
        kept = self._kept.get(key)
        if kept is None or self._clock() >= kept.until_s:
            return None
        return Outcome(self._aged(kept), "Hit" if kept.response.status < 400 else "Error")

    async def _fill(self, key: CacheKey, policy: CachePolicyConfig, ask: Ask) -> Outcome:
        """What the origins answer; of an object that is stale they are asked whether it still holds."""
        stale = self._kept.get(key)
        if stale is not None and stale.response.status >= 400:
            stale = None
        etag = stale.response.headers.get("etag") if stale else None
        before = len(self._invalidations)
        found = await ask({"if-none-match": etag} if etag else {})
        if stale is not None and (found.status == 304 or found.status >= 500):
            return self._renewed(key, policy, stale, found)
        kept = self._made(policy, found)
        if kept is None:
            self._kept.pop(key, None)
        elif not any(one.concerns(key.path, kept.tags) for one in self._invalidations[before:]):
            self._kept[key] = kept
        response = ViewerResponse(found.status, found.headers, found.body)
        return Outcome(response, "Miss" if found.status < 400 else "Error")

    def _renewed(
        self, key: CacheKey, policy: CachePolicyConfig, stale: CachedResponse, found: OriginResponse
    ) -> Outcome:
        """A stale object that still holds; or whose origin fails, for as long as the error would be kept."""
        now_s = self._clock()
        if found.status == 304:
            told = {name: value for name, value in found.headers.items() if name != "content-length"}
            headers = stale.response.headers | told
            fresh = self._made(policy, replaced(found, status=stale.response.status, headers=headers))
            renewed = fresh and replaced(fresh, response=replaced(stale.response, headers=headers))
        else:
            error_s = ttl_s(found.status, found.headers, policy, self._error_ttls_s, now_s) or 0.0
            renewed = replaced(stale, until_s=now_s + error_s)
        if renewed is not None and self._kept.get(key) is stale:
            self._kept[key] = renewed
        return Outcome(self._aged(renewed or stale), "RefreshHit" if found.status == 304 else "Hit")

    def _made(self, policy: CachePolicyConfig, found: OriginResponse) -> CachedResponse | None:
        now_s = self._clock()
        fresh_s = ttl_s(found.status, found.headers, policy, self._error_ttls_s, now_s)
        if fresh_s is None:
            return None
        tags = invalidations.read_tags(found.headers.get(self._tag_header, ""))
        return CachedResponse(
            ViewerResponse(found.status, found.headers, found.body), tags, now_s, now_s + fresh_s
        )

    def _aged(self, kept: CachedResponse) -> ViewerResponse:
        """With Age: RFC 9111 §5.1."""
        age_s = int(self._clock() - kept.since_s)
        return replaced(kept.response, headers={**kept.response.headers, "age": str(age_s)})
