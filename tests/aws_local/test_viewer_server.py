"""The viewer server passes requests to the edge byte for byte, and sends its responses."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from galerly_cdn.aws_local import viewer_server
from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse
from tests.support import local_cloudfront, tls_certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.aws_local.cloudfront.edge import Edge
    from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest
    from tests.support import s3_servers


class Echo:
    """A fake edge: records requests, and sends one response."""

    def __init__(self, response: ViewerResponse) -> None:
        self.requests: list[ViewerRequest] = []
        self._response = response

    async def respond(self, request: ViewerRequest) -> ViewerResponse:
        self.requests.append(request)
        return self._response


OK = ViewerResponse(200, {"x-a": "1"}, b"body")


@asynccontextmanager
async def listening(
    response: ViewerResponse = OK,
    **options: Any,  # noqa: ANN401 - options of `listen`
) -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo(response)
    options = {"scheme": "http", **options}
    async with viewer_server.listen(cast("Edge", echo), "127.0.0.1", 0, **options) as port:
        yield echo, port


async def exchange(port: int, sent: bytes, context: ssl.SSLContext | None = None) -> bytes:
    name = "localhost" if context else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        writer.write(sent)
        return await reader.read()
    finally:
        writer.close()


def get(target: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: cdn.example.com", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a//b/../c/./d", "/a//b/../c/./d", ""),
        ("/a%2Fb%2e%2e/%C3%A9", "/a%2Fb%2e%2e/%C3%A9", ""),
        ("//a", "//a", ""),
        ("/a?b=%26&&c?d=/", "/a", "b=%26&&c?d=/"),
        ("/a+b;c=(1)*!'", "/a+b;c=(1)*!'", ""),
    ],
)
async def test_a_path_reaches_the_edge_byte_for_byte(target: str, path: str, query: str) -> None:
    async with listening() as (echo, port):
        assert (await exchange(port, get(target))).startswith(b"HTTP/1.1 200 ")
    assert (echo.requests[0].raw_path, echo.requests[0].query) == (path, query)


async def test_header_names_are_lower_case_and_repeated_headers_are_joined() -> None:
    async with listening() as (echo, port):
        await exchange(port, get("/", "Accept: a", "ACCEPT: b", "Cookie: c=1", "Cookie: d=2"))
    (request,) = echo.requests
    assert request.headers == {"connection": "close", "accept": "a, b", "cookie": "c=1; d=2"}
    assert (request.host, request.scheme, request.client) == ("cdn.example.com", "http", "127.0.0.1")


async def test_a_connection_carries_several_requests() -> None:
    async with listening() as (echo, port):
        first = get("/1").replace(b"Connection: close\r\n", b"")
        received = await exchange(port, first + get("/2"))
    assert [request.raw_path for request in echo.requests] == ["/1", "/2"]
    assert received.count(b"\r\n\r\nbody") == 2


@pytest.mark.parametrize(
    ("method", "status", "length"), [("GET", 200, b"4"), ("HEAD", 200, b"9"), ("GET", 304, None)]
)
async def test_content_length_is_that_of_the_body_and_for_head_that_of_the_object(
    method: str, status: int, length: bytes | None
) -> None:
    headers = {} if status == 304 else {"content-length": "9"}
    response = ViewerResponse(status, headers, b"body" if method == "GET" and status == 200 else b"")
    async with listening(response) as (_, port):
        received = await exchange(port, get("/", method=method))
    head, _, body = received.partition(b"\r\n\r\n")
    assert body == response.body
    assert (
        (b"content-length: " + length in head.lower()) if length else (b"content-length" not in head.lower())
    )


@pytest.mark.parametrize("header", ["Content-Length: 3", "Transfer-Encoding: chunked"])
async def test_a_request_body_is_reported_and_not_read(header: str) -> None:
    async with listening(ViewerResponse(403, {}, b"")) as (echo, port):
        received = await exchange(port, get("/", header, method="POST") + b"abc")
    assert received.startswith(b"HTTP/1.1 403 ")
    assert echo.requests[0].has_body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (get("http://other.example/a"), b"400"),
        (get("*"), b"400"),
        (get("/" + "a" * 8192), b"414"),
        (get("/", "A: " + "a" * 200_000), b"431"),
    ],
)
async def test_an_invalid_request_does_not_reach_the_edge(sent: bytes, status: bytes) -> None:
    async with listening() as (echo, port):
        received = await exchange(port, sent)
    assert received.split(b" ")[1] == status
    assert not echo.requests


async def test_listen_with_a_certificate_serves_tls(tmp_path: Path) -> None:
    files = tls_certificates.make(tmp_path)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.certificate, files.key)
    client_context = ssl.create_default_context(cafile=files.certificate)
    async with listening(scheme="https", certificate=server_context) as (echo, port):
        assert (await exchange(port, get("/"), client_context)).startswith(b"HTTP/1.1 200 ")
    assert echo.requests[0].scheme == "https"


@pytest.mark.server("node")
async def test_http_is_redirected_to_https_which_serves_the_rendition(moto: s3_servers.S3Server) -> None:
    bucket = moto.bucket()
    bucket.put("resized/800x600/g/a.jpg", b"stored", ContentType="image/jpeg")
    async with local_cloudfront.start(bucket) as viewer:
        edge = viewer.cloudfront.edge
        async with (
            viewer_server.listen(edge, "127.0.0.1", 0, scheme="http") as plain,
            viewer_server.listen(edge, "127.0.0.1", 0, scheme="https") as secure,
        ):
            edge.https_port = secure
            sent = get("/resize/thumbnail/g/a.jpg")
            received = await exchange(plain, sent)
            assert received.startswith(b"HTTP/1.1 301 ")
            assert f"https://cdn.example.com:{secure}/resize/thumbnail/g/a.jpg\r\n".encode() in received
            assert (await exchange(secure, sent)).endswith(b"stored")
