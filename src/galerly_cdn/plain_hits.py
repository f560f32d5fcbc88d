"""Finds the rendition of a plain hit, and keeps hot renditions in memory.

A plain hit is a GET or HEAD of a public picture without Range, whose current rendition and whose original's
head are found without waiting. The server asks before it runs the application (`Edge.answer`), and each hit
process asks before it returns the connection to the server.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from galerly_cdn.cache import MemoryCache
from galerly_cdn.fill import RenditionKey
from galerly_cdn.http import cache_status, responses, urls
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.http.urls import OriginalRequest
from galerly_cdn.model import Target

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable
    from typing import Protocol

    from galerly_cdn.access.authorizer import Authorizer
    from galerly_cdn.http.exchange import ViewerExchange
    from galerly_cdn.http.responses import PreparedResponse
    from galerly_cdn.http.urls import AllowList, PictureRequest
    from galerly_cdn.model import Head, Rendition
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.stored_renditions import StoredRenditions

    class KnownHead(Protocol):
        """Finds an original's head."""

        def __call__(self, key: str, client: str, /, *, is_hot: bool) -> Head | None:
            """The head that needs no waiting; `is_hot` says that a rendition is in memory."""
            ...


METHODS = frozenset({"GET", "HEAD"})


class PlainHits:
    """The renditions in memory, at most `memory_bytes`, and those that the store has at hand.

    `known_head` and `known` return an original's head and a stored rendition, or None where that would have
    to be waited for.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        settings: Settings,
        *,
        allowed: AllowList,
        authorizer: Authorizer,
        stored: StoredRenditions,
        known_head: KnownHead,
        known: Callable[[str, Target], Rendition | None],
    ) -> None:
        self.memory: MemoryCache[RenditionKey, PreparedResponse] = MemoryCache(
            settings.memory_cache_bytes // settings.processes, lambda prepared: prepared.weight_bytes
        )
        self._settings = settings
        self._allowed = allowed
        self._authorizer = authorizer
        self._stored = stored
        self._known_head = known_head
        self._known = known

    def find(self, exchange: ViewerExchange) -> PreparedResponse | None:
        """The rendition of a plain hit; None for every other request.

        The exchange is then as after `Edge.answer`. Raises as `Edge.answer` does.
        """
        if exchange.method not in METHODS or b"range" in exchange.headers:
            return None
        request = urls.parse(exchange.raw_path, self._allowed)
        if isinstance(request, OriginalRequest) or not self._authorizer.is_public(request.key):
            return None
        target = negotiated_target(request, exchange)
        rendition_key = RenditionKey(request.key, target)
        prepared = self.memory.get(rendition_key)
        self._stored.listed.renew()
        head = self._known_head(request.key, exchange.client, is_hot=prepared is not None)
        if head is None:
            return None
        if prepared is None:
            prepared, status = self._find_stored(rendition_key, head.version), cache_status.STORE_HIT
        else:
            is_current = self._stored.is_current(prepared.rendition.record, head.version)
            prepared, status = prepared if is_current else None, cache_status.MEMORY_HIT
        exchange.negotiated = request.target.format is None
        exchange.key, exchange.target, exchange.cache_status = request.key, target, status
        return prepared

    def forget(self, key: str, target: Target) -> bool:
        """Remove a purged rendition from memory; whether it was there."""
        return self.memory.drop(RenditionKey(key, target))

    def remember(
        self, rendition_key: RenditionKey, rendition: Rendition, put: Task[Rendition | None] | None = None
    ) -> PreparedResponse:
        """Keep a rendition in memory; all requests that waited for one fill share one prepared response.

        It is dropped at the end of its `put` if the store has kept another one: servers of one folder answer
        with the same bytes.
        """
        prepared = self.memory.get(rendition_key)
        if prepared is None or prepared.rendition is not rendition:
            prepared = self._keep(rendition_key, rendition)
            if put is not None:
                put.add_done_callback(partial(self._drop_unless_stored, rendition_key, prepared))
        return prepared

    def _find_stored(self, rendition_key: RenditionKey, version: str) -> PreparedResponse | None:
        """The rendition from the store, if that needs no waiting and it can be served; else None."""
        rendition = self._known(rendition_key.key, rendition_key.target)
        if rendition is None or not self._stored.is_servable(rendition.record, version):
            return None
        return self._keep(rendition_key, rendition)

    def _keep(self, rendition_key: RenditionKey, rendition: Rendition) -> PreparedResponse:
        prepared = responses.prepare(rendition, self._settings)
        self.memory.put(rendition_key, prepared)
        return prepared

    def _drop_unless_stored(
        self, rendition_key: RenditionKey, prepared: PreparedResponse, put: Task[Rendition | None]
    ) -> None:
        stored = None if put.cancelled() else put.result()
        is_other = stored is not None and stored is not prepared.rendition
        if is_other and self.memory.get(rendition_key) is prepared:
            self.memory.drop(rendition_key)


def negotiated_target(request: PictureRequest, exchange: ViewerExchange) -> Target:
    """The target in the path, or with the format that `Accept` chooses."""
    if request.target.format is not None:
        return request.target
    accept = exchange.headers.get(b"accept", b"")
    return Target(request.target.size, negotiate(accept, request.offered))
