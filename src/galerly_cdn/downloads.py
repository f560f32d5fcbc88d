"""Answers one download of an original, from its key to its bytes. Read `Downloads.answer` first.

authorizer.decide     private original: a valid signature, else 403
miss_limiter.head     the original's version and length
fact record           unsigned: the file is a picture of an accepted kind, else 415
media type            detected from its first bytes
responses.original    200, 206, 304 or 416
originals.read        exactly that version, as fast as the viewer takes it; a change ends the connection
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.cache import MemoryCache, SingleFlight
from galerly_cdn.errors import Unrenderable, Unsettled, UnsupportedFormat
from galerly_cdn.http import responses
from galerly_cdn.http.responses import Download
from galerly_cdn.render.formats import MAGIC_BYTES, detect_format

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from galerly_cdn.access.authorizer import Authorizer
    from galerly_cdn.facts import OriginalFacts
    from galerly_cdn.http.exchange import ViewerExchange
    from galerly_cdn.http.responses import Conditions, Response
    from galerly_cdn.http.urls import OriginalRequest
    from galerly_cdn.model import FactRecord, Head
    from galerly_cdn.rate_limit import MissLimiter
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals

_UNKNOWN = "application/octet-stream"
_MAX_MEDIA_TYPES_BYTES = 1024 * 1024
_ENTRY_BYTES = 256
"""A key, a version and a media type: about 4000 of them are remembered."""


class Downloads:
    """Answers `/original/…`: the unchanged file, or a range of it. `inspect` makes a missing fact record.

    A signature allows any file of its key. Without one, only pictures are sent: a folder of photographs can
    hold other files, which their owner does not take for published. A damaged picture is one; so is one over
    the limits of pixels. A file over the limit of bytes is not read, so it is refused.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        settings: Settings,
        miss_limiter: MissLimiter,
        originals: Originals,
        authorizer: Authorizer,
        facts: OriginalFacts,
        inspect: Callable[[str], Coroutine[Any, Any, FactRecord]],
    ) -> None:
        self._settings = settings
        self._miss_limiter = miss_limiter
        self._originals = originals
        self._authorizer = authorizer
        self._facts = facts
        self._inspect = inspect
        self._inspections: SingleFlight[str, FactRecord] = SingleFlight()
        self._media_types: MemoryCache[tuple[str, str], str] = MemoryCache(
            _MAX_MEDIA_TYPES_BYTES, lambda _: _ENTRY_BYTES
        )

    async def answer(self, request: OriginalRequest, exchange: ViewerExchange) -> Response:
        """The response to one request. Raises `GalerlyError` for an error response."""
        key = exchange.key = request.key
        access = self._authorizer.decide(key, exchange, is_original=True)
        exchange.is_private = access.is_private
        if access.refusal is not None:
            raise access.refusal

        head = await self._miss_limiter.head(key, exchange.client, is_hot=False)
        if not access.is_private:
            await self._check_is_picture(key, head, exchange)
        return await self.send(key, head, exchange.conditions, is_private=exchange.is_private)

    async def send(self, key: str, head: Head, conditions: Conditions, *, is_private: bool) -> Response:
        """The response to a request that is allowed: the file of that head. Raises as `answer` does."""
        download = Download(
            key,
            head,
            await self._media_type(key, head),
            lambda first, length_bytes: self._originals.read(key, head.version, first, length_bytes),
        )
        return responses.original(download, conditions, self._settings, is_private=is_private)

    async def _check_is_picture(self, key: str, head: Head, exchange: ViewerExchange) -> None:
        """Raises the refusal in the fact record of a file whose header is not that of a picture.

        A record that is missing is made, which counts as a fill: it takes a worker. Raises as `inspect` does,
        and `TooManyMisses`.
        """
        record = await self._facts.find(key, head.version)
        if record is None:
            record = await exchange.while_connected(self._inspected(key, exchange.client))
        if record.version != head.version:
            raise Unsettled
        if record.facts is None:
            raise self._facts.refusal(record) or Unrenderable

    async def _inspected(self, key: str, client: str) -> FactRecord:
        """A new record; concurrent requests share one inspection."""
        if key not in self._inspections:
            self._miss_limiter.start_fill(client)
        record, _ = await self._inspections.run(key, lambda: self._inspect(key))
        return record

    async def _media_type(self, key: str, head: Head) -> str:
        """The media type of the bytes, whatever the name says; read from the store once per version."""
        known = self._media_types.get((key, head.version))
        if known is not None:
            return known
        beginning = b""
        if length_bytes := min(head.length_bytes, MAGIC_BYTES):
            async for chunk in self._originals.read(key, head.version, 0, length_bytes):
                beginning += chunk
        try:
            media_type = detect_format(beginning).media_type
        except UnsupportedFormat:
            media_type = _UNKNOWN
        self._media_types.put((key, head.version), media_type)
        return media_type
