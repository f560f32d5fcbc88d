"""One original's download, from key to bytes. Read `Downloads.answer` first.

guard            a signature, or 403
misses.head      the original's version and length
media type       from its first bytes
deliver          200, 206, 304 or 416
originals.read   exactly that version, as the viewer takes it; one that changes midway ends the connection
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
    from galerly_cdn.http.exchange import Exchange
    from galerly_cdn.http.responses import Response
    from galerly_cdn.http.urls import OriginalRequest
    from galerly_cdn.model import Head
    from galerly_cdn.rate_limit import MissLimiter
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.store.interfaces import Originals

_UNKNOWN = "application/octet-stream"
_REMEMBERED_BYTES = 1024 * 1024
_WEIGHT_BYTES = 256
"""A key, a version and a media type: some 4000 of them are remembered."""


class Downloads:
    """Answers `/original/…`: the untouched file, whole or a part of it."""

    def __init__(
        self, settings: Settings, misses: MissLimiter, originals: Originals, guard: Authorizer
    ) -> None:
        self._settings = settings
        self._misses = misses
        self._originals = originals
        self._guard = guard
        self._media_types: MemoryCache[tuple[str, str], str] = MemoryCache(
            _REMEMBERED_BYTES, lambda _: _WEIGHT_BYTES
        )

    async def answer(self, asked: OriginalRequest, visit: Exchange) -> Response:
        """The response to one request. Raises the `GalerlyError` that answers it otherwise."""
        visit.key = asked.key
        self._guard.admit(asked.key, visit, is_original=True)
        head = await self._misses.head(asked.key, visit.client, is_hot=False)
        found = Download(
            asked.key,
            head,
            await self._media_type(asked.key, head),
            lambda first, length_bytes: self._originals.read(asked.key, head.version, first, length_bytes),
        )
        response = responses.original(found, visit.conditions, self._settings, is_private=visit.is_private)
        if response.stream is not None and visit.method != "HEAD":
            await response.stream.begin()
        return response

    async def _media_type(self, key: str, head: Head) -> str:
        """What the bytes are, whatever they are called; asked of the store once per version."""
        known = self._media_types.get((key, head.version))
        if known is not None:
            return known
        beginning = b""
        if length_bytes := min(head.length_bytes, MAGIC_BYTES):
            async for chunk in self._originals.read(key, head.version, 0, length_bytes):
                beginning += chunk
        try:
            found = detect_format(beginning).media_type
        except UnsupportedFormat:
            found = _UNKNOWN
        self._media_types.put((key, head.version), found)
        return found
