"""Reads and appends to the store's list of recipes, and answers which renditions are current and servable.

The list is read at the start, before a stored rendition is called outdated, before a fill if the copy is
older than a second, and every ten seconds while pictures are requested. While the store fails, the process
goes on with what it has read. The decisions themselves are in `recipes`.
"""

from __future__ import annotations

import asyncio
import functools
import math
from typing import TYPE_CHECKING

from galerly_cdn import __version__
from galerly_cdn.cache import SingleFlight
from galerly_cdn.errors import StoreRefused, StoreUnreachable
from galerly_cdn.model import RecipeEntry, Target
from galerly_cdn.recipes import Ranks, Standing, named_digests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.clock import Clock
    from galerly_cdn.model import Record
    from galerly_cdn.recipes import Recipe
    from galerly_cdn.store.interfaces import Keeps, RecipeEntries

FILL_AGE_S = 1.0
"""The greatest age of the copy of the list by which a fill is made."""
_ASKED_AGE_S = 10.0
"""The greatest age while pictures are requested."""
_ATTEMPTS = 5
"""How often an append is repeated because another process has taken its number."""


class RecipeList:
    """The store's list, and the place in it of this process's `recipes`, one for each target.

    `count` receives `recipes-unreadable` and `recipes-not-stored`.
    """

    def __init__(
        self,
        store: RecipeEntries,
        recipes: Mapping[Target, Recipe],
        *,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        self.recipes = recipes
        self._own = named_digests(recipes)
        self._store = store
        self._clock = clock
        self._count = count
        self._reads: SingleFlight[tuple[bool, bool], None] = SingleFlight()
        self._lock = asyncio.Lock()
        self._read_s = -math.inf
        self._take(())

    def renew(self) -> None:
        """Read the list again in the background, if the copy is older than ten seconds. For each request."""
        if self._clock.monotonic() - self._read_s > _ASKED_AGE_S:
            self._reads.begin((False, True), self._refresh)

    def is_current(self, record: Record) -> bool:
        """Whether the recipe is current for all processes, by the copy of the list."""
        return record.recipe in self._current.get(record.target, ())

    def is_servable(self, record: Record) -> bool:
        """Whether the recipe is this process's own, or newer, by the copy of the list."""
        return self._standing.is_servable(record)

    async def serves(self, record: Record) -> bool:
        """As `is_servable`; the list is read again before this returns False.

        It is read from its beginning if it does not name the recipe: it may have been deleted and begun anew.
        """
        for _ in range(2):
            if self.is_servable(record):
                return True
            is_late = await self.refresh(from_start=not self._standing.is_listed(record))
            if not is_late:
                break
        return self.is_servable(record)

    def keeps(self, made: Record, *, unlisted: bool) -> Keeps:
        """Decides whether a stored rendition stays where `made` is to be put.

        One of a recipe that is not listed stays if `unlisted`: its entry may not have been read yet.
        """
        standing = self._standing

        def keeps(stored: Record) -> bool:
            is_unknown = stored.version == made.version and not standing.is_listed(stored)
            return (unlisted and is_unknown) or standing.keeps(stored, made)

        return keeps

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for operators, if another process has newer recipes than this one."""
        outdated = self._ranks.outdated(self._own)
        if not outdated:
            return ()
        newest = next(one for one in reversed(self._entries) if outdated.keys() & one.recipes.keys())
        text = (
            f"this process is older: entry {newest.number} of the store's list of recipes, by release "
            f"{newest.release or 'unknown'}, changed {len(outdated)} of its {len(self._own)} recipes; "
            "`galerly-cdn store rollback` with these settings makes them current again"
        )
        return (text,)

    async def refresh(self, max_age_s: float = -1.0, *, from_start: bool = False) -> bool:
        """Read what was appended, and append this process's recipes that no entry names.

        A copy that is at most `max_age_s` old is not read again. Concurrent calls are one read; returns
        whether it had begun before this call.
        """
        if self._clock.monotonic() - self._read_s <= max_age_s:
            return False
        work = functools.partial(self._refresh, from_start=from_start, appends=True)
        _, had_begun = await self._reads.run((from_start, True), work)
        return had_begun

    async def read(self) -> tuple[RecipeEntry, ...]:
        """Read what was appended, and append nothing, for commands that make no rendition; all entries."""
        await self._reads.run((False, False), functools.partial(self._refresh, appends=False))
        return self._entries

    async def rollback(self) -> RecipeEntry | None:
        """Make this process's recipes current; the entry that was appended, None if they are.

        Raises `StoreRefused`, `StoreUnreachable`.
        """
        async with self._lock:
            for _ in range(_ATTEMPTS):
                await self._read()
                changed = {**self._ranks.outdated(self._own), **self._ranks.unlisted(self._own)}
                if not changed:
                    return None
                if await self._append(changed):
                    return self._entries[-1]
        raise StoreUnreachable("other processes appended to the list of recipes at every attempt")

    async def drain(self) -> None:
        """Wait for the reads in progress."""
        await self._reads.drain()

    async def _refresh(self, *, from_start: bool = False, appends: bool = True) -> None:
        async with self._lock:
            try:
                await self._read(from_start=from_start)
            except (StoreRefused, StoreUnreachable):
                self._count("recipes-unreadable")
                return
            finally:
                self._read_s = self._clock.monotonic()
            if not appends:
                return
            try:
                for _ in range(_ATTEMPTS):
                    unlisted = self._ranks.unlisted(self._own)
                    if not unlisted or await self._append(unlisted):
                        return
                    await self._read()
            except (StoreRefused, StoreUnreachable):
                self._count("recipes-not-stored")

    async def _read(self, *, from_start: bool = False) -> None:
        """Read what follows the known entries. Raises as the store does."""
        known = () if from_start else self._entries
        self._take((*known, *await self._store.entries(known[-1].number if known else 0)))

    async def _append(self, digests: dict[str, str]) -> bool:
        """Append an entry; False if another process has taken its number. Raises as the store does."""
        entry = RecipeEntry(self._ranks.number + 1, digests, __version__, round(self._clock.wall(), 3))
        is_appended = await self._store.append(entry)
        if is_appended:
            self._take((*self._entries, entry))
        return is_appended

    def _take(self, entries: tuple[RecipeEntry, ...]) -> None:
        self._entries = entries
        self._ranks = Ranks.of(entries)
        self._standing = Standing.of(self._own, entries)
        current = self._standing.ranks.current
        self._current = {
            target: frozenset(current[str(Target(target.size, form))] for form in recipe.digests)
            for target, recipe in self.recipes.items()
        }
