"""Tests the cache of heads: how long it keeps them, which requests it sends, and who waits for them."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.errors import NoSuchOriginal, StoreRefused, StoreUnreachable
from galerly_cdn.model import Head
from galerly_cdn.store.remote import head_cache
from galerly_cdn.store.remote.head_cache import HeadCache
from tests.support.in_memory_cdn import Gate

FRESH_S, STALE_S = 1.0, 100.0


class Store:
    """Fakes a store. It returns the version at the time of the request, and may fail, be slow or block."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.versions = {"a": "v1"}
        self.takes_s = 0.0
        self.error: Exception | None = None
        self.gate = Gate()
        self.requests = 0
        self.required = 0

    async def request_head(self, key: str, *, is_optional: bool) -> Head:
        self.requests += 1
        self.required += not is_optional
        version = self.versions.get(key)
        await self.gate.passed()
        self.now_s += self.takes_s
        if self.error is not None:
            raise self.error
        if version is None:
            raise NoSuchOriginal
        return Head(version, 10)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def heads(store: Store) -> HeadCache:
    return HeadCache(store.request_head, lambda: store.now_s, fresh_s=FRESH_S, stale_s=STALE_S)


async def drained(heads: HeadCache) -> None:
    """Wait until no request is in progress."""
    await heads._requests.drain()


async def test_head_is_cached_while_it_is_fresh(store: Store, heads: HeadCache) -> None:
    assert heads.fresh("a") is None
    for _ in range(100):
        assert await heads.get("a") == heads.fresh("a") == Head("v1", 10)
    assert store.requests == 1
    store.versions["a"] = "v2"
    store.now_s += FRESH_S
    assert heads.fresh("a") is None
    assert await heads.get("a") == Head("v2", 10)
    assert store.requests == 2


async def test_missing_original_is_cached_as_long(store: Store, heads: HeadCache) -> None:
    for _ in range(100):
        with pytest.raises(NoSuchOriginal):
            await heads.get("none")
        assert heads.fresh("none") is None
    assert store.requests == 1
    store.versions["none"] = "v1"
    store.now_s += FRESH_S
    assert await heads.get("none") == Head("v1", 10)


async def test_fresh_time_of_zero_caches_nothing(store: Store) -> None:
    heads = HeadCache(store.request_head, lambda: store.now_s, fresh_s=0, stale_s=STALE_S)
    for number in range(10):
        store.versions["a"] = f"v{number}"
        assert await heads.get("a") == Head(f"v{number}", 10)


@pytest.mark.parametrize("by_fresh", [False, True], ids=["get", "fresh"])
async def test_head_in_use_is_refreshed_before_it_expires(
    store: Store, heads: HeadCache, *, by_fresh: bool
) -> None:
    await heads.get("a")
    store.gate.close()
    store.versions["a"] = "v2"
    store.now_s += 0.8 * FRESH_S
    for _ in range(100):  # at once, although the store blocks
        assert (heads.fresh("a") if by_fresh else await heads.get("a")) == Head("v1", 10)
    store.gate.open()
    await drained(heads)
    assert store.requests == 2
    store.now_s += 0.7 * FRESH_S
    assert await heads.get("a") == Head("v2", 10)
    assert store.requests == 2


