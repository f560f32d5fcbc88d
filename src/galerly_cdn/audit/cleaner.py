"""Removes what an audit has found, each item after another look at it, and tells the caches in front.

An item is removed only in the state in which it was judged: a rendition that is stored meanwhile stays.
Removing is idempotent: another run goes on where one was interrupted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from galerly_cdn.audit.caches import RememberedCaches
from galerly_cdn.audit.index import Finding
from galerly_cdn.audit.result import Amount, Cleaned, Removed
from galerly_cdn.errors import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from galerly_cdn.audit.expired import ExpiredOriginals
    from galerly_cdn.audit.judge import Judge
    from galerly_cdn.audit.judgement import Reason, Selection
    from galerly_cdn.store.stored_items import StoredItem

_PARALLEL = 16


class Cleaner:
    """Removes findings. `show` receives each removed item; `expired` deletes originals, if any expire."""

    def __init__(
        self,
        judge: Judge,
        selection: Selection,
        *,
        caches: RememberedCaches | None = None,
        show: Callable[[Removed], None],
        expired: ExpiredOriginals | None = None,
    ) -> None:
        self._judge = judge
        self._selection = selection
        self._caches = caches or RememberedCaches(None, None)
        self._show = show
        self._expired = expired
        self._items: Counter[Reason] = Counter()
        self._bytes: Counter[Reason] = Counter()
        self._kept = self._failed = 0

    async def remove(self, chunks: Iterable[Sequence[Finding]]) -> Cleaned:
        """Remove what is still to be removed. Raises as the stores and the caches do."""
        slots = asyncio.Semaphore(_PARALLEL)

        async def remove(finding: Finding) -> bool:
            async with slots:
                return await self._remove(finding)

        for chunk in chunks:
            keys = tuple(dict.fromkeys(one.key for one in chunk if one.key))
            await self._caches.expect(keys)
            results = await asyncio.gather(*map(remove, chunk), return_exceptions=True)
            # After an error, the store may have removed it all the same
            changed = {one.key for one, result in zip(chunk, results, strict=True) if result is not False}
            await self._caches.invalidate(keys, [key for key in keys if key in changed])
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return self.result(is_trial=False)

    def preview(self, chunks: Iterable[Sequence[Finding]]) -> Cleaned:
        """Show what `remove` would remove, and remove nothing: a trial."""
        for finding in (one for chunk in chunks for one in chunk):
            self._add(finding)
        return self.result(is_trial=True)

    def result(self, *, is_trial: bool) -> Cleaned:
        """What was removed so far."""
        removed = {one: Amount(count, self._bytes[one]) for one, count in sorted(self._items.items())}
        return Cleaned(is_trial=is_trial, removed=removed, kept=self._kept, failed=self._failed)

    async def _remove(self, finding: Finding) -> bool:
        """Whether it was removed. Raises as the stores do, but `StoreRefused`."""
        try:
            if finding.original is not None:
                return await self._remove_original(finding, finding.original.key)
            return finding.item is not None and await self._remove_item(finding.root, finding.item)
        except StoreRefused:
            self._failed += 1
            return False

    async def _remove_item(self, root: int, listed: StoredItem) -> bool:
        judged = await self._judge.judge_again(root, listed)
        if judged is not None and judged.reason is not None:
            item = judged.item
            is_selected = self._selection.includes(judged.reason, item.modified_s, self._judge.now())
            if is_selected and await self._judge.roots[root].remove(item):
                self._add(Finding(reason=judged.reason, root=root, item=item))
                return True
        self._kept += 1
        return False

    async def _remove_original(self, finding: Finding, key: str) -> bool:
        is_removed = self._expired is not None and await self._expired.delete(key)
        if is_removed:
            self._add(finding)
        else:
            self._kept += 1
        return is_removed

    def _add(self, removed: Finding) -> None:
        reason, length_bytes = removed.reason, removed.length_bytes
        self._items[reason] += 1
        self._bytes[reason] += length_bytes
        self._show(Removed(removed.name, removed.label, removed.key, reason, length_bytes))
