"""Tests of the setting `expire`: renditions and originals of an age are removed, and nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.audit.expired import ExpiredOriginals
from galerly_cdn.audit.judgement import Reason, Selection
from galerly_cdn.settings.expire import parse_expire
from tests.support.audited_stores import ALLOWED, open_audited_store
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.support.audited_stores import AuditedStore

DAY_S = 86_400.0
RULES = parse_expire(["clients/* 30", "previews/** 30 originals", "** 400"])
EXPIRED = Selection(is_expired=True)


@pytest.fixture(params=["folder", *SERVERS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AuditedStore]:
    """A store with three galleries, each with a photograph and two renditions, 31 days ago."""
    objects = None if request.param == "folder" else request.getfixturevalue(request.param).bucket()
    async with open_audited_store(tmp_path / "store", objects) as opened:
        opened.expire, opened.ahead_s = RULES, 31 * DAY_S
        for key in ("clients/smith/1.jpg", "previews/a/b/1.jpg", "kept/1.jpg"):
            await opened.upload(key)
            for target in ALLOWED[:2]:
                await opened.fill(key, target)
            await opened.learn(key)
        yield opened


def expired_originals(
    store: AuditedStore, before_delete: Callable[[], Awaitable[object]] | None = None
) -> ExpiredOriginals:
    class Catalog:
        async def purge(self, key: str) -> None:
            await store.purge(key)
            if before_delete is not None:
                await before_delete()

    return ExpiredOriginals(
        store.originals,
        Catalog(),
        rules=store.judge().rules,
        selection=EXPIRED,
        now=lambda: time.time() + store.ahead_s,
    )


async def keys(store: AuditedStore) -> list[str]:
    return [one.key async for one in store.originals.list()]


async def test_expired_renditions_are_removed_by_their_own_selection_alone(store: AuditedStore) -> None:
    assert await store.clean(Selection(is_expired=False)) == []
    audit = await store.audit()
    assert [(one.reason, one.items) for one in audit.removable] == [(Reason.EXPIRED, 5)]
    removed = await store.clean(EXPIRED)
    assert {one.key for one in removed} == {"clients/smith/1.jpg", "previews/a/b/1.jpg"}
    assert {one.reason for one in removed} == {Reason.EXPIRED}
    assert await store.current() == {("kept/1.jpg", str(target)) for target in ALLOWED[:2]}
    assert len(await keys(store)) == 3


async def test_original_expires_only_by_a_rule_that_says_so(store: AuditedStore) -> None:
    listed = [one.what for one in (await store.run(EXPIRED))[1] if one.what.startswith("originals/")]
    assert listed == ["originals/previews/a/b/1.jpg"]
    expired = expired_originals(store)
    assert not await expired.delete("clients/smith/1.jpg")
    assert not await expired.delete("previews/none.jpg")
    _, removed = await store.run(EXPIRED, removes=True, expired=expired)
    assert "originals/previews/a/b/1.jpg" in {one.what for one in removed}
    assert await keys(store) == ["clients/smith/1.jpg", "kept/1.jpg"]
    assert await store.current() == {("kept/1.jpg", str(target)) for target in ALLOWED[:2]}
    assert (await store.audit()).is_clean


async def test_original_that_is_replaced_while_it_expires_stays(store: AuditedStore) -> None:
    key = "previews/a/b/1.jpg"
    assert not await expired_originals(store, lambda: store.upload(key)).delete(key)
    assert await store.version(key)


async def test_original_that_is_younger_than_its_rule_stays(store: AuditedStore) -> None:
    store.ahead_s = 29 * DAY_S
    assert not await expired_originals(store).delete("previews/a/b/1.jpg")
    assert (await store.audit()).is_clean
