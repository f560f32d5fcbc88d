"""Tests of request bodies on a listener that takes them: framing, flow control and timeouts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import GalerlyError
from galerly_cdn.server.cycle import BODY_PROGRESS_BYTES, BODY_WINDOW_S
from galerly_cdn.server.transport import LINGER_S
from tests.support.fake_connection import FakeConnection
from tests.support.raw_http import answer, get, run, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galerly_cdn.http.request import Receive, Scope, Send

PUT = b"PUT /a HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class BodyApplication:
    """An application that responds with the length of the body. It needs a permit for each part it reads."""

    def __init__(self, *, is_unlimited: bool = True) -> None:
        self.parts: list[bytes] = []
        self.result = ""
        self.permits = asyncio.Semaphore(1_000_000 if is_unlimited else 0)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        try:
            while True:
                await self.permits.acquire()
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.result = "disconnect"
                    return
                self.parts.append(message["body"])
                if not message["more_body"]:
                    break
        except GalerlyError as error:
            self.result = error.code
            await answer(send, error.code.encode(), error.status)
            return
        self.result = "whole"
        await answer(send, b"%d" % len(self.body))


def connect(application: BodyApplication) -> FakeConnection:
    return FakeConnection(application, takes_bodies=True)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (PUT + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (PUT + CHUNKED + b"\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nTrailer: 1\r\n\r\n", b"hello!"),
        (PUT + b"Content-Length: 0\r\n\r\n", b""),
        (PUT + b"\r\n", b""),
        (PUT + CHUNKED + b"\r\n0\r\n\r\n", b""),
        (b"PUT /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    ],
    ids=["length", "chunked", "none", "no framing", "no chunks", "HTTP/1.0", "GET"],
)
async def test_body_arrives_as_sent(raw: bytes, body: bytes) -> None:
    application = BodyApplication()
    connection = connect(application)
    await connection.feed(raw)
    assert (application.body, application.result, connection.statuses()) == (body, "whole", [200])
    connection.loop.advance(BODY_WINDOW_S * 2)
    assert connection.statuses() == [200]


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(1, 40), min_size=1), is_chunked=st.booleans())
async def test_body_in_any_chunks_is_the_same(body: bytes, cuts: list[int], *, is_chunked: bool) -> None:
    if is_chunked:
        parts = [body[at : at + 7] for at in range(0, len(body), 7)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        raw = PUT + CHUNKED + b"\r\n" + framed
    else:
        raw = PUT + b"Content-Length: %d\r\n\r\n" % len(body) + body
    application = BodyApplication()
    connection = connect(application)
    for piece in _cut(raw, cuts):
        await connection.feed(piece)
    assert (application.body, application.result, connection.statuses()) == (body, "whole", [200])


def _cut(raw: bytes, lengths: Sequence[int]) -> list[bytes]:
    pieces = []
    for number in range(len(raw)):
        length = lengths[number % len(lengths)]
        pieces.append(raw[:length])
        raw = raw[length:]
    return [piece for piece in pieces if piece]


async def test_request_after_body_is_not_processed() -> None:
    application = BodyApplication()
    connection = connect(application)
    await connection.feed(PUT + b"Content-Length: 5\r\n\r\nhello" + get("/second"))
    assert (application.body, connection.statuses()) == (b"hello", [200])
    assert b"connection: close\r\n" in connection.transport.sent
    assert connection.transport.has_sent_end


async def test_body_of_pipelined_request_is_read_in_order() -> None:
    application = BodyApplication()
    connection = connect(application)
    await connection.feed(get() + PUT + b"Content-Length: 5\r\n\r\nhello")
    await connection.feed(b"")
    assert (application.parts, connection.statuses()) == ([b"", b"hello"], [200, 200])


async def test_100_continue_is_sent_when_body_is_read() -> None:
    application = BodyApplication(is_unlimited=False)
    connection = connect(application)
    await connection.feed(PUT + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert connection.statuses() == []
    application.permits.release()
    await connection.feed(b"")
    assert connection.transport.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    application.permits.release()
    await connection.feed(b"hello")
    assert connection.statuses() == [100, 200]


@pytest.mark.parametrize(
    "head",
    [
        b"PUT /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        PUT + b"Expect: 100-continue\r\nContent-Length: 6\r\n\r\n!",
        PUT + b"Expect: the-unexpected\r\nContent-Length: 5\r\n\r\n",
    ],
    ids=["HTTP/1.0", "a body that is sent at once", "something else"],
)
async def test_100_continue_is_not_sent_to_client_that_does_not_wait(head: bytes) -> None:
    application = BodyApplication()
    connection = connect(application)
    await connection.feed(head)
    await connection.feed(b"hello")
    assert connection.statuses() == [200]


async def test_100_continue_is_not_sent_without_body() -> None:
    connection = connect(BodyApplication())
    await connection.feed(PUT + b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n")
    assert connection.statuses() == [200]


async def test_body_with_upgrade_gets_400() -> None:
    """The application would read an empty body: the parser leaves the bytes to the new protocol."""
    application = BodyApplication()
    connection = connect(application)
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    await connection.feed(PUT + upgrade + b"Content-Length: 5\r\n\r\nhello")
    assert (application.parts, connection.statuses()) == ([], [400])


async def test_refused_body_is_neither_requested_nor_buffered() -> None:
    async def refusing(_: Scope, __: Receive, send: Send) -> None:
        await answer(send, b"too large", 413)

    connection = FakeConnection(refusing, takes_bodies=True)
    await connection.feed(PUT + b"Expect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n")
    assert connection.statuses() == [413]
    assert b"connection: close\r\n" in connection.transport.sent
    assert connection.transport.has_sent_end
    await connection.feed(b"x" * 1_000_000)
    assert len(connection.protocol.cycle.body) == 0
    connection.loop.advance(LINGER_S)
    assert connection.transport.ended == "closed"


async def test_body_reading_pauses_until_application_takes_it() -> None:
    application = BodyApplication(is_unlimited=False)
    connection = connect(application)
    await connection.feed(PUT + b"Content-Length: 1000000\r\n\r\n")
    fed = 0
    while not connection.transport.is_paused:
        await connection.feed(b"x" * 10_000)
        fed += 10_000
    assert fed == 70_000
    application.permits.release()
    await connection.feed(b"")
    assert len(application.body) == fed
    assert not connection.transport.is_paused


async def test_missing_body_gets_408() -> None:
    application = BodyApplication()
    connection = connect(application)
    await connection.feed(PUT + b"Content-Length: 100\r\n\r\nhello")
    connection.loop.advance(BODY_WINDOW_S - 0.1)
    await connection.feed(b"")
    assert application.result == ""
    connection.loop.advance(0.2)
    await connection.feed(b"")
    assert (application.result, connection.statuses()) == ("body-too-slow", [408])
    assert connection.transport.has_sent_end


@pytest.mark.parametrize(
    ("each_bytes", "ended"), [(BODY_PROGRESS_BYTES // 25, "body-too-slow"), (BODY_PROGRESS_BYTES // 20, "")]
)
async def test_body_below_progress_gets_408_above_is_accepted(each_bytes: int, ended: str) -> None:
    application = BodyApplication()
    connection = connect(application)
    await connection.feed(PUT + b"Content-Length: 10000000\r\n\r\n")
    for _ in range(100):
        connection.loop.advance(BODY_WINDOW_S / 22)
        await connection.feed(b"x" * each_bytes)
    assert application.result == ended


async def test_body_timeout_does_not_run_while_application_is_slow() -> None:
    application = BodyApplication(is_unlimited=False)
    connection = connect(application)
    await connection.feed(PUT + b"Content-Length: 6\r\n\r\nhello")
    for _ in range(5):
        connection.loop.advance(BODY_WINDOW_S)
        application.permits.release()
        await connection.feed(b"")
        connection.loop.advance(BODY_WINDOW_S / 6)
    application.permits.release()
    await connection.feed(b"!")
    assert (application.result, application.body) == ("whole", b"hello!")


async def test_lost_connection_during_body_sends_disconnect() -> None:
    application = BodyApplication()
    connection = connect(application)
    await connection.feed(PUT + b"Content-Length: 100\r\n\r\nhello")
    connection.protocol.connection_lost(None)
    await asyncio.gather(*connection.state.tasks)
    assert (application.result, application.body) == ("disconnect", b"hello")
    connection.loop.advance(BODY_WINDOW_S * 2)


BROKEN = {
    "a chunk of negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk of no size": b"\r\nhello\r\n0\r\n\r\n",
    "a chunk ended by a bare line feed": b"5\nhello\r\n0\r\n\r\n",
    "a chunk larger than it says": b"2\r\nhello\r\n0\r\n\r\n",
    "a chunk of 2^64 bytes": b"10000000000000000\r\nhello\r\n0\r\n\r\n",
    "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size in 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("is_read_first", [True, False])
async def test_ambiguous_chunked_body_raises_in_application(body: bytes, *, is_read_first: bool) -> None:
    application = BodyApplication()
    connection = connect(application)
    head = PUT + CHUNKED + b"\r\n"
    if is_read_first:
        await connection.feed(head)
        await connection.feed(body + get("/second"))
    else:
        await connection.feed(head + body + get("/second"))
    assert (application.result, connection.statuses()) == ("bad-request", [400])
    assert connection.transport.has_sent_end


def test_large_body_over_socket_arrives_in_chunks() -> None:
    async def scenario() -> None:
        application = BodyApplication()
        async with serving(application, takes_bodies=True) as served, served.viewer() as viewer:
            await viewer.send(PUT + b"Content-Length: 20000000\r\n\r\n")
            await viewer.send(b"x" * 20_000_000)
            status, headers, body = await viewer.response()
            assert (status, body, headers["connection"]) == (200, b"20000000", "close")
            assert await viewer.read_to_end() == b""
        assert max(map(len, application.parts)) < 1_000_000

    run(scenario())
