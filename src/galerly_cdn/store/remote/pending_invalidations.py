"""Remembers in the store which photographs a clean-up still has to invalidate in the caches in front of it.

A killed clean-up has removed renditions that CloudFront may hold for a year. The next one finds their keys
here. No URL leads to `invalidations/`: the first segment of every rendition's name is a size.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from galerly_cdn.errors import KeyNotHeld, NoSuchOriginal, StoreRefused, Unsettled
from galerly_cdn.serialization import ValidationError, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from galerly_cdn.store.remote.bucket import Bucket

FOLDER = "invalidations"
_ATTRIBUTES = {"Content-Type": "application/json", "Cache-Control": "private, no-store"}


class PendingInvalidations:
    """Lists of keys, each an object in the root of the renditions. Raises as the bucket does."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def add(self, keys: Sequence[str]) -> None:
        """Remember keys before their renditions are removed."""
        try:
            await self._bucket.put(_name(keys), to_json(keys), _ATTRIBUTES, creates=False)
        except (KeyNotHeld, Unsettled) as error:
            raise StoreRefused(error.detail) from error

    async def remove(self, keys: Sequence[str]) -> None:
        """Forget keys that are invalidated."""
        await self._bucket.delete(_name(keys))

    async def read(self) -> AsyncIterator[tuple[str, ...]]:
        """What earlier clean-ups have left; an object that is no list of keys is left out."""
        async for listed in self._bucket.objects(FOLDER):
            try:
                _, content = await self._bucket.read(listed.key)
                yield from_json(tuple[str, ...], content)
            except (NoSuchOriginal, ValidationError):
                continue


def _name(keys: Sequence[str]) -> str:
    return f"{FOLDER}/{hashlib.sha256(to_json(list(keys))).hexdigest()}.json"
