"""Tests of deadlines, size limits and connection limits, over a fake transport and clock."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.server.connection import MAX_HEADER_BYTES, MAX_PIPELINED, MAX_URL_BYTES
from galerly_cdn.server.transport import LINGER_S, PROGRESS_BYTES
from galerly_cdn.settings.table import Settings
from tests.support.fake_connection import SETTINGS, FakeConnection
from tests.support.raw_http import Echo, answer, get

if TYPE_CHECKING:
    from galerly_cdn.http.request import Receive, Scope, Send

PARTIAL = b"GET /a HTTP/1.1\r\nHost: a\r\nX"


async def test_silent_connection_is_closed_without_response() -> None:
    connection = FakeConnection(Echo())
    connection.loop.advance(9.9)
    assert not connection.transport.has_sent_end
    connection.loop.advance(0.2)
    assert connection.transport.has_sent_end
    assert connection.transport.sent == b""
    connection.loop.advance(LINGER_S)
    assert connection.transport.ended == "closed"


@pytest.mark.parametrize("part", [b"X-a: 1\r\n", b"a"], ids=["headers", "a header's bytes"])
async def test_slow_headers_get_408_at_deadline(part: bytes) -> None:
    connection = FakeConnection(Echo())
    await connection.feed(b"GET /a HTTP/1.1\r\nHost: a\r\n")
    for _ in range(9):
        connection.loop.advance(1)
        await connection.feed(part)
    assert connection.statuses() == []
    connection.loop.advance(1)
    assert connection.statuses() == [408]
    assert connection.errors == [("headers-too-slow", "192.0.2.1")]
    await connection.feed(b"\r\n\r\n" + get())
    assert connection.statuses() == [408]


HEAD_REFUSALS = [
    pytest.param(b"HEAD /" + b"a" * MAX_URL_BYTES, 414, id="long URL"),
    pytest.param(b"HEAD /a HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431, id="long header"),
    pytest.param(b"HEAD /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
    pytest.param(b"HEAD /a HTTP/1.1\r\nHost : a\r\n\r\n", 400, id="malformed header"),
    pytest.param(b"HEAD /a HTTP/1.1\r\nHost: a\r\n", 408, id="slow headers"),
]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(("raw", "status"), HEAD_REFUSALS)
async def test_refused_head_request_has_no_body(raw: bytes, status: int, *, is_first: bool) -> None:
    connection = FakeConnection(Echo())
    if not is_first:
        await connection.feed(get())
    before = len(connection.transport.sent)
    await connection.feed(raw)
    connection.loop.advance(10.1)
    refusal = connection.transport.sent[before:]
    assert refusal.startswith(b"HTTP/1.1 %d " % status)
    assert refusal.endswith(b"\r\n\r\n")


async def test_get_request_refused_after_a_head_request_has_a_body() -> None:
    connection = FakeConnection(Echo())
    await connection.feed(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n")
    await connection.feed(b"GE")
    connection.loop.advance(10.1)
    assert connection.statuses() == [200, 408]
    assert connection.transport.sent.endswith(b"}}\n")


async def test_empty_lines_do_not_extend_deadline() -> None:
    connection = FakeConnection(Echo())
    await connection.feed(get())
    for _ in range(10):
        connection.loop.advance(1)
        await connection.feed(b"\r\n")
    connection.loop.advance(1)
    assert connection.transport.has_sent_end


async def test_header_deadline_of_later_request_starts_at_first_byte() -> None:
    connection = FakeConnection(Echo())
    await connection.feed(get())
    connection.loop.advance(50)
    await connection.feed(PARTIAL)
    connection.loop.advance(9.9)
    assert connection.statuses() == [200]
    connection.loop.advance(0.2)
    assert connection.statuses() == [200, 408]


async def test_idle_connection_is_closed_after_idle_s() -> None:
    connection = FakeConnection(Echo())
    await connection.feed(get())
    connection.loop.advance(59.9)
    assert not connection.transport.has_sent_end
    connection.loop.advance(0.2)
    assert connection.transport.has_sent_end
    assert connection.statuses() == [200]


async def test_slow_response_is_not_bound_by_read_deadlines() -> None:
    may_respond = asyncio.Event()

    async def slow(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await may_respond.wait()
        await answer(send, b"done")

    connection = FakeConnection(slow)
    await connection.feed(get())
    connection.loop.advance(1000)
    may_respond.set()
    await connection.feed(b"")
    assert connection.statuses() == [200]
    assert not connection.transport.has_sent_end


async def test_client_reading_nothing_is_aborted_at_write_deadline() -> None:
    connection = FakeConnection(Echo())
    await connection.feed(get())
    connection.transport.unsent_bytes = 400_000
    connection.protocol.pause_writing()
    connection.loop.advance(29.9)
    assert connection.transport.ended == ""
    connection.loop.advance(0.2)
    assert connection.transport.ended == "aborted"


@pytest.mark.parametrize(
    ("taken_bytes", "ended"),
    [(PROGRESS_BYTES, ""), (PROGRESS_BYTES - 1, "aborted")],
    ids=["enough", "too little"],
)
async def test_slow_client_is_served_while_it_makes_progress(taken_bytes: int, ended: str) -> None:
    connection = FakeConnection(Echo())
    await connection.feed(get())
    connection.transport.unsent_bytes = 10_000_000
    connection.protocol.pause_writing()
    for _ in range(20):
        connection.transport.unsent_bytes -= taken_bytes
        connection.loop.advance(30)
    assert connection.transport.ended == ended


async def test_client_reading_in_time_keeps_connection() -> None:
    connection = FakeConnection(Echo())
    await connection.feed(get())
    connection.transport.unsent_bytes = 400_000
    connection.protocol.pause_writing()
    connection.transport.unsent_bytes = 0
    connection.protocol.resume_writing()
    connection.loop.advance(31)
    assert not connection.transport.has_sent_end
    await connection.feed(get())
    assert connection.statuses() == [200, 200]


async def test_closed_connection_with_unread_response_gets_write_deadline() -> None:
    connection = FakeConnection(Echo())
    connection.transport.unsent_bytes = 50_000
    await connection.feed(get("/", "Connection: close"))
    connection.loop.advance(LINGER_S + 29)
    assert connection.transport.ended == ""
    connection.transport.unsent_bytes = 0
    connection.loop.advance(2)
    assert connection.transport.ended == "closed"


async def test_closed_connection_ends_after_late_read() -> None:
    connection = FakeConnection(Echo())
    await connection.feed(get("/", "Connection: close"))
    connection.transport.unsent_bytes = 400_000
    connection.protocol.pause_writing()
    connection.transport.unsent_bytes = 0
    connection.protocol.resume_writing()
    connection.loop.advance(SETTINGS.write_deadline_s)
    assert connection.transport.ended == "closed"


async def test_connections_above_max_connections_get_503() -> None:
    two = Settings(max_connections=2)
    first = FakeConnection(Echo(), settings=two)
    second = FakeConnection(Echo(), first, two)
    third = FakeConnection(Echo(), first, two)
    assert third.statuses() == [503]
    assert b"retry-after: 1\r\n" in third.transport.sent
    assert third.transport.ended == "closed"
    third.protocol.connection_lost(None)
    await second.feed(get())
    assert second.statuses() == [200]
    second.protocol.connection_lost(None)
    assert FakeConnection(Echo(), first, two).statuses() == []


async def test_max_connections_per_client_does_not_bind_loopback() -> None:
    one = Settings(max_connections_per_client=1)
    first = FakeConnection(Echo(), settings=one)
    second = FakeConnection(Echo(), first, one)
    assert second.errors == [("too-many-connections", "192.0.2.1")]
    assert FakeConnection(Echo(), first, one, address="192.0.2.2").errors == []
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        FakeConnection(Echo(), first, one, address=address)
        assert FakeConnection(Echo(), first, one, address=address).errors == []
    first.protocol.connection_lost(None)
    second.protocol.connection_lost(ConnectionResetError())
    assert "192.0.2.1" not in first.limit._count_by_address
    assert FakeConnection(Echo(), first, one).errors == []


async def test_pipelined_requests_are_served_in_order_up_to_maximum() -> None:
    application = Echo()
    connection = FakeConnection(application)
    await connection.feed(b"".join(get(f"/{number}") for number in range(1000)))
    for _ in range(MAX_PIPELINED):
        await connection.feed(b"")
    expected = [f"/{number}".encode() for number in range(MAX_PIPELINED + 1)]
    assert application.raw_paths == expected
    assert connection.statuses() == [200] * len(expected)
    assert connection.transport.has_sent_end


async def test_pipelined_headers_are_bounded() -> None:
    may_respond = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        await may_respond.wait()
        await answer(send, b"done")

    connection = FakeConnection(slow)
    await connection.feed(get() + PARTIAL)
    for _ in range(10):
        connection.protocol.data_received(b"a" * 5000)
    may_respond.set()
    await connection.feed(b"")
    assert connection.statuses() == [200]
    assert b"connection: close\r\n" in connection.transport.sent
    assert connection.transport.has_sent_end


async def test_untaken_body_is_neither_buffered_nor_read() -> None:
    may_respond = asyncio.Event()
    received: list[object] = []

    async def slow(_: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await may_respond.wait()
        await answer(send, b"no", 405)

    connection = FakeConnection(slow)
    await connection.feed(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1000)
    assert received == [{"type": "http.request", "body": b"", "more_body": False}]
    await connection.feed(b"x" * 100_000)
    assert connection.transport.is_paused
    assert len(connection.protocol.cycle.body) == 0
    may_respond.set()
    await connection.feed(b"")
    assert connection.statuses() == [405]
    assert connection.transport.has_sent_end
    assert not connection.transport.is_paused  # reads on, so that no reset cuts the response off
    await connection.feed(b"x" * 100_000)
    connection.loop.advance(LINGER_S)
    assert connection.transport.ended == "closed"


async def test_lost_connection_sends_disconnect_and_releases_everything() -> None:
    messages: list[object] = []

    async def waiting(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        messages.append((await receive())["type"])
        await answer(send, b"unread")

    connection = FakeConnection(waiting)
    await connection.feed(get())
    connection.protocol.connection_lost(None)
    await asyncio.gather(*connection.state.tasks)
    assert messages == ["http.disconnect"]
    assert connection.transport.sent == b""
    assert (len(connection.state.connections), len(connection.limit)) == (0, 0)
    connection.loop.advance(1000)


@pytest.mark.parametrize(
    "header",
    [
        (b"etag", b"a\r\nsmuggled: b"),
        (b"etag", b"a\nsmuggled"),
        (b"etag", b"a\rsmuggled"),
        (b"a: b\r\nsmuggled", b"c"),
    ],
)
@pytest.mark.parametrize("sized", [True, False], ids=["length", "chunked"])
async def test_response_header_with_line_break_is_not_sent(
    header: tuple[bytes, bytes], *, sized: bool
) -> None:
    async def split(_: Scope, __: Receive, send: Send) -> None:
        length = [(b"content-length", b"0")] if sized else []
        await send({"type": "http.response.start", "status": 200, "headers": [*length, header]})
        await send({"type": "http.response.body", "body": b""})

    connection = FakeConnection(split)
    await connection.feed(get())
    assert connection.statuses() == [500]
    assert b"smuggled" not in connection.transport.sent
    assert (connection.transport.has_sent_end, connection.transport.ended) == (True, "")


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ([(b"content-length", b"2")], b"content-length: 2\r\n\r\nok"),
        ([], b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (
            [(b"content-length", b"2"), (b"connection", b"close")],
            b"content-length: 2\r\nconnection: close\r\n\r\nok",
        ),
    ],
)
async def test_response_is_sent_as_given(headers: list[tuple[bytes, bytes]], sent: bytes) -> None:
    async def application(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    connection = FakeConnection(application)
    await connection.feed(get())
    assert connection.transport.sent == b"HTTP/1.1 200 OK\r\n" + sent
    assert connection.transport.has_sent_end == (b"close" in sent)


@pytest.mark.parametrize("started", [False, True], ids=["before", "within"])
async def test_application_error_gives_500_without_its_text(
    caplog: pytest.LogCaptureFixture, *, started: bool
) -> None:
    async def broken(_: Scope, __: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise ValueError("secret")

    connection = FakeConnection(broken)
    await connection.feed(get())
    assert b"secret" not in connection.transport.sent
    assert (connection.transport.has_sent_end, connection.transport.ended) == (
        (False, "aborted") if started else (True, "")
    )
    assert connection.statuses() == ([200] if started else [500])
    if not started:
        body = json.loads(connection.transport.sent.partition(b"\r\n\r\n")[2])
        assert body["error"]["code"] == "internal"
        assert connection.errors == [("internal", "192.0.2.1")]
    assert "secret" in caplog.text  # the log has it


async def test_shutdown_serves_current_requests_and_closes_idle_connections() -> None:
    may_respond = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        await may_respond.wait()
        await answer(send, b"done")

    idle = FakeConnection(Echo())
    await idle.feed(get())
    busy, fresh, arriving, silent = (FakeConnection(slow, idle) for _ in range(4))
    await busy.feed(get())
    await arriving.feed(PARTIAL)
    for connection in (idle, busy, fresh, arriving, silent):
        connection.state.shutdown()
    assert [connection.transport.has_sent_end for connection in (idle, busy, fresh, arriving)] == [
        True,
        False,
        False,
        False,
    ]
    may_respond.set()
    await fresh.feed(get())
    await arriving.feed(b": 1\r\n\r\n")
    await busy.feed(b"")
    for connection in (busy, fresh, arriving):
        assert connection.statuses() == [200]
        assert b"connection: close\r\n" in connection.transport.sent
        assert connection.transport.has_sent_end
    connection.loop.advance(LINGER_S)
    assert silent.transport.has_sent_end


STREAM = (
    get("/a?b", "X: 1")
    + b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    + get("/second")
)


@given(cuts=st.sets(st.integers(1, len(STREAM) - 1)))
async def test_request_in_any_chunks_is_parsed_the_same(cuts: set[int]) -> None:
    application = Echo()
    connection = FakeConnection(application)
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        connection.protocol.data_received(STREAM[start:end])
    await connection.feed(b"")
    assert application.raw_paths == [b"/a"]
    assert connection.statuses() == [200]
    assert connection.transport.has_sent_end


@given(
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
    excess=st.sampled_from([(b"GET /", b"a", MAX_URL_BYTES, 414), (PARTIAL, b"a", MAX_HEADER_BYTES, 431)]),
)
async def test_head_in_any_chunks_is_bounded(cuts: list[int], excess: tuple[bytes, bytes, int, int]) -> None:
    start, unit, bound_bytes, status = excess
    connection = FakeConnection(Echo())
    connection.protocol.data_received(start)
    sent_bytes = 0
    for cut in itertools.cycle(cuts):
        if connection.transport.has_sent_end:
            break
        connection.protocol.data_received(unit * cut)
        sent_bytes += cut
    assert connection.statuses() == [status]
    assert bound_bytes - len(start) <= sent_bytes <= bound_bytes + MAX_URL_BYTES + max(cuts)


@given(
    size=st.integers(1, 40_000), length_bytes=st.integers(MAX_HEADER_BYTES - 2000, MAX_HEADER_BYTES + 2000)
)
async def test_complete_head_above_maximum_gets_431(size: int, length_bytes: int) -> None:
    application = Echo()
    connection = FakeConnection(application)
    headers = b"Host: a\r\nX: \r\n"
    raw = b"GET /a HTTP/1.1\r\n" + headers[:-2] + b"a" * (length_bytes - len(headers)) + b"\r\n\r\n"
    for at in range(0, len(raw), size):
        connection.protocol.data_received(raw[at : at + size])
    await connection.feed(b"")
    assert connection.statuses() == [200 if length_bytes <= MAX_HEADER_BYTES else 431]
