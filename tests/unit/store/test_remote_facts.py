"""Tests the requests that fact records cost over a remote store: none on a hit, few on a miss."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest

from galerly_cdn.errors import Undecodable
from galerly_cdn.http.urls import format_stored
from galerly_cdn.model import Size, Target
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from galerly_cdn.store.remote.renditions import RemoteRenditions
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.in_memory_cdn import InMemoryCdn
from tests.support.lambda_functions import Functions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "g/a.jpg"
ORIGINAL, RECORD = "bucket/originals/g/a.jpg", "bucket/resized/facts/g/a.jpg"
TINY, SMALL = "bucket/resized/150x150/g/a.jpg", "bucket/resized/400x400/g/a.jpg"
FIRST_MISS = {
    ("HEAD", ORIGINAL): 2,
    ("GET", TINY): 1,
    ("GET", RECORD): 1,
    ("GET", ORIGINAL): 1,
    ("PUT", TINY): 1,
    ("PUT", RECORD): 1,
}
TWIN = "bucket/resized/400x400.jpeg/g/a.jpg"
"""The same picture under the name of its format, which would be copied."""
LATER_MISS = {
    ("HEAD", ORIGINAL): 1,
    ("GET", SMALL): 1,
    ("GET", TWIN): 1,
    ("GET", ORIGINAL): 1,
    ("PUT", SMALL): 1,
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        server.put(f"originals/{KEY}", b"an original")
        yield server


def node(fake: FakeS3, *, memory_cache_bytes: int = 0) -> InMemoryCdn:
    """A CDN over the fake store, with empty memories and a clock that stands still."""
    settings = fake.settings(store_fresh_s=60)
    buckets = [
        Bucket(f"s3://bucket/{folder}", settings, lambda: 0.0, lambda _event: None)
        for folder in ("originals", "resized")
    ]
    return InMemoryCdn(
        Settings(memory_cache_bytes=memory_cache_bytes),
        originals=cast("Any", RemoteOriginals(buckets[0], settings, lambda: 0.0)),
        renditions=cast("Any", RemoteRenditions(buckets[1], lambda _event: None)),
    )


async def requests(fake: FakeS3, cdn: InMemoryCdn, url: str, status: int = 200) -> dict[tuple[str, str], int]:
    """The number of requests for each object that answering a URL sends."""
    await cdn.listed.refresh()  # as at the start
    before = len(fake.requests)
    assert (await cdn.ask(url)).status == status
    await cdn.origin.drain()
    return dict(Counter((one.method, one.key) for one in fake.requests[before:]))


async def test_miss_reads_and_writes_the_record_once_and_hit_not_at_all(fake: FakeS3) -> None:
    cdn = node(fake)
    assert await requests(fake, cdn, "/resize/tiny/g/a.jpg") == FIRST_MISS
    assert await requests(fake, cdn, "/resize/small/g/a.jpg") == LATER_MISS
    assert await requests(fake, cdn, "/resize/tiny/g/a.jpg") == {("GET", TINY): 1}
    other = node(fake)
    assert await requests(fake, other, "/resize/tiny/g/a.jpg") == {("HEAD", ORIGINAL): 1, ("GET", TINY): 1}
    in_memory = node(fake, memory_cache_bytes=1 << 20)
    await requests(fake, in_memory, "/resize/tiny/g/a.jpg")
    assert await requests(fake, in_memory, "/resize/tiny/g/a.jpg") == {}


async def test_other_node_reads_the_record_and_does_not_write_it(fake: FakeS3) -> None:
    await requests(fake, node(fake), "/resize/tiny/g/a.jpg")
    sent = await requests(fake, node(fake), "/resize/small/g/a.jpg")
    assert sent == {**LATER_MISS, ("HEAD", ORIGINAL): 2, ("GET", RECORD): 1}


async def test_known_refusal_is_answered_without_a_render_by_every_node(fake: FakeS3) -> None:
    cdn = node(fake)
    cdn.renderer.error = Undecodable()
    first = await requests(fake, cdn, "/resize/tiny/g/a.jpg", 415)
    expected = {one: count for one, count in FIRST_MISS.items() if one != ("PUT", TINY)}
    assert first == expected
    assert await requests(fake, cdn, "/resize/small/g/a.jpg", 415) == {("GET", SMALL): 1}
    other = node(fake)
    sent = await requests(fake, other, "/resize/tiny/g/a.jpg", 415)
    sent.pop(("GET", ORIGINAL), None)  # ended as soon as the record has arrived
    assert sent == {("HEAD", ORIGINAL): 1, ("GET", TINY): 1, ("GET", RECORD): 1}
    assert (cdn.renderer.renders, other.renderer.renders) == (1, 0)


@pytest.mark.parametrize(
    "fault", [Fault(status=403, code="AccessDenied"), Fault(status=500), Fault(status=412)], ids=str
)
async def test_store_that_fails_for_the_record_alone_costs_only_the_record(
    fake: FakeS3, fault: Fault
) -> None:
    fake.fault = lambda one: fault if one.key == RECORD else None
    cdn = node(fake)
    for url in ("/resize/tiny/g/a.jpg", "/resize/small/g/a.jpg"):
        assert (await cdn.ask(url)).status == 200
    await cdn.origin.drain()
    assert RECORD not in fake.objects


async def test_lambda_function_stores_the_record_before_it_returns(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    await functions.ask(format_stored(Target(Size(150, 150)), KEY))
    assert RECORD in fake.objects
    functions.renderer.error = Undecodable()
    fake.put(f"originals/{KEY}", b"another original")
    path = format_stored(Target(Size(400, 400)), KEY)
    assert (await functions.ask(path)).status == 415
    cold = Functions(fake.settings())
    assert (await cold.ask(path)).status == 415
    assert cold.renderer.renders == 0
