"""A plain hit is answered byte for byte, and recorded, as the application's whole way does it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.errors import StoreUnreachable
from galerly_cdn.http.cross_origin import LoopbackApplication
from galerly_cdn.http.responses import field_lines
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import InMemoryCdn

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from galerly_cdn.http.exchange import Application
    from galerly_cdn.http.request import Scope

PATH = b"/resize/800x600/g/a.jpg"
KEY = "g/a.jpg"
SETTINGS = Settings(private_prefixes=("clients",), trusted_proxies=("10.0.0.0/8",))


def _scope(*headers: tuple[bytes, bytes], method: str = "GET", path: bytes = PATH) -> Scope:
    return {
        "type": "http",
        "method": method,
        "raw_path": path,
        "query_string": b"v=1",
        "client": ("10.0.0.1", 4711),
        "headers": [(b"host", b"localhost"), *headers],
    }


@pytest.fixture
async def cdn() -> InMemoryCdn:
    """With a public and a private photograph, and one rendition in memory."""
    made = InMemoryCdn(settings=SETTINGS)
    made.originals.put(KEY)
    made.originals.put("clients/g/a.jpg")
    await made.ask(PATH)
    made.records.clear()
    return made


async def _whole_way(
    application: Application | LoopbackApplication, scope: Scope
) -> tuple[int, bytes, bytes]:
    """The status, the header lines and the body that the application sends over ASGI."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return await asyncio.Future()  # the client stays

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, send)
    start, body = sent
    return start["status"], field_lines(start["headers"]), body["body"]


PLAIN = {
    "GET": _scope(),
    "HEAD": _scope(method="HEAD"),
    "a format in the path": _scope((b"accept", b"image/webp"), path=b"/resize/800x600.jpeg/g/a.jpg"),
    "a name and an escape": _scope(path=b"/resize/thumbnail/%67/a.jpg"),
    "Accept": _scope((b"accept", b"image/png,image/*;q=0.8")),
    "repeated Accept": _scope((b"accept", b"image/png"), (b"accept", b"*/*")),
    "another ETag": _scope((b"if-none-match", b'"other"')),
    "any ETag": _scope((b"if-none-match", b"*")),
    "HEAD with any ETag": _scope((b"if-none-match", b"*"), method="HEAD"),
    "a forwarded address": _scope((b"x-forwarded-for", b"192.0.2.7, 10.0.0.2")),
    "If-Modified-Since, which has no meaning": _scope((b"if-modified-since", b"now")),
}

SITES = {
    "no site": (),
    "this machine": ((b"origin", b"http://localhost:3000"),),
    "another site": ((b"origin", b"https://evil.example"),),
    "another site's name": ((b"x-a", b"b"), (b"host", b"evil.example")),
    "two sites": ((b"origin", b"https://cdn.example:1"), (b"origin", b"https://evil.example")),
    "a public host": ((b"host", b"cdn.example"), (b"origin", b"https://any.example")),
}


@pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())
@pytest.mark.parametrize("is_loopback", [False, True], ids=["public", "loopback"])
@pytest.mark.parametrize("scope", PLAIN.values(), ids=PLAIN.keys())
async def test_plain_hit_has_the_bytes_and_the_record_of_the_whole_way(
    cdn: InMemoryCdn, scope: Scope, site: tuple[tuple[bytes, bytes], ...], *, is_loopback: bool
) -> None:
    application: Application | LoopbackApplication = cdn.application
    if is_loopback:
        application = LoopbackApplication(cdn.application, ("https://cdn.example",))
    replaced_names = {name for name, _ in site}
    scope = {**scope, "headers": [one for one in scope["headers"] if one[0] not in replaced_names] + [*site]}
    await _whole_way(application, scope)  # the rendition of this target is in memory
    cdn.records.clear()
    expected = await _whole_way(application, scope)
    assert application.answer_hit(scope) == expected
    first, second = cdn.records
    assert first.request_id != second.request_id
    assert replaced(first, request_id="") == replaced(second, request_id="")


