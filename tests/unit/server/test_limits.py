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
from tests.support.fake_connection import SETTINGS, Line
from tests.support.raw_http import Echo, answer, get

if TYPE_CHECKING:
    from galerly_cdn.http.request import Receive, Scope, Send

PARTIAL = b"GET /a HTTP/1.1\r\nHost: a\r\nX"


async def test_headers_that_do_not_come_end_the_connection_without_a_word() -> None:
    line = Line(Echo())
    line.clock.pass_s(9.9)
    assert not line.wire.has_sent_end
    line.clock.pass_s(0.2)
    assert line.wire.has_sent_end
    assert line.wire.sent == b""
    line.clock.pass_s(LINGER_S)
    assert line.wire.ended == "closed"


@pytest.mark.parametrize("dribble", [b"X-a: 1\r\n", b"a"], ids=["headers", "a header's bytes"])
async def test_headers_that_dribble_are_cut_off_at_the_deadline(dribble: bytes) -> None:
    line = Line(Echo())
    await line.feed(b"GET /a HTTP/1.1\r\nHost: a\r\n")
    for _ in range(9):
        line.clock.pass_s(1)
        await line.feed(dribble)
    assert line.statuses() == []
    line.clock.pass_s(1)
    assert line.statuses() == [408]
    assert line.refused == [("headers-too-slow", "192.0.2.1")]
    await line.feed(b"\r\n\r\n" + get())
    assert line.statuses() == [408]


async def test_empty_lines_do_not_keep_a_connection_alive() -> None:
    line = Line(Echo())
    await line.feed(get())
    for _ in range(10):
        line.clock.pass_s(1)
        await line.feed(b"\r\n")
    line.clock.pass_s(1)
    assert line.wire.has_sent_end


async def test_the_deadline_of_a_later_request_begins_with_its_first_byte() -> None:
    line = Line(Echo())
    await line.feed(get())
    line.clock.pass_s(50)
    await line.feed(PARTIAL)
    line.clock.pass_s(9.9)
    assert line.statuses() == [200]
    line.clock.pass_s(0.2)
    assert line.statuses() == [200, 408]


async def test_an_idle_connection_is_closed_after_idle_s() -> None:
    line = Line(Echo())
    await line.feed(get())
    line.clock.pass_s(59.9)
    assert not line.wire.has_sent_end
    line.clock.pass_s(0.2)
    assert line.wire.has_sent_end
    assert line.statuses() == [200]


