"""Tests of streamed responses: flow control, write deadlines and aborts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import Disconnected
from tests.support.fake_connection import SETTINGS, FakeConnection
from tests.support.raw_http import get

if TYPE_CHECKING:
    from galerly_cdn.http.request import Receive, Scope, Send

CHUNK = b"x" * 100_000


class Streaming:
    """An application that sends ten chunks; it records how many it sent, and the error that ended it.

    `announced` is its Content-Length in chunks.
    """

    def __init__(self, announced: int = 10) -> None:
        self.announced = announced
        self.sent = 0
        self.error: BaseException | None = None

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        length = (b"content-length", b"%d" % (len(CHUNK) * self.announced))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        try:
            for _number in range(10):
                await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
                self.sent += 1
        except Disconnected as error:
            self.error = error
            raise
        if self.announced == 10:
            await send({"type": "http.response.body", "body": b""})


class SlowConnection(FakeConnection):
    """A connection whose client reads nothing until `read_all`."""

    async def start(self) -> None:
        def write(data: bytes | bytearray | memoryview) -> None:
            self.transport.sent += data
            self.transport.unsent_bytes += len(data)
            if self.transport.unsent_bytes > 64 * 1024:
                self.protocol.pause_writing()

        self.protocol.transport.write = write
        await self.feed(get())

    async def read_all(self) -> None:
        self.transport.unsent_bytes = 0
        self.protocol.resume_writing()
        await self.feed(b"")


async def test_slow_client_holds_one_chunk() -> None:
    application = Streaming()
    connection = SlowConnection(application)
    await connection.start()
    for number in range(1, 11):
        assert connection.transport.sent.count(b"x" * 100_000) == number
        assert application.sent == number - 1  # `send` returns after the client has read the chunk
        await connection.read_all()
    assert application.sent == 10
    assert connection.transport.sent.endswith(b"\r\n\r\n" + CHUNK * 10)
    await connection.feed(get())
    assert connection.statuses() == [200, 200]


async def test_stream_to_client_reading_nothing_is_aborted() -> None:
    application = Streaming()
    connection = SlowConnection(application)
    await connection.start()
    connection.loop.advance(SETTINGS.write_deadline_s - 1)
    assert connection.transport.ended == ""
    connection.loop.advance(2)
    assert connection.transport.ended == "aborted"
    connection.protocol.connection_lost(None)
    await asyncio.gather(*connection.state.tasks)
    assert (application.sent, type(application.error)) == (0, Disconnected)


async def test_write_deadline_restarts_with_every_chunk() -> None:
    connection = SlowConnection(Streaming())
    await connection.start()
    for _ in range(10):
        connection.loop.advance(SETTINGS.write_deadline_s - 1)
        await connection.read_all()
    assert connection.transport.ended == ""
    assert connection.transport.sent.endswith(CHUNK * 10)


async def test_stream_ends_when_connection_with_pipelined_request_is_lost() -> None:
    """The connection's current cycle is that of the later request; the earlier one must notice the loss."""
    application = Streaming()
    connection = SlowConnection(application)
    await connection.start()
    await connection.feed(get("/second"))
    connection.protocol.connection_lost(None)
    await asyncio.gather(*connection.state.tasks)
    assert (application.sent, type(application.error)) == (0, Disconnected)


@pytest.mark.parametrize("announced", [11, 9], ids=["too little", "too much"])
async def test_stream_of_wrong_length_is_aborted(announced: int) -> None:
    connection = FakeConnection(Streaming(announced))
    await connection.feed(get())
    assert connection.transport.ended == "aborted"
    assert not connection.transport.has_sent_end
