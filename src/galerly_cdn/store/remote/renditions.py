"""Renditions in a remote store: objects `800x600.webp/{key}` whose metadata is their record.

S3 answers such an object to CloudFront as it is, so its headers are those of the edge.
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
from galerly_cdn.model import IMMUTABLE, Format, Record, Rendition
from galerly_cdn.store.interfaces import StoredObject
from galerly_cdn.store.remote import MD5

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.model import Target
    from galerly_cdn.store.remote.bucket import Bucket


class RemoteRenditions:
    """Renditions in a remote store; `count` is told of `rendition-corrupt` and `rendition-unreadable`."""

    def __init__(self, bucket: Bucket, count: Callable[[str], None]) -> None:
        self._bucket = bucket
        self._count = count
        self._reads: SingleFlight[tuple[str, Target], Rendition | None] = SingleFlight()

    async def head(self, key: str, target: Target) -> StoredObject | None:
        """What is stored, current or not. Raises `StoreRefused`, `StoreUnreachable`."""
        try:
            found, _ = await self._bucket.read(target.rendition_key(key), {"head": True})
        except NoSuchOriginal:
            return None
        return StoredObject(str(found.attributes.get("version", "")), found.meta["last_modified"].timestamp())

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified; None if there is none, or it cannot be read as it was put.

        Any number who ask while it is being read are one request to the store, and share one rendition.
        """
        found, _ = await self._reads.run((key, target), lambda: self._read(key, target))
        return found

    async def record(self, key: str, target: Target) -> Record | None:
        """What the object's metadata says; None if there is none, or it is no rendition of ours."""
        found = await self._asked(key, target, head=True)
        return found[0] if found else None

    async def put(self, rendition: Rendition) -> Rendition:
        """Store it, unless what is stored was made of the same version by the same recipe."""
        record = rendition.record
        try:
            await self._put(rendition, creates=True)
        except OriginalExists:
            winner = await self._read(record.key, record.target)  # as it is now, not as it was being read
            if winner is not None and winner.record.is_current(record.version, record.recipe):
                return winner
            await self._put(rendition, creates=False)
        return rendition

    async def delete(self, key: str, target: Target) -> bool:
        """Remove; whether there was one. Raises `StoreUnreachable`."""
        path = target.rendition_key(key)
        try:
            await self._bucket.head(path)
            await self._bucket.delete(path)
        except NoSuchOriginal:
            return False
        return True

    async def _read(self, key: str, target: Target) -> Rendition | None:
        found = await self._asked(key, target, head=False)
        if found is None:
            return None
        record, body = found
        if record.md5 != hashlib.md5(body, usedforsecurity=False).hexdigest():
            self._count("rendition-corrupt")
            return None
        return Rendition(record, body)

    async def _asked(self, key: str, target: Target, *, head: bool) -> tuple[Record, bytes] | None:
        """A record, and the body unless the object's `head` alone is asked for."""
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
            told = {**object_attributes(record), **self._bucket.label(record.key)}
            await self._bucket.put(path, rendition.body, told, creates=creates)
        except (KeyNotHeld, Unsettled) as error:
            raise StoreRefused(error.detail) from error


def object_attributes(record: Record) -> dict[str, str]:
    """A record as an object's headers and metadata: printable ASCII; what is empty is left out."""
    told = {
        "Content-Type": record.format.media_type,
        "Cache-Control": IMMUTABLE,
        "Content-Disposition": content_disposition.inline(record.key, record.format.extension),
        "version": record.version,
        "recipe": record.recipe,
        "width": str(record.width_px),
        "height": str(record.height_px),
        "lost": ", ".join(record.lost),
        MD5: record.md5,
    }
    return {name: value for name, value in told.items() if value}


def _record(key: str, target: Target, length_bytes: int, told: Mapping[str, Any]) -> Record | None:
    """The inverse of `attributes`; None for an object that is no rendition of ours."""
    try:
        return Record(
            key=key,
            target=target,
            version=told["version"],
            recipe=told["recipe"],
            format=Format(told["Content-Type"].removeprefix("image/")),
            width_px=int(told["width"]),
            height_px=int(told["height"]),
            length_bytes=length_bytes,
            md5=told[MD5],
            lost=tuple(told["lost"].split(", ")) if told.get("lost") else (),
        )
    except (KeyError, ValueError):
        return None
