"""Stores renditions as objects `800x600.webp/{stored key}` of a remote store, with their record as metadata.

S3 sends such an object to CloudFront unchanged, so its headers are the same as those of the edge. The fact
record of an original is an object `facts/{stored key}` beside them, which no URL leads to. The names are
those of `stored_keys`; the key itself is in the metadata.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

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
from galerly_cdn.model import IMMUTABLE, Format, Record, Rendition, facts_key, parse_target
from galerly_cdn.store.fault_log import FaultLog
from galerly_cdn.store.interfaces import StoredObject, keeps_same
from galerly_cdn.store.record_file import DamagedRecord, decode_record, encode_record
from galerly_cdn.store.remote import MD5
from galerly_cdn.store.remote.recipes import RemoteRecipes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore import UpdateVersion

    from galerly_cdn.model import FactRecord, Target
    from galerly_cdn.store.interfaces import Keeps
    from galerly_cdn.store.remote.bucket import Bucket

_ATTEMPTS = 5
_KEY = "key"
_FACTS_ATTRIBUTES = {"Content-Type": "application/octet-stream", "Cache-Control": "private, no-store"}


class RemoteRenditions:
    """Renditions and fact records in a remote store.

    `count` receives `rendition-corrupt`, `rendition-unreadable`, `facts-corrupt` and `facts-unreadable`.
    """

    def __init__(self, bucket: Bucket, count: Callable[[str], None]) -> None:
        self._bucket = bucket
        self._count = count
        self._faults = FaultLog(count)
        recipes = RemoteRecipes(bucket)
        self.entries = recipes.entries
        self.append = recipes.append
        self._reads: SingleFlight[tuple[str, Target], Rendition | None] = SingleFlight()

    def known(self, key: str, target: Target) -> Rendition | None:  # noqa: ARG002 - it waits for the network
        """None: every rendition is requested from the store."""
        return None

    async def head(self, key: str, target: Target) -> StoredObject | None:
        """Version and time of the object. Raises `StoreRefused`, `StoreUnreachable`."""
        try:
            found, _ = await self._bucket.read(target.rendition_key(key), {"head": True})
        except NoSuchOriginal:
            return None
        is_of_key = found.attributes.get(_KEY) == _encode_key(key)
        version = str(found.attributes.get("version", "")) if is_of_key else ""
        return StoredObject(version, found.meta["last_modified"].timestamp())

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified; None if there is none, if it is damaged, or if the store fails.

        Concurrent calls are one request to the store, and share its result.
        """
        found, _ = await self._reads.run((key, target), lambda: self._read(key, target))
        return found

    async def record(self, key: str, target: Target) -> Record | None:
        """The record in the object's metadata; None if there is no object, or it is not a rendition."""
        found = await self._request(key, target, head=True)
        return found.record if found else None

    async def put(self, rendition: Rendition, keeps: Keeps | None = None) -> Rendition:
        """Store a rendition, unless the stored one is kept; then return that one."""
        record = rendition.record
        keeps = keeps or keeps_same(record)
        with suppress(OriginalExists):
            await self._put(rendition, creates=True)
            return rendition
        for _ in range(_ATTEMPTS):
            # Not `get`, which may share an earlier read
            existing = await self._request(record.key, record.target, head=False)
            if existing is not None and (kept := self._verified(existing)) and keeps(kept.record):
                return kept
            with suppress(Unsettled):  # another writer has replaced it since
                await self._put(rendition, creates=False, over=existing.tag if existing else None)
                return rendition
        raise StoreRefused("other writers replaced the rendition at every attempt")

    def begin_put(self, rendition: Rendition, keeps: Keeps) -> None:
        """None: a put is awaited, because others read the bucket without this server."""

    def usage(self) -> None:
        """Not known: counting the objects of a remote store takes long, and is billed."""

    async def targets(self) -> frozenset[Target]:
        """The targets in the store, by a listing. Raises as the interface says."""
        names = await self._bucket.folders("")
        return frozenset(target for name in names if (target := parse_target(name)))

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
        except (StoreRefused, StoreUnreachable, Unsettled) as error:
            self._faults.add("facts-unreadable", error)
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
        return self._verified(found) if found else None

    def _verified(self, found: _Found) -> Rendition | None:
        """The rendition; None for a damaged body."""
        if found.record.md5 != hashlib.md5(found.body, usedforsecurity=False).hexdigest():
            self._count("rendition-corrupt")
            return None
        return Rendition(found.record, found.body)

    async def _request(self, key: str, target: Target, *, head: bool) -> _Found | None:
        """What is stored; with `head`, without its body. None if it is no rendition, or the store fails."""
        try:
            found, body = await self._bucket.read(target.rendition_key(key), {"head": head})
        except NoSuchOriginal:
            return None
        except (StoreRefused, StoreUnreachable) as error:
            self._faults.add("rendition-unreadable", error)
            return None
        record = record_of(target, found.meta["size"], dict(found.attributes))
        if record is None or record.key != key:
            self._count("rendition-corrupt")
            return None
        tag: UpdateVersion = {"e_tag": found.meta["e_tag"] or ""}
        if found.meta["version"]:  # Google Cloud Storage compares it in place of the ETag
            tag["version"] = found.meta["version"]
        return _Found(record, body, tag)

    async def _put(self, rendition: Rendition, *, creates: bool, over: UpdateVersion | None = None) -> None:
        """Raises `OriginalExists` with `creates`, and `Unsettled` if `over` is not stored any more."""
        record = rendition.record
        path = record.target.rendition_key(record.key)
        try:
            attributes = {**object_attributes(record), **self._bucket.cache_tags(record.key)}
            await self._bucket.put(path, rendition.body, attributes, creates=creates, over=over)
        except KeyNotHeld as error:
            raise StoreRefused(error.detail) from error


class _Found(NamedTuple):
    """A stored object's record and bytes, and the tag by which it alone is replaced."""

    record: Record
    body: bytes
    tag: UpdateVersion


def object_attributes(record: Record) -> dict[str, str]:
    """A record as an object's headers and metadata, in printable ASCII; empty values are left out."""
    attributes = {
        "Content-Type": record.format.media_type,
        "Cache-Control": IMMUTABLE,
        "Content-Disposition": content_disposition.inline(record.key, record.format.extension),
        _KEY: _encode_key(record.key),
        "version": record.version,
        "recipe": record.recipe,
        "picture": _picture(record),
        MD5: record.md5,
    }
    return {name: value for name, value in attributes.items() if value}


def _picture(record: Record) -> str:
    """Width, height and losses in one value: CloudFront removes at most ten headers from a response."""
    return "; ".join([f"{record.width_px}x{record.height_px}", *record.lost])


def record_of(target: Target, length_bytes: int, attributes: Mapping[str, Any]) -> Record | None:
    """The inverse of `object_attributes`; None for an object that is not a rendition."""
    try:
        key = base64.b64decode(attributes[_KEY], b"-_", validate=True).decode()
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


def _encode_key(key: str) -> str:
    """base64url of its UTF-8 (RFC 4648 §5), because metadata is ASCII."""
    return base64.urlsafe_b64encode(key.encode()).decode("ascii")