async def test_an_answer_may_take_longer_than_any_deadline_of_reading() -> None:
    gate = asyncio.Event()

    async def slow(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await gate.wait()
        await answer(send, b"done")

    line = Line(slow)
    await line.feed(get())
    line.clock.pass_s(1000)
    gate.set()
    await line.feed(b"")
    assert line.statuses() == [200]
    assert not line.wire.has_sent_end


async def test_a_reader_who_takes_nothing_is_cut_off() -> None:
    line = Line(Echo())
    await line.feed(get())
    line.wire.unsent_bytes = 400_000
    line.connection.pause_writing()
    line.clock.pass_s(29.9)
    assert line.wire.ended == ""
    line.clock.pass_s(0.2)
    assert line.wire.ended == "aborted"


@pytest.mark.parametrize(
    ("taken_bytes", "ended"),
    [(PROGRESS_BYTES, ""), (PROGRESS_BYTES - 1, "aborted")],
    ids=["enough", "too little"],
)
async def test_a_slow_reader_is_served_as_long_as_there_is_progress(taken_bytes: int, ended: str) -> None:
    line = Line(Echo())
    await line.feed(get())
    line.wire.unsent_bytes = 10_000_000
    line.connection.pause_writing()
    for _ in range(20):
        line.wire.unsent_bytes -= taken_bytes
        line.clock.pass_s(30)
    assert line.wire.ended == ended


async def test_a_reader_who_takes_the_answer_in_time_keeps_the_connection() -> None:
    line = Line(Echo())
    await line.feed(get())
    line.wire.unsent_bytes = 400_000
    line.connection.pause_writing()
    line.wire.unsent_bytes = 0
    line.connection.resume_writing()
    line.clock.pass_s(31)
    assert not line.wire.has_sent_end
    await line.feed(get())
    assert line.statuses() == [200, 200]


async def test_an_answer_still_unread_when_the_connection_is_over_gets_the_write_deadline() -> None:
    line = Line(Echo())
    line.wire.unsent_bytes = 50_000
    await line.feed(get("/", "Connection: close"))
    line.clock.pass_s(LINGER_S + 29)
    assert line.wire.ended == ""
    line.wire.unsent_bytes = 0
    line.clock.pass_s(2)
    assert line.wire.ended == "closed"


async def test_a_connection_that_is_over_ends_also_when_its_last_answer_was_taken_late() -> None:
    line = Line(Echo())
    await line.feed(get("/", "Connection: close"))
    line.wire.unsent_bytes = 400_000
    line.connection.pause_writing()
    line.wire.unsent_bytes = 0
    line.connection.resume_writing()
    line.clock.pass_s(SETTINGS.write_deadline_s)
    assert line.wire.ended == "closed"


async def test_connections_beyond_the_cap_are_refused_and_those_within_are_not() -> None:
    two = Settings(max_connections=2)
    first = Line(Echo(), settings=two)
    second = Line(Echo(), first, two)
    third = Line(Echo(), first, two)
    assert third.statuses() == [503]
    assert b"retry-after: 1\r\n" in third.wire.sent
    assert third.wire.ended == "closed"
    third.connection.connection_lost(None)
    await second.feed(get())
    assert second.statuses() == [200]
    second.connection.connection_lost(None)
    assert Line(Echo(), first, two).statuses() == []


async def test_one_address_has_its_own_cap_and_loopback_none() -> None:
    one = Settings(max_connections_per_client=1)
    first = Line(Echo(), settings=one)
    second = Line(Echo(), first, one)
    assert second.refused == [("too-many-connections", "192.0.2.1")]
    assert Line(Echo(), first, one, address="192.0.2.2").refused == []
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        Line(Echo(), first, one, address=address)
        assert Line(Echo(), first, one, address=address).refused == []
    first.connection.connection_lost(None)
    second.connection.connection_lost(ConnectionResetError())
    assert "192.0.2.1" not in first.crowd._by_address
    assert Line(Echo(), first, one).refused == []


async def test_pipelined_requests_are_answered_in_order_up_to_a_bound() -> None:
    application = Echo()
    line = Line(application)
    await line.feed(b"".join(get(f"/{number}") for number in range(1000)))
    for _ in range(MAX_PIPELINED):
        await line.feed(b"")
    expected = [f"/{number}".encode() for number in range(MAX_PIPELINED + 1)]
    assert application.asked == expected
    assert line.statuses() == [200] * len(expected)
    assert line.wire.has_sent_end


async def test_headers_arriving_behind_an_answer_under_way_are_bounded_too() -> None:
    gate = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        await gate.wait()
        await answer(send, b"done")

    line = Line(slow)
    await line.feed(get() + PARTIAL)
    for _ in range(10):
        line.connection.data_received(b"a" * 5000)
    gate.set()
    await line.feed(b"")
    assert line.statuses() == [200]
    assert b"connection: close\r\n" in line.wire.sent
    assert line.wire.has_sent_end


async def test_a_body_is_neither_kept_nor_read_on() -> None:
    gate = asyncio.Event()
    received: list[object] = []

    async def slow(_: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await gate.wait()
        await answer(send, b"no", 405)

    line = Line(slow)
    await line.feed(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1000)
    assert received == [{"type": "http.request", "body": b"", "more_body": False}]
    await line.feed(b"x" * 100_000)
    assert line.wire.is_paused
    assert len(line.connection.cycle.body) == 0
    gate.set()
    await line.feed(b"")
    assert line.statuses() == [405]
    assert line.wire.has_sent_end
    assert not line.wire.is_paused  # what is still on its way is dropped: no reset over the answer
    await line.feed(b"x" * 100_000)
    line.clock.pass_s(LINGER_S)
    assert line.wire.ended == "closed"


async def test_a_client_that_has_gone_is_told_to_the_application_and_holds_nothing() -> None:
    told: list[object] = []

    async def patient(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        told.append((await receive())["type"])
        await answer(send, b"to nobody")

    line = Line(patient)
    await line.feed(get())
    line.connection.connection_lost(None)
    await asyncio.gather(*line.state.tasks)
    assert told == ["http.disconnect"]
    assert line.wire.sent == b""
    assert (len(line.state.connections), len(line.crowd)) == (0, 0)
    line.clock.pass_s(1000)


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
async def test_a_line_break_in_a_header_never_reaches_the_wire(
    header: tuple[bytes, bytes], *, sized: bool
) -> None:
    async def split(_: Scope, __: Receive, send: Send) -> None:
        length = [(b"content-length", b"0")] if sized else []
        await send({"type": "http.response.start", "status": 200, "headers": [*length, header]})
        await send({"type": "http.response.body", "body": b""})

    line = Line(split)
    await line.feed(get())
    assert line.statuses() == ([500] if sized else [])
    assert b"smuggled" not in line.wire.sent
    assert (line.wire.has_sent_end, line.wire.ended) == ((True, "") if sized else (False, "aborted"))


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([(b"content-length", b"2")], b"content-length: 2\r\n\r\nok"),
        ([], b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (
            [(b"content-length", b"2"), (b"connection", b"close")],
            b"content-length: 2\r\nconnection: close\r\n\r\nok",
        ),
    ],
)
async def test_an_answer_is_written_as_it_was_given(headers: list[tuple[bytes, bytes]], told: bytes) -> None:
    async def told_so(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    line = Line(told_so)
    await line.feed(get())
    assert line.wire.sent == b"HTTP/1.1 200 OK\r\n" + told
    assert line.wire.has_sent_end == (b"close" in told)


@pytest.mark.parametrize("started", [False, True], ids=["before", "within"])
async def test_an_error_of_the_application_is_a_500_without_its_text(
    caplog: pytest.LogCaptureFixture, *, started: bool
) -> None:
    async def broken(_: Scope, __: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise ValueError("secret")

    line = Line(broken)
    await line.feed(get())
    assert b"secret" not in line.wire.sent
    assert (line.wire.has_sent_end, line.wire.ended) == ((False, "aborted") if started else (True, ""))
    assert line.statuses() == ([200] if started else [500])
    if not started:
        body = json.loads(line.wire.sent.partition(b"\r\n\r\n")[2])
        assert body["error"]["code"] == "internal"
        assert line.refused == [("internal", "192.0.2.1")]
    assert "secret" in caplog.text  # the operator is told


async def test_at_a_stop_what_is_under_way_or_arriving_is_answered_and_the_rest_is_closed() -> None:
    gate = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        await gate.wait()
        await answer(send, b"done")

    idle = Line(Echo())
    await idle.feed(get())
    busy, fresh, arriving, silent = (Line(slow, idle) for _ in range(4))
    await busy.feed(get())
    await arriving.feed(PARTIAL)
    for line in (idle, busy, fresh, arriving, silent):
        line.connection.shutdown()
    assert [line.wire.has_sent_end for line in (idle, busy, fresh, arriving)] == [True, False, False, False]
    gate.set()
    await fresh.feed(get())
    await arriving.feed(b": 1\r\n\r\n")
    await busy.feed(b"")
    for line in (busy, fresh, arriving):
        assert line.statuses() == [200]
        assert b"connection: close\r\n" in line.wire.sent
        assert line.wire.has_sent_end
    line.clock.pass_s(LINGER_S)
    assert silent.wire.has_sent_end


STREAM = (
    get("/a?b", "X: 1")
    + b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    + get("/second")
)


@given(cuts=st.sets(st.integers(1, len(STREAM) - 1)))
async def test_a_request_is_read_the_same_however_it_is_cut(cuts: set[int]) -> None:
    application = Echo()
    line = Line(application)
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        line.connection.data_received(STREAM[start:end])
    await line.feed(b"")
    assert application.asked == [b"/a"]
    assert line.statuses() == [200]
    assert line.wire.has_sent_end


@given(
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
    excess=st.sampled_from([(b"GET /", b"a", MAX_URL_BYTES, 414), (PARTIAL, b"a", MAX_HEADER_BYTES, 431)]),
)
async def test_a_head_is_bounded_however_it_is_cut(
    cuts: list[int], excess: tuple[bytes, bytes, int, int]
) -> None:
    start, unit, bound_bytes, status = excess
    line = Line(Echo())
    line.connection.data_received(start)
    sent_bytes = 0
    for cut in itertools.cycle(cuts):
        if line.wire.has_sent_end:
            break
        line.connection.data_received(unit * cut)
        sent_bytes += cut
    assert line.statuses() == [status]
    assert bound_bytes - len(start) <= sent_bytes <= bound_bytes + MAX_URL_BYTES + max(cuts)


@given(
    size=st.integers(1, 40_000), length_bytes=st.integers(MAX_HEADER_BYTES - 2000, MAX_HEADER_BYTES + 2000)
)
async def test_a_whole_head_over_the_bound_is_refused_however_it_is_cut(size: int, length_bytes: int) -> None:
    application = Echo()
    line = Line(application)
    headers = b"Host: a\r\nX: \r\n"
    raw = b"GET /a HTTP/1.1\r\n" + headers[:-2] + b"a" * (length_bytes - len(headers)) + b"\r\n\r\n"
    for at in range(0, len(raw), size):
        line.connection.data_received(raw[at : at + size])
    await line.feed(b"")
    assert line.statuses() == [200 if length_bytes <= MAX_HEADER_BYTES else 431]
