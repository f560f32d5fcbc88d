"""One picture's request through the whole application, over stores and a renderer in memory."""

from __future__ import annotations

import asyncio
import json

import pytest

from galerly_cdn.config import Settings
from galerly_cdn.errors import (
    GalerlyError,
    NoSuchOriginal,
    QueueFull,
    RenderTimeout,
    StoreRefused,
    StoreUnreachable,
    Undecodable,
)
from galerly_cdn.model import Target
from tests.fakes import Answer, SmallCdn, rendition
from tests.test_url import TRAVERSALS, named

PATH = "/resize/800x600/g/a.jpg"
KEY = "g/a.jpg"
ALL_FORMATS = "image/avif,image/webp,*/*"


@pytest.fixture
def cdn() -> SmallCdn:
    """With one photograph."""
    made = SmallCdn()
    made.originals.put(KEY)
    return made


# its path


async def test_the_first_asks_the_origin_the_second_memory(cdn: SmallCdn) -> None:
    first, second = await cdn.ask(PATH), await cdn.ask(PATH)
    assert first.body == second.body == b"v1 g/a.jpg at 800x600"
    assert first.headers["cache-status"] == "galerly-cdn; fwd=uri-miss; stored"
    assert second.headers["cache-status"] == "galerly-cdn; hit"
    assert cdn.renderer.renders == 1
    assert cdn.renditions.gets == 1


async def test_what_memory_does_not_hold_the_store_answers() -> None:
    cdn = SmallCdn(settings=Settings(memory_cache_bytes=0))
    cdn.originals.put(KEY)
    first, second = await cdn.ask(PATH), await cdn.ask(PATH)
    assert second.headers["cache-status"] == "galerly-cdn; hit; detail=store"
    assert second.body == first.body
    assert cdn.renderer.renders == 1


async def test_every_spelling_is_one_rendition(cdn: SmallCdn) -> None:
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


async def test_nothing_but_the_path_and_accept_decides(cdn: SmallCdn) -> None:
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


async def test_five_hundred_accepts_are_three_renditions(cdn: SmallCdn) -> None:
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
async def test_accept_chooses_where_the_address_does_not(
    cdn: SmallCdn, path: str, accept: str, media_type: str, *, varies: bool
) -> None:
    for answer in (await cdn.ask(path, accept=accept), await cdn.ask(path, accept=accept)):
        assert answer.headers["content-type"] == media_type
        assert answer.headers.get("vary") == ("Accept" if varies else None)


async def test_repeated_accepts_are_one_list(cdn: SmallCdn) -> None:
    scope_headers = [(b"accept", b"image/png"), (b"accept", b"image/webp")]
    answer = await cdn.ask(PATH, extra=scope_headers)
    assert answer.headers["content-type"] == "image/webp"


async def test_a_size_offers_only_its_formats() -> None:
    cdn = SmallCdn(settings=Settings(sizes=("only 10x10 jpeg=80 webp=80",)))
    cdn.originals.put(KEY)
    assert (await cdn.ask("/resize/only/g/a.jpg", accept=ALL_FORMATS)).headers["content-type"] == "image/webp"
    refused = await cdn.ask("/resize/only.avif/g/a.jpg")
    assert (refused.status, code(refused)) == (403, "format-not-allowed")


# conditions, ranges, HEAD


async def test_a_viewer_that_has_it_gets_304_with_what_caches_need(cdn: SmallCdn) -> None:
    etag = (await cdn.ask(PATH)).headers["etag"]
    answer = await cdn.ask(PATH, if_none_match=etag, if_modified_since="Sun, 06 Nov 1994 08:49:37 GMT")
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == etag
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-length" not in answer.headers


async def test_if_modified_since_alone_is_ignored(cdn: SmallCdn) -> None:
    answer = await cdn.ask(PATH, if_modified_since="Fri, 31 Dec 2100 23:59:59 GMT")
    assert answer.status == 200


async def test_a_304_is_only_for_a_rendition_that_exists(cdn: SmallCdn) -> None:
    assert (await cdn.ask("/resize/800x600/g/none.jpg", if_none_match="*")).status == 404
    assert (await cdn.ask(PATH, if_none_match="*")).status == 304
    assert list(cdn.renditions.kept) == ["800x600/g/a.jpg"]


async def test_another_version_has_another_etag(cdn: SmallCdn) -> None:
    old = (await cdn.ask(PATH)).headers["etag"]
    cdn.originals.put(KEY)
    answer = await cdn.ask(PATH, if_none_match=old)
    assert answer.status == 200
    assert answer.headers["etag"] != old


