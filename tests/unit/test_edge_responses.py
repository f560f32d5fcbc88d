"""The edge's responses: conditions, ranges, HEAD, and the status of every error."""

from __future__ import annotations

import pytest

from galerly_cdn.errors import (
    GalerlyError,
    NoSuchOriginal,
    QueueFull,
    RenderTimeout,
    StoreRefused,
    StoreUnreachable,
    TooMuchMemory,
)
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import InMemoryCdn
from tests.unit.http.test_urls import TRAVERSALS, named

PATH = "/resize/800x600/g/a.jpg"
KEY = "g/a.jpg"
ALL_FORMATS = "image/avif,image/webp,*/*"


@pytest.fixture
def cdn() -> InMemoryCdn:
    """With one photograph."""
    made = InMemoryCdn()
    made.originals.put(KEY)
    return made


# conditions, ranges, HEAD


async def test_matching_etag_gives_304_with_the_headers_for_caches(cdn: InMemoryCdn) -> None:
    etag = (await cdn.ask(PATH)).headers["etag"]
    answer = await cdn.ask(PATH, if_none_match=etag, if_modified_since="Sun, 06 Nov 1994 08:49:37 GMT")
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == etag
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-length" not in answer.headers


async def test_if_modified_since_is_ignored(cdn: InMemoryCdn) -> None:
    answer = await cdn.ask(PATH, if_modified_since="Fri, 31 Dec 2100 23:59:59 GMT")
    assert answer.status == 200


async def test_304_requires_an_existing_rendition(cdn: InMemoryCdn) -> None:
    assert (await cdn.ask("/resize/800x600/g/none.jpg", if_none_match="*")).status == 404
    assert (await cdn.ask(PATH, if_none_match="*")).status == 304
    assert list(cdn.renditions.kept) == ["800x600/g/a.jpg"]


async def test_other_version_has_another_etag(cdn: InMemoryCdn) -> None:
    old = (await cdn.ask(PATH)).headers["etag"]
    cdn.originals.put(KEY)
    answer = await cdn.ask(PATH, if_none_match=old)
    assert answer.status == 200
    assert answer.headers["etag"] != old


@pytest.mark.parametrize(
    ("byte_range", "status"), [("bytes=0-1", 206), ("bytes=-2", 206), ("bytes=9-2", 200), ("bytes=999-", 416)]
)
async def test_range_of_a_miss_and_of_a_hit_give_the_same_response(
    cdn: InMemoryCdn, byte_range: str, status: int
) -> None:
    miss, hit = await cdn.ask(PATH, range=byte_range), await cdn.ask(PATH, range=byte_range)
    assert miss.status == hit.status == status
    assert miss.lasting_headers == hit.lasting_headers
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
async def test_response_to_head_is_that_to_get_without_the_body(
    cdn: InMemoryCdn, path: str, headers: dict[str, str]
) -> None:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    await cdn.ask(path, extra=sent)
    got, head = await cdn.ask(path, extra=sent), await cdn.ask(path, "HEAD", extra=sent)
    assert head.body == b""
    assert head.status == got.status
    assert head.headers.keys() == got.headers.keys()
    assert head.lasting_headers == got.lasting_headers
    if got.status != 304:
        assert int(head.headers["content-length"]) == len(got.body) > 0


async def test_head_of_a_miss_renders_once(cdn: InMemoryCdn) -> None:
    head, got = await cdn.ask(PATH, "HEAD"), await cdn.ask(PATH)
    assert head.headers["content-length"] == got.headers["content-length"]
    assert cdn.renderer.renders == 1


async def test_range_of_a_head_is_ignored(cdn: InMemoryCdn) -> None:
    """RFC 9110 §14.2: Range is defined for GET only."""
    whole = await cdn.ask(PATH)
    for byte_range in ("bytes=0-1", "bytes=999-"):
        head = await cdn.ask(PATH, "HEAD", range=byte_range)
        assert (head.status, head.headers["content-length"]) == (200, str(len(whole.body)))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PURGE", "get", ""])
