"""Tests audits and clean-ups of whole stores: what is listed, what is removed, and what is left alone."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.exceptions import GenericError

from galerly_cdn.audit.caches import RememberedCaches
from galerly_cdn.audit.judgement import Reason, Selection
from galerly_cdn.errors import NotInvalidated, StoreUnreachable
from galerly_cdn.store.remote.pending_invalidations import PendingInvalidations
from galerly_cdn.stored_keys import ALL, Shard, stored_key
from tests.support.audited_stores import ALLOWED, GONE, fill_with_everything, open_audited_store
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from galerly_cdn.audit.caches import InvalidateKeys
    from galerly_cdn.audit.result import Audit, Removed
    from galerly_cdn.store.stored_items import StoredItem, StoredItems
    from tests.support.audited_stores import AuditedStore
    from tests.support.s3_servers import S3Server

STORES = ["folder", *SERVERS]


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AuditedStore]:
    objects = None if request.param == "folder" else request.getfixturevalue(request.param).bucket()
    async with open_audited_store(tmp_path / "store", objects) as opened:
        yield opened


def by_reason(audit: Audit) -> dict[Reason, int]:
    return {one.reason: one.items for one in audit.removable}


def names(removed: list[Removed]) -> list[tuple[str, str, Reason, int]]:
    return sorted((one.name, one.key, one.reason, one.bytes) for one in removed)


def named(removed: list[Removed]) -> list[Removed]:
    """Those whose names in the store tell their keys."""
    return [one for one in removed if one.key and one.reason is not Reason.MISNAMED]


async def test_clean_removes_exactly_what_the_audit_lists(store: AuditedStore) -> None:
    expected = await fill_with_everything(store)
    current = await store.current()
    audit, listed = await store.run(Selection())
    assert by_reason(audit) == expected
    assert {one.what for one in listed if one.reason is Reason.UNLISTED} == {f"{GONE}/g/1.jpg"}
    removed = await store.clean()
    assert names(removed) == names(listed)
    assert await store.current() == current
    assert len(current) == 3 * len(ALLOWED)
    again, removed = await store.run(Selection(), removes=True)
    assert (by_reason(again), removed) == ({}, [])
    assert (again.renditions.items, again.facts.items) == (len(current), 2)
    assert set(store.invalidated) >= {"deleted.jpg", "h/replaced.jpg", "g/1.jpg"}


async def test_audit_of_a_store_that_fails_raises_its_error(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = moto.bucket()
    async with open_audited_store(Path(), objects) as store:
        await fill_with_everything(store)
        judge = store.judge()
        monkeypatch.setattr(obstore, "get_async", refuse_request)
        with pytest.raises(StoreUnreachable):
            await store.run(Selection(), judge=judge)


async def refuse_request(*_: object, **__: object) -> None:
    raise GenericError("503 Service Unavailable")


@pytest.mark.parametrize("kind", SERVERS)
async def test_keys_that_were_not_invalidated_are_invalidated_by_the_next_clean(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """CloudFront holds for a year what a killed clean-up has removed and not invalidated."""
    objects = request.getfixturevalue(kind).bucket()
    sent: list[str] = []

    async def refuse(_keys: Sequence[str]) -> None:
        raise NotInvalidated

    async def invalidate(keys: Sequence[str]) -> None:
        sent.extend(keys)

    def caches(work: InvalidateKeys) -> RememberedCaches:
        return RememberedCaches(work, PendingInvalidations(objects.root("resized")))

    async with open_audited_store(Path(), objects) as store:
        await fill_with_everything(store)
        with pytest.raises(NotInvalidated):
            await store.run(Selection(), removes=True, caches=caches(refuse))
        assert (await store.audit()).is_clean
        await caches(invalidate).finish(ALL)
        assert {"deleted.jpg", "h/replaced.jpg", "g/1.jpg"} <= set(sent)
        sent.clear()
        await caches(invalidate).finish(ALL)
        assert sent == []
    assert [name for name in objects.names() if "invalidations" in name] == []


class RootWithoutResponses:
    """Removes items, and loses the responses to that."""

    def __init__(self, root: StoredItems) -> None:
        self._root = root
        self.parallel = root.parallel
        self.parts = root.parts
        self.items = root.items
        self.read = root.read

    async def remove(self, item: StoredItem) -> bool:
        await self._root.remove(item)
        raise StoreUnreachable("the response was lost")


async def test_keys_whose_removal_got_no_response_are_invalidated(tmp_path: Path) -> None:
    """The store may have removed a rendition that CloudFront still holds."""
    async with open_audited_store(tmp_path / "store") as store:
        await store.fill("g/deleted.jpg", ALLOWED[0])
        roots = tuple(RootWithoutResponses(root) for root in store.place.roots())
        with pytest.raises(StoreUnreachable):
            await store.run(Selection(), removes=True, judge=store.judge(roots))
        assert store.invalidated == ["g/deleted.jpg"]


@pytest.mark.parametrize("kind", SERVERS)
async def test_clean_of_a_shard_leaves_the_pending_keys_of_another_shard_alone(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """The machine of the other shard may be removing them at this moment."""
    pending = PendingInvalidations(request.getfixturevalue(kind).bucket().root("resized"))
    first, second = (Shard(number, 2) for number in (1, 2))
    keys = [f"g/{number}.jpg" for number in range(20)]
    of_first, of_second = ([key for key in keys if one.has(stored_key(key))] for one in (first, second))
    sent: list[str] = []

    async def invalidate(keys: Sequence[str]) -> None:
        sent.extend(keys)

    for shard, before, after in (
        (first, (of_first, of_second), of_first),
        (second, (of_second,), of_second),
        (first, (keys,), keys),
    ):
        for one in before:
            await pending.add(one)
        sent.clear()
        await RememberedCaches(invalidate, pending).finish(shard)
        assert sent == after


async def test_audit_sums_up_galleries_sizes_and_days(store: AuditedStore) -> None:
    for key in ("a/1.jpg", "a/2.jpg", "b.jpg"):
        await store.upload(key)
        await store.fill(key, ALLOWED[0])
    lengths = [len((await store.fill("a/1.jpg", target)).body) for target in ALLOWED[:2]]
    audit = await store.audit()
    assert audit.is_clean
    assert {(one.name, one.originals, one.renditions) for one in audit.galleries} == {("a", 2, 3), ("", 1, 1)}
    assert {(one.name, one.renditions) for one in audit.sizes} == {(str(ALLOWED[0]), 3), (str(ALLOWED[1]), 1)}
    assert sum(one.renditions for one in audit.days) == audit.renditions.items == 4
    assert sum(one.originals for one in audit.days) == audit.originals.items == 3
    assert audit.days[-1].name in {
        time.strftime("%Y-%m-%d", time.gmtime(time.time() - ago_s)) for ago_s in (0, 60)
    }
    assert sum(one.rendition_bytes for one in audit.sizes) == audit.renditions.bytes > sum(lengths)


async def test_audit_leaves_out_folders_of_originals_that_it_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root of a disk has a folder `lost+found`, which only root may read."""
    scan = os.scandir

    def refuse(path: Path | int) -> object:
        if isinstance(path, Path) and path.name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    async with open_audited_store(tmp_path / "store") as store:
        await store.upload("g/1.jpg")
        store.place.put("originals/lost+found/a\\b", b"x")
        store.place.put("originals/g/a\\b", b"x")
        monkeypatch.setattr(os, "scandir", refuse)
        audit = await store.audit()
    assert audit.originals.items == 2
    assert [one.examples for one in audit.unshown] == [(ascii("g/a\\b"),)]


