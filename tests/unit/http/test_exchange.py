"""One exchange, one access record: what was asked, what was answered, in printable text."""

from __future__ import annotations

import json

import pytest

from galerly_cdn.errors import QueueFull, StoreRefused
from tests.support.in_memory_cdn import SmallCdn

PATH = "/resize/800x600/g/a.jpg"
KEY = "g/a.jpg"


@pytest.fixture
def cdn() -> SmallCdn:
    """With one photograph."""
    made = SmallCdn()
    made.originals.put(KEY)
    return made


async def test_a_request_leaves_one_record_of_what_happened(cdn: SmallCdn) -> None:
    answer = await cdn.ask("/resize/thumbnail/g/%61.jpg", accept="image/webp", query=b"Signature=secret")
    (record,) = cdn.records
    assert (record.method, record.path, record.status) == ("GET", "/resize/thumbnail/g/%61.jpg", 200)
    assert (record.key, record.size, record.format) == (KEY, "800x600", "webp")
    assert (record.cache, record.bytes) == ("fwd=uri-miss; stored", len(answer.body))
    assert record.stages_ms is not None
    assert record.stages_ms.keys() == {"open", "render", "put", "head"}
    assert record.client == "192.0.2.1"
    assert answer.headers["server-timing"].startswith(
        "open;dur=1000.000, render;dur=1000.000, put;dur=1000.000, head;dur=1000.000, total;dur="
    )


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
