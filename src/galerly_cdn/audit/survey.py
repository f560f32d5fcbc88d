"""Lists a store once, judges every item in it, and sums up what there is.

First the originals, then everything beside them. Only the database of `index` grows with the store.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.audit.index import Finding
from galerly_cdn.audit.judgement import HOUR_S, Reason
from galerly_cdn.audit.result import Amount, Audit, Group, Removable, Unshown
from galerly_cdn.errors import MalformedKey, StoreRefused, TooManyBytes
from galerly_cdn.facts import refusal_of
from galerly_cdn.http.urls import gallery_name
from galerly_cdn.model import OWN_FORMATS, Target
from galerly_cdn.settings.expire import rule_for
from galerly_cdn.store.stored_items import Kind
from galerly_cdn.stored_keys import stored_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from galerly_cdn.audit.index import AuditIndex, GroupSums, Known
    from galerly_cdn.audit.judge import Judge
    from galerly_cdn.audit.judgement import Selection
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.model import Limits, RecipeEntry
    from galerly_cdn.store.stored_items import OriginalItem, OriginalItems, StoredItem

EXAMPLES = 10
_GALLERIES = 1000
_CHUNK = 1000


class Progress(NamedTuple):
    """How far a survey is: the part of `parts` that is being listed, and what was listed so far."""

    part: int
    parts: int
    originals: int
    items: int


class Presumption(NamedTuple):
    """Of a listing by an inventory: renditions that are newer than what they depend on are not read.

    `changed_s` holds, by size and format, when the list of recipes last named another recipe.
    """

    changed_s: Mapping[str, float]

    @classmethod
    def of(cls, entries: Iterable[RecipeEntry]) -> Presumption:
        """By the entries of the list of recipes, in the order of their numbers."""
        changed_s: dict[str, float] = {}
        digests: dict[str, str] = {}
        for entry in entries:
            for name, digest in entry.recipes.items():
                if digests.get(name) != digest:
                    digests[name], changed_s[name] = digest, entry.at_s
        return cls(changed_s)

    def is_current(self, item: StoredItem, known: Known) -> bool:
        """Whether a rendition was stored over an hour after its original and its recipe."""
        if item.target is None:
            return False
        forms = (item.target.format,) if item.target.format else OWN_FORMATS
        names = [str(Target(item.target.size, form)) for form in forms]
        newest_s = max(known.modified_s, *(self.changed_s.get(name, 0.0) for name in names))
        return item.modified_s > newest_s + HOUR_S


class Survey:
    """One audit of a store by a `judge`. Without a `presumption` every item is read."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        judge: Judge,
        originals: OriginalItems,
        index: AuditIndex,
        *,
        selection: Selection,
        limits: Limits,
        max_bytes: int,
        presumption: Presumption | None = None,
        report: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._judge = judge
        self._originals = originals
        self._index = index
        self._selection = selection
        self._limits = limits
        self._max_bytes = max_bytes
        self._presumption = presumption
        self._report = report
        self._progress = Progress(0, 0, 0, 0)
        self._amounts = {name: [0, 0] for name in ("originals", "renditions", "facts", "foreign")}
        self._unshown: dict[str, tuple[str, list[int], list[str]]] = {}
        self._unread_facts = self._known_facts = self._expired_originals = 0
        self.all_originals = 0
        """How many the listing showed, in all shards."""

    async def run(self) -> Audit:
        """List and judge everything. Raises as the stores do, and `NoTemporarySpace`."""
        roots = [
            (number, part) for number, root in enumerate(self._judge.roots) for part in await root.parts()
        ]
        self._progress = Progress(0, len(roots) + 1, 0, 0)
        async for original in self._originals.list():
            self._add_original(original)
            self._tell(originals=self._progress.originals + 1)
        self._index.flush()
        for part, (number, name) in enumerate(roots, 1):
            self._tell(part=part)
            async for chunk in _chunks(self._judge.roots[number].items(name)):
                await self._take_all(number, chunk)
                self._tell(items=self._progress.items + len(chunk))
            self._index.flush()
        return self._result()

    def _tell(self, **changed: int) -> None:
        self._progress = self._progress._replace(**changed)
        self._report(self._progress)

    # ----------------------------------------------------------------------------------- originals

    def _add_original(self, item: OriginalItem) -> None:
        self.all_originals += 1
        stored = stored_key(item.key) if item.key else item.name
        if not self._selection.shard.has(stored):
            return
        self._add_amount("originals", item.length_bytes)
        self._index.add_to_group("day", _day(item.modified_s), original_bytes=item.length_bytes)
        if not item.key:
            self._add_unshown(MalformedKey(), item.name)
            return
        gallery = gallery_name(item.key)
        self._index.add_to_group("gallery", gallery, original_bytes=item.length_bytes)
        if item.length_bytes > self._max_bytes:
            self._add_unshown(TooManyBytes(), item.key)
        if item.version or self._presumption:
            self._index.add_original(stored, item)
        now_s = self._judge.now()
        rule = rule_for(self._judge.rules.expire, gallery)
        if rule and rule.with_originals and rule.has_expired(item.modified_s, now_s):
            self._add_finding(Finding(reason=Reason.EXPIRED, original=item), item.modified_s)

    # --------------------------------------------------------------------------------------- items

    async def _take_all(self, root: int, chunk: Sequence[StoredItem]) -> None:
        """Judge items, as many at a time as the root allows."""
        selected = [item for item in chunk if self._selection.shard.has(item.stored)]
        parallel = self._judge.roots[root].parallel
        if parallel == 1:
            for item in selected:
                await self._take(root, item)
            return
        slots = asyncio.Semaphore(parallel)

        async def take(item: StoredItem) -> None:
            async with slots:
                await self._take(root, item)

        results = await asyncio.gather(*map(take, selected), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _take(self, root: int, item: StoredItem) -> None:
        known = None if item.is_read else self._index.original(item.stored)
        if self._is_presumed(item, known):
            self._add(item, known.key if known else item.key)
            return
        listed_version = known.version if known else self._originals.version(item.key)
        try:
            judged = await self._judge.judge(root, item, listed_version)
        except StoreRefused as error:
            self._add_unshown(error, item.key or item.name)
            return
        if judged is None:
            return
        item, reason = judged
        self._add(item, item.key or (known.key if known else ""))
        if reason is not None:
            self._add_finding(Finding(reason=reason, root=root, item=item), item.modified_s)
        elif item.facts:
            self._known_facts += 1
            if (refusal := refusal_of(item.facts, self._limits)) is not None:
                self._add_unshown(refusal, item.key)

    def _is_presumed(self, item: StoredItem, known: Known | None) -> bool:
        """Whether an item is taken for current without reading it."""
        if self._presumption is None or known is None or item.is_read:
            return False
        if item.kind is Kind.FACTS:
            is_presumed = self._index.is_shown(item.stored) and item.modified_s >= known.modified_s
            self._unread_facts += is_presumed
            return is_presumed
        rules = self._judge.rules
        rule = rule_for(rules.expire, gallery_name(known.key))
        is_expired = rule is not None and rule.has_expired(item.modified_s, self._judge.now())
        is_allowed = item.kind is Kind.RENDITION and item.target in rules.allowed
        return is_allowed and not is_expired and self._presumption.is_current(item, known)

    def _add(self, item: StoredItem, key: str) -> None:
        """Count an item, whether it can be removed or not."""
        name = "facts" if item.facts or item.kind is Kind.FACTS else "renditions"
        if item.kind in {Kind.FOREIGN, Kind.TEMPORARY}:
            name = "foreign" if item.kind is Kind.FOREIGN else ""
        if name:
            self._add_amount(name, item.length_bytes)
        if name != "renditions":
            return
        if self._presumption:
            self._index.set_shown(item.stored)
        self._index.add_to_group("day", _day(item.modified_s), item_bytes=item.length_bytes)
        if key:
            self._index.add_to_group("gallery", gallery_name(key), item_bytes=item.length_bytes)
        if item.target:
            self._index.add_to_group("size", str(item.target), item_bytes=item.length_bytes)

    # -------------------------------------------------------------------------------------- result

    def _add_finding(self, finding: Finding, modified_s: float) -> None:
        if self._selection.includes(finding.reason, modified_s, self._judge.now()):
            self._index.add_finding(finding)
            self._expired_originals += finding.original is not None

    def _add_amount(self, name: str, length_bytes: int) -> None:
        self._amounts[name][0] += 1
        self._amounts[name][1] += length_bytes

    def _add_unshown(self, error: GalerlyError, name: str) -> None:
        _, count, examples = self._unshown.setdefault(error.code, (error.public, [0], []))
        count[0] += 1
        if len(examples) < EXAMPLES:
            examples.append(name)

    def _result(self) -> Audit:
        index, amounts = self._index, {name: Amount(*sums) for name, sums in self._amounts.items()}
        by_reason = index.findings_by_reason()
        return Audit(
            shard=str(self._selection.shard),
            **amounts,
            removable=tuple(
                Removable(reason, *by_reason[reason], index.examples(reason, EXAMPLES))
                for reason in Reason
                if reason in by_reason
            ),
            expired_originals=self._expired_originals,
            unshown=tuple(
                Unshown(code, public, count, tuple(examples))
                for code, (public, (count,), examples) in sorted(self._unshown.items())
            ),
            unread_facts=self._unread_facts,
            without_facts=max(0, amounts["originals"].items - self._known_facts - self._unread_facts),
            gallery_count=index.count_groups("gallery"),
            galleries=_groups(index.groups("gallery", limit=_GALLERIES)),
            sizes=_groups(index.groups("size")),
            days=_groups(index.groups("day", by_name=True)),
        )


def _groups(sums: Sequence[GroupSums]) -> tuple[Group, ...]:
    return tuple(Group(*one) for one in sums)


async def _chunks(items: AsyncIterator[StoredItem]) -> AsyncIterator[list[StoredItem]]:
    chunk: list[StoredItem] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _day(modified_s: float) -> str:
    return _date(int(modified_s // 86_400))


@functools.lru_cache(4096)
def _date(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()
