"""Answers one request of a viewer, from its URL to the bytes of a picture. Read `Edge.answer` first.

`plain_hits` is the short way to a plain hit; every other request takes the whole way:

urls.parse            path → size, format, key; requests for originals go on in `downloads.py`
authorizer.decide     private key: a valid signature, else 403
negotiate             Accept → format
miss_limiter.head     the original's version; if the store is unreachable, the last known one, for hits
memory                a current rendition → respond
renditions.get        a stored rendition of a recipe that is served → remember, respond
filler.fill           original → render → store → remember, respond; starting a fill is rate-limited
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.errors import Forbidden, GalerlyError, MethodNotAllowed, NoSuchOriginal
from galerly_cdn.fill import RenditionKey
from galerly_cdn.http import cache_status, responses, urls
from galerly_cdn.http.urls import OriginalRequest
from galerly_cdn.model import Forgotten
from galerly_cdn.plain_hits import METHODS, PlainHits, negotiated_target
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from galerly_cdn.access.authorizer import Authorizer
    from galerly_cdn.downloads import Downloads
    from galerly_cdn.fill import Filled, Filler
    from galerly_cdn.http.cache_status import CacheStatus
    from galerly_cdn.http.exchange import ViewerExchange
    from galerly_cdn.http.responses import PreparedResponse, Response
    from galerly_cdn.http.urls import AllowList
    from galerly_cdn.rate_limit import MissLimiter
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Renditions
    from galerly_cdn.stored_renditions import StoredRenditions


class Edge:
    """Answers `/resize/…`, `/original/…` and `/authorize/…`; every other path is 404."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        settings: Settings,
        allowed: AllowList,
        miss_limiter: MissLimiter,
        renditions: Renditions,
        stored: StoredRenditions,
        filler: Filler,
        authorizer: Authorizer,
        downloads: Downloads,
    ) -> None:
        self._allowed = allowed
        self._miss_limiter = miss_limiter
        self._renditions = renditions
        self._stored = stored
        self._filler = filler
        self._authorizer = authorizer
        self._downloads = downloads
        self._all_targets = settings.all_targets
        self._plain = PlainHits(
            settings,
            allowed=allowed,
            authorizer=authorizer,
            stored=stored,
            known_head=miss_limiter.known_head,
            known=renditions.known,
        )
        self._memory = self._plain.memory
        self.find_hit = self._plain.find
        self.forget = self._plain.forget

    async def answer(self, exchange: ViewerExchange) -> Response:
        """The response to one request. Raises `GalerlyError` for an error response."""
        if exchange.method not in METHODS:
            raise MethodNotAllowed
        if exchange.raw_path.startswith(urls.AUTHORIZE):
            return self._authorize(exchange)
        request = urls.parse(exchange.raw_path, self._allowed)
        if isinstance(request, OriginalRequest):
            return await self._downloads.answer(request, exchange)

        access = self._authorizer.decide(request.key, exchange)
        exchange.is_private = access.is_private
        if access.refusal is not None:
            raise access.refusal

        exchange.negotiated = request.target.format is None
        exchange.key, exchange.target = request.key, negotiated_target(request, exchange)
        rendition_key = RenditionKey(exchange.key, exchange.target)

        head = await self._miss_limiter.head(
            request.key, exchange.client, is_hot=rendition_key in self._memory
        )
        prepared, status = await self._look_up(rendition_key, head.version)
        exchange.cache_status = status
        if prepared is None:
            if head.stale_s:  # a fill needs the version as it is now
                head = await self._miss_limiter.head(
                    request.key, exchange.client, is_hot=False, remembered=False
                )
            fill = self._fill(rendition_key, head.version, exchange.client)
            filled, collapsed = await exchange.while_connected(fill)
            detail = cache_status.COPY if filled.is_copy else ""
            exchange.cache_status = replaced(status, stored=filled.stored, collapsed=collapsed, detail=detail)
            if not collapsed:
                exchange.stages_ms = filled.stages_ms
            prepared = self._plain.remember(rendition_key, filled.rendition, filled.put)
        elif head.stale_s:
            exchange.cache_status = cache_status.stale_hit(head.stale_s)
        return responses.picture(prepared, exchange.conditions, is_private=exchange.is_private)

    def _authorize(self, exchange: ViewerExchange) -> Response:
        """204 if the viewer may have what is at the rest of the path. Raises `Forbidden` otherwise.

        nginx's `auth_request` takes other statuses than 2xx, 401 and 403 for a failure, and answers 500.
        """
        exchange.is_private = True
        path = exchange.raw_path.removeprefix(urls.AUTHORIZE)
        try:
            request = urls.parse(path, self._allowed)
        except GalerlyError as error:
            raise Forbidden(error.code) from error
        is_original = isinstance(request, OriginalRequest)
        access = self._authorizer.decide(request.key, exchange, is_original=is_original, raw_path=path)
        if access.refusal is not None:
            refusal = access.refusal
            raise refusal if isinstance(refusal, Forbidden) else Forbidden(refusal.code)
        return responses.authorized()

    @property
    def memory_bytes(self) -> int:
        """The weight of the renditions in memory."""
        return self._memory.weight_bytes

    async def forget_original(self, key: str) -> Forgotten:
        """Remove an original's renditions and its known head from memory: another process has changed it.

        Raises `StoreRefused`, `StoreUnreachable`.
        """
        targets = [one for one in self._all_targets if self.forget(key, one)]
        try:
            version = (await self._miss_limiter.head(key, "", is_hot=True, remembered=False)).version
        except NoSuchOriginal:
            version = ""
        return Forgotten(key, tuple(map(str, targets)), version)

    async def _look_up(
        self, rendition_key: RenditionKey, version: str
    ) -> tuple[PreparedResponse | None, CacheStatus]:
        """The rendition from memory or the store, if it can be served; else None."""
        self._stored.listed.renew()
        prepared = self._memory.get(rendition_key)
        if prepared is not None and self._stored.is_current(prepared.rendition.record, version):
            return prepared, cache_status.MEMORY_HIT
        rendition = await self._renditions.get(rendition_key.key, rendition_key.target)
        if rendition is None:
            # An older process, whose store has no newer rendition or cannot be reached
            if prepared is not None and self._stored.is_servable(prepared.rendition.record, version):
                return prepared, cache_status.MEMORY_HIT
            return None, cache_status.MISS
        if not await self._stored.serves(rendition.record, version):
            return None, cache_status.OUTDATED
        return self._plain.remember(rendition_key, rendition), cache_status.STORE_HIT

    async def _fill(self, rendition_key: RenditionKey, version: str, client: str) -> tuple[Filled, bool]:
        """The fill, and whether another request had started it. Raises as `fill`, and `TooManyMisses`."""
        if not self._filler.is_filling(rendition_key):
            self._miss_limiter.start_fill(client)
        return await self._filler.fill(rendition_key, version)
