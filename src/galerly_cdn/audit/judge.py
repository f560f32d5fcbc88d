"""Reads an item of a store, and what its original is now, and decides with that whether it can be removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.audit.judgement import Reason, reason_by_name, reason_of
from galerly_cdn.errors import MalformedKey, NoSuchOriginal
from galerly_cdn.http.urls import checked_key
from galerly_cdn.recipes import Ranks
from galerly_cdn.serialization import replaced
from galerly_cdn.store.stored_items import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from galerly_cdn.audit.judgement import Rules
    from galerly_cdn.model import RecipeEntry
    from galerly_cdn.store.interfaces import Originals, RecipeEntries
    from galerly_cdn.store.stored_items import StoredItem, StoredItems


class Judged(NamedTuple):
    """An item as it was read, and why it can be removed; None to keep it."""

    item: StoredItem
    reason: Reason | None


class Judge:
    """Judges the items of `roots`, which are named by their numbers. `now` is the wall clock in seconds.

    The list of recipes is read from `recipes` before the first item, and again before an item is called
    outdated by it.
    """

    def __init__(
        self,
        roots: Sequence[StoredItems],
        originals: Originals,
        recipes: RecipeEntries,
        rules: Rules,
        now: Callable[[], float],
    ) -> None:
        self.roots = roots
        self.rules = rules
        self.now = now
        self._originals = originals
        self._recipes = recipes
        self.entries: tuple[RecipeEntry, ...] = ()

    async def judge(self, root: int, item: StoredItem, listed_version: str = "") -> Judged | None:
        """A listed item, which is read if that may change the decision; None if it is gone.

        The original is not asked for its version if the item was made from the `listed_version`, which may
        be late: then an outdated item is kept this time. Raises as the stores do.
        """
        if not item.is_read and item.kind is not Kind.FOREIGN and reason_by_name(item, self.rules) is None:
            return await self.judge_again(root, item, listed_version)
        version = listed_version or None
        is_made = item.kind in {Kind.RENDITION, Kind.FACTS} and reason_by_name(item, self.rules) is None
        if is_made and item.version != version:
            version = await self._version(item.key)
        reason = reason_of(item, version, self.rules, self.now())
        if reason is Reason.OUTDATED and item.version == version:
            await self.read_recipes()
            reason = reason_of(item, version, self.rules, self.now())
        return Judged(item, reason)

    async def judge_again(self, root: int, item: StoredItem, listed_version: str = "") -> Judged | None:
        """As `judge`, of the item as it is now.

        The original is asked after the item was read: what is removed has the tag that was read before.
        """
        present = await self.roots[root].read(item)
        return await self.judge(root, present, listed_version) if present else None

    async def read_recipes(self) -> None:
        """Read what was appended to the list of recipes since the last call. Raises as the store does."""
        appended = await self._recipes.entries(self.entries[-1].number if self.entries else 0)
        if appended:
            self.entries += appended
            self.rules = replaced(self.rules, ranks=Ranks.of(self.entries))

    async def _version(self, key: str) -> str | None:
        """The version of an original; None if there is none."""
        try:
            return (await self._originals.head(checked_key(key), remembered=False)).version
        except (MalformedKey, NoSuchOriginal):
            return None
