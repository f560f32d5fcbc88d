"""Tests several nodes on one remote store, which is all that they share."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Any, cast

import pytest

from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.model import ignore_facts
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import CountingRenderer, Gate, InMemoryCdn
from tests.support.s3_servers import VERSITYGW
from tests.support.worker_pool import ticks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.model import FactRecord, Job, Learn, Rendered
    from tests.support.s3_servers import Objects


class SigningRenderer(CountingRenderer):
    """Signs its pictures with its name: two encoders may make different bytes of one picture."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def render(
        self,
        fd: int,
        length_bytes: int,
        job: Job,
        token: str,
        *,
        known: FactRecord | None = None,
        learn: Learn = ignore_facts,
    ) -> tuple[Rendered, bytes]:
        signed = f"{self.name}: {token}"
        return await super().render(fd, length_bytes, job, signed, known=known, learn=learn)


def node(
    bucket: Objects,
    name: str = "node",
    clock: Callable[[], float] = lambda: 0.0,
    *,
    memory_cache_bytes: int = 1 << 20,
    **settings: object,
) -> InMemoryCdn:
    """A CDN over the bucket."""
    return InMemoryCdn(
        settings=Settings(memory_cache_bytes=memory_cache_bytes),
        originals=cast("Any", bucket.originals(clock, **settings)),
        renditions=cast("Any", bucket.renditions(clock, **settings)),
        renderer=SigningRenderer(name),
    )


async def replace(cdn: InMemoryCdn, key: str, content: bytes) -> None:
    originals = cast("Any", cdn.originals)
    with originals.upload_file() as file:
        file.write(content)
        md5 = hashlib.md5(content).hexdigest()
        await originals.put(key, file, media_type="image/jpeg", md5=md5, replaces=True)


@pytest.mark.parametrize("bucket", [VERSITYGW], indirect=True)
async def test_two_nodes_render_each_picture_once_and_answer_the_same_bytes(bucket: Objects) -> None:
    nodes = [node(bucket, name, memory_cache_bytes=0) for name in ("one", "two")]
    keys = [f"gallery/{number}" for number in range(200)]
    for key in keys:
        bucket.put(f"originals/{key}", key.encode())

    async def get_all(cdn: InMemoryCdn) -> dict[str, tuple[int, bytes]]:
        answers = {}
        for key in random.sample(keys, len(keys)):
            answer = await cdn.ask(f"/resize/tiny/{key}")
            answers[key] = (answer.status, answer.body)
        return answers

    first, second, third = await asyncio.gather(get_all(nodes[0]), get_all(nodes[1]), get_all(nodes[0]))
    assert first == second == third
    assert {status for status, _ in first.values()} == {200}
    assert len([name for name in bucket.names() if name.startswith("resized/150x150/")]) == 200
    for key in keys:
        assert bucket.get(f"resized/150x150/{key}") == first[key][1]


async def test_upload_shows_at_once_on_its_node_and_after_fresh_time_on_others(bucket: Objects) -> None:
    now_s = 100.0
    here, elsewhere = (node(bucket, name, lambda: now_s, store_fresh_s=1.0) for name in ("one", "two"))
    bucket.put("originals/g/a", b"before")
    before = [(await cdn.ask("/resize/tiny/g/a")).body for cdn in (here, elsewhere)]
    assert before[0] == before[1]
    await replace(here, "g/a", b"after!")
    after = await here.ask("/resize/tiny/g/a")
    assert (after.status, after.headers["cache-status"]) == (200, "galerly-cdn; fwd=stale; stored")
    assert after.body != before[0]
    assert (await elsewhere.ask("/resize/tiny/g/a")).body == before[1]  # while its head is fresh
    now_s += 1.0
    assert (await elsewhere.ask("/resize/tiny/g/a")).body == after.body
    assert elsewhere.renderer.renders <= 1


