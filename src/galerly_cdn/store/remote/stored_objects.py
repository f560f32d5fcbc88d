"""Lists, reads and removes the objects beside the originals of a remote store, for a clean-up.

A listing tells an object's name, length, time and ETag. The record of a rendition is in its metadata, and a
fact record is the object's content: `read` requests them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.errors import NoSuchOriginal
from galerly_cdn.http.urls import is_key
from galerly_cdn.model import facts_key, parse_target
from galerly_cdn.serialization import replaced
from galerly_cdn.store.recipe_entry import FOLDER as RECIPES
from galerly_cdn.store.record_file import DamagedRecord, decode_record
from galerly_cdn.store.remote.pending_invalidations import FOLDER as INVALIDATIONS
from galerly_cdn.store.remote.renditions import record_of
from galerly_cdn.store.stored_items import Kind, OriginalItem, StoredItem
from galerly_cdn.stored_keys import DIGEST_PREFIX, key_of, stored_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.store.remote.bucket import Bucket
    from galerly_cdn.store.remote.raw_listing import ListedObject

FACTS = "facts"
PARALLEL = 32
"""Requests in progress at once."""
_DAY_S = 86_400
"""The age of a direct upload that nobody completes any more: its address is valid for far less."""
_NO_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f]")
"""What obstore cannot represent, and no release of galerly-cdn has written."""


class OriginalObjects:
    """The objects in the root of the originals."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def list(self) -> AsyncIterator[OriginalItem]:
        """The originals with their versions, in the order of their keys. Raises as the interface says."""
        async for one in self._bucket.objects(""):
            if (item := original_item(one)) is not None:
                yield item

    def version(self, key: str) -> str:  # noqa: ARG002 - the interface has it
        """Not known without a request."""
        return ""


class UploadObjects:
    """The direct uploads that were not completed. `now` is the wall clock in seconds."""

    parallel = PARALLEL

    def __init__(self, bucket: Bucket, now: Callable[[], float]) -> None:
        self._bucket = bucket
        self._now = now

    async def parts(self) -> tuple[str, ...]:
        """One part: all."""
        return ("",)

    async def items(self, part: str) -> AsyncIterator[StoredItem]:
        """The uploads; those that may still be completed are left alone. Raises as the interface says."""
        async for one in self._bucket.objects(part):
            is_left = one.modified_s < self._now() - _DAY_S
            yield replaced(_item(one, Kind.TEMPORARY if is_left else Kind.FOREIGN), is_read=True)

    async def read(self, item: StoredItem) -> StoredItem | None:
        """The same: an upload is written once."""
        return item

    async def remove(self, item: StoredItem) -> bool:
        """Remove an upload. Raises as the interface says."""
        return await self._bucket.delete_unchanged(item.name, item.tag)


class RenditionObjects:
    """The objects in the root of the renditions, but the list of recipes and pending invalidations."""

    parallel = PARALLEL

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def parts(self) -> tuple[str, ...]:
        """The folders of the targets and of other programs, then that of the fact records."""
        folders = await self._bucket.folders("")
        return (*sorted(folders - {RECIPES, INVALIDATIONS, FACTS}), *(folders & {FACTS}))

    async def items(self, part: str) -> AsyncIterator[StoredItem]:
        """The objects of a folder, classified by their names. Raises as the interface says."""
        async for one in self._bucket.objects(part):
            yield item_of(one)

    async def read(self, item: StoredItem) -> StoredItem | None:
        """The object's metadata, or the fact record's content. Raises as the interface says."""
        if item.kind is Kind.FOREIGN:
            return item
        try:
            found, content = await self._bucket.read(item.name, {"head": item.target is not None})
        except NoSuchOriginal:
            return None
        present = replaced(
            item,
            kind=Kind.DAMAGED,
            length_bytes=found.meta["size"],
            modified_s=found.meta["last_modified"].timestamp(),
            tag=(found.meta["e_tag"] or "").strip('"'),
            is_read=True,
        )
        if item.target is None:
            return _with_facts(present, content)
        record = record_of(item.target, present.length_bytes, dict(found.attributes))
        if record is None:
            return present
        is_named = record.target.rendition_key(record.key) == item.name
        kind = Kind.RENDITION if is_named else Kind.MISNAMED
        return replaced(present, kind=kind, key=record.key, record=record)

    async def remove(self, item: StoredItem) -> bool:
        """Remove an object that has the ETag that was read. Raises as the interface says."""
        return await self._bucket.delete_unchanged(item.name, item.tag)


def original_item(one: ListedObject) -> OriginalItem | None:
    """An object in the root of the originals; None for a hidden one, and for an empty one.

    The clouds' consoles create an empty object for each folder.
    """
    if not one.length_bytes or any(part.strip(".") and part[0] == "." for part in one.key.split("/") if part):
        return None
    name, key = (one.key, one.key) if is_key(one.key) else (ascii(one.key), "")
    version = one.etag or f"{one.modified_s}"
    return OriginalItem(name, key, one.length_bytes, one.modified_s, version)


def item_of(one: ListedObject) -> StoredItem:
    """An object in the root of the renditions, classified by its name."""
    folder, _, stored = one.key.partition("/")
    target = parse_target(folder)
    is_ours = target is not None or folder == FACTS
    if not is_ours or _NO_PATH.search(one.key):
        return _item(one, Kind.FOREIGN)
    kind = Kind.FACTS if target is None else Kind.RENDITION
    key = key_of(stored) or ""
    if not key and not stored.rpartition("/")[2].startswith(DIGEST_PREFIX):
        kind = Kind.MISNAMED
    return replaced(_item(one, kind), target=target, stored=stored, key=key)


def _item(one: ListedObject, kind: Kind) -> StoredItem:
    return StoredItem(
        name=one.key,
        kind=kind,
        length_bytes=one.length_bytes,
        modified_s=one.modified_s,
        tag=one.etag,
        stored=one.key,
    )


def _with_facts(present: StoredItem, content: bytes) -> StoredItem:
    try:
        facts = decode_record(content)
    except DamagedRecord:
        return present
    kind = Kind.FACTS if facts_key(facts.key) == present.name else Kind.MISNAMED
    return replaced(present, kind=kind, key=facts.key, stored=stored_key(facts.key), facts=facts)
