"""Stores the list of recipes as objects `recipes/00000001.json` beside the renditions of a remote store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from galerly_cdn.errors import KeyNotHeld, NoSuchOriginal, OriginalExists, StoreRefused, Unsettled
from galerly_cdn.store.recipe_entry import FOLDER, decode_entry, encode_entry, entry_name

if TYPE_CHECKING:
    from galerly_cdn.model import RecipeEntry
    from galerly_cdn.store.remote.bucket import Bucket

_ATTRIBUTES = {"Content-Type": "application/json", "Cache-Control": "private, no-store"}


class RemoteRecipes:
    """The entries under the root of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def entries(self, after: int = 0) -> tuple[RecipeEntry, ...]:
        """The entries after a number. Raises as the interface says.

        Mostly there is none, which one request finds; else twice as many are requested at once each time,
        so that a process that starts does not wait for one after the other.
        """
        found: list[RecipeEntry] = []
        count = 1
        while True:
            first = after + len(found) + 1
            read = await asyncio.gather(*(self._read(number) for number in range(first, first + count)))
            for entry in read:
                if entry is None:
                    return tuple(found)
                found.append(entry)
            count *= 2

    async def append(self, entry: RecipeEntry) -> bool:
        """Store an entry, unless there is one of its number. Raises as the interface says."""
        try:
            path = f"{FOLDER}/{entry_name(entry.number)}"
            await self._bucket.put(path, encode_entry(entry), _ATTRIBUTES, creates=True)
        except OriginalExists:
            return False
        except (KeyNotHeld, Unsettled) as error:
            raise StoreRefused(error.detail) from error
        return True

    async def _read(self, number: int) -> RecipeEntry | None:
        try:
            _, content = await self._bucket.read(f"{FOLDER}/{entry_name(number)}")
        except NoSuchOriginal:
            return None
        return decode_entry(content, number)
