"""What is remembered of a remote store's originals, for how long, and who waits for what."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.errors import NoSuchOriginal, StoreRefused, StoreUnreachable
from galerly_cdn.model import Head
from galerly_cdn.store.remote import head_cache as heads_module
from galerly_cdn.store.remote.head_cache import HeadCache
from tests.support.in_memory_cdn import Gate

FRESH_S, STALE_S = 1.0, 100.0


class Store:
    """Answers with the version of the moment the question reached it; may fail, be slow, or be held up."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.versions = {"a": "v1"}
        self.takes_s = 0.0
        self.error: Exception | None = None
        self.gate = Gate()
        self.asked = 0
        self.required = 0

    async def ask(self, key: str, *, is_optional: bool) -> Head:
        self.asked += 1
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
    return HeadCache(store.ask, lambda: store.now_s, fresh_s=FRESH_S, stale_s=STALE_S)


async def settled(heads: HeadCache) -> None:
    """Until nothing is being asked."""
    await heads._asking.drain()


async def test_a_head_is_remembered_while_it_is_fresh(store: Store, heads: HeadCache) -> None:
    for _ in range(100):
        assert await heads.get("a") == Head("v1", 10)
    assert store.asked == 1
    store.versions["a"] = "v2"
    store.now_s += FRESH_S
    assert await heads.get("a") == Head("v2", 10)
    assert store.asked == 2


async def test_that_there_is_none_is_remembered_as_long(store: Store, heads: HeadCache) -> None:
    for _ in range(100):
        with pytest.raises(NoSuchOriginal):
            await heads.get("none")
    assert store.asked == 1
    store.versions["none"] = "v1"
    store.now_s += FRESH_S
    assert await heads.get("none") == Head("v1", 10)


async def test_nothing_is_remembered_for_no_time(store: Store) -> None:
    heads = HeadCache(store.ask, lambda: store.now_s, fresh_s=0, stale_s=STALE_S)
    for number in range(10):
        store.versions["a"] = f"v{number}"
        assert await heads.get("a") == Head(f"v{number}", 10)


async def test_what_is_asked_for_all_the_time_is_asked_anew_before_it_expires(
    store: Store, heads: HeadCache
) -> None:
    await heads.get("a")
    store.gate.close()
    store.versions["a"] = "v2"
    store.now_s += 0.8 * FRESH_S
    for _ in range(100):
        assert await heads.get("a") == Head("v1", 10)  # at once, though the store is held up
    store.gate.open()
    await settled(heads)
    assert store.asked == 2
    store.now_s += 0.7 * FRESH_S
    assert await heads.get("a") == Head("v2", 10)
    assert store.asked == 2


