"""Finds, copies and puts renditions in the store by the order of their recipes (decision 0022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.model import OWN_FORMATS, Rendition, Target, own_format
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from typing import Any

    from galerly_cdn.facts import OriginalFacts
    from galerly_cdn.model import Record
    from galerly_cdn.recipe_list import RecipeList
    from galerly_cdn.store.interfaces import Renditions


class StoredRenditions:
    """The renditions of a store that this process serves or replaces, by the `listed` recipes."""

    def __init__(self, renditions: Renditions, facts: OriginalFacts, listed: RecipeList) -> None:
        self.listed = listed
        self._renditions = renditions
        self._facts = facts

    def is_current(self, record: Record, version: str) -> bool:
        """Whether a rendition in memory can be served without asking the store."""
        return record.version == version and self.listed.is_current(record)

    def is_servable(self, record: Record, version: str) -> bool:
        """Whether a rendition can be served while the store has no newer one, or cannot be asked."""
        return self.is_current(record, version) or (
            record.version == version and self.listed.is_servable(record)
        )

    async def serves(self, record: Record, version: str) -> bool:
        """Whether a stored rendition can be served. The list of recipes is read again before one is not."""
        return record.version == version and await self.listed.serves(record)

    async def find(self, key: str, target: Target, version: str) -> Rendition | None:
        """The stored rendition; None if there is none, or it cannot be served."""
        stored = await self._renditions.get(key, target)
        return stored if stored and await self.serves(stored.record, version) else None

    async def find_record(self, key: str, target: Target, version: str) -> Record | None:
        """The record of what `find` would return. A damaged body goes unnoticed: it is not read."""
        stored = await self._renditions.record(key, target)
        return stored if stored and await self.serves(stored, version) else None

    async def copy(self, key: str, target: Target, version: str) -> Rendition | None:
        """The rendition of another target that is the same picture, as one of this target; not stored yet.

        A picture in its original's own format has two targets: with the format's name and without. The fact
        record tells that format, and was stored when the other one was made. It has to be in memory.
        """
        twin = self._twin(key, target, version)
        stored = await self.find(key, twin, version) if twin else None
        if stored is None or stored.record.format is not (target.format or stored.record.target.format):
            return None
        return Rendition(replaced(stored.record, target=target), stored.body)

    async def put(self, rendition: Rendition) -> Rendition:
        """Store what this process has made, unless the stored one stays; the one that is stored now.

        One of a recipe that is not listed stays until the list has been read again: its entry may be new.
        Raises `StoreRefused`, `StoreUnreachable`.
        """
        made = rendition.record
        return await self._replace_unserved(
            rendition, await self._renditions.put(rendition, self.listed.keeps(made, unlisted=True))
        )

    def begin_put(self, rendition: Rendition) -> Coroutine[Any, Any, Rendition] | None:
        """Begin a `put` whose rendition is found from now on; its end, which must be awaited.

        None, and nothing is begun, where `put` has to be awaited.
        """
        put = self._renditions.begin_put(rendition, self.listed.keeps(rendition.record, unlisted=True))
        return None if put is None else self._end_put(rendition, put)

    async def _end_put(self, rendition: Rendition, put: Awaitable[Rendition]) -> Rendition:
        return await self._replace_unserved(rendition, await put)

    async def _replace_unserved(self, rendition: Rendition, stored: Rendition) -> Rendition:
        """Put again, over what was kept because its recipe was not listed and is not served."""
        made = rendition.record
        if await self.serves(stored.record, made.version):
            return stored
        return await self._renditions.put(rendition, self.listed.keeps(made, unlisted=False))

    def _twin(self, key: str, target: Target, version: str) -> Target | None:
        """The other target that may be the same picture."""
        if target.format is not None:
            return Target(target.size) if target.format in OWN_FORMATS else None
        known = self._facts.remembered(key, version)
        if known is None or known.facts is None or known.refusal is not None:
            return None
        return Target(target.size, own_format(has_alpha=known.facts.has_alpha))