async def test_other_methods_than_get_and_head_are_405(cdn: InMemoryCdn, method: str) -> None:
    answer = await cdn.ask(PATH, method)
    assert (answer.status, answer.code) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert cdn.originals.heads == 0


# lifetimes


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        (PATH, {}, "max-age=10"),
        (PATH, {"range": "bytes=0-1"}, "max-age=10"),
        (PATH, {"if-none-match": "*"}, "max-age=10"),
        ("/resize/800x600/g/none.jpg", {}, "max-age=5"),
        ("/nothing", {}, "max-age=10"),
        (PATH, {"range": "bytes=9999999-"}, None),
        ("/resize/1x1/g/a.jpg", {}, None),
        ("/original/g/a.jpg", {}, None),
    ],
)
async def test_front_alone_is_told_how_long_it_may_keep_an_answer(
    path: str, headers: dict[str, str], told: str | None
) -> None:
    cdn = InMemoryCdn(Settings(trusted_proxies=("192.0.2.8/32",)))
    cdn.originals.put(KEY)
    await cdn.ask(PATH)
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    to_front = await cdn.ask(path, client="192.0.2.8", x_forwarded_for="198.51.100.1", extra=sent)
    to_viewer = await cdn.ask(path, client="198.51.100.1", x_forwarded_for="192.0.2.8", extra=sent)
    assert to_front.headers.get("cdn-cache-control") == told
    assert "cdn-cache-control" not in to_viewer.headers
    assert to_front.headers.get("cache-control") == to_viewer.headers.get("cache-control")


# errors


@pytest.mark.parametrize(
    ("path", "status", "reason", "cache_control"),
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
async def test_error_has_the_status_and_lifetime_of_its_kind(
    cdn: InMemoryCdn, path: str, status: int, reason: str, cache_control: str
) -> None:
    answer = await cdn.ask(path)
    assert (answer.status, answer.code, answer.headers["cache-control"]) == (status, reason, cache_control)
    assert cdn.records[-1].reason == reason
    assert cdn.counters.snapshot() == {reason: 1}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooMuchMemory("/srv/x"), 415),
        (QueueFull("/srv/x"), 503),
        (RenderTimeout("/srv/x"), 504),
        (RuntimeError("/srv/x"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_failed_render_is_an_error_and_never_stored(
    cdn: InMemoryCdn, error: Exception, status: int
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
async def test_failing_store_is_an_error_with_its_detail_in_the_log(
    cdn: InMemoryCdn, error: GalerlyError, status: int
) -> None:
    cdn.originals.error = error
    answer = await cdn.ask(PATH)
    assert answer.status == status
    assert b"/srv/x" not in answer.body
    assert cdn.records[-1].detail == "/srv/x"


@pytest.mark.parametrize("encoded", TRAVERSALS, ids=named)
async def test_path_traversal_reaches_no_store(cdn: InMemoryCdn, encoded: bytes) -> None:
    for prefix in (b"/resize/thumbnail/", b"/resize/800x600.webp/", b"/original/"):
        answer = await cdn.ask(prefix + encoded)
        assert (answer.status, answer.code) == (400, "malformed-key")
    assert (cdn.originals.heads, cdn.originals.opened, cdn.renditions.gets) == (0, 0, 0)


@pytest.mark.parametrize(
    "path",
    [b"//evil.example", b"/\\evil.example", b"/%0d%0aLocation:%20//evil.example", b"/resize/tiny/%0d%0aX:1"],
)
async def test_path_and_query_never_become_a_header(cdn: InMemoryCdn, path: bytes) -> None:
    answer = await cdn.ask(path, query=b"next=//evil.example")
    assert answer.status in {400, 404}
    assert "location" not in answer.headers
    assert "evil" not in str(answer.headers) + answer.body.decode()
