"""The API server passes requests on byte for byte, and closes connections that are not HTTP."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse


class Echo:
    """Records requests, and responds with their body, or raises `failure`."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.requests: list[OriginRequest] = []
        self.failure = failure

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.requests.append(request)
        if self.failure:
            raise self.failure
        return OriginResponse(200, {"x-own": "1", "content-length": "5"}, request.body)


async def exchange(address: str, *parts: bytes, ends: bool = True) -> bytes:
    """Sends bytes, and returns everything that is received."""
    url = urlsplit(address)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    for part in parts:
        writer.write(part)
    if ends:
        writer.write_eof()
    received = await reader.read()
    writer.close()
    return received


async def test_a_request_reaches_the_responder_byte_for_byte() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        await exchange(
            address,
            b"PUT /b/a%20b%2f..%2F//c?x=1&y HTTP/1.1\r\nHost: h:1\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc",
        )
    (request,) = echo.requests
    assert request == OriginRequest(
        "PUT",
        "http",
        "h:1",
        "/b/a%20b%2f..%2F//c",
        "x=1&y",
        {"x-a": "b", "content-length": "3"},
        b"abc",
    )


async def test_a_connection_carries_several_requests() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        received = await exchange(
            address, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
        )
    assert [request.raw_path for request in echo.requests] == ["/1", "/2"]
    assert received.count(b"HTTP/1.1 200") == 2


async def test_expect_100_continue_gets_the_interim_response() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        url = urlsplit(address)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"whole")
        assert (await reader.readuntil(b"whole")).startswith(b"HTTP/1.1 200 ")
        writer.close()
    (request,) = echo.requests
    assert "expect" not in request.headers


async def test_a_chunked_body_is_received_whole() -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        await exchange(address, head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
    assert [request.body for request in echo.requests] == [b"abcde"]


async def test_the_response_to_head_has_the_content_length_and_no_body() -> None:
    async with api_server.listen(Echo()) as address:
        received = await exchange(address, b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"content-length: 5" in received
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc",
    ],
)
async def test_an_incomplete_or_invalid_request_reaches_no_responder(sent: bytes) -> None:
    echo = Echo()
    async with api_server.listen(echo) as address:
        assert await exchange(address, sent) == b""
    assert echo.requests == []


async def test_a_connection_error_of_the_responder_closes_the_connection() -> None:
    async with api_server.listen(Echo(ConnectionRefusedError("down"))) as address:
        assert await exchange(address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b""


async def test_stopping_the_server_closes_open_connections() -> None:
    async with api_server.listen(Echo()) as address:
        url = urlsplit(address)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert await reader.read() == b""
    writer.close()
