"""One request that CloudFront found nothing for in S3, from path to picture. Read `Resizer._answered`.

url.parse_stored  path → target, key; checked again: what comes here went through no edge of ours
originals.head    the original's version
renditions.head   stored after all? Long ago: CloudFront cannot read the bucket, which is an alarm
origin.fill       original → render → store, unless it is stored and current
deliver           200; what is too large for Lambda is in the store now, and the viewer is sent there
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import emf, function_url
from galerly_cdn.errors import (
    GalerlyError,
    MethodNotAllowed,
    NoSuchOriginal,
    StoreRefused,
    StoreUnreachable,
    Unavailable,
)
from galerly_cdn.fill import RenditionKey
from galerly_cdn.http import responses, urls
from galerly_cdn.http.responses import Conditions
from galerly_cdn.http.urls import AllowList
from galerly_cdn.serialization import replaced, to_json
from galerly_cdn.telemetry import AccessRecord, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws.functions.composition import Stores
    from galerly_cdn.aws.functions.function_url import FunctionUrlRequest
    from galerly_cdn.fill import Filler
    from galerly_cdn.http.responses import Response
    from galerly_cdn.model import Rendition, Target

CACHE_TAG = b"x-amz-meta-cache-tag"
"""As S3 answers the tag of an object: CloudFront reads one header, whoever answers."""
_TAGGED = frozenset({200, 302, 404, 415})
_SETTLED_S = 60.0
"""An object younger than this may have been stored by a miss beside this one."""
_log = logging.getLogger(__name__)


class ResizerExchange:
    """A request on its way, and what the log is to say of it."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.asked: FunctionUrlRequest | None = None
        self.key = ""
        self.target: Target | None = None
        self.cache = ""
        self.error: GalerlyError | None = None
        self.stages_ms: dict[str, float] = {}
        self.metrics: dict[str, float] = {}


class Resizer:
    """Answers function-URL events. `wall` tells seconds since the epoch, `monotonic` measures."""

    def __init__(
        self,
        stores: Stores,
        origin: Filler,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        tell: Callable[[bytes], None],
    ) -> None:
        # S3 says nothing of who may embed a picture: CloudFront's headers policies do, of either's answers.
        self._settings = replaced(
            stores.settings, allow_origin="", timing_allow_origin="", resource_policy=""
        )
        self._originals = stores.originals
        self._renditions = stores.renditions
        self._origin = origin
        self._allowed = AllowList(stores.settings.size_rules)
        self._wall = wall
        self._monotonic = monotonic
        self._tell = tell

    async def answer(self, event: Mapping[str, Any], request_id: str, function: str) -> dict[str, Any]:
        """The result for one event; never an exception. Tells the log what happened, and its metrics."""
        started_s = self._monotonic()
        visit = ResizerExchange(request_id)
        try:
            visit.asked = function_url.read_event(event)
            response = await self._answered(visit, visit.asked)
        except GalerlyError as error:
            response = self._failure(visit, error)
        except Exception as unforeseen:  # noqa: BLE001 - the viewer gets an answer, the log the trace
            _log.exception("request %s", request_id)
            response = self._failure(visit, GalerlyError(type(unforeseen).__name__))
        if visit.key and response.status in _TAGGED:
            response.headers.append((CACHE_TAG, urls.cache_tag(visit.key).encode()))
        self._tell(to_json(self._record(visit, response, started_s)))
        if visit.metrics:
            self._tell(emf.metric_line(function, visit.metrics, self._wall()))
        return function_url.to_result(response, visit.asked.method if visit.asked else "")

    async def _answered(self, visit: ResizerExchange, asked: FunctionUrlRequest) -> Response:
        if asked.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed
        visit.target, visit.key = target, key = urls.parse_stored(asked.raw_path, self._allowed)
        if target is None:
            raise NoSuchOriginal("CloudFront asked S3 for it first")
        wanted = RenditionKey(key, target)
        version = (await self._originals.head(key, remembered=False)).version
        rendition = await self._stored(visit, wanted, version)
        if rendition is not None:
            return self._delivered(visit, asked, rendition, is_stored=True)
        filled, _ = await self._origin.fill(wanted, version)
        visit.cache += "; stored" if filled.stored else ""
        visit.stages_ms = filled.stages_ms
        rendition = filled.rendition
        visit.metrics["RenditionBytes"] = rendition.record.length_bytes
        visit.metrics["RenderTime"] = filled.stages_ms["render"]
        return self._delivered(visit, asked, rendition, is_stored=filled.stored)

    async def _stored(self, visit: ResizerExchange, wanted: RenditionKey, version: str) -> Rendition | None:
        """The rendition if it is stored and current, though CloudFront was told there is none.

        Asked ahead of the render: that sees what a conditional put would meet (412), and spares the render.
        """
        visit.cache = "fwd=uri-miss"
        stored = await self._renditions.head(wanted.key, wanted.target)
        if stored is None:
            return None
        if self._wall() - stored.modified_s > _SETTLED_S:
            visit.metrics["StoredButUnreadable"] = 1
        rendition = await self._renditions.get(wanted.key, wanted.target)
        if rendition is None or not self._origin.is_current(rendition.record, version):
            visit.cache = "fwd=stale"
            return None
        visit.cache = "hit; detail=store"
        return rendition

    def _delivered(
        self, visit: ResizerExchange, asked: FunctionUrlRequest, rendition: Rendition, *, is_stored: bool
    ) -> Response:
        """200, or the way to what is too large for Lambda; a HEAD has no body to be too large."""
        if asked.method == "HEAD" or len(rendition.body) <= function_url.MAX_BODY_BYTES:
            return responses.picture(responses.prepare(rendition, self._settings), Conditions())
        if not is_stored:
            raise StoreUnreachable("too large to be answered, and the store did not take it")
        if asked.is_private:  # the signature is CloudFront's to know: it cannot be sent along
            raise Unavailable("too large to be answered; stored now")
        if asked.is_stored:
            visit.metrics["StoredButUnreadable"] = 1
            raise StoreRefused("stored, and CloudFront cannot read it")
        record = rendition.record
        # `v`: a browser keeps what it finds there for a year, and another rendition must be elsewhere
        location = f"{urls.format_path(record.target, record.key)}?stored=1&v={record.md5}"
        return responses.redirect(location, self._settings)

    def _failure(self, visit: ResizerExchange, error: GalerlyError) -> Response:
        visit.error = error
        is_private = visit.asked is not None and visit.asked.is_private
        return responses.failure(error, visit.request_id, self._settings, is_private=is_private)

    def _record(self, visit: ResizerExchange, response: Response, started_s: float) -> AccessRecord:
        asked, error, target = visit.asked, visit.error, visit.target
        is_head = asked is not None and asked.method == "HEAD"
        return AccessRecord(
            time_s=round(self._wall(), 3),
            request_id=visit.request_id,
            client=asked.client if asked else "",
            method=asked.method if asked else "",
            path=printable(asked.raw_path.decode("latin-1")) if asked else "",
            status=response.status,
            bytes=0 if is_head else len(response.body),
            duration_ms=round((self._monotonic() - started_s) * 1000, 3),
            key=visit.key,
            size=str(target.size) if target else "",
            format=target.format or "own" if target else "",
            cache=visit.cache,
            stages_ms=visit.stages_ms or None,
            reason=error.code if error else "",
            detail=printable(error.detail) if error else "",
        )
