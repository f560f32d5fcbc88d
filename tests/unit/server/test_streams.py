"""An answer that is sent as it is read: in step with its viewer, whole or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import Disconnected
from tests.support.fake_connection import SETTINGS, Line
from tests.support.raw_http import get

if TYPE_CHECKING:
    from galerly_cdn.http.request import Receive, Scope, Send

CHUNK = b"x" * 100_000


class Streaming:
    """An application that sends ten chunks; how many it has sent, and what ended it."""

    def __init__(self, promised: int = 10) -> None:
        self.promised = promised
        self.sent = 0
        self.ended: BaseException | None = None

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        length = (b"content-length", b"%d" % (len(CHUNK) * self.promised))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        try:
            for _number in range(10):
                await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
                self.sent += 1
        except Disconnected as error:
            self.ended = error
            raise
        if self.promised == 10:
            await send({"type": "http.response.body", "body": b""})


class Slow(Line):
    """A line whose viewer takes nothing until told."""

    async def begin(self) -> None:
        def full(data: bytes | bytearray | memoryview) -> None:
            self.wire.sent += data
            self.wire.unsent_bytes += len(data)
            if self.wire.unsent_bytes > 64 * 1024:
                self.connection.pause_writing()

        self.connection.outlet.write = full
        await self.feed(get())

    async def take(self) -> None:
        self.wire.unsent_bytes = 0
        self.connection.resume_writing()
        await self.feed(b"")


async def test_a_slow_reader_holds_one_chunk() -> None:
    application = Streaming()
    line = Slow(application)
    await line.begin()
    for number in range(1, 11):
        assert line.wire.sent.count(b"x" * 100_000) == number
        assert application.sent == number - 1  # the next is not asked for before this one is taken
        await line.take()
    assert application.sent == 10
    assert line.wire.sent.endswith(b"\r\n\r\n" + CHUNK * 10)
    await line.feed(get())
    assert line.statuses() == [200, 200]


async def test_a_reader_who_takes_nothing_of_a_stream_is_cut_off_and_the_reading_ends() -> None:
    application = Streaming()
    line = Slow(application)
    await line.begin()
    line.clock.pass_s(SETTINGS.write_deadline_s - 1)
    assert line.wire.ended == ""
    line.clock.pass_s(2)
    assert line.wire.ended == "aborted"
    line.connection.connection_lost(None)
    await asyncio.gather(*line.state.tasks)
    assert (application.sent, type(application.ended)) == (0, Disconnected)


async def test_the_write_deadline_starts_anew_with_every_chunk() -> None:
    line = Slow(Streaming())
    await line.begin()
    for _ in range(10):
        line.clock.pass_s(SETTINGS.write_deadline_s - 1)
        await line.take()
    assert line.wire.ended == ""
    assert line.wire.sent.endswith(CHUNK * 10)


async def test_a_stream_behind_another_answer_ends_when_the_viewer_leaves() -> None:
    """The request last read is another one: it is not the one that has to notice."""
    application = Streaming()
    line = Slow(application)
    await line.begin()
    await line.feed(get("/second"))
    line.connection.connection_lost(None)
    await asyncio.gather(*line.state.tasks)
    assert (application.sent, type(application.ended)) == (0, Disconnected)


@pytest.mark.parametrize("promised", [11, 9], ids=["too little", "too much"])
async def test_an_answer_of_another_length_than_promised_is_no_answer(promised: int) -> None:
    line = Line(Streaming(promised))
    await line.feed(get())
    assert line.wire.ended == "aborted"
    assert not line.wire.has_sent_end