@pytest.mark.parametrize("is_known", [False, True])
async def test_concurrent_gets_of_one_key_are_one_request(
    store: Store, heads: HeadCache, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    monkeypatch.setattr(head_cache, "_MAX_WAIT_S", 60)  # a busy machine is not a late store
    if is_known:
        await heads.get("a")
        store.now_s += FRESH_S
    before = store.requests
    store.gate.close()
    getting = [asyncio.create_task(heads.get("a")) for _ in range(1000)]
    await store.gate.arrival()
    store.gate.open()
    assert set(await asyncio.gather(*getting)) == {Head("v1", 10)}
    assert store.requests == before + 1


async def test_cancelled_get_does_not_cancel_the_request(store: Store, heads: HeadCache) -> None:
    store.gate.close()
    getting = [asyncio.create_task(heads.get("a")) for _ in range(3)]
    await store.gate.arrival()
    getting[0].cancel()
    store.gate.open()
    await asyncio.wait(getting)
    assert getting[0].cancelled()
    assert [one.result() for one in getting[1:]] == [Head("v1", 10)] * 2
    assert store.requests == 1


# unreachable and late stores


async def test_unreachable_store_returns_the_last_head_with_its_age(store: Store, heads: HeadCache) -> None:
    await heads.get("a")
    store.error = StoreUnreachable()
    for age_s in (FRESH_S, 4.0, 40.0, STALE_S - 0.1):
        store.now_s = 1000.0 + age_s
        head = await heads.get("a")
        assert head.version == "v1"
        assert head.stale_s == pytest.approx(age_s)
        await drained(heads)
    store.now_s = 1000.0 + STALE_S
    with pytest.raises(StoreUnreachable):
        await heads.get("a")


async def test_unreachable_store_without_a_known_head_is_an_error(store: Store, heads: HeadCache) -> None:
    with pytest.raises(NoSuchOriginal):
        await heads.get("none")
    store.error = StoreUnreachable()
    store.now_s += FRESH_S
    for key in ("a", "none"):
        with pytest.raises(StoreUnreachable):
            await heads.get(key)


async def test_refusing_store_gives_known_heads_as_stale_until_they_are_too_old(
    store: Store, heads: HeadCache
) -> None:
    """Credentials that have expired, or a clock that is off, say nothing about the photograph."""
    head = await heads.get("a")
    store.error = StoreRefused()
    store.now_s += FRESH_S
    stale = await heads.get("a")
    assert (stale.version, stale.stale_s) == (head.version, FRESH_S)
    with pytest.raises(StoreRefused):
        await heads.get("none")
    store.now_s += STALE_S
    with pytest.raises(StoreRefused):
        await heads.get("a")


async def test_recovered_store_is_used_again(store: Store, heads: HeadCache) -> None:
    await heads.get("a")
    store.error = StoreUnreachable()
    store.now_s += FRESH_S
    assert (await heads.get("a")).stale_s == FRESH_S
    for _ in range(100):
        await heads.get("a")
        await drained(heads)
    assert store.requests == 2  # no more often than a store that answers
    store.error = None
    store.versions["a"] = "v2"
    store.now_s += FRESH_S
    assert (await heads.get("a")).stale_s  # returned at once, and refreshed in the background
    await drained(heads)
    assert await heads.get("a") == Head("v2", 10)


async def test_late_store_delays_only_the_first_request(
    store: Store, heads: HeadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_cache, "_MAX_WAIT_S", 0.001)
    await heads.get("a")
    store.gate.close()
    store.now_s += FRESH_S
    assert (await heads.get("a")).stale_s  # it waited for a moment
    monkeypatch.setattr(head_cache, "_MAX_WAIT_S", 3600.0)
    for _ in range(100):
        assert (await heads.get("a")).stale_s  # it did not wait
    assert store.requests == 2
    store.gate.open()
    await drained(heads)


async def test_get_during_a_late_request_does_not_wait(store: Store, heads: HeadCache) -> None:
    """A head in use is refreshed early: when it expires, the request has already had its time to wait."""
    await heads.get("a")
    store.gate.close()
    store.now_s += 0.75 * FRESH_S
    assert not (await heads.get("a")).stale_s
    await store.gate.arrival()
    await store.gate.arrival()
    store.now_s += 0.25 * FRESH_S
    for _ in range(100):
        assert (await heads.get("a")).stale_s == pytest.approx(FRESH_S)
    assert store.requests == 2
    store.gate.open()
    await drained(heads)


async def test_gets_after_a_late_response_do_not_wait(store: Store, heads: HeadCache) -> None:
    """Without this, a store that fails now and then would delay every second viewer."""
    await heads.get("a")
    store.takes_s = 0.5
    store.now_s += FRESH_S
    await heads.refresh("a")
    store.takes_s = 0.0
    store.now_s += FRESH_S
    store.gate.close()
    assert (await heads.get("a")).stale_s
    store.gate.open()
    await drained(heads)
    store.now_s += 10
    assert not (await heads.get("a")).stale_s


# changes


async def test_put_head_is_returned_at_once(store: Store, heads: HeadCache) -> None:
    await heads.get("a")
    heads.put("a", Head("v2", 20))
    assert await heads.get("a") == Head("v2", 20)
    heads.put("a", None)
    with pytest.raises(NoSuchOriginal):
        await heads.get("a")
    assert store.requests == 1


@pytest.mark.parametrize("fresh_s", [0.0, FRESH_S])
async def test_request_in_progress_does_not_replace_a_newer_put(store: Store, fresh_s: float) -> None:
    heads = HeadCache(store.request_head, lambda: store.now_s, fresh_s=fresh_s, stale_s=STALE_S)
    store.gate.close()
    before = asyncio.create_task(heads.get("a"))
    await store.gate.arrival()
    store.now_s += 0.1
    store.versions["a"] = "v2"
    heads.put("a", Head("v2", 10))
    after = asyncio.create_task(heads.get("a"))
    store.gate.open()
    assert await after == Head("v2", 10)
    assert await before == Head("v2", 10)
    assert await heads.get("a") == Head("v2", 10)


async def test_get_never_returns_a_response_older_than_fresh_time(store: Store, heads: HeadCache) -> None:
    store.gate.close()
    first = asyncio.create_task(heads.get("a"))
    await store.gate.arrival()
    store.versions["a"] = "v2"
    store.now_s += FRESH_S + 0.1
    second = asyncio.create_task(heads.get("a"))
    store.gate.open()
    assert await first == Head("v1", 10)
    assert await second == Head("v2", 10)
    assert store.requests == 2


async def test_failure_of_a_background_refresh_is_not_logged(
    store: Store, heads: HeadCache, caplog: pytest.LogCaptureFixture
) -> None:
    await heads.get("a")
    store.error = StoreUnreachable()
    for _ in range(3):
        store.now_s += FRESH_S
        await heads.get("a")
    store.gate.close()
    cancelled = asyncio.create_task(heads.get("b"))
    await store.gate.arrival()
    cancelled.cancel()
    store.gate.open()
    await drained(heads)
    await asyncio.wait([cancelled])
    assert not caplog.records


async def test_cache_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_cache, "_MAX_ENTRIES", 10)
    heads = HeadCache(store.request_head, lambda: store.now_s, fresh_s=FRESH_S, stale_s=STALE_S)
    for number in range(100):
        with pytest.raises(NoSuchOriginal):
            await heads.get(f"missing {number}")
        await heads.get("a")  # in use: never removed
    assert store.requests == 101
    assert heads._entries.weight_bytes == 10


