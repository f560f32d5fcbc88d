"""Deletes renditions and fact records of originals that were replaced or deleted; invalidates the renditions.

S3 hands a stored rendition to CloudFront without comparing it with its original. A replace through
galerly-cdn purges the renditions itself; the janitor handles uploads by other programs, and renditions of
the old original that a function stored while it was dying.

An invalidation costs money. `Janitor._may_be_cached` decides about keys of which no rendition was left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from galerly_cdn.aws.functions import s3_events
from galerly_cdn.aws.functions.s3_events import ObjectChange
from galerly_cdn.errors import GalerlyError, NoSuchOriginal
from galerly_cdn.http.urls import cache_tag, gallery_name, gallery_tag
from galerly_cdn.serialization import Value, replaced, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from galerly_cdn.aws.functions.composition import Stores
    from galerly_cdn.model import Target

_DAY_S = 86_400.0
_MAX_KEYS = 8
"""Keys that are cleaned at once; each makes one request to the store at a time."""


class JanitorResult(Value, frozen=True, omit_defaults=True):
    """The log line of one key: renditions deleted, and whether CloudFront was invalidated.

    `reason` and `detail` are an error's; the queue delivers the key's messages again.
    """

    key: str
    deleted: int
    invalidated: bool
    reason: str = ""
    detail: str = ""


class Caches(Protocol):
    """What the janitor needs to know of the bucket and of CloudFront. Methods block."""

    def previous_s(self, key: str, /) -> float | None:
        """When the original before the present one was put, in seconds of the epoch.

        None if the bucket never had one of this key.
        """
        ...

    def invalidated_s(self, since_s: float, /) -> Mapping[str, float]:
        """The tags that were invalidated since then, with the time of their last invalidation."""
        ...

    def invalidate(self, keys: Sequence[str], /) -> None:
        """Drop everything that belongs to these keys from CloudFront's caches. Raises `NotInvalidated`."""
        ...


class _Cleaned(Value, frozen=True):
    """What was done for a key; `is_there`: it has an original now."""

    change: ObjectChange
    deleted: int
    is_there: bool


class Janitor:
    """Handles events of originals that were put or deleted.

    The bucket's lifecycle deletes renditions after `rendition_days`. `wall` returns seconds of the epoch,
    `log` writes one line.
    """

    def __init__(
        self,
        stores: Stores,
        caches: Caches,
        *,
        rendition_days: int,
        wall: Callable[[], float],
        log: Callable[[bytes], None],
    ) -> None:
        self._folder = stores.folder
        self._originals = stores.originals
        self._renditions = stores.renditions
        self._caches = caches
        self._rendition_days = rendition_days
        self._wall = wall
        self._log = log

    async def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Clean up after the changes in a queue's event, and invalidate once.

        Returns the messages that the queue has to deliver again (AWS Lambda Developer Guide, "Reporting batch
        item failures"). Deletes first, then invalidates: in the other order CloudFront could fetch the old
        rendition again.
        """
        by_key: dict[str, list[ObjectChange]] = {}
        for change in s3_events.object_changes(event, self._folder):
            by_key.setdefault(change.key, []).append(change)
        failed: list[str] = []

        def fail(key: str, error: GalerlyError) -> None:
            failed.append(key)
            self._log(
                to_json(JanitorResult(key, 0, invalidated=False, reason=error.code, detail=error.detail))
            )

        cleaned = []
        results = await self._clean_all(map(_merged, by_key.values()))
        for key, result in zip(by_key, results, strict=True):
            if isinstance(result, GalerlyError):
                fail(key, result)
            else:
                cleaned.append(result)
        stale = {one.change.key for one in self._stale(cleaned)}
        try:
            if stale:
                self._caches.invalidate([key for key in by_key if key in stale])
        except GalerlyError as error:
            for key in stale:
                fail(key, error)
        for one in cleaned:
            if one.change.key not in failed:
                is_stale = one.change.key in stale
                self._log(to_json(JanitorResult(one.change.key, one.deleted, invalidated=is_stale)))
        again = [change.message_id for key in failed for change in by_key[key]]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}

    async def _clean_all(self, changes: Iterable[ObjectChange]) -> Sequence[_Cleaned | GalerlyError]:
        slots = asyncio.Semaphore(_MAX_KEYS)
        targets = sorted(await self._renditions.targets(), key=str)

        async def clean(change: ObjectChange) -> _Cleaned | GalerlyError:
            async with slots:
                try:
                    return await self._clean(change, targets)
                except GalerlyError as error:
                    return error

        return await asyncio.gather(*map(clean, changes))

    async def _clean(self, change: ObjectChange, targets: Sequence[Target]) -> _Cleaned:
        """Delete the renditions and the record that are not of the present original."""
        version = await self._version(change.key)
        deleted = 0
        for target in targets:
            stored = await self._renditions.head(change.key, target)
            if stored is not None and stored.version != version:
                deleted += await self._renditions.delete(change.key, target)
        record = await self._renditions.facts(change.key)
        if record is not None and record.version != version:
            await self._renditions.delete_facts(change.key)
        return _Cleaned(change, deleted, is_there=version is not None)

    def _stale(self, cleaned: Sequence[_Cleaned]) -> list[_Cleaned]:
        """The keys to invalidate.

        A redelivered message is one, because the first attempt may have deleted without invalidating.
        """
        stale = [one for one in cleaned if one.deleted or one.change.is_redelivered]
        doubtful = [one for one in cleaned if one not in stale and self._may_be_cached(one)]
        if not doubtful:
            return stale
        invalidated_s = self._caches.invalidated_s(min(one.change.at_s for one in doubtful))
        return stale + [one for one in doubtful if not _is_invalidated(one.change, invalidated_s)]

    def _may_be_cached(self, cleaned: _Cleaned) -> bool:
        """Whether CloudFront may hold a picture of an older original, although no rendition of it is left.

        The renditions were purged without an invalidation, or have expired. A deletion purges nothing that
        was not stored; so only originals old enough for the renditions to have expired count. The usual
        event, the upload of a new photograph, has no older original.
        """
        change = cleaned.change
        if cleaned.is_there and not change.is_put:
            return False  # an old version was deleted, or the upload after it is another event
        previous_s = self._caches.previous_s(change.key)
        if previous_s is None:
            return False
        return cleaned.is_there or previous_s <= self._wall() - self._rendition_days * _DAY_S

    async def _version(self, key: str) -> str | None:
        """The original's current version; None if it was deleted."""
        try:
            return (await self._originals.head(key, remembered=False)).version
        except NoSuchOriginal:
            return None


def _merged(changes: Sequence[ObjectChange]) -> ObjectChange:
    """The changes of one key as one, at the time of the last."""
    last = max(changes, key=lambda one: one.at_s)
    return replaced(
        last,
        is_put=any(one.is_put for one in changes),
        is_redelivered=any(one.is_redelivered for one in changes),
    )


def _is_invalidated(change: ObjectChange, invalidated_s: Mapping[str, float]) -> bool:
    """Whether a client has invalidated the photograph or its gallery since the change.

    S3's times are whole seconds. An invalidation in the same second before the change counts too: a picture
    that was cached again in between would have left a rendition.
    """
    tags = (cache_tag(change.key), gallery_tag(gallery_name(change.key)))
    return any(invalidated_s.get(tag, 0.0) >= change.at_s for tag in tags)