@pytest.mark.parametrize("known", [False, True])
async def test_a_herd_on_one_key_is_one_question(
    store: Store, heads: HeadCache, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    monkeypatch.setattr(heads_module, "_PATIENCE_S", 60)  # a busy machine's thousand tasks are no late store
    if known:
        await heads.get("a")
        store.now_s += FRESH_S
    before = store.asked
    store.gate.close()
    herd = [asyncio.create_task(heads.get("a")) for _ in range(1000)]
    await store.gate.arrival()
    store.gate.open()
    assert set(await asyncio.gather(*herd)) == {Head("v1", 10)}
    assert store.asked == before + 1


async def test_one_that_leaves_takes_the_question_from_nobody(store: Store, heads: HeadCache) -> None:
    store.gate.close()
    herd = [asyncio.create_task(heads.get("a")) for _ in range(3)]
    await store.gate.arrival()
    herd[0].cancel()
    store.gate.open()
    await asyncio.wait(herd)
    assert herd[0].cancelled()
    assert [one.result() for one in herd[1:]] == [Head("v1", 10)] * 2
    assert store.asked == 1


# while the store cannot be asked


async def test_what_was_last_known_is_told_with_its_age(store: Store, heads: HeadCache) -> None:
    await heads.get("a")
    store.error = StoreUnreachable()
    for age_s in (FRESH_S, 4.0, 40.0, STALE_S - 0.1):
        store.now_s = 1000.0 + age_s
        head = await heads.get("a")
        assert head.version == "v1"
        assert head.stale_s == pytest.approx(age_s)
        await settled(heads)
    store.now_s = 1000.0 + STALE_S
    with pytest.raises(StoreUnreachable):
        await heads.get("a")


async def test_what_was_never_known_cannot_be_told(store: Store, heads: HeadCache) -> None:
    with pytest.raises(NoSuchOriginal):
        await heads.get("none")
    store.error = StoreUnreachable()
    store.now_s += FRESH_S
    for key in ("a", "none"):
        with pytest.raises(StoreUnreachable):
            await heads.get(key)


async def test_a_refusal_is_told_and_not_glossed_over(store: Store, heads: HeadCache) -> None:
    await heads.get("a")
    store.error = StoreRefused()
    store.now_s += FRESH_S
    with pytest.raises(StoreRefused):
        await heads.get("a")


async def test_once_it_can_be_asked_again_it_is(store: Store, heads: HeadCache) -> None:
    await heads.get("a")
    store.error = StoreUnreachable()
    store.now_s += FRESH_S
    assert (await heads.get("a")).stale_s == FRESH_S
    for _ in range(100):
        await heads.get("a")
        await settled(heads)
    assert store.asked == 2  # no more often than while all is well
    store.error = None
    store.versions["a"] = "v2"
    store.now_s += FRESH_S
    assert (await heads.get("a")).stale_s  # told at once; asked behind it
    await settled(heads)
    assert await heads.get("a") == Head("v2", 10)


async def test_a_late_store_holds_nobody_up_but_the_first(
    store: Store, heads: HeadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "_PATIENCE_S", 0.001)
    await heads.get("a")
    store.gate.close()
    store.now_s += FRESH_S
    assert (await heads.get("a")).stale_s  # waited for a moment
    monkeypatch.setattr(heads_module, "_PATIENCE_S", 3600.0)
    for _ in range(100):
        assert (await heads.get("a")).stale_s  # did not
    assert store.asked == 2
    store.gate.open()
    await settled(heads)


async def test_who_comes_late_to_a_late_question_does_not_wait(store: Store, heads: HeadCache) -> None:
    """A hot picture's question began ahead: when its head is old, the store has had its time."""
    await heads.get("a")
    store.gate.close()
    store.now_s += 0.75 * FRESH_S
    assert not (await heads.get("a")).stale_s
    await store.gate.arrival()
    await store.gate.arrival()
    store.now_s += 0.25 * FRESH_S
    for _ in range(100):
        assert (await heads.get("a")).stale_s == pytest.approx(FRESH_S)
    assert store.asked == 2
    store.gate.open()
    await settled(heads)


async def test_after_a_late_answer_nobody_waits_for_a_while(store: Store, heads: HeadCache) -> None:
    """Else every other viewer of a store that fails now and then would be held up."""
    await heads.get("a")
    store.takes_s = 0.5
    store.now_s += FRESH_S
    await heads.refreshed("a")
    store.takes_s = 0.0
    store.now_s += FRESH_S
    store.gate.close()
    assert (await heads.get("a")).stale_s
    store.gate.open()
    await settled(heads)
    store.now_s += 10
    assert not (await heads.get("a")).stale_s


# changes


async def test_what_we_changed_ourselves_is_known_at_once(store: Store, heads: HeadCache) -> None:
    await heads.get("a")
    heads.learn("a", Head("v2", 20))
    assert await heads.get("a") == Head("v2", 20)
    heads.learn("a", None)
    with pytest.raises(NoSuchOriginal):
        await heads.get("a")
    assert store.asked == 1


@pytest.mark.parametrize("fresh_s", [0.0, FRESH_S])
async def test_a_question_under_way_does_not_undo_what_we_changed_meanwhile(
    store: Store, fresh_s: float
) -> None:
    heads = HeadCache(store.ask, lambda: store.now_s, fresh_s=fresh_s, stale_s=STALE_S)
    store.gate.close()
    before = asyncio.create_task(heads.get("a"))
    await store.gate.arrival()
    store.now_s += 0.1
    store.versions["a"] = "v2"
    heads.learn("a", Head("v2", 10))
    after = asyncio.create_task(heads.get("a"))
    store.gate.open()
    assert await after == Head("v2", 10)
    assert await before == Head("v2", 10)
    assert await heads.get("a") == Head("v2", 10)


async def test_nobody_is_told_what_was_asked_too_long_before_they_came(
    store: Store, heads: HeadCache
) -> None:
    store.gate.close()
    first = asyncio.create_task(heads.get("a"))
    await store.gate.arrival()
    store.versions["a"] = "v2"
    store.now_s += FRESH_S + 0.1
    second = asyncio.create_task(heads.get("a"))
    store.gate.open()
    assert await first == Head("v1", 10)
    assert await second == Head("v2", 10)
    assert store.asked == 2


async def test_a_failure_that_nobody_waits_for_is_no_noise(
    store: Store, heads: HeadCache, caplog: pytest.LogCaptureFixture
) -> None:
    await heads.get("a")
    store.error = StoreUnreachable()
    for _ in range(3):
        store.now_s += FRESH_S
        await heads.get("a")
    store.gate.close()
    leaving = asyncio.create_task(heads.get("b"))
    await store.gate.arrival()
    leaving.cancel()
    store.gate.open()
    await settled(heads)
    await asyncio.wait([leaving])
    assert not caplog.records


async def test_no_more_is_remembered_than_fits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "_MAX_KNOWN", 10)
    heads = HeadCache(store.ask, lambda: store.now_s, fresh_s=FRESH_S, stale_s=STALE_S)
    for number in range(100):
        with pytest.raises(NoSuchOriginal):
            await heads.get(f"sweep {number}")
        await heads.get("a")  # in use: never forgotten
    assert store.asked == 101
    assert heads._known.weight_bytes == 10


async def test_refresh_of_a_known_head_is_optional(store: Store, heads: HeadCache) -> None:
    """What is asked anew for a warm picture is not asked twice; a cold one, a deleted one, an old one are."""
    await heads.get("a")
    assert store.required == 1
    for age_s, required in [(0.8, 0), (1.5, 0), (STALE_S + 1, 1)]:
        before = store.asked, store.required
        store.now_s += age_s
        await heads.get("a")
        await settled(heads)
        assert (store.asked, store.required) == (before[0] + 1, before[1] + required), age_s
    before = store.asked, store.required
    await heads.refreshed("a")
    for _ in range(2):
        with pytest.raises(NoSuchOriginal):
            await heads.get("none")
        store.now_s += FRESH_S
    assert (store.asked - before[0], store.required - before[1]) == (3, 3)


async def test_what_was_asked_ahead_in_vain_is_left_alone_for_as_long_as_a_head_is_fresh(
    store: Store, heads: HeadCache
) -> None:
    """A store that refuses at once would be asked at every hit."""
    await heads.get("a")
    store.error = StoreUnreachable()
    for wait_s in (0.8, 0.05, 0.05, 0.05, 0.5, 0.2):
        store.now_s += wait_s
        for _ in range(10):
            await heads.get("a")
            await settled(heads)
    assert store.asked == 1 + 1
    store.now_s += 0.2
    await heads.get("a")
    await settled(heads)
    assert store.asked == 1 + 2