@pytest.mark.parametrize(
    ("asked", "status"), [("bytes=0-1", 206), ("bytes=-2", 206), ("bytes=9-2", 200), ("bytes=999-", 416)]
)
async def test_a_range_of_a_miss_and_of_a_hit_are_answered_alike(
    cdn: SmallCdn, asked: str, status: int
) -> None:
    miss, hit = await cdn.ask(PATH, range=asked), await cdn.ask(PATH, range=asked)
    assert miss.status == hit.status == status
    assert without_chance(miss) == without_chance(hit)
    assert miss.headers["vary"] == "Accept"


HEADS = {
    "a hit": (PATH, {}),
    "a negotiated hit": (PATH, {"accept": ALL_FORMATS}),
    "an explicit format": ("/resize/tiny.webp/g/a.jpg", {}),
    "a 304": (PATH, {"if-none-match": "*"}),
    "no original": ("/resize/tiny/g/none.jpg", {}),
    "no size": ("/resize/1x1/g/a.jpg", {}),
    "no key": ("/resize/tiny/../a", {}),
    "nowhere": ("/favicon.ico", {}),
    "signed": ("/original/g/a.jpg", {}),
}


@pytest.mark.parametrize(("path", "headers"), HEADS.values(), ids=HEADS)
async def test_head_is_get_without_the_body(cdn: SmallCdn, path: str, headers: dict[str, str]) -> None:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    await cdn.ask(path, extra=sent)
    got, head = await cdn.ask(path, extra=sent), await cdn.ask(path, "HEAD", extra=sent)
    assert head.body == b""
    assert head.status == got.status
    assert head.headers.keys() == got.headers.keys()
    assert without_chance(head) == without_chance(got)
    if got.status != 304:
        assert int(head.headers["content-length"]) == len(got.body) > 0


async def test_head_of_a_miss_renders_once(cdn: SmallCdn) -> None:
    head, got = await cdn.ask(PATH, "HEAD"), await cdn.ask(PATH)
    assert head.headers["content-length"] == got.headers["content-length"]
    assert cdn.renderer.renders == 1


async def test_a_range_is_a_matter_of_get(cdn: SmallCdn) -> None:
    """RFC 9110 §14.2: a Range beside any other method is ignored."""
    whole = await cdn.ask(PATH)
    for asked in ("bytes=0-1", "bytes=999-"):
        head = await cdn.ask(PATH, "HEAD", range=asked)
        assert (head.status, head.headers["content-length"]) == (200, str(len(whole.body)))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PURGE", "get", ""])
async def test_only_get_and_head_are_answered(cdn: SmallCdn, method: str) -> None:
    answer = await cdn.ask(PATH, method)
    assert (answer.status, code(answer)) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert cdn.originals.heads == 0


# what is refused


@pytest.mark.parametrize(
    ("path", "status", "reason", "lifetime"),
    [
        ("/", 404, "unknown-path", "public, max-age=60"),
        ("/-/page.css", 404, "unknown-path", "public, max-age=60"),
        ("/robots.txt", 404, "unknown-path", "public, max-age=60"),
        ("/resize/800x600/g/none.jpg", 404, "no-such-original", "public, max-age=5"),
        ("/resize/801x600/g/a.jpg", 403, "size-not-allowed", "no-store"),
        ("/resize/huge/g/a.jpg", 403, "size-not-allowed", "no-store"),
        ("/resize/800x600.gif/g/a.jpg", 403, "format-not-allowed", "no-store"),
        ("/resize/800x600/", 400, "malformed-key", "no-store"),
        ("/resize/800x600/%ff", 400, "malformed-key", "no-store"),
        ("/original/g/a.jpg", 403, "signature-required", "no-store"),
    ],
)
async def test_the_status_table(cdn: SmallCdn, path: str, status: int, reason: str, lifetime: str) -> None:
    answer = await cdn.ask(path)
    assert (answer.status, code(answer), answer.headers["cache-control"]) == (status, reason, lifetime)
    assert cdn.records[-1].reason == reason
    assert cdn.counters.snapshot() == {reason: 1}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Undecodable("/srv/x"), 415),
        (QueueFull("/srv/x"), 503),
        (RenderTimeout("/srv/x"), 504),
        (RuntimeError("/srv/x"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_a_render_that_fails_is_told_and_never_stored(
    cdn: SmallCdn, error: Exception, status: int
) -> None:
    cdn.renderer.error = error
    answer = await cdn.ask(PATH)
    assert answer.status == status
    assert b"/srv/x" not in answer.body
    assert answer.headers["vary"] == "Accept"
    assert cdn.renditions.kept == {}
    cdn.renderer.error = None
    assert [(await cdn.ask(PATH)).status for _ in range(100)] == [200] * 100


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreRefused("/srv/x"), 502), (StoreUnreachable("/srv/x"), 503), (NoSuchOriginal("/srv/x"), 404)],
    ids=lambda value: getattr(value, "code", str(value)),
)
async def test_a_store_that_refuses_is_told(cdn: SmallCdn, error: GalerlyError, status: int) -> None:
    cdn.originals.error = error
    answer = await cdn.ask(PATH)
    assert answer.status == status
    assert b"/srv/x" not in answer.body
    assert cdn.records[-1].detail == "/srv/x"


