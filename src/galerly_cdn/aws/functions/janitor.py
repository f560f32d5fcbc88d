"""What is left of an original that was replaced or deleted? Nothing, some time after.

S3 hands CloudFront a stored rendition without comparing. Whoever replaces through galerly-cdn purges; this
is for everybody else, and for what a function that died still stored of the old original.
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
    """What came of one change: how many renditions went, and whether the caches were told."""

    key: str
    deleted: int
    invalidated: bool


class Janitor:
    """Takes events of originals put and deleted.

    `invalidate` has CloudFront drop all that belongs to a key. `is_overwritten`: whether an original of this
    key was there before the present one.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        invalidate: Callable[[str], object],
        is_overwritten: Callable[[str], bool],
        tell: Callable[[bytes], None],
    ) -> None:
        self._folder = stores.folder
        self._originals = stores.originals
        self._renditions = stores.renditions
        self._targets = stores.settings.all_targets
        self._invalidate = invalidate
        self._is_overwritten = is_overwritten
        self._tell = tell

    async def take(self, event: Mapping[str, Any]) -> None:
        """Clean up after each change. Raises what a later try may mend; the queue will bring it again."""
        for change in s3_events.object_changes(event, self._folder):
            self._tell(to_json(await self._clean(change)))

    async def _clean(self, change: ObjectChange) -> JanitorResult:
        """Delete, then invalidate: the other way round, CloudFront would fetch the old again in between.

        Invalidations cost: the upload of a new photograph, the usual event, makes none. What was begun before
        may have deleted and not invalidated.
        """
        version = await self._version(change.key)
        deleted = 0
        for target in self._targets:
            stored = await self._renditions.head(change.key, target)
            if stored is not None and stored.version != version:
                deleted += await self._renditions.delete(change.key, target)
        is_due = (
            deleted > 0
            or version is None
            or change.is_again
            or (change.is_put and self._is_overwritten(change.key))
        )
        if is_due:
            self._invalidate(change.key)
        return JanitorResult(change.key, deleted, is_due)

    async def _version(self, key: str) -> str | None:
        """The original's version now; None if it is gone."""
        try:
            return (await self._originals.head(key, remembered=False)).version
        except NoSuchOriginal:
            return None
