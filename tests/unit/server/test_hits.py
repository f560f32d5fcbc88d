"""Tests that a plain hit is answered at once, and under the same limits as every other request."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.http.exchange import HitAnswer
from galerly_cdn.server.connection import MAX_PIPELINED
from galerly_cdn.server.transport import LINGER_S
from tests.support.fake_connection import FakeConnection
from tests.support.raw_http import Echo, answer, get, run, serving

if TYPE_CHECKING:
    from galerly_cdn.http.request import Receive, Scope, Send

HIT = HitAnswer(200, b"etag: x\r\n", b"body")


async def application(_: Scope, __: Receive, send: Send) -> None:
    """Answers what is no plain hit."""
    await answer(send, b"application", 404)


def hit(_: Scope) -> HitAnswer:
    """The answer to every request."""
    return HIT


async def test_hit_is_written_while_its_request_is_parsed() -> None:
    connection = FakeConnection(application, answer_hit=hit)
    connection.state.set_date(0)
    connection.protocol.data_received(get())
    assert (
        connection.transport.sent
        == b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\netag: x\r\n\r\nbody"
    )
    assert not connection.state.tasks


@pytest.mark.parametrize(
    "raw",
    [
        get("/", "Connection: close"),
        b"GET / HTTP/1.0\r\n\r\n",
        get("/", "Content-Length: 1") + b"x",
        get("/", "Connection: Upgrade", "Upgrade: h2c"),
    ],
    ids=["connection: close", "HTTP/1.0", "a body", "an upgrade"],
)
async def test_last_request_of_a_connection_is_no_plain_hit(raw: bytes) -> None:
    connection = FakeConnection(application, answer_hit=hit)
    await connection.feed(raw)
    assert connection.statuses() == [404]
    assert connection.transport.has_sent_end


async def test_hit_behind_another_request_waits_for_its_turn() -> None:
    may_respond = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        await may_respond.wait()
        await answer(send, b"done", 404)

    connection = FakeConnection(slow, answer_hit=lambda scope: HIT if scope["raw_path"] == b"/hit" else None)
    await connection.feed(get("/hit") + get("/slow") + get("/hit"))
    assert connection.statuses() == [200]
    may_respond.set()
    await connection.feed(b"")
    await connection.feed(get("/hit"))
    assert connection.statuses() == [200, 404, 404, 200]


async def test_client_that_has_not_read_gets_no_hit_at_once() -> None:
    connection = FakeConnection(application, answer_hit=hit)
    connection.protocol.pause_writing()
    await connection.feed(get())
    assert connection.statuses() == []
    connection.protocol.resume_writing()
    await connection.feed(b"")
    await connection.feed(get())
    assert connection.statuses() == [404, 200]


async def test_pipelined_hits_are_answered_in_order_up_to_maximum() -> None:
    echo = Echo()
    connection = FakeConnection(echo, answer_hit=echo.answer_hit)
    await connection.feed(b"".join(get(f"/{number}") for number in range(1000)))
    for _ in range(MAX_PIPELINED):
        await connection.feed(b"")
    expected = [f"/{number}".encode() for number in range(2 * MAX_PIPELINED + 1)]
    assert echo.raw_paths == expected
    assert connection.statuses() == [200] * len(expected)
    assert connection.transport.has_sent_end


async def test_connection_is_idle_after_a_hit() -> None:
    connection = FakeConnection(application, answer_hit=hit)
    await connection.feed(get())
    connection.loop.advance(59.9)
    assert not connection.transport.has_sent_end
    connection.loop.advance(0.2)
    assert connection.transport.has_sent_end
    assert connection.statuses() == [200]


async def test_idle_time_starts_again_with_each_hit() -> None:
    connection = FakeConnection(application, answer_hit=hit)
    for _ in range(3):
        await connection.feed(get())
        connection.loop.advance(59.9)
    assert not connection.transport.has_sent_end
    assert connection.statuses() == [200] * 3


async def test_partial_request_behind_a_hit_has_the_header_deadline() -> None:
    connection = FakeConnection(application, answer_hit=hit)
    await connection.feed(get() + b"GET / HTTP/1.1\r\nHost: a\r\n")
    connection.loop.advance(10.1)
    assert connection.statuses() == [200, 408]


async def test_refused_request_behind_a_hit_has_its_own_response() -> None:
    connection = FakeConnection(application, answer_hit=hit)
    await connection.feed(get() + b"nonsense\r\n\r\n" + get())
    assert connection.statuses() == [200, 400]
    assert connection.transport.has_sent_end


async def test_shutdown_closes_a_connection_after_its_hit() -> None:
    connection = FakeConnection(application, answer_hit=hit)
    arriving = FakeConnection(application, connection, answer_hit=hit)
    await connection.feed(get())
    await arriving.feed(get() + b"GET / HT")
    for one in (connection, arriving):
        one.state.shutdown()
    assert [one.transport.has_sent_end for one in (connection, arriving)] == [True, False]
    await arriving.feed(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert arriving.statuses() == [200, 404]
    assert b"connection: close\r\n" in arriving.transport.sent
    connection.loop.advance(LINGER_S)
    assert connection.transport.ended == "closed"


def test_large_pipelined_hits_are_received_completely() -> None:
    body = b"x" * 16_000_000
    large = HitAnswer(200, b"content-length: 16000000\r\n", body)

    async def scenario() -> None:
        async with serving(Echo(), answer_hit=lambda _: large) as served, served.viewer() as viewer:
            await viewer.send(get() * 3)
            responses = [await viewer.response() for _ in range(3)]
            assert responses[0][2] == body
            # The first one fills the socket: the others wait until the client has read it
            assert [json.loads(one[2])["raw_path"] for one in responses[1:] if one[2] != body] != []

    run(scenario())
