"""What a listener that takes bodies hands over, what it waits for, and what it refuses to swallow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import GalerlyError
from galerly_cdn.server.body_timeout import PROGRESS_BYTES, WINDOW_S
from galerly_cdn.server.transport import LINGER_S
from tests.support.fake_connection import Line
from tests.support.raw_http import answer, get, run, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galerly_cdn.http.request import Receive, Scope, Send

PUT = b"PUT /a HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Taking:
    """An application that takes bodies, part by part as it is let, and answers with their length."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.parts: list[bytes] = []
        self.ended = ""
        self.turns = asyncio.Semaphore(1_000_000 if is_open else 0)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        try:
            while True:
                await self.turns.acquire()
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.ended = "disconnect"
                    return
                self.parts.append(message["body"])
                if not message["more_body"]:
                    break
        except GalerlyError as error:
            self.ended = error.code
            await answer(send, error.code.encode(), error.status)
            return
        self.ended = "whole"
        await answer(send, b"%d" % len(self.body))


def taking(application: Taking) -> Line:
    return Line(application, takes_bodies=True)


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
async def test_a_body_arrives_as_it_was_sent(raw: bytes, body: bytes) -> None:
    application = Taking()
    line = taking(application)
    await line.feed(raw)
    assert (application.body, application.ended, line.statuses()) == (body, "whole", [200])
    line.clock.pass_s(WINDOW_S * 2)
    assert line.statuses() == [200]


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(1, 40), min_size=1), is_chunked=st.booleans())
async def test_a_body_is_the_same_however_it_is_cut(
    body: bytes, cuts: list[int], *, is_chunked: bool
) -> None:
    if is_chunked:
        parts = [body[at : at + 7] for at in range(0, len(body), 7)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        raw = PUT + CHUNKED + b"\r\n" + framed
    else:
        raw = PUT + b"Content-Length: %d\r\n\r\n" % len(body) + body
    application = Taking()
    line = taking(application)
    for piece in _cut(raw, cuts):
        await line.feed(piece)
    assert (application.body, application.ended, line.statuses()) == (body, "whole", [200])


def _cut(raw: bytes, lengths: Sequence[int]) -> list[bytes]:
    pieces = []
    for number in range(len(raw)):
        length = lengths[number % len(lengths)]
        pieces.append(raw[:length])
        raw = raw[length:]
    return [piece for piece in pieces if piece]


async def test_a_request_behind_a_body_is_never_answered() -> None:
    application = Taking()
    line = taking(application)
    await line.feed(PUT + b"Content-Length: 5\r\n\r\nhello" + get("/second"))
    assert (application.body, line.statuses()) == (b"hello", [200])
    assert b"connection: close\r\n" in line.wire.sent
    assert line.wire.has_sent_end


async def test_a_body_behind_another_request_waits_its_turn() -> None:
    application = Taking()
    line = taking(application)
    await line.feed(get() + PUT + b"Content-Length: 5\r\n\r\nhello")
    await line.feed(b"")
    assert (application.parts, line.statuses()) == ([b"", b"hello"], [200, 200])


async def test_a_body_is_invited_when_it_is_read_and_not_before() -> None:
    application = Taking(is_open=False)
    line = taking(application)
    await line.feed(PUT + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert line.statuses() == []
    application.turns.release()
    await line.feed(b"")
    assert line.wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    application.turns.release()
    await line.feed(b"hello")
    assert line.statuses() == [100, 200]


@pytest.mark.parametrize(
    "head",
    [
        b"PUT /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        PUT + b"Expect: 100-continue\r\nContent-Length: 6\r\n\r\n!",
        PUT + b"Expect: the-unexpected\r\nContent-Length: 5\r\n\r\n",
    ],
    ids=["HTTP/1.0", "a body on its way", "something else"],
)
async def test_what_waits_for_no_invitation_gets_none(head: bytes) -> None:
    application = Taking()
    line = taking(application)
    await line.feed(head)
    await line.feed(b"hello")
    assert line.statuses() == [200]


async def test_what_has_no_body_is_not_invited_to_send_one() -> None:
    line = taking(Taking())
    await line.feed(PUT + b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n")
    assert line.statuses() == [200]


async def test_a_body_with_an_upgrade_is_refused() -> None:
    """Its reader would be told of an empty one: to the parser the bytes are another protocol's."""
    application = Taking()
    line = taking(application)
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    await line.feed(PUT + upgrade + b"Content-Length: 5\r\n\r\nhello")
    assert (application.parts, line.statuses()) == ([], [400])


async def test_a_body_that_is_refused_is_neither_invited_nor_swallowed() -> None:
    async def refusing(_: Scope, __: Receive, send: Send) -> None:
        await answer(send, b"too large", 413)

    line = Line(refusing, takes_bodies=True)
    await line.feed(PUT + b"Expect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n")
    assert line.statuses() == [413]
    assert b"connection: close\r\n" in line.wire.sent
    assert line.wire.has_sent_end
    await line.feed(b"x" * 1_000_000)
    assert len(line.connection.cycle.body) == 0
    line.clock.pass_s(LINGER_S)
    assert line.wire.ended == "closed"


async def test_no_more_of_a_body_is_read_than_the_application_takes() -> None:
    application = Taking(is_open=False)
    line = taking(application)
    await line.feed(PUT + b"Content-Length: 1000000\r\n\r\n")
    fed = 0
    while not line.wire.is_paused:
        await line.feed(b"x" * 10_000)
        fed += 10_000
    assert fed == 70_000
    application.turns.release()
    await line.feed(b"")
    assert len(application.body) == fed
    assert not line.wire.is_paused


async def test_a_body_that_stays_away_is_given_up() -> None:
    application = Taking()
    line = taking(application)
    await line.feed(PUT + b"Content-Length: 100\r\n\r\nhello")
    line.clock.pass_s(WINDOW_S - 0.1)
    await line.feed(b"")
    assert application.ended == ""
    line.clock.pass_s(0.2)
    await line.feed(b"")
    assert (application.ended, line.statuses()) == ("body-too-slow", [408])
    assert line.wire.has_sent_end


@pytest.mark.parametrize(
    ("each_bytes", "ended"), [(PROGRESS_BYTES // 25, "body-too-slow"), (PROGRESS_BYTES // 20, "")]
)
async def test_a_body_that_dribbles_is_given_up_and_one_that_is_slow_is_not(
    each_bytes: int, ended: str
) -> None:
    application = Taking()
    line = taking(application)
    await line.feed(PUT + b"Content-Length: 10000000\r\n\r\n")
    for _ in range(100):
        line.clock.pass_s(WINDOW_S / 22)
        await line.feed(b"x" * each_bytes)
    assert application.ended == ended


async def test_an_application_that_is_slow_to_take_it_is_not_held_against_the_client() -> None:
    application = Taking(is_open=False)
    line = taking(application)
    await line.feed(PUT + b"Content-Length: 6\r\n\r\nhello")
    for _ in range(5):
        line.clock.pass_s(WINDOW_S)
        application.turns.release()
        await line.feed(b"")
        line.clock.pass_s(WINDOW_S / 6)
    application.turns.release()
    await line.feed(b"!")
    assert (application.ended, application.body) == ("whole", b"hello!")


async def test_a_client_that_leaves_midway_is_told_to_the_application() -> None:
    application = Taking()
    line = taking(application)
    await line.feed(PUT + b"Content-Length: 100\r\n\r\nhello")
    line.connection.connection_lost(None)
    await asyncio.gather(*line.state.tasks)
    assert (application.ended, application.body) == ("disconnect", b"hello")
    line.clock.pass_s(WINDOW_S * 2)


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
async def test_a_body_that_can_be_read_in_two_ways_is_refused_by_who_reads_it(
    body: bytes, *, is_read_first: bool
) -> None:
    application = Taking()
    line = taking(application)
    head = PUT + CHUNKED + b"\r\n"
    if is_read_first:
        await line.feed(head)
        await line.feed(body + get("/second"))
    else:
        await line.feed(head + body + get("/second"))
    assert (application.ended, line.statuses()) == ("bad-request", [400])
    assert line.wire.has_sent_end


def test_a_large_body_goes_through_a_real_connection() -> None:
    async def scenario() -> None:
        application = Taking()
        async with serving(application, takes_bodies=True) as served, served.viewer() as viewer:
            await viewer.send(PUT + b"Content-Length: 20000000\r\n\r\n")
            await viewer.send(b"x" * 20_000_000)
            status, headers, body = await viewer.response()
            assert (status, body, headers["connection"]) == (200, b"20000000", "close")
            assert await viewer.rest() == b""
        assert max(map(len, application.parts)) < 1_000_000

    run(scenario())
