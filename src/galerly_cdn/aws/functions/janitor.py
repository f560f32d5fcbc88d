"""Deletes renditions and fact records of originals that were replaced or deleted; invalidates the renditions.

S3 hands a stored rendition to CloudFront without comparing it with its original. A replace through
galerly-cdn purges the renditions itself; the janitor handles uploads by other programs, and renditions of
the old original that a function stored while it was dying.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.functions import s3_events
from galerly_cdn.errors import NoSuchOriginal
from galerly_cdn.serialization import Value, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws.functions.composition import Stores
    from galerly_cdn.aws.functions.s3_events import ObjectChange


class JanitorResult(Value, frozen=True):
    """The log line of one change: renditions deleted, and whether CloudFront was invalidated."""

    key: str
    deleted: int
    invalidated: bool


class Janitor:
    """Handles events of originals that were put or deleted.

    `invalidate(key)` drops everything that belongs to a key from CloudFront's caches. `is_overwritten(key)`
    is true if the bucket had an original of this key before the present one. `log` writes one line.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        invalidate: Callable[[str], object],
        is_overwritten: Callable[[str], bool],
        log: Callable[[bytes], None],
    ) -> None:
        self._folder = stores.folder
        self._originals = stores.originals
        self._renditions = stores.renditions
        self._invalidate = invalidate
        self._is_overwritten = is_overwritten
        self._log = log

    async def handle(self, event: Mapping[str, Any]) -> None:
        """Clean up after each change in a queue's event.

        Raises every error that a retry may solve; the queue delivers the message again.
        """
        for change in s3_events.object_changes(event, self._folder):
            self._log(to_json(await self._clean(change)))

    async def _clean(self, change: ObjectChange) -> JanitorResult:
        """Delete first, then invalidate: in the other order CloudFront could fetch the old rendition again.

        CloudFront charges for invalidations, so the upload of a new photograph, the usual event, makes none.
        A redelivered message makes one, because the first attempt may have deleted without invalidating.
        """
        version = await self._version(change.key)
        deleted = 0
        for target in sorted(await self._renditions.targets(), key=str):
            stored = await self._renditions.head(change.key, target)
            if stored is not None and stored.version != version:
                deleted += await self._renditions.delete(change.key, target)
        record = await self._renditions.facts(change.key)
        if record is not None and record.version != version:
            await self._renditions.delete_facts(change.key)
        must_invalidate = (
            deleted > 0
            or version is None
            or change.is_redelivered
            or (change.is_put and self._is_overwritten(change.key))
        )
        if must_invalidate:
            self._invalidate(change.key)
        return JanitorResult(change.key, deleted, must_invalidate)

    async def _version(self, key: str) -> str | None:
        """The original's current version; None if it was deleted."""
        try:
            return (await self._originals.head(key, remembered=False)).version
        except NoSuchOriginal:
            return None
