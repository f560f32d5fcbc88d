"""Tests the limits of fills and failed look-ups: whom they refuse, and that hits are never limited."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import TooMuchMemory
from galerly_cdn.http.client_address import rate_limit_key
from galerly_cdn.rate_limit import RateLimit
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import InMemoryCdn

REQUESTS = 10_000
VIEWER, SCANNER = "198.51.100.7", "203.0.113.9"
SMALL = Settings(misses_per_minute_per_client=4, misses_per_minute=6)


def path(number: int, size: str = "small") -> str:
    return f"/resize/{size}/g/{number}.jpg"


def cdn_of(photographs: int, settings: Settings = SMALL) -> InMemoryCdn:
    """A CDN with the photographs `g/0.jpg`, `g/1.jpg` and so on."""
    cdn = InMemoryCdn(settings=settings)
    for number in range(photographs):
        cdn.originals.put(f"g/{number}.jpg")
    return cdn


async def statuses(cdn: InMemoryCdn, *paths: str, client: str = VIEWER, accept: str = "*/*") -> list[int]:
    return [(await cdn.ask(one, client=client, accept=accept)).status for one in paths]


# ordinary viewers


@pytest.mark.parametrize("photographs", [300, 2000])
async def test_new_gallery_loads_at_once(photographs: int) -> None:
    cdn = cdn_of(photographs, Settings())
    page = [path(number, "thumbnail") for number in range(photographs)]
    page += [path(number, "medium") for number in range(100)]
    assert set(await statuses(cdn, *page, accept="image/avif")) == {200}


async def test_hits_are_never_limited() -> None:
    """A client that has used up its fills still gets pictures from memory and from the store, and 304."""
    cdn = cdn_of(9)
    etags = [(await cdn.ask(path(number), client=VIEWER)).headers["etag"] for number in range(4)]
    assert await statuses(cdn, path(4)) == [503]
    for _ in range(100):
        assert await statuses(cdn, *map(path, range(4))) == [200] * 4
        assert (await cdn.ask(path(0), client=VIEWER, if_none_match=etags[0])).status == 304
        assert (await cdn.ask(path(0), "HEAD", client=VIEWER)).status == 200
    restarted = InMemoryCdn(originals=cdn.originals, renditions=cdn.renditions, settings=SMALL)
    assert await statuses(restarted, *map(path, range(4, 9))) == [200] * 4 + [503]
    assert await statuses(restarted, *map(path, range(4))) == [200] * 4
    assert restarted.records[-1].cache == "hit; detail=store"


async def test_joining_a_fill_is_not_counted() -> None:
    cdn = cdn_of(5)
    assert await statuses(cdn, *map(path, range(4))) == [200] * 4
    cdn.renderer.gate.close()
    first = asyncio.create_task(cdn.ask(path(4), client="192.0.2.8"))
    for _ in range(5):
        await cdn.renderer.gate.arrival()
    joined = asyncio.create_task(cdn.ask(path(4), client=VIEWER))
    cdn.renderer.gate.open()
    assert [(await first).status, (await joined).status] == [200, 200]
    assert cdn.records[-1].cache.endswith("; collapsed")


async def test_fills_are_allowed_again_a_minute_later() -> None:
    cdn = cdn_of(12)
    assert await statuses(cdn, *map(path, range(6))) == [200] * 4 + [503] * 2
    cdn.now_s += 15
    assert await statuses(cdn, path(4), path(5)) == [200, 503]
    cdn.now_s += 60
    assert await statuses(cdn, *map(path, range(6, 12))) == [200] * 4 + [503] * 2


# clients


@pytest.mark.parametrize(
    ("address", "limit_key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("nobody", "nobody"),
    ],
)
def test_addresses_of_one_ipv6_network_share_a_limit(address: str, limit_key: str) -> None:
    assert rate_limit_key(address) == limit_key


async def test_each_address_has_its_own_limit_and_loopback_has_none() -> None:
    cdn = cdn_of(42, Settings(misses_per_minute_per_client=2))
    pages = [[path(number) for number in range(start, start + 3)] for start in range(0, 42, 3)]
    assert await statuses(cdn, *pages[0], client=VIEWER) == [200, 200, 503]
    assert await statuses(cdn, *pages[1], client="2001:db8::1") == [200, 200, 503]
    assert await statuses(cdn, *pages[2], client="2001:db8::2") == [503] * 3
    assert await statuses(cdn, *pages[3], client="2001:db8:0:1::") == [200, 200, 503]
    for client in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert await statuses(cdn, *pages.pop(), client=client) == [200] * 3


async def test_all_addresses_share_a_limit_of_fills() -> None:
    cdn = cdn_of(9)
    assert await statuses(cdn, *map(path, range(4)), client="192.0.2.1") == [200] * 4
    assert await statuses(cdn, *map(path, range(4, 8)), client="192.0.2.2") == [200, 200, 503, 503]
    assert await statuses(cdn, path(8), client="127.0.0.1") == [200]
    assert [record.detail for record in cdn.records if record.status == 503] == [
        "all clients: too many fills in a minute"
    ] * 2


async def test_limited_address_is_that_of_the_viewer_behind_a_trusted_proxy() -> None:
    cdn = cdn_of(8, Settings(misses_per_minute_per_client=2, trusted_proxies=("192.0.2.0/24",)))
    for start, viewer in ((0, "198.51.100.1"), (3, "198.51.100.2")):
        page = [path(number) for number in range(start, start + 3)]
        answers = [await cdn.ask(one, x_forwarded_for=viewer) for one in page]
        assert [answer.status for answer in answers] == [200, 200, 503]


async def test_limit_of_zero_limits_nothing() -> None:
    cdn = cdn_of(50, Settings(misses_per_minute_per_client=0, misses_per_minute=0))
    assert await statuses(cdn, *map(path, range(50))) == [200] * 50
    assert await statuses(cdn, *["/resize/tiny/g/none.jpg"] * 50) == [404] * 50


# scans of sizes and keys


async def test_requests_for_unknown_sizes_use_neither_store_nor_renderer() -> None:
    cdn = cdn_of(1, Settings())
    for number in range(REQUESTS):
        assert (await cdn.ask(f"/resize/{number}x{number + 1}/g/0.jpg", client=SCANNER)).status == 403
    assert (cdn.originals.heads, cdn.renditions.gets, cdn.renderer.renders) == (0, 0, 0)


async def test_requests_for_missing_keys_are_refused_at_the_limit() -> None:
    """Each key costs one look-up and nothing else; above the limit it does not cost that either."""
    cdn = cdn_of(1, Settings())
    allowed = Settings().misses_per_minute_per_client
    keys = [f"/resize/tiny/g/{number}.png" for number in range(REQUESTS)]
    assert await statuses(cdn, *keys, client=SCANNER) == [404] * allowed + [503] * (REQUESTS - allowed)
    assert cdn.originals.heads == allowed
    assert (cdn.renditions.gets, cdn.renderer.renders) == (0, 0)
    assert await statuses(cdn, keys[0], path(0), client=VIEWER) == [404, 200]


async def test_client_over_its_look_up_limit_still_gets_cached_pictures() -> None:
    cdn = cdn_of(2)
    assert await statuses(cdn, path(0), client=VIEWER) == [200]
    none = "/resize/small/g/none.jpg"
    assert await statuses(cdn, *[none] * 6, client=SCANNER) == [404] * 4 + [503] * 2
    assert await statuses(cdn, path(0), path(1), client=SCANNER) == [200, 503]
    cdn.originals.remove("g/0.jpg")
    assert await statuses(cdn, path(0), client=SCANNER) == [404]


async def test_failed_fill_is_counted_each_time() -> None:
    cdn = cdn_of(1)
    cdn.renderer.error = TooMuchMemory()
    assert await statuses(cdn, *[path(0)] * 6) == [415] * 4 + [503] * 2
    assert cdn.renderer.renders == 4


async def test_refusal_has_retry_after_and_is_not_cacheable() -> None:
    cdn = cdn_of(5)
    await statuses(cdn, *map(path, range(4)))
    answer = await cdn.ask(path(4), client=VIEWER)
    assert (answer.status, answer.code) == (503, "too-many-misses")
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("1", "no-store")
    assert VIEWER not in answer.body.decode()
    assert cdn.records[-1].detail == f"{VIEWER}: too many fills in a minute"
    assert cdn.counters.snapshot()["too-many-misses"] == 1


def test_remembered_clients_are_bounded() -> None:
    limit = RateLimit(10)
    for number in range(50_000):
        limit.record(f"{number}", 0.0)
    assert limit._arrival_s.weight_bytes == 16_384
    for _ in range(10):
        assert not limit.is_exceeded("0", 0.0)
        limit.record("0", 0.0)
    assert limit.is_exceeded("0", 0.0)


@given(
    per_minute=st.integers(1, 50),
    gaps=st.lists(st.one_of(st.just(0), st.integers(0, 64), st.integers(0, 5000)), max_size=150),
    start_s=st.integers(0, 10**7),
)
def test_rate_limit_equals_a_model_of_a_token_bucket(per_minute: int, gaps: list[int], start_s: int) -> None:
    """The model counts tokens as fractions. Gaps are in sixteenths of a second."""
    limit, rate = RateLimit(per_minute), Fraction(per_minute, 60)
    tokens, now_s = Fraction(per_minute), Fraction(start_s)
    for gap in gaps:
        now_s += Fraction(gap, 16)
        tokens = min(Fraction(per_minute), tokens + rate * Fraction(gap, 16))
        is_exceeded = limit.is_exceeded("a", float(now_s))
        assert is_exceeded == (tokens < 1)
        if not is_exceeded:
            limit.record("a", float(now_s))
            tokens -= 1