async def test_audit_names_originals_that_cannot_be_shown(store: AuditedStore) -> None:
    for key in ("good.jpg", "damaged.jpg", "replaced.jpg", "large.jpg"):
        await store.upload(key)
    store.place.put("originals/large.jpg", b"x" * 2000)
    store.place.put("originals/a\\b.jpg", b"a name that is no key")
    store.place.put("originals/.hidden/c.jpg", b"left out on purpose")
    await store.learn("good.jpg")
    await store.learn("damaged.jpg", code="undecodable")
    await store.learn("replaced.jpg", code="undecodable", version="earlier")
    audit = await store.audit()
    assert [(one.code, one.originals, one.examples) for one in audit.unshown] == [
        ("malformed-key", 1, ("'a\\\\b.jpg'",)),
        ("too-many-bytes", 1, ("large.jpg",)),
        ("undecodable", 1, ("damaged.jpg",)),
    ]
    assert (audit.originals.items, audit.without_facts) == (5, 3)


async def test_shards_have_all_photographs_and_each_once(store: AuditedStore) -> None:
    await fill_with_everything(store)
    whole, listed = await store.run(Selection())
    shards = [await store.run(Selection(shard=Shard(number, 3))) for number in (1, 2, 3)]
    assert sorted(one for _, removed in shards for one in names(removed)) == names(listed)
    for field in ("originals", "renditions", "facts", "foreign"):
        assert sum(getattr(audit, field).items for audit, _ in shards) == getattr(whole, field).items
    for key in {one.key for one in named(listed)}:
        assert (
            sum(
                any(one.key == key and one.reason is not Reason.MISNAMED for one in removed)
                for _, removed in shards
            )
            == 1
        )
    for number in (3, 1, 2):
        await store.clean(Selection(is_expired=False, shard=Shard(number, 3)))
    assert (await store.audit()).is_clean


async def test_clean_keeps_what_is_younger_than_the_age_that_is_named(store: AuditedStore) -> None:
    await fill_with_everything(store)
    assert await store.clean(Selection(is_expired=False, older_than_s=store.ahead_s + 600)) == []
    assert await store.clean(Selection(is_expired=False, older_than_s=store.ahead_s - 600)) != []


async def test_recipe_that_is_not_listed_yet_keeps_its_rendition_for_an_hour(store: AuditedStore) -> None:
    await store.upload("a.jpg")
    await store.fill("a.jpg", ALLOWED[0], recipe="to be appended")
    store.ahead_s = 60.0
    assert (await store.audit()).is_clean
    store.ahead_s = 3700.0
    assert by_reason(await store.audit()) == {Reason.OUTDATED: 1}
