"""The edge serves the current rendition from memory, from the store, or by a fill."""

from __future__ import annotations

import asyncio

import pytest

from galerly_cdn.errors import RenderTimeout, StoreUnreachable
from galerly_cdn.fill import RenditionKey
from galerly_cdn.model import Rendition, Size, Target
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import InMemoryCdn, rendition

PATH = "/resize/800x600/g/a.jpg"
KEY = "g/a.jpg"
ALL_FORMATS = "image/avif,image/webp,*/*"


@pytest.fixture
def cdn() -> InMemoryCdn:
    """With one photograph."""
    made = InMemoryCdn()
    made.originals.put(KEY)
    return made


# the sources


async def test_first_request_fills_and_the_second_is_a_memory_hit(cdn: InMemoryCdn) -> None:
    first = await cdn.ask(PATH)
    gets, lists_read = cdn.renditions.gets, cdn.renditions.lists_read
    second = await cdn.ask(PATH)
    assert first.body == second.body == b"v1 g/a.jpg at 800x600"
    assert first.headers["cache-status"] == "galerly-cdn; fwd=uri-miss; stored"
    assert second.headers["cache-status"] == "galerly-cdn; hit"
    assert cdn.renderer.renders == 1
    assert (cdn.renditions.gets, cdn.renditions.lists_read) == (gets, lists_read)


async def test_rendition_not_in_memory_is_served_from_the_store() -> None:
    cdn = InMemoryCdn(settings=Settings(memory_cache_bytes=0))
    cdn.originals.put(KEY)
    first, second = await cdn.ask(PATH), await cdn.ask(PATH)
    assert second.headers["cache-status"] == "galerly-cdn; hit; detail=store"
    assert second.body == first.body
    assert cdn.renderer.renders == 1


async def test_forgotten_rendition_is_read_from_the_store_again(cdn: InMemoryCdn) -> None:
    await cdn.ask(PATH)
    cdn.edge.forget(KEY, Target(Size(800, 600)))
    answer = await cdn.ask(PATH)
    assert answer.headers["cache-status"] == "galerly-cdn; hit; detail=store"
    assert cdn.renderer.renders == 1


async def test_every_encoding_of_a_path_gives_one_rendition(cdn: InMemoryCdn) -> None:
    spellings = [
        PATH,
        "/resize/thumbnail/g/a.jpg",
        "/resize/thumbnail/%67/a.jpg",
        "/resize/800x600/g/%61%2Ejpg",
        "/resize/800x600/g/a%2ejpg",
    ]
    answers = [await cdn.ask(path) for path in spellings]
    assert {(answer.status, answer.headers["etag"]) for answer in answers} == {
        (200, answers[0].headers["etag"])
    }
    assert list(cdn.renditions.kept) == ["800x600/g/a.jpg"]


async def test_query_and_other_headers_have_no_influence(cdn: InMemoryCdn) -> None:
    first = await cdn.ask(PATH)
    for query in (b"", b"v=2", b"utm=1&w=9999", b"Signature=x&Policy=y", b"/../etc"):
        answer = await cdn.ask(
            PATH,
            query=query,
            host="evil.example",
            x_forwarded_host="evil.example",
            cookie="a=b",
            x_original_url="/",
        )
        assert (answer.status, answer.body) == (200, first.body)
        assert "evil" not in str(answer.headers)
    assert len(cdn.renditions.kept) == cdn.renderer.renders == 1


async def test_five_hundred_accept_headers_give_three_renditions(cdn: InMemoryCdn) -> None:
    for number in range(500):
        kinds = [kind for bit, kind in enumerate(("avif", "webp", "*", "png")) if number >> bit & 1]
        weights = ["", ";q=0", ";q=0.5", ";q=1", ";v=b3"]
        accept = ",".join(f"image/{kind}{weights[(number >> 4) % 5]}" for kind in kinds)
        assert (await cdn.ask(PATH, accept=accept)).status == 200
    assert set(cdn.renditions.kept) == {f"800x600{suffix}/g/a.jpg" for suffix in ("", ".webp", ".avif")}
    assert cdn.renderer.renders == 3


@pytest.mark.parametrize(
    ("path", "accept", "media_type", "varies"),
    [
        (PATH, ALL_FORMATS, "image/avif", True),
        (PATH, "image/webp", "image/webp", True),
        (PATH, "*/*", "image/jpeg", True),
        ("/resize/800x600.jpeg/g/a.jpg", ALL_FORMATS, "image/jpeg", False),
        ("/resize/800x600.webp/g/a.jpg", "image/avif", "image/webp", False),
        ("/resize/800x600.avif/g/a.jpg", "*/*", "image/avif", False),
        ("/resize/800x600.png/g/a.jpg", "*/*", "image/png", False),
    ],
)
async def test_accept_chooses_the_format_unless_the_path_does(
    cdn: InMemoryCdn, path: str, accept: str, media_type: str, *, varies: bool
) -> None:
    for answer in (await cdn.ask(path, accept=accept), await cdn.ask(path, accept=accept)):
        assert answer.headers["content-type"] == media_type
        assert answer.headers.get("vary") == ("Accept" if varies else None)


