"""Answers one download of an original, from its key to its bytes. Read `Downloads.answer` first.

authorizer.decide     private original: a valid signature, else 403
miss_limiter.head     the original's version and length
media type            detected from its first bytes
responses.original    200, 206, 304 or 416
originals.read        exactly that version, as fast as the viewer takes it; a change ends the connection
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.cache import MemoryCache
from galerly_cdn.errors import UnsupportedFormat
from galerly_cdn.http import responses
from galerly_cdn.http.responses import Download
from galerly_cdn.render.formats import MAGIC_BYTES, detect_format

if TYPE_CHECKING:
    from galerly_cdn.access.authorizer import Authorizer
    from galerly_cdn.http.exchange import ViewerExchange
    from galerly_cdn.http.responses import Response
    from galerly_cdn.http.urls import OriginalRequest
    from galerly_cdn.model import Head
    from galerly_cdn.rate_limit import MissLimiter
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals

_UNKNOWN = "application/octet-stream"
_MAX_MEDIA_TYPES_BYTES = 1024 * 1024
_ENTRY_BYTES = 256
"""A key, a version and a media type: about 4000 of them are remembered."""


class Downloads:
    """Answers `/original/…`: the unchanged file, or a range of it."""

    def __init__(
        self, settings: Settings, miss_limiter: MissLimiter, originals: Originals, authorizer: Authorizer
    ) -> None:
        self._settings = settings
        self._miss_limiter = miss_limiter
        self._originals = originals
        self._authorizer = authorizer
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
        download = Download(
            key,
            head,
            await self._media_type(key, head),
            lambda first, length_bytes: self._originals.read(key, head.version, first, length_bytes),
        )
        return responses.original(
            download, exchange.conditions, self._settings, is_private=exchange.is_private
        )

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
        except (
            UnsupportedFormat
        ):  # no accepted kind of picture: the place to refuse an unsigned download of it
            media_type = _UNKNOWN
        self._media_types.put((key, head.version), media_type)
        return media_type