async def test_refresh_of_a_known_head_is_optional(store: Store, heads: HeadCache) -> None:
    """Refreshing a cached head is optional; a first, a missing and an expired head are required."""
    await heads.get("a")
    assert store.required == 1
    for age_s, required in [(0.8, 0), (1.5, 0), (STALE_S + 1, 1)]:
        before = store.requests, store.required
        store.now_s += age_s
        await heads.get("a")
        await drained(heads)
        assert (store.requests, store.required) == (before[0] + 1, before[1] + required), age_s
    before = store.requests, store.required
    await heads.refresh("a")
    for _ in range(2):
        with pytest.raises(NoSuchOriginal):
            await heads.get("none")
        store.now_s += FRESH_S
    assert (store.requests - before[0], store.required - before[1]) == (3, 3)


async def test_failed_refresh_is_not_repeated_while_the_head_is_fresh(store: Store, heads: HeadCache) -> None:
    """Otherwise a store that fails at once would get a request at every hit."""
    await heads.get("a")
    store.error = StoreUnreachable()
    for wait_s in (0.8, 0.05, 0.05, 0.05, 0.5, 0.2):
        store.now_s += wait_s
        for _ in range(10):
            await heads.get("a")
            await drained(heads)
    assert store.requests == 1 + 1
    store.now_s += 0.2
    await heads.get("a")
    await drained(heads)
    assert store.requests == 1 + 2
