"""Exchanges: every request gets a response, and leaves one record in printable text."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.errors import Disconnected, NoSuchOriginal, QueueFull, StoreRefused, StoreUnreachable
from galerly_cdn.http.body_stream import Stream
from galerly_cdn.http.exchange import Exchange, ExchangeRunner
from galerly_cdn.http.request import empty_scope
from galerly_cdn.http.responses import Response
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import InMemoryCdn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, MutableMapping

PATH = "/resize/800x600/g/a.jpg"
KEY = "g/a.jpg"


@pytest.fixture
def cdn() -> InMemoryCdn:
    """With one photograph."""
    made = InMemoryCdn()
    made.originals.put(KEY)
    return made


# the access record


async def test_access_record_of_a_miss_has_key_target_cache_status_and_stages(cdn: InMemoryCdn) -> None:
    answer = await cdn.ask("/resize/thumbnail/g/%61.jpg", accept="image/webp", query=b"Signature=secret")
    (record,) = cdn.records
    assert (record.method, record.path, record.status) == ("GET", "/resize/thumbnail/g/%61.jpg", 200)
    assert (record.key, record.size, record.format) == (KEY, "800x600", "webp")
    assert (record.cache, record.bytes) == ("fwd=uri-miss; stored", len(answer.body))
    assert record.stages_ms is not None
    assert record.stages_ms.keys() == {"queue", "open", "render", "put", "head"}
    assert record.client == "192.0.2.1"
    assert answer.headers["server-timing"].startswith(
        "queue;dur=1000.000, open;dur=1000.000, render;dur=1000.000, "
        "put;dur=1000.000, head;dur=1000.000, total;dur="
    )


async def test_access_record_counts_the_bytes_that_were_sent(cdn: InMemoryCdn) -> None:
    whole = await cdn.ask(PATH)
    await cdn.ask(PATH, "HEAD")
    await cdn.ask(PATH, if_none_match="*")
    await cdn.ask(PATH, range="bytes=0-1")
    assert [record.bytes for record in cdn.records] == [len(whole.body), 0, 0, 2]
    assert [record.format for record in cdn.records] == ["own"] * 4


async def test_access_record_of_an_error_has_the_request_id_of_the_response(cdn: InMemoryCdn) -> None:
    answer = await cdn.ask("/resize/800x600/g/none.jpg")
    assert json.loads(answer.body)["error"]["request_id"] == cdn.records[0].request_id


async def test_access_record_of_a_failed_fill_has_the_miss_that_led_to_it(cdn: InMemoryCdn) -> None:
    cdn.renderer.error = QueueFull()
    answer = await cdn.ask(PATH)
    assert answer.headers["cache-status"] == "galerly-cdn; fwd=uri-miss"
    (record,) = cdn.records
    assert (record.cache, record.reason, record.key) == ("fwd=uri-miss", "queue-full", KEY)


async def test_client_that_disconnects_during_a_fill_is_recorded_as_499(cdn: InMemoryCdn) -> None:
    cdn.renderer.gate.close()
    request = asyncio.create_task(cdn.ask(PATH))
    await cdn.renderer.gate.arrival()
    cdn.disconnected.set()
    assert (await request).status == 499
    assert (cdn.records[0].status, cdn.records[0].reason) == (499, "disconnected")
    cdn.renderer.gate.open()
    await cdn.origin.drain()
    cdn.disconnected.clear()
    assert (await cdn.ask(PATH)).headers["cache-status"] == "galerly-cdn; hit; detail=store"
    assert request.cancelling() == 0


async def test_error_of_a_fill_reaches_a_client_that_stays(cdn: InMemoryCdn) -> None:
    cdn.renderer.refusal = QueueFull("full", 7.2)
    answer = await cdn.ask(PATH)
    assert (answer.status, answer.headers["retry-after"]) == (503, "8")


async def test_refused_connection_is_answered_and_recorded(cdn: InMemoryCdn) -> None:
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


async def test_access_record_of_a_hostile_path_is_printable_ascii(cdn: InMemoryCdn) -> None:
    await cdn.ask(b"/\x1b[2J\x00\x7f\x9b\xff\r\n" + b"a" * 5000)
    (record,) = cdn.records
    assert record.path.isascii()
    assert record.path.isprintable()
    assert len(record.path) < 5000


async def test_access_record_of_a_detail_that_is_not_utf8_is_escaped(cdn: InMemoryCdn) -> None:
    cdn.originals.error = StoreRefused("/srv/\udcff\x1b[2J")
    await cdn.ask(PATH)
    assert cdn.records[0].detail == r"/srv/\udcff\x1b[2J"


# the runner


class RecordedRunner:
    """A runner whose clock advances by a second at each reading, and the exchanges that it recorded."""

    def __init__(self) -> None:
        ticks = itertools.count()
        self.recorded: list[Exchange] = []
        self.sent: list[MutableMapping[str, Any]] = []
        self.send_error: BaseException | None = None
        self.runner = ExchangeRunner[Exchange](Settings(), lambda: float(next(ticks)), self.recorded.append)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.send_error is not None and message["type"] == "http.response.body":
            raise self.send_error
        self.sent.append(message)

    async def run(
        self, result: Response | Exception, method: str = "GET", *, is_private: bool = False
    ) -> Exchange:
        async def handler(exchange: Exchange) -> Response:
            exchange.is_private = is_private
            if isinstance(result, Exception):
                raise result
            return result

        await self.runner.run(Exchange({**empty_scope(), "method": method}, "run-1"), handler, self.send)
        (exchange,) = self.recorded
        return exchange

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body", False)


class Chunks:
    """Chunks of a stream, then an error if there is one; notes that the stream was closed."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.is_closed = False
        self._chunks = chunks
        self._error = error

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self._chunks:
                yield chunk
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True