async def test_unreachable_store_serves_cached_pictures_and_503_for_others(
    bucket: Objects,
) -> None:
    now_s = 100.0
    cdn = node(bucket, clock=lambda: now_s, store_fresh_s=1.0, stale_if_error_s=3600)
    for key in ("g/warm", "g/cold"):
        bucket.put(f"originals/{key}", key.encode())
    warm = await cdn.ask("/resize/tiny/g/warm")

    async def fail(_key: str, **_options: object) -> None:
        raise StoreUnreachable

    heads = cast("Any", cdn.originals)._heads
    request_head, heads._request_head = heads._request_head, fail
    for age_s in (2.0, 60.0, 3599.0):
        now_s = 100.0 + age_s
        answer = await cdn.ask("/resize/tiny/g/warm")
        assert (answer.status, answer.body) == (200, warm.body)
        assert f"ttl=-{int(age_s)}" in answer.headers["cache-status"]
        cold = await cdn.ask("/resize/tiny/g/cold")
        assert (cold.status, cold.headers["retry-after"]) == (503, "1")
    now_s = 100.0 + 3601
    assert (await cdn.ask("/resize/tiny/g/warm")).status == 503
    heads._request_head = request_head
    assert (await cdn.ask("/resize/tiny/g/warm")).headers["cache-status"] == "galerly-cdn; hit"
    assert (await cdn.ask("/resize/tiny/g/cold")).status == 200


@pytest.fixture
async def blocked_node(bucket: Objects) -> tuple[InMemoryCdn, BlockedRead]:
    """A node with a cached head and a rendition that another node stored; its reads of the store block."""
    bucket.put("originals/g/a", b"before")
    assert (await node(bucket, "elsewhere").ask("/resize/tiny/g/a")).status == 200
    here = node(bucket, "here", store_fresh_s=1.0)
    await here.originals.head("g/a")
    await here.listed.refresh()
    renditions = cast("Any", here.renditions)
    reads = BlockedRead(renditions._bucket.read)
    renditions._bucket.read = reads
    return here, reads


class BlockedRead:
    """Replaces a bucket's `read`: counts the requests and holds each one at `gate`."""

    def __init__(self, read: Callable[..., Awaitable[object]]) -> None:
        self.gate = Gate(is_open=False)
        self.requests = 0
        self._read = read

    async def __call__(self, *arguments: object) -> object:
        self.requests += 1
        await self.gate.passed()
        return await self._read(*arguments)


async def test_thousand_gets_of_a_stored_rendition_are_one_request(
    blocked_node: tuple[InMemoryCdn, BlockedRead],
) -> None:
    here, reads = blocked_node
    viewers = [asyncio.create_task(here.ask("/resize/tiny/g/a")) for _ in range(1000)]
    await ticks()  # until every task waits
    reads.gate.open()
    answers = await asyncio.gather(*viewers)
    assert reads.requests == 1
    assert {one.headers["cache-status"] for one in answers} == {"galerly-cdn; hit; detail=store"}
    assert len({id(one.body) for one in answers}) == 1
    assert here.renderer.renders == 0


async def test_cancelled_get_does_not_cancel_the_others(
    blocked_node: tuple[InMemoryCdn, BlockedRead],
) -> None:
    here, reads = blocked_node
    first, other = (asyncio.create_task(here.ask("/resize/tiny/g/a")) for _ in range(2))
    await ticks()
    first.cancel()
    await asyncio.wait([first])
    reads.gate.open()
    assert (await other).headers["cache-status"] == "galerly-cdn; hit; detail=store"
    assert reads.requests == 1


async def test_put_does_not_share_a_read_from_before_it(
    blocked_node: tuple[InMemoryCdn, BlockedRead],
) -> None:
    here, reads = blocked_node
    before = asyncio.create_task(here.ask("/resize/tiny/g/a"))
    await ticks()
    await replace(here, "g/a", b"after!")
    after = asyncio.create_task(here.ask("/resize/tiny/g/a"))
    await ticks()
    reads.gate.open()
    assert (await before).body.startswith(b"elsewhere: ")
    assert (await after).body.startswith(b"here: ")
    assert (await here.ask("/resize/tiny/g/a")).body == (await after).body
