"""What a listener that takes bodies hands over, and what it waits for; and what one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.listening import answer, get, run, serving

if TYPE_CHECKING:
    from galerly_cdn.listener import Receive, Scope, Send


async def read_all(receive: Receive) -> bytes:
    """A whole body."""
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def upper(_: Scope, receive: Receive, send: Send) -> None:
    await answer(send, (await read_all(receive)).upper())


def test_a_body_arrives() -> None:
    async def scenario() -> None:
        async with serving(upper, takes_bodies=True) as served, served.viewer() as viewer:
            await viewer.send(
                b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            assert await viewer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await viewer.send(b"hello" + get("/second"))
            status, headers, body = await viewer.response()
            assert (status, body, headers["connection"]) == (200, b"HELLO", "close")
            assert await viewer.rest() == b""

    run(scenario())
