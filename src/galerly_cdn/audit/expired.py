"""Deletes originals that expire by the setting `expire`, with their renditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from galerly_cdn.audit.judgement import Reason
from galerly_cdn.errors import NoSuchOriginal
from galerly_cdn.http.urls import gallery_name
from galerly_cdn.settings.expire import rule_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.audit.judgement import Rules, Selection
    from galerly_cdn.store.interfaces import WritableOriginals


class Purges(Protocol):
    """Removes the renditions of an original, and drops them from the caches in front."""

    async def purge(self, key: str, /) -> object: ...


class ExpiredOriginals:
    """The originals that `rules` and a `selection` let expire. `now` is the wall clock in seconds."""

    def __init__(
        self,
        originals: WritableOriginals,
        catalog: Purges,
        *,
        rules: Rules,
        selection: Selection,
        now: Callable[[], float],
    ) -> None:
        self._originals = originals
        self._catalog = catalog
        self._rules = rules
        self._selection = selection
        self._now = now

    async def delete(self, key: str) -> bool:
        """Delete an original if it still expires; whether it was deleted. Raises as the stores do.

        Its renditions are removed first: what a killed process leaves is the original, which the next run
        finds. They are removed again afterwards, because viewers may have requested some meanwhile. An
        upload that replaces the original meanwhile stays.
        """
        version = await self._expired_version(key)
        if version is None:
            return False
        await self._catalog.purge(key)
        is_deleted = await self._originals.delete_unchanged(key, version)
        await self._catalog.purge(key)
        return is_deleted

    async def _expired_version(self, key: str) -> str | None:
        """The version of an original that expires now; None for one that is gone, or was replaced.

        A listing tells the time, a head the version: two equal heads show that both are of one original.
        """
        try:
            before = await self._originals.head(key, remembered=False)
            async for one in self._originals.list(key, key[:-1]):
                after = await self._originals.head(key, remembered=False)
                is_same = one.key == key and after.version == before.version
                return after.version if is_same and self._expires(key, one.modified_s) else None
        except NoSuchOriginal:
            pass
        return None

    def _expires(self, key: str, modified_s: float) -> bool:
        rule, now_s = rule_for(self._rules.expire, gallery_name(key)), self._now()
        if rule is None or not (rule.with_originals and rule.has_expired(modified_s, now_s)):
            return False
        return self._selection.includes(Reason.EXPIRED, modified_s, now_s)
