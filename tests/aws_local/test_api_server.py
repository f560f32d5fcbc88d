"""An API's listener hands requests on as they came, and parts from whoever speaks no HTTP."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse


class Echo:
    """Notes what comes, and answers with the body."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked: list[OriginRequest] = []
        self.failure = failure

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.asked.append(request)
        if self.failure:
            raise self.failure
        return OriginResponse(200, {"x-own": "1", "content-length": "5"}, request.body)


async def said(address: str, *parts: bytes, ends: bool = True) -> bytes:
    """Everything that is answered to some bytes."""
    place = urlsplit(address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    for one in parts:
        writer.write(one)
    if ends:
        writer.write_eof()
    found = await reader.read()
    writer.close()
    return found


async def test_a_request_is_handed_on_as_it_came() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        await said(
            address,
            b"PUT /b/a%20b%2f..%2F//c?x=1&y HTTP/1.1\r\nHost: h:1\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc",
        )
    (asked,) = echo.asked
    assert asked == OriginRequest(
        "PUT",
        "http",
        "h:1",
        "/b/a%20b%2f..%2F//c",
        "x=1&y",
        {"x-a": "b", "content-length": "3"},
        b"abc",
    )


async def test_requests_follow_each_other_on_a_connection() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        found = await said(address, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [one.raw_path for one in echo.asked] == ["/1", "/2"]
    assert found.count(b"HTTP/1.1 200") == 2


async def test_who_waits_before_a_body_is_told_to_go_on() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        place = urlsplit(address)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"whole")
        assert (await reader.readuntil(b"whole")).startswith(b"HTTP/1.1 200 ")
        writer.close()
    (asked,) = echo.asked
    assert "expect" not in asked.headers


async def test_a_body_without_a_length_comes_whole() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        await said(address, head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
    assert [one.body for one in echo.asked] == [b"abcde"]


async def test_a_head_has_the_length_that_was_told_and_no_body() -> None:
    async with api_server.listen(Echo()) as address:
        found = await said(address, b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"content-length: 5" in found
    assert found.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc",
    ],
)
async def test_what_is_no_whole_request_asks_nothing(sent: bytes) -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        assert await said(address, sent) == b""
    assert echo.asked == []


async def test_a_server_behind_it_that_is_gone_is_a_connection_that_ends() -> None:
    async with api_server.listen(Echo(ConnectionRefusedError("down"))) as address:
        assert await said(address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b""


async def test_who_is_still_connected_at_the_end_is_let_go() -> None:
    async with api_server.listen(Echo()) as address:
        place = urlsplit(address)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert await reader.read() == b""
    writer.close()
