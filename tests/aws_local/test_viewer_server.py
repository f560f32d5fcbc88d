"""The listener hands requests on as they were sent, and answers as they were answered."""

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
    """In the edge's place: remembers what it was asked."""

    def __init__(self, answer: ViewerResponse) -> None:
        self.asked: list[ViewerRequest] = []
        self._answer = answer

    async def respond(self, request: ViewerRequest) -> ViewerResponse:
        self.asked.append(request)
        return self._answer


WHOLE = ViewerResponse(200, {"x-a": "1"}, b"body")


@asynccontextmanager
async def listening(
    answer: ViewerResponse = WHOLE,
    **given: Any,  # noqa: ANN401 - keywords handed on
) -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo(answer)
    options = {"scheme": "http", **given}
    async with viewer_server.listen(cast("Edge", echo), "127.0.0.1", 0, **options) as port:
        yield echo, port


async def talk(port: int, sent: bytes, context: ssl.SSLContext | None = None) -> bytes:
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
async def test_a_path_arrives_byte_for_byte(target: str, path: str, query: str) -> None:
    async with listening() as (echo, port):
        assert (await talk(port, get(target))).startswith(b"HTTP/1.1 200 ")
    assert (echo.asked[0].raw_path, echo.asked[0].query) == (path, query)


async def test_headers_arrive_in_small_letters_and_several_as_one() -> None:
    async with listening() as (echo, port):
        await talk(port, get("/", "Accept: a", "ACCEPT: b", "Cookie: c=1", "Cookie: d=2"))
    (asked,) = echo.asked
    assert asked.headers == {"connection": "close", "accept": "a, b", "cookie": "c=1; d=2"}
    assert (asked.host, asked.scheme, asked.client) == ("cdn.example.com", "http", "127.0.0.1")


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with listening() as (echo, port):
        first = get("/1").replace(b"Connection: close\r\n", b"")
        told = await talk(port, first + get("/2"))
    assert [one.raw_path for one in echo.asked] == ["/1", "/2"]
    assert told.count(b"\r\n\r\nbody") == 2


@pytest.mark.parametrize(
    ("method", "status", "length"), [("GET", 200, b"4"), ("HEAD", 200, b"9"), ("GET", 304, None)]
)
async def test_an_answer_has_the_length_of_its_body_and_a_head_that_of_the_object(
    method: str, status: int, length: bytes | None
) -> None:
    headers = {} if status == 304 else {"content-length": "9"}
    answer = ViewerResponse(status, headers, b"body" if method == "GET" and status == 200 else b"")
    async with listening(answer) as (_, port):
        told = await talk(port, get("/", method=method))
    head, _, body = told.partition(b"\r\n\r\n")
    assert body == answer.body
    assert (
        (b"content-length: " + length in head.lower()) if length else (b"content-length" not in head.lower())
    )


@pytest.mark.parametrize("header", ["Content-Length: 3", "Transfer-Encoding: chunked"])
async def test_a_body_is_told_and_not_read(header: str) -> None:
    async with listening(ViewerResponse(403, {}, b"")) as (echo, port):
        told = await talk(port, get("/", header, method="POST") + b"abc")
    assert told.startswith(b"HTTP/1.1 403 ")
    assert echo.asked[0].has_body


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
async def test_what_is_no_request_never_reaches_the_edge(sent: bytes, status: bytes) -> None:
    async with listening() as (echo, port):
        told = await talk(port, sent)
    assert told.split(b" ")[1] == status
    assert not echo.asked


async def test_real_tls_is_spoken_with_a_certificate(tmp_path: Path) -> None:
    files = tls_certificates.make(tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(files.certificate, files.key)
    theirs = ssl.create_default_context(cafile=files.certificate)
    async with listening(scheme="https", certificate=ours) as (echo, port):
        assert (await talk(port, get("/"), theirs)).startswith(b"HTTP/1.1 200 ")
    assert echo.asked[0].scheme == "https"


@pytest.mark.server("node")
async def test_http_is_led_to_https_and_a_picture_comes(moto: s3_servers.S3Server) -> None:
    bucket = moto.bucket()
    bucket.put("resized/800x600/g/a.jpg", b"stored", ContentType="image/jpeg")
    async with local_cloudfront.cloud(bucket) as viewer:
        edge = viewer.cloud.edge
        async with (
            viewer_server.listen(edge, "127.0.0.1", 0, scheme="http") as plain,
            viewer_server.listen(edge, "127.0.0.1", 0, scheme="https") as secure,
        ):
            edge.https_port = secure
            sent = get("/resize/thumbnail/g/a.jpg")
            told = await talk(plain, sent)
            assert told.startswith(b"HTTP/1.1 301 ")
            assert f"https://cdn.example.com:{secure}/resize/thumbnail/g/a.jpg\r\n".encode() in told
            assert (await talk(secure, sent)).endswith(b"stored")
