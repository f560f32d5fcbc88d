"""Answers one request for which CloudFront found no object in S3. Read `Resizer._answer` first.

urls.parse_stored  path, key → target, key; checked here because the request passed no edge of galerly-cdn
originals.head     the original's version
renditions.head    stored after all? If for long, CloudFront cannot read the bucket: an alarm
filler.fill        original → render → store, unless it is stored and current
respond            200; a body too large for Lambda is in the store now, and the viewer is redirected to it
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import emf, function_url
from galerly_cdn.errors import (
    MethodNotAllowed,
    StoreRefused,
    StoreUnreachable,
    Unavailable,
)
from galerly_cdn.fill import RenditionKey
from galerly_cdn.http import cache_status, responses, urls
from galerly_cdn.http.exchange import ExchangeRunner, ViewerExchange
from galerly_cdn.http.request import empty_scope
from galerly_cdn.http.responses import Conditions
from galerly_cdn.http.urls import AllowList
from galerly_cdn.serialization import replaced, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws.functions.composition import Stores
    from galerly_cdn.clock import Clock
    from galerly_cdn.fill import Filler
    from galerly_cdn.http.cache_status import CacheStatus
    from galerly_cdn.http.responses import Headers, Response
    from galerly_cdn.model import Rendition

CACHE_TAG = b"x-amz-meta-cache-tag"
"""The header in which S3 returns an object's tags: CloudFront reads one header, from S3 and from here."""
_TAGGED = frozenset({200, 302, 404, 415})
_SETTLED_S = 60.0
"""A younger object may have been stored by a concurrent miss."""


class ResizerExchange(ViewerExchange):
    """An exchange with CloudFront. `function` is the Lambda function's name."""

    __slots__ = ("encoded_key", "function", "is_stored", "metrics")

    def __init__(self, request_id: str, function: str) -> None:
        super().__init__(empty_scope(), request_id)
        self.function = function
        self.encoded_key = b""
        """The key that the viewer function passed beside the path."""
        self.is_stored = False
        """Whether the viewer followed a redirect of the resizer."""
        self.metrics: dict[str, float] = {}
        """For CloudWatch, by the names of `emf.UNITS`."""

    def read(self, event: Mapping[str, Any]) -> None:
        """Take over the request of an event. Raises `KeyError` for an event of another kind."""
        request = function_url.read_event(event)
        self.method, self.raw_path, self.client = request.method, request.raw_path, request.client
        self.encoded_key = request.encoded_key
        self.is_private, self.is_stored = request.is_private, request.is_stored

    def response_headers(self) -> Headers:
        """The cache tags of responses that CloudFront keeps; its own policies add all other headers."""
        if not self.key or self.status not in _TAGGED:
            return []
        return [(CACHE_TAG, urls.cache_tags(self.key).encode())]


class Resizer:
    """Answers function URL events. `write_line` writes to the function's log."""

    def __init__(
        self, stores: Stores, filler: Filler, *, clock: Clock, write_line: Callable[[bytes], None]
    ) -> None:
        # S3 sends no headers on who may embed a picture: CloudFront's response headers policies add them.
        self._settings = replaced(
            stores.settings, allow_origin="", timing_allow_origin="", resource_policy=""
        )
        self._originals = stores.originals
        self._renditions = stores.renditions
        self._filler = filler
        self._allowed = AllowList(stores.settings.size_rules)
        self._clock = clock
        self._write_line = write_line
        self._runner = ExchangeRunner[ResizerExchange](self._settings, clock.monotonic, self._record)

    async def answer(self, event: Mapping[str, Any], request_id: str, function: str) -> dict[str, Any]:
        """The result for one event; raises nothing. Logs the request, and its metrics for CloudWatch."""
        exchange = ResizerExchange(request_id, function)
        response = await self._runner.run(exchange, functools.partial(self._answer, event))
        await (
            self._filler.drain()
        )  # Lambda stops the process after the answer: the fact record is written first
        return function_url.to_result(response, exchange.method)

    async def _answer(self, event: Mapping[str, Any], exchange: ResizerExchange) -> Response:
        exchange.read(event)
        if exchange.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed
        target, key = urls.parse_stored(exchange.raw_path, exchange.encoded_key, self._allowed)
        exchange.target, exchange.key = target, key
        exchange.cache_status = cache_status.MISS
        rendition_key = RenditionKey(key, target)
        version = (await self._originals.head(key, remembered=False)).version
        rendition, status = await self._look_up(exchange, rendition_key, version)
        exchange.cache_status = status
        if rendition is not None:
            return self._respond(exchange, rendition, is_in_store=True)
        filled, _ = await self._filler.fill(rendition_key, version)
        detail = cache_status.COPY if filled.is_copy else ""
        exchange.cache_status = replaced(status, stored=filled.stored, detail=detail)
        exchange.stages_ms = filled.stages_ms
        exchange.metrics["RenditionBytes"] = filled.rendition.record.length_bytes
        if not filled.is_copy:
            exchange.metrics["RenderTime"] = filled.stages_ms["render"]
        return self._respond(exchange, filled.rendition, is_in_store=filled.stored)

    async def _look_up(
        self, exchange: ResizerExchange, rendition_key: RenditionKey, version: str
    ) -> tuple[Rendition | None, CacheStatus]:
        """The rendition if it is stored and served, although CloudFront did not find it.

        The store is asked before the render: what a conditional put would meet (412) spares the render.
        """
        stored = await self._renditions.head(rendition_key.key, rendition_key.target)
        if stored is None:
            return None, cache_status.MISS
        if self._clock.wall() - stored.modified_s > _SETTLED_S:
            exchange.metrics["StoredButUnreadable"] = 1
        rendition = await self._renditions.get(rendition_key.key, rendition_key.target)
        if rendition is None or not await self._filler.stored.serves(rendition.record, version):
            return None, cache_status.OUTDATED
        return rendition, cache_status.STORE_HIT

    def _respond(self, exchange: ResizerExchange, rendition: Rendition, *, is_in_store: bool) -> Response:
        """200, or a redirect to a body too large for Lambda; a response to HEAD has no body."""
        if exchange.method == "HEAD" or len(rendition.body) <= function_url.MAX_BODY_BYTES:
            return responses.picture(responses.prepare(rendition, self._settings), Conditions())
        if not is_in_store:
            raise StoreUnreachable("too large for Lambda's response, and the store did not accept it")
        if exchange.is_private:  # only the viewer has the signature, so a redirect cannot repeat it
            raise Unavailable("too large for Lambda's response; it is stored now")
        if exchange.is_stored:
            exchange.metrics["StoredButUnreadable"] = 1
            raise StoreRefused("stored, but CloudFront cannot read it from the bucket")
        record = rendition.record
        # `v`: browsers keep the response for a year, so another rendition needs another address
        location = f"{urls.format_path(record.target, record.key)}?stored=1&v={record.md5}"
        return responses.redirect(location, self._settings)

    def _record(self, exchange: ResizerExchange) -> None:
        self._write_line(to_json(exchange.access_record(self._clock.wall())))
        if exchange.metrics:
            self._write_line(emf.metric_line(exchange.function, exchange.metrics, self._clock.wall()))