@pytest.mark.parametrize("encoded", TRAVERSALS, ids=named)
async def test_an_attack_on_the_key_reaches_no_store(cdn: SmallCdn, encoded: bytes) -> None:
    for prefix in (b"/resize/thumbnail/", b"/resize/800x600.webp/", b"/original/"):
        answer = await cdn.ask(prefix + encoded)
        assert (answer.status, code(answer)) == (400, "malformed-key")
    assert (cdn.originals.heads, cdn.originals.opened, cdn.renditions.gets) == (0, 0, 0)


@pytest.mark.parametrize(
    "path",
    [b"//evil.example", b"/\\evil.example", b"/%0d%0aLocation:%20//evil.example", b"/resize/tiny/%0d%0aX:1"],
)
async def test_nothing_in_an_address_becomes_a_header(cdn: SmallCdn, path: bytes) -> None:
    answer = await cdn.ask(path, query=b"next=//evil.example")
    assert answer.status in {400, 404}
    assert "location" not in answer.headers
    assert "evil" not in str(answer.headers) + answer.body.decode()


# what is current


async def test_a_replaced_original_is_shown_at_once(cdn: SmallCdn) -> None:
    assert (await cdn.ask(PATH)).body.startswith(b"v1")
    cdn.originals.put(KEY)
    answer = await cdn.ask(PATH)
    assert answer.body.startswith(b"v2")
    assert answer.headers["cache-status"] == "galerly-cdn; fwd=stale; stored"
    assert (await cdn.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"


async def test_a_removed_original_is_gone_at_once(cdn: SmallCdn) -> None:
    assert (await cdn.ask(PATH)).status == 200
    cdn.originals.remove(KEY)
    assert (await cdn.ask(PATH)).status == 404


async def test_another_recipe_renders_anew(cdn: SmallCdn) -> None:
    await cdn.ask(PATH)
    other = SmallCdn(originals=cdn.originals, renditions=cdn.renditions, digest="recipe-2")
    answer = await other.ask(PATH)
    assert answer.headers["cache-status"] == "galerly-cdn; fwd=stale; stored"
    assert other.renderer.renders == 1
    assert (await other.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"


async def test_an_old_rendition_found_in_the_store_is_never_answered(cdn: SmallCdn) -> None:
    """As a crash between two steps, or another server, may have left it."""
    cdn.renditions.kept["800x600/g/a.jpg"] = rendition(KEY, body=b"from another version")
    answer = await cdn.ask(PATH)
    assert answer.body == b"v1 g/a.jpg at 800x600"
    assert cdn.renditions.kept["800x600/g/a.jpg"].body == answer.body


async def test_a_rendition_the_store_has_lost_is_rendered_again() -> None:
    cdn = SmallCdn(settings=Settings(memory_cache_bytes=0))
    cdn.originals.put(KEY)
    first = await cdn.ask(PATH)
    await cdn.renditions.delete(KEY, Target(Settings().size_rules[2].size))
    second = await cdn.ask(PATH)
    assert second.body == first.body
    assert second.headers["cache-status"] == "galerly-cdn; fwd=uri-miss; stored"


async def test_the_original_changes_while_its_render_is_paused(cdn: SmallCdn) -> None:
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


# together


async def test_a_thousand_viewers_share_one_render_and_one_parcel(cdn: SmallCdn) -> None:
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


@pytest.mark.parametrize("leaver", [0, 10, 19])
async def test_a_viewer_that_leaves_costs_the_others_nothing(cdn: SmallCdn, leaver: int) -> None:
    cdn.renderer.gate.close()
    viewers = [asyncio.create_task(cdn.ask(PATH)) for _ in range(20)]
    await cdn.renderer.gate.arrival()
    viewers[leaver].cancel()
    cdn.renderer.gate.open()
    await asyncio.wait(viewers)
    assert viewers.pop(leaver).cancelled()
    assert {viewer.result().status for viewer in viewers} == {200}
    assert cdn.renderer.renders == 1


async def test_a_failure_is_shared_once_and_then_tried_again(cdn: SmallCdn) -> None:
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


async def test_a_store_that_cannot_take_the_rendition_costs_the_viewer_nothing(cdn: SmallCdn) -> None:
    cdn.renditions.error = StoreUnreachable("disk full")
    first, second = await cdn.ask(PATH), await cdn.ask(PATH)
    assert (first.status, first.headers["cache-status"]) == (200, "galerly-cdn; fwd=uri-miss")
    assert second.headers["cache-status"] == "galerly-cdn; hit"


async def test_hits_do_not_wait_behind_a_render(cdn: SmallCdn) -> None:
    await cdn.ask(PATH)
    cdn.renderer.gate.close()
    slow = asyncio.create_task(cdn.ask("/resize/tiny/g/a.jpg"))
    await cdn.renderer.gate.arrival()
    await cdn.renderer.gate.arrival()
    assert (await cdn.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit"
    assert not slow.done()
    cdn.renderer.gate.open()
    assert (await slow).status == 200


# the access record


async def test_a_request_leaves_one_record_of_what_happened(cdn: SmallCdn) -> None:
    answer = await cdn.ask("/resize/thumbnail/g/%61.jpg", accept="image/webp", query=b"Signature=secret")
    (record,) = cdn.records
    assert (record.method, record.path, record.status) == ("GET", "/resize/thumbnail/g/%61.jpg", 200)
    assert (record.key, record.size, record.format) == (KEY, "800x600", "webp")
    assert (record.cache, record.bytes) == ("fwd=uri-miss; stored", len(answer.body))
    assert record.stages_ms is not None
    assert record.stages_ms.keys() == {"render", "put"}
    assert record.client == "192.0.2.1"
    assert answer.headers["server-timing"].startswith("render;dur=1000.0, put;dur=1000.0, total;dur=")


async def test_records_count_the_bytes_that_were_sent(cdn: SmallCdn) -> None:
    whole = await cdn.ask(PATH)
    await cdn.ask(PATH, "HEAD")
    await cdn.ask(PATH, if_none_match="*")
    await cdn.ask(PATH, range="bytes=0-1")
    assert [record.bytes for record in cdn.records] == [len(whole.body), 0, 0, 2]
    assert [record.format for record in cdn.records] == ["own"] * 4


async def test_a_refusal_is_recorded_under_the_id_the_viewer_was_told(cdn: SmallCdn) -> None:
    answer = await cdn.ask("/resize/800x600/g/none.jpg")
    assert json.loads(answer.body)["error"]["request_id"] == cdn.records[0].request_id


async def test_what_never_became_a_request_is_answered_and_recorded(cdn: SmallCdn) -> None:
    response = cdn.application.refuse(QueueFull("why"), "192.0.2.9")
    assert response.status == 503
    (record,) = cdn.records
    assert (record.client, record.path, record.reason, record.detail) == (
        "192.0.2.9",
        "",
        "queue-full",
        "why",
    )
    assert record.request_id in response.body.decode()


async def test_a_hostile_path_is_recorded_in_printable_ascii(cdn: SmallCdn) -> None:
    await cdn.ask(b"/\x1b[2J\x00\x7f\x9b\xff\r\n" + b"a" * 5000)
    (record,) = cdn.records
    assert record.path.isascii()
    assert record.path.isprintable()
    assert len(record.path) < 5000


async def test_a_detail_that_is_no_utf8_is_recorded_all_the_same(cdn: SmallCdn) -> None:
    cdn.originals.error = StoreRefused("/srv/\udcff\x1b[2J")
    await cdn.ask(PATH)
    assert cdn.records[0].detail == r"/srv/\udcff\x1b[2J"


def code(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["code"])


def without_chance(answer: Answer) -> dict[str, str]:
    """The headers but for what may differ from one request to the next."""
    chance = {"cache-status", "server-timing"}
    told = {name: value for name, value in answer.headers.items() if name not in chance}
    if "content-length" in told and answer.headers["content-type"] == "application/json":
        del told["content-length"]  # the request's id grows
    return told
