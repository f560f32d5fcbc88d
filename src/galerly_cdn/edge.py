"""One picture's request, from URL to bytes. Read `Edge.answer` first.

url.parse        path → size, format, key; an original's goes to `original.py`
guard            where the key is private: a signature, or 403
negotiate        Accept → format
misses.head      the original's version; old, where the store cannot be asked (RFC 9211: a negative `ttl`)
memory           there and current?            → deliver
renditions.get   stored and current?           → remember, deliver
origin.fill      original → render → store     → remember, deliver; a fill that starts costs an allowance
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.cache import MemoryCache
from galerly_cdn.errors import MethodNotAllowed
from galerly_cdn.fill import RenditionKey
from galerly_cdn.http import responses, urls
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.http.urls import OriginalRequest
from galerly_cdn.model import Target

if TYPE_CHECKING:
    from galerly_cdn.access.authorizer import Authorizer
    from galerly_cdn.downloads import Downloads
    from galerly_cdn.fill import Filler
    from galerly_cdn.http.exchange import Exchange
    from galerly_cdn.http.responses import PreparedResponse, Response
    from galerly_cdn.http.urls import AllowList, PictureRequest
    from galerly_cdn.model import Rendition
    from galerly_cdn.rate_limit import MissLimiter
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Renditions


class Edge:
    """Answers viewers: `/resize/…` and `/original/…`, and 404 for everything that is nowhere."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        settings: Settings,
        allowed: AllowList,
        misses: MissLimiter,
        renditions: Renditions,
        origin: Filler,
        guard: Authorizer,
        downloads: Downloads,
    ) -> None:
        self._settings = settings
        self._allowed = allowed
        self._misses = misses
        self._renditions = renditions
        self._origin = origin
        self._guard = guard
        self._downloads = downloads
        self._memory: MemoryCache[RenditionKey, PreparedResponse] = MemoryCache(
            settings.memory_cache_bytes, lambda one: one.weight_bytes
        )

    async def answer(self, visit: Exchange) -> Response:
        """The response to one request. Raises the `GalerlyError` that answers it otherwise."""
        if visit.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed
        asked = urls.parse(visit.raw_path, self._allowed)
        if isinstance(asked, OriginalRequest):
            return await self._downloads.answer(asked, visit)
        self._guard.admit(asked.key, visit)
        wanted = self._chosen(asked, visit)
        head = await self._misses.head(wanted.key, visit.client, is_hot=wanted in self._memory)
        found = self._remembered(wanted, head.version, visit) or await self._stored(
            wanted, head.version, visit
        )
        if found is None:
            if head.stale_s:
                head = await self._misses.head(wanted.key, visit.client, is_hot=False, remembered=False)
            found = await self._filled(wanted, head.version, visit)
        elif head.stale_s:
            visit.cache = f"hit; ttl=-{int(head.stale_s)}; detail=store-unreachable"
        return responses.picture(found, visit.conditions, is_private=visit.is_private)

    @property
    def memory_bytes(self) -> int:
        """What the hot renditions in memory weigh."""
        return self._memory.weight_bytes

    def forget(self, key: str, target: Target) -> None:
        """Keep a purged rendition in memory no longer."""
        self._memory.drop(RenditionKey(key, target))

    def _chosen(self, asked: PictureRequest, visit: Exchange) -> RenditionKey:
        """What exactly is wanted: the URL's format, or the one the viewer's `Accept` takes."""
        target = asked.target
        if target.format is None:
            visit.negotiated = True
            chosen = negotiate(visit.headers.get(b"accept", b""), asked.offered)
            if chosen is not None:
                target = Target(target.size, chosen)
        visit.key, visit.target = asked.key, target
        return RenditionKey(asked.key, target)

    def _remembered(self, wanted: RenditionKey, version: str, visit: Exchange) -> PreparedResponse | None:
        found = self._memory.get(wanted)
        if found is None or not self._origin.is_current(found.rendition.record, version):
            return None
        visit.cache = "hit"
        return found

    async def _stored(self, wanted: RenditionKey, version: str, visit: Exchange) -> PreparedResponse | None:
        rendition = await self._renditions.get(wanted.key, wanted.target)
        if rendition is None:
            visit.cache = "fwd=uri-miss"
            return None
        if not self._origin.is_current(rendition.record, version):
            visit.cache = "fwd=stale"
            return None
        visit.cache = "hit; detail=store"
        return self._remember(wanted, rendition)

    async def _filled(self, wanted: RenditionKey, version: str, visit: Exchange) -> PreparedResponse:
        if not self._origin.is_filling(wanted):
            self._misses.start_fill(visit.client)
        filled, collapsed = await self._origin.fill(wanted, version)
        if filled.stored:
            visit.cache += "; stored"
        if collapsed:
            visit.cache += "; collapsed"
        else:
            visit.stages_ms = filled.stages_ms
        return self._remember(wanted, filled.rendition)

    def _remember(self, wanted: RenditionKey, rendition: Rendition) -> PreparedResponse:
        """Keep it in memory; all who waited for one fill share one parcel."""
        found = self._memory.get(wanted)
        if found is None or found.rendition is not rendition:
            found = responses.prepare(rendition, self._settings)
            self._memory.put(wanted, found)
        return found