async def test_runner_sends_the_handler_s_response_and_records_it() -> None:
    runner = RecordedRunner()
    exchange = await runner.run(Response(200, [(b"a", b"b")], b"body"))
    assert runner.sent[0] == {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    assert (runner.body, exchange.status, exchange.sent_bytes, exchange.error) == (b"body", 200, 4, None)
    assert (exchange.duration_ms, exchange.total_ms) == (1000, 2000)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [(NoSuchOriginal("detail"), "no-such-original", 404), (KeyError("detail"), "internal", 500)],
    ids=["known", "unforeseen"],
)
async def test_runner_turns_any_exception_into_an_error_response(
    error: Exception, code: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    runner = RecordedRunner()
    exchange = await runner.run(error)
    assert (exchange.status, runner.sent[0]["status"]) == (status, status)
    assert exchange.error is not None
    assert json.loads(runner.body)["error"] == {
        "code": code,
        "message": exchange.error.public,
        "request_id": "run-1",
    }
    assert ("run-1" in caplog.text) == ("KeyError" in caplog.text) == (status == 500)


async def test_error_response_of_a_private_exchange_has_the_private_headers() -> None:
    runner = RecordedRunner()
    await runner.run(NoSuchOriginal(), is_private=True)
    headers = dict(runner.sent[0]["headers"])
    assert headers[b"cache-control"] == b"no-store"
    assert b"access-control-allow-origin" not in headers


async def test_runner_sends_a_stream_chunk_by_chunk_and_closes_it() -> None:
    runner, chunks = RecordedRunner(), Chunks(b"12", b"345")
    exchange = await runner.run(Response(200, [], stream=Stream(chunks(), 5)))
    assert [message["body"] for message in runner.sent[1:]] == [b"12", b"345", b""]
    assert (exchange.sent_bytes, exchange.error, runner.is_complete) == (5, None, True)
    assert chunks.is_closed


async def test_stream_of_unknown_length_is_complete_at_its_end() -> None:
    runner = RecordedRunner()
    exchange = await runner.run(Response(200, [], stream=Stream(Chunks(b"12")(), None)))
    assert (runner.body, exchange.error, runner.is_complete) == (b"12", None, True)


async def test_stream_that_fails_at_once_is_an_error_response() -> None:
    runner = RecordedRunner()
    exchange = await runner.run(Response(200, [], stream=Stream(Chunks(error=StoreUnreachable())(), 5)))
    assert (exchange.status, runner.is_complete) == (503, True)


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        (Chunks(b"12", error=StoreUnreachable()), "store-unreachable"),
        (Chunks(b"12", error=RuntimeError()), "internal"),
        (Chunks(b"12"), "internal"),
    ],
    ids=["known", "unforeseen", "short"],
)
async def test_stream_that_fails_midway_is_left_incomplete_and_recorded(chunks: Chunks, code: str) -> None:
    runner = RecordedRunner()
    exchange = await runner.run(Response(200, [], stream=Stream(chunks(), 5)))
    assert exchange.error is not None
    assert (exchange.status, exchange.error.code, exchange.sent_bytes) == (200, code, 2)
    assert not runner.is_complete
    assert chunks.is_closed


@pytest.mark.parametrize("response", [Response(200, [], b"12345"), None], ids=["body", "stream"])
async def test_response_to_head_has_no_body(response: Response | None) -> None:
    runner = RecordedRunner()
    exchange = await runner.run(
        response or Response(200, [], stream=Stream(Chunks(error=RuntimeError())(), 5)), "HEAD"
    )
    assert (runner.body, runner.is_complete) == (b"", True)
    assert (exchange.sent_bytes, exchange.error) == (0, None)


async def test_client_that_leaves_is_recorded_as_disconnected() -> None:
    runner = RecordedRunner()
    runner.send_error = Disconnected()
    exchange = await runner.run(Response(200, [], b"12345"))
    assert exchange.error is runner.send_error
    assert (exchange.status, exchange.sent_bytes) == (200, 0)


async def test_exchange_cancelled_while_sending_is_recorded() -> None:
    runner = RecordedRunner()
    runner.send_error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await runner.run(Response(200, [], b"12345"))
    assert [exchange.status for exchange in runner.recorded] == [200]


async def test_runner_without_send_returns_the_response_and_counts_its_bytes() -> None:
    runner = RecordedRunner()

    async def handler(_exchange: Exchange) -> Response:
        return Response(200, [], b"body")

    response = await runner.runner.run(Exchange(empty_scope(), "run-1"), handler)
    assert (response.body, runner.recorded[0].sent_bytes, runner.sent) == (b"body", 4, [])