NOT_PLAIN = {
    "POST": _scope(method="POST"),
    "Range": _scope((b"range", b"bytes=0-1")),
    "a private key": _scope(path=b"/resize/800x600/clients/g/a.jpg"),
    "an original": _scope(path=b"/original/g/a.jpg"),
    "another path": _scope(path=b"/"),
    "a malformed key": _scope(path=b"/resize/800x600/%"),
    "a rendition that is not in memory": _scope((b"accept", b"image/webp")),
}


@pytest.mark.parametrize("scope", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
async def test_other_request_is_left_to_the_whole_way_without_a_record(
    cdn: InMemoryCdn, scope: Scope
) -> None:
    assert cdn.application.answer_hit(scope) is None
    assert cdn.records == []


@pytest.mark.parametrize("scope", PLAIN.values(), ids=PLAIN.keys())
async def test_plain_hit_from_a_near_store_is_that_of_the_whole_way(scope: Scope) -> None:
    cdn = InMemoryCdn(settings=replaced(SETTINGS, memory_cache_bytes=0))
    cdn.originals.put(KEY)
    await _whole_way(cdn.application, scope)
    cdn.renditions.is_near = True
    cdn.records.clear()
    expected = await _whole_way(cdn.application, scope)
    assert b"detail=store" in expected[1]
    assert cdn.application.answer_hit(scope) == expected
    first, second = cdn.records
    assert replaced(first, request_id="") == replaced(second, request_id="")


async def test_near_rendition_of_another_version_is_no_plain_hit() -> None:
    cdn = InMemoryCdn(settings=replaced(SETTINGS, memory_cache_bytes=0))
    cdn.originals.put(KEY)
    await cdn.ask(PATH)
    cdn.renditions.is_near = True
    cdn.originals.put(KEY)
    assert cdn.application.answer_hit(_scope()) is None


async def test_client_over_its_look_up_limit_gets_no_near_rendition_at_once() -> None:
    cdn = InMemoryCdn(settings=Settings(memory_cache_bytes=0, misses_per_minute_per_client=1))
    cdn.originals.put(KEY)
    await cdn.ask(PATH, client="10.0.0.1")
    cdn.renditions.is_near = True
    assert cdn.application.answer_hit(_scope()) is not None
    await cdn.ask("/resize/tiny/g/none.jpg", client="10.0.0.1")
    assert cdn.application.answer_hit(_scope()) is None
    assert (await cdn.ask(PATH, client="10.0.0.1")).code == "too-many-misses"


async def test_changed_original_is_no_plain_hit(cdn: InMemoryCdn) -> None:
    cdn.originals.put(KEY)
    assert cdn.application.answer_hit(_scope()) is None


@pytest.mark.parametrize("stale_s", [0.0, 5.0], ids=["no head", "an old head"])
async def test_unreachable_store_is_no_plain_hit(cdn: InMemoryCdn, stale_s: float) -> None:
    cdn.originals.error, cdn.originals.stale_s = StoreUnreachable(), stale_s
    assert cdn.application.answer_hit(_scope()) is None


async def test_unforeseen_error_is_left_to_the_whole_way(
    cdn: InMemoryCdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_key: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cdn.originals, "known_head", broken)
    assert cdn.application.answer_hit(_scope()) is None
    assert cdn.records == []


async def test_plain_hit_is_a_use_of_its_rendition() -> None:
    cdn = InMemoryCdn(settings=Settings(memory_cache_bytes=2 * 2100))
    for name in "abc":
        cdn.originals.put(f"g/{name}.jpg")
    paths = [f"/resize/800x600/g/{name}.jpg".encode() for name in "abc"]
    await cdn.ask(paths[0])
    await cdn.ask(paths[1])
    assert cdn.application.answer_hit(_scope(path=paths[0])) is not None
    await cdn.ask(paths[2])
    assert [cdn.application.answer_hit(_scope(path=path)) is not None for path in paths] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("field", [(b"a", b"b\r\nc: d"), (b"a", b"b\n"), (b"a\r", b"b"), (b"a\n", b"")])
def test_header_with_a_line_break_raises(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="line break"):
        field_lines([field])