async def test_repeated_accept_headers_are_one_list(cdn: InMemoryCdn) -> None:
    scope_headers = [(b"accept", b"image/png"), (b"accept", b"image/webp")]
    answer = await cdn.ask(PATH, extra=scope_headers)
    assert answer.headers["content-type"] == "image/webp"


async def test_size_serves_only_its_formats() -> None:
    cdn = InMemoryCdn(settings=Settings(sizes=("only 10x10 jpeg=80 webp=80",)))
    cdn.originals.put(KEY)
    assert (await cdn.ask("/resize/only/g/a.jpg", accept=ALL_FORMATS)).headers["content-type"] == "image/webp"
    refused = await cdn.ask("/resize/only.avif/g/a.jpg")
    assert (refused.status, refused.code) == (403, "format-not-allowed")


# the current version


async def test_replaced_original_is_served_at_once(cdn: InMemoryCdn) -> None:
    assert (await cdn.ask(PATH)).body.startswith(b"v1")
    cdn.originals.put(KEY)
    answer = await cdn.ask(PATH)
    assert answer.body.startswith(b"v2")
    assert answer.headers["cache-status"] == "galerly-cdn; fwd=stale; stored"
    assert (await cdn.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"


async def test_removed_original_is_not_found_at_once(cdn: InMemoryCdn) -> None:
    assert (await cdn.ask(PATH)).status == 200
    cdn.originals.remove(KEY)
    assert (await cdn.ask(PATH)).status == 404


async def test_other_recipe_renders_again(cdn: InMemoryCdn) -> None:
    await cdn.ask(PATH)
    other = InMemoryCdn(originals=cdn.originals, renditions=cdn.renditions, digest="recipe-2")
    answer = await other.ask(PATH)
    assert answer.headers["cache-status"] == "galerly-cdn; fwd=stale; stored"
    assert other.renderer.renders == 1
    assert (await other.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"


async def test_outdated_rendition_in_the_store_is_never_served(cdn: InMemoryCdn) -> None:
    """A crash between two steps, or another server, may have left it."""
    cdn.renditions.kept["800x600/g/a.jpg"] = rendition(KEY, body=b"from another version")
    answer = await cdn.ask(PATH)
    assert answer.body == b"v1 g/a.jpg at 800x600"
    assert cdn.renditions.kept["800x600/g/a.jpg"].body == answer.body


async def test_rendition_lost_by_the_store_is_rendered_again() -> None:
    cdn = InMemoryCdn(settings=Settings(memory_cache_bytes=0))
    cdn.originals.put(KEY)
    first = await cdn.ask(PATH)
    await cdn.renditions.delete(KEY, Target(Settings().size_rules[2].size))
    second = await cdn.ask(PATH)
    assert second.body == first.body
    assert second.headers["cache-status"] == "galerly-cdn; fwd=uri-miss; stored"


async def test_original_replaced_during_a_render_is_rendered_again(cdn: InMemoryCdn) -> None:
    cdn.renderer.gate.close()
    before = asyncio.create_task(cdn.ask(PATH))
    await cdn.renderer.gate.arrival()
    cdn.originals.put(KEY)
    after = [asyncio.create_task(cdn.ask(PATH)) for _ in range(20)]
    cdn.renderer.gate.open()
    answers = await asyncio.gather(before, *after)
    assert {answer.body for answer in answers} == {b"v2 g/a.jpg at 800x600"}
    assert {(await cdn.ask(PATH)).body for _ in range(20)} == {b"v2 g/a.jpg at 800x600"}
    assert cdn.renderer.renders == 2


# while the store is unreachable

STALE = "galerly-cdn; hit; ttl=-90; detail=store-unreachable"


@pytest.mark.parametrize("memory_cache_bytes", [0, 1 << 20])
async def test_last_known_rendition_is_served_stale_while_the_store_is_unreachable(
    memory_cache_bytes: int,
) -> None:
    """From memory, or from a store of renditions elsewhere."""
    cdn = InMemoryCdn(settings=Settings(memory_cache_bytes=memory_cache_bytes))
    cdn.originals.put(KEY)
    fresh = await cdn.ask(PATH)
    cdn.originals.stale_s, cdn.originals.error = 90.6, StoreUnreachable()
    stale = await cdn.ask(PATH)
    assert (stale.status, stale.body, stale.headers["cache-status"]) == (200, fresh.body, STALE)
    assert stale.headers["etag"] == fresh.headers["etag"]
    not_modified = await cdn.ask(PATH, if_none_match=fresh.headers["etag"])
    assert (not_modified.status, not_modified.headers["cache-status"]) == (304, STALE)
    cdn.originals.stale_s, cdn.originals.error = 0.0, None
    assert "ttl" not in (await cdn.ask(PATH)).headers["cache-status"]


async def test_miss_while_the_store_is_unreachable_is_503_without_a_render(cdn: InMemoryCdn) -> None:
    await cdn.ask(PATH)
    cdn.originals.stale_s, cdn.originals.error = 90.0, StoreUnreachable()
    answer = await cdn.ask("/resize/tiny/g/a.jpg")
    assert (answer.status, answer.code) == (503, "store-unreachable")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    assert cdn.renderer.renders == 1


async def test_miss_with_an_old_head_is_filled_if_the_store_answers(cdn: InMemoryCdn) -> None:
    cdn.originals.stale_s = 2.0
    answer = await cdn.ask(PATH)
    assert (answer.status, answer.body) == (200, b"v1 g/a.jpg at 800x600")
    assert answer.headers["cache-status"] == "galerly-cdn; fwd=uri-miss; stored"


# concurrent requests


async def test_thousand_viewers_share_one_render_and_one_response(cdn: InMemoryCdn) -> None:
    cdn.renderer.gate.close()
    cdn.renderer.length_bytes = 100_000
    viewers = [asyncio.create_task(cdn.ask(PATH)) for _ in range(1000)]
    await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    answers = await asyncio.gather(*viewers)
    assert cdn.renderer.renders == cdn.originals.opened == 1
    assert {answer.status for answer in answers} == {200}
    assert len({id(answer.body) for answer in answers}) == 1
    statuses = [record.cache for record in cdn.records]
    assert statuses.count("fwd=uri-miss; stored") == 1
    assert statuses.count("fwd=uri-miss; stored; collapsed") == 999


@pytest.mark.parametrize("leaving", [0, 10, 19])
async def test_viewer_that_disconnects_does_not_affect_the_others(cdn: InMemoryCdn, leaving: int) -> None:
    cdn.renderer.gate.close()
    viewers = [asyncio.create_task(cdn.ask(PATH)) for _ in range(20)]
    await cdn.renderer.gate.arrival()
    viewers[leaving].cancel()
    cdn.renderer.gate.open()
    await asyncio.wait(viewers)
    assert viewers.pop(leaving).cancelled()
    assert {viewer.result().status for viewer in viewers} == {200}
    assert cdn.renderer.renders == 1


async def test_failed_fill_is_shared_and_then_tried_again(cdn: InMemoryCdn) -> None:
    cdn.renderer.gate.close()
    cdn.renderer.error = RenderTimeout()
    viewers = [asyncio.create_task(cdn.ask(PATH)) for _ in range(20)]
    await cdn.renderer.gate.arrival()
    cdn.renderer.gate.open()
    assert {answer.status for answer in await asyncio.gather(*viewers)} == {504}
    assert cdn.renderer.renders == 1
    cdn.renderer.error = None
    assert (await cdn.ask(PATH)).status == 200
    assert cdn.renderer.renders == 2


async def test_rendition_that_cannot_be_stored_is_served(cdn: InMemoryCdn) -> None:
    cdn.renditions.error = StoreUnreachable("disk full")
    first, second = await cdn.ask(PATH), await cdn.ask(PATH)
    assert (first.status, first.headers["cache-status"]) == (200, "galerly-cdn; fwd=uri-miss")
    assert second.headers["cache-status"] == "galerly-cdn; hit"


@pytest.mark.parametrize("is_kept", [False, True])
async def test_rendition_in_memory_is_dropped_if_its_put_kept_another(
    cdn: InMemoryCdn, *, is_kept: bool
) -> None:
    """Another server of the folder has stored the same picture meanwhile, with other bytes."""
    cdn.renditions.begins_puts = True
    cdn.renditions.puts.close()
    first = await cdn.ask(PATH)
    assert first.headers["cache-status"] == "galerly-cdn; fwd=uri-miss; stored"
    if is_kept:
        target = Target(Size(800, 600))
        prepared = cdn.edge._memory.get(RenditionKey(KEY, target))
        assert prepared is not None
        other = Rendition(prepared.rendition.record, b"the other's")
        cdn.renditions.kept[target.rendition_key(KEY)] = other
    cdn.renditions.puts.open()
    await cdn.origin.drain()
    second = await cdn.ask(PATH)
    source = "hit; detail=store" if is_kept else "hit"
    assert (second.headers["cache-status"], second.body) == (
        f"galerly-cdn; {source}",
        b"the other's" if is_kept else first.body,
    )


async def test_hits_do_not_wait_for_a_render(cdn: InMemoryCdn) -> None:
    await cdn.ask(PATH)
    cdn.renderer.gate.close()
    slow = asyncio.create_task(cdn.ask("/resize/tiny/g/a.jpg"))
    await cdn.renderer.gate.arrival()
    await cdn.renderer.gate.arrival()
    assert (await cdn.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"
    assert not slow.done()
    cdn.renderer.gate.open()
    assert (await slow).status == 200
