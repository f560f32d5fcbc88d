"""Tests that a clean-up removes nothing current, whatever happens between any two of its requests.

Hypothesis draws what other processes do before and after each request of the clean-up, and every step of
theirs is run to its end there: an upload, a replacement, a deletion, a view, a purge, a late fill.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galerly_cdn.audit.judgement import Selection
from galerly_cdn.store.stored_items import Kind
from tests.support import exhaustive
from tests.support.audited_stores import ALLOWED, EARLIER_RECIPE, GONE, open_audited_store
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from galerly_cdn.model import Head
    from galerly_cdn.store.interfaces import Originals
    from galerly_cdn.store.stored_items import StoredItem, StoredItems
    from tests.support.audited_stores import AuditedStore

KEYS = ("g/good.jpg", "h/replaced.jpg", "deleted.jpg")
ACTIONS = ("upload", "delete", "view", "upload and view", "purge", "late fill", "earlier recipe")
EXAMPLES = {
    "folder": exhaustive.count(200, sample=20),
    "moto": exhaustive.count(20, sample=3),
    "versitygw": exhaustive.count(20, sample=3),
}


class Step(NamedTuple):
    """What another process does before a request of the clean-up, and how many requests later."""

    action: str
    key: str
    target: int
    after_requests: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(ACTIONS),
        st.sampled_from(KEYS),
        st.integers(0, len(ALLOWED) - 1),
        st.integers(0, 3),
    ),
    min_size=20,
    max_size=80,
)


class OtherProcesses:
    """Runs the steps that are due at each request of the clean-up."""

    def __init__(self, store: AuditedStore, steps: list[Step]) -> None:
        self.store = store
        self.steps = steps
        self.requests = 0
        self.wrongly_removed: list[StoredItem] = []
        self._lock = asyncio.Lock()

    async def run_due(self) -> None:
        """Concurrent requests of the clean-up wait for each other here."""
        async with self._lock:
            self.requests += 1
            while self.steps and self.steps[0].after_requests < self.requests:
                self.requests = 0
                await self.run(self.steps.pop(0))

    async def run(self, step: Step) -> None:
        store, target = self.store, ALLOWED[step.target]
        before = await store.version(step.key)
        match step.action:
            case "upload":
                await store.upload(step.key)
            case "delete":
                await store.originals.delete(step.key)
            case "purge":
                await store.purge(step.key)
            case "view" if before:
                await store.fill(step.key, target)
            case "upload and view":
                await store.upload(step.key)
                await store.fill(step.key, target)
                await store.learn(step.key)
            case "late fill" if before:
                await store.upload(step.key)
                await store.fill(step.key, target, version=before)
            case "earlier recipe" if before:
                await store.fill(step.key, target, recipe=EARLIER_RECIPE)
                await store.fill(step.key, GONE)
            case _:
                pass

    async def check(self, item: StoredItem) -> None:
        """Note an item that was removed although it was current."""
        made = None if item.kind is Kind.MISNAMED else item.record or item.facts
        is_current = made is not None and made.version == await self.store.version(made.key)
        if is_current and (item.facts or await self.store.is_current(item.record)):
            self.wrongly_removed.append(item)


class WatchedRoot:
    """Lets other processes act between requests, and checks what is removed."""

    def __init__(self, root: StoredItems, others: OtherProcesses) -> None:
        self._root = root
        self._others = others
        self.parallel = root.parallel
        self.parts = root.parts

    async def items(self, part: str) -> AsyncIterator[StoredItem]:
        async for item in self._root.items(part):
            await self._others.run_due()
            yield item

    async def read(self, item: StoredItem) -> StoredItem | None:
        await self._others.run_due()
        present = await self._root.read(item)
        await self._others.run_due()
        return present

    async def remove(self, item: StoredItem) -> bool:
        await self._others.run_due()
        present = await self._root.read(item)
        is_removed = await self._root.remove(item)
        if is_removed and present is not None:
            await self._others.check(present)
        return is_removed


class WatchedOriginals:
    """Lets other processes act before each head of an original."""

    def __init__(self, originals: Originals, others: OtherProcesses) -> None:
        self._head = originals.head
        self._others = others
        self.list = originals.list

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        await self._others.run_due()
        return await self._head(key, remembered=remembered)


@pytest.mark.parametrize("kind", ["folder", *SERVERS])
def test_clean_beside_other_processes_removes_nothing_current(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here
    server = None if kind == "folder" else request.getfixturevalue(kind)

    @settings(max_examples=EXAMPLES[kind])
    @given(steps=STEPS)
    def check(steps: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            objects = server.bucket() if server else None
            asyncio.run(in_store(lambda store: clean_beside(store, steps), Path(folder, "store"), objects))

    async def in_store(work: Callable[[AuditedStore], Awaitable[None]], *arguments: object) -> None:
        async with open_audited_store(*arguments) as store:  # type: ignore[arg-type]  # a folder, and objects or None
            await work(store)

    check()


async def clean_beside(store: AuditedStore, steps: list[Step]) -> None:
    for key in KEYS:
        await store.upload(key)
        for target in (*ALLOWED, GONE):
            await store.fill(key, target)
        await store.learn(key)
    await store.originals.delete("deleted.jpg")
    await store.upload("h/replaced.jpg")
    others = OtherProcesses(store, list(steps))
    roots = tuple(WatchedRoot(root, others) for root in store.place.roots())
    judge = store.judge(roots, WatchedOriginals(store.originals, others))  # type: ignore[arg-type]  # it is asked for heads
    await store.run(Selection(is_expired=False), removes=True, judge=judge)
    assert others.wrongly_removed == []
    current = await store.current()
    await store.clean()
    assert await store.current() == current
    assert (await store.audit()).is_clean
