"""Remembers the fact records of originals, reads them from the store of renditions, and writes them to it.

A record is made by the worker that first reads an original, and is used until the original or the release
changes. It is written in the background, so no viewer waits for it. A write that fails costs only that the
record is made again. What does not depend on the file alone (a time-out, a crash, a quarantine, a lack of
memory) never becomes a record; refusals by a limit are computed from the facts (`render.refusals`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.cache import MemoryCache, SingleFlight
from galerly_cdn.errors import StoreRefused, StoreUnreachable, Unrenderable
from galerly_cdn.model import FactRecord, Refusal
from galerly_cdn.render import refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Facts, Limits
    from galerly_cdn.store.interfaces import FactRecords

_MAX_REMEMBERED = 20_000
"""Records in memory, about 1 kB each."""


class OriginalFacts:
    """The records of one revision. `store` holds them beside the renditions.

    `count` receives the event `facts-not-stored`.
    """

    def __init__(
        self, store: FactRecords, *, revision: str, limits: Limits, count: Callable[[str], None]
    ) -> None:
        self._store = store
        self._revision = revision
        self._limits = limits
        self._count = count
        self._remembered: MemoryCache[str, FactRecord] = MemoryCache(_MAX_REMEMBERED, lambda _: 1)
        self._reads: SingleFlight[str, FactRecord | None] = SingleFlight()
        self._unwritten: dict[str, FactRecord] = {}
        self._writes: SingleFlight[str, None] = SingleFlight()

    def remembered(self, key: str, version: str) -> FactRecord | None:
        """The record of this version, if it is in memory."""
        record = self._remembered.get(key)
        return record if record is not None and record.version == version else None

    async def find(self, key: str, version: str) -> FactRecord | None:
        """The record of this version, from memory, else from the store; concurrent calls are one request.

        None if there is none, or if the store fails.
        """
        known = self.remembered(key, version)
        if known is not None:
            return known
        stored, _ = await self._reads.run(key, lambda: self._store.facts(key))
        if stored is None or (stored.version, stored.revision) != (version, self._revision):
            return None
        if stored.refusal is not None and not _is_verdict(stored.refusal):
            return None
        # What was learnt while the store was read is newer.
        known = self.remembered(key, version)
        if known is None:
            self._remembered.put(key, stored)
        return known or stored

    def refusal(self, record: FactRecord) -> Unrenderable | None:
        """Why an original is not rendered: as `refusal_of`, by the limits that are set."""
        return refusal_of(record, self._limits)

    def check(self, record: FactRecord | None) -> None:
        """Raise the `refusal` of a record, if it is known and has one."""
        error = self.refusal(record) if record is not None else None
        if error is not None:
            raise error

    def learn(self, key: str, version: str, facts: Facts | None, *, is_good: bool = False) -> FactRecord:
        """Remember the facts of a version, and with `is_good` that its pixels are; the record as it is now.

        A record that says more than this is left as it is.
        """
        known = self.remembered(key, version)
        if known is not None and (known.is_decided or not is_good):
            return known
        return self._keep(FactRecord(key, version, self._revision, facts, is_good))

    def learn_refusal(self, key: str, version: str, facts: Facts | None, error: Unrenderable) -> FactRecord:
        """Remember that a version cannot be rendered; `facts` is None if its header could not be read.

        It has to be a verdict (`refusals.is_verdict`). A refusal replaces an earlier record, also a good one.
        """
        refusal = Refusal(error.code, error.public, error.detail)
        return self._keep(FactRecord(key, version, self._revision, facts, refusal=refusal))

    async def remove(self, key: str) -> None:
        """Forget a record and remove it from the store. Raises `StoreRefused`, `StoreUnreachable`."""
        self._unwritten.pop(key, None)
        self._remembered.drop(key)
        await self._writes.wait(key)
        await self._store.delete_facts(key)

    async def drain(self) -> None:
        """Wait for the writes in progress."""
        await self._writes.drain()

    def _keep(self, record: FactRecord) -> FactRecord:
        self._remembered.put(record.key, record)
        self._unwritten[record.key] = record
        self._writes.begin(record.key, lambda: self._write(record.key))
        return record

    async def _write(self, key: str) -> None:
        """Write the records of one key, one after the other: the one that was learnt last stays."""
        while (record := self._unwritten.pop(key, None)) is not None:
            try:
                await self._store.put_facts(record)
            except (StoreRefused, StoreUnreachable):
                self._count("facts-not-stored")


def refusal_of(record: FactRecord, limits: Limits) -> Unrenderable | None:
    """Why an original is not rendered: a limit, or the verdict of the record; None if it is."""
    if record.facts is not None:
        try:
            refusals.check_limits(record.facts, limits)
        except Unrenderable as error:
            return error
    refusal = record.refusal
    return refusals.of_code(refusal.code, refusal.detail, refusal.public) if refusal else None


def _is_verdict(refusal: Refusal) -> bool:
    return refusals.is_verdict(refusals.of_code(refusal.code))
