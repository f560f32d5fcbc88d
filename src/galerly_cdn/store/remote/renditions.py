"""Stores renditions as objects `800x600.webp/{key}` of a remote store, with their record as metadata.

S3 sends such an object to CloudFront unchanged, so its headers are the same as those of the edge. The fact
record of an original is an object `facts/{key}` beside them, which no URL leads to.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from galerly_cdn.cache import SingleFlight
from galerly_cdn.errors import (
    KeyNotHeld,
    NoSuchOriginal,
    OriginalExists,
    StoreRefused,
    StoreUnreachable,
    Unsettled,
)
from galerly_cdn.http import content_disposition
from galerly_cdn.model import IMMUTABLE, Format, Record, Rendition, facts_key
from galerly_cdn.store.interfaces import StoredObject
from galerly_cdn.store.record_file import DamagedRecord, decode_record, encode_record
from galerly_cdn.store.remote import MD5

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.model import FactRecord, Target
    from galerly_cdn.store.remote.bucket import Bucket

_FACTS_ATTRIBUTES = {"Content-Type": "application/octet-stream", "Cache-Control": "private, no-store"}


class RemoteRenditions:
    """Renditions and fact records in a remote store.

    `count` receives `rendition-corrupt`, `rendition-unreadable`, `facts-corrupt` and `facts-unreadable`.
    """

    def __init__(self, bucket: Bucket, count: Callable[[str], None]) -> None:
        self._bucket = bucket
        self._count = count
        self._reads: SingleFlight[tuple[str, Target], Rendition | None] = SingleFlight()

    async def head(self, key: str, target: Target) -> StoredObject | None:
        """Version and time of the object. Raises `StoreRefused`, `StoreUnreachable`."""
        try:
            found, _ = await self._bucket.read(target.rendition_key(key), {"head": True})
        except NoSuchOriginal:
            return None
        return StoredObject(str(found.attributes.get("version", "")), found.meta["last_modified"].timestamp())

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified; None if there is none, if it is damaged, or if the store fails.

        Concurrent calls are one request to the store, and share its result.
        """
        found, _ = await self._reads.run((key, target), lambda: self._read(key, target))
        return found

    async def record(self, key: str, target: Target) -> Record | None:
        """The record in the object's metadata; None if there is no object, or it is not a rendition."""
        found = await self._request(key, target, head=True)
        return found[0] if found else None

    async def put(self, rendition: Rendition) -> Rendition:
        """Store a rendition, unless the stored one has the same version and recipe; then return that one."""
        record = rendition.record
        try:
            await self._put(rendition, creates=True)
        except OriginalExists:
            # Not `get`, which may share an earlier read
            existing = await self._read(record.key, record.target)
            if existing is not None and existing.record.is_current(record.version, record.recipe):
                return existing
            await self._put(rendition, creates=False)
        return rendition

    async def delete(self, key: str, target: Target) -> bool:
        """Remove a rendition; whether there was one. Raises `StoreUnreachable`."""
        path = target.rendition_key(key)
        try:
            await self._bucket.head(path)
            await self._bucket.delete(path)
        except NoSuchOriginal:
            return False
        return True

    async def facts(self, key: str) -> FactRecord | None:
        """The stored record, verified; None if there is none, if it is damaged, or if the store fails."""
        try:
            _, content = await self._bucket.read(facts_key(key))
        except NoSuchOriginal:
            return None
        except (StoreRefused, StoreUnreachable, Unsettled):
            self._count("facts-unreadable")
            return None
        try:
            return decode_record(content, key)
        except DamagedRecord:
            self._count("facts-corrupt")
            return None

    async def put_facts(self, record: FactRecord) -> None:
        """Store a record, over an earlier one. Raises as the interface says."""
        try:
            content = encode_record(record)
            await self._bucket.put(facts_key(record.key), content, _FACTS_ATTRIBUTES, creates=False)
        except (KeyNotHeld, Unsettled) as error:
            raise StoreRefused(error.detail) from error

    async def delete_facts(self, key: str) -> None:
        """Remove a record, if there is one. Raises as the interface says."""
        await self._bucket.delete(facts_key(key))

    async def _read(self, key: str, target: Target) -> Rendition | None:
        found = await self._request(key, target, head=False)
        if found is None:
            return None
        record, body = found
        if record.md5 != hashlib.md5(body, usedforsecurity=False).hexdigest():
            self._count("rendition-corrupt")
            return None
        return Rendition(record, body)

    async def _request(self, key: str, target: Target, *, head: bool) -> tuple[Record, bytes] | None:
        """The record and the body; with `head`, an empty body."""
        try:
            found, body = await self._bucket.read(target.rendition_key(key), {"head": head})
        except NoSuchOriginal:
            return None
        except (StoreRefused, StoreUnreachable):
            self._count("rendition-unreadable")
            return None
        record = _record(key, target, found.meta["size"], dict(found.attributes))
        if record is None:
            self._count("rendition-corrupt")
            return None
        return record, body

    async def _put(self, rendition: Rendition, *, creates: bool) -> None:
        record = rendition.record
        path = record.target.rendition_key(record.key)
        try:
            attributes = {**object_attributes(record), **self._bucket.cache_tags(record.key)}
            await self._bucket.put(path, rendition.body, attributes, creates=creates)
        except (KeyNotHeld, Unsettled) as error:
            raise StoreRefused(error.detail) from error


def object_attributes(record: Record) -> dict[str, str]:
    """A record as an object's headers and metadata, in printable ASCII; empty values are left out."""
    attributes = {
        "Content-Type": record.format.media_type,
        "Cache-Control": IMMUTABLE,
        "Content-Disposition": content_disposition.inline(record.key, record.format.extension),
        "version": record.version,
        "recipe": record.recipe,
        "picture": _picture(record),
        MD5: record.md5,
    }
    return {name: value for name, value in attributes.items() if value}


def _picture(record: Record) -> str:
    """Width, height and losses in one value: CloudFront removes at most ten headers from a response."""
    return "; ".join([f"{record.width_px}x{record.height_px}", *record.lost])


def _record(key: str, target: Target, length_bytes: int, attributes: Mapping[str, Any]) -> Record | None:
    """The inverse of `object_attributes`; None for an object that is not a rendition."""
    try:
        sides, *lost = attributes["picture"].split("; ")
        width_px, height_px = map(int, sides.split("x"))
        return Record(
            key=key,
            target=target,
            version=attributes["version"],
            recipe=attributes["recipe"],
            format=Format(attributes["Content-Type"].removeprefix("image/")),
            width_px=width_px,
            height_px=height_px,
            length_bytes=length_bytes,
            md5=attributes[MD5],
            lost=tuple(lost),
        )
    except (KeyError, ValueError):
        return None
