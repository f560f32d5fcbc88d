"""Tests the admin API's client: requests, errors by code, and responses that are not the admin API's."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from galerly_cdn.client import Client
from galerly_cdn.errors import (
    CdnInterrupted,
    CdnUnreachable,
    CommandError,
    GalerlyError,
    MalformedKey,
    RangeNotSatisfiable,
    UnexpectedAnswer,
    Unsettled,
    UnsupportedFormat,
    by_code,
)
from galerly_cdn.http.checksums import read_checksums
from galerly_cdn.library import Accepted
from galerly_cdn.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Handler = Callable[[httpx.Request], httpx.Response]

API_ERRORS = [kind for kind in by_code().values() if not issubclass(kind, CommandError)]


def client(handler: Handler, token: str = "") -> Client:
    return Client("http://cdn.test:8001/", token, transport=httpx.MockTransport(handler))


def raising(error: type[Exception]) -> Handler:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("connection refused", request=request)  # type: ignore[call-arg]  # httpx's errors take a request

    return fail


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize("kind", API_ERRORS, ids=lambda kind: kind.code)
async def test_error_response_raises_the_error_with_its_code(kind: type[GalerlyError]) -> None:
    body = {"error": {"code": kind.code, "message": kind.public, "request_id": "7f-1"}}
    with pytest.raises(kind) as caught:
        async with client(lambda _: httpx.Response(kind.status, json=body)) as cdn:
            await cdn.delete("g/a.jpg")
    assert type(caught.value) is kind
    if kind is not RangeNotSatisfiable:
        assert caught.value.detail == "request 7f-1"


async def test_refused_format_keeps_its_own_sentence() -> None:
    body = {"error": {"code": "unsupported-format", "message": "This is HEIC.", "request_id": "7f-1"}}
    with pytest.raises(UnsupportedFormat) as caught:
        async with client(lambda _: httpx.Response(415, json=body)) as cdn:
            await cdn.inspect("g/a.heic")
    assert caught.value.public == "This is HEIC."


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>a router's page</html>"),
        (200, b""),
        (200, b'{"key": "g/a.jpg"}'),
        (200, b'{"key": 1, "existed": true, "removed": []}'),
        (302, b""),
        (404, b"<html>not here</html>"),
        (418, json.dumps({"error": {"code": "teapot", "message": "?", "request_id": ""}}).encode()),
        (500, json.dumps({"error": {"code": "settings", "message": "?", "request_id": ""}}).encode()),
        (502, b"\xff\xfe"),
    ],
)
async def test_response_not_from_the_admin_api_raises_unexpected_answer(status: int, body: bytes) -> None:
    async with client(lambda _: httpx.Response(status, content=body)) as cdn:
        with pytest.raises(UnexpectedAnswer):
            await cdn.delete("g/a.jpg")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError, CdnUnreachable),
        (httpx.ConnectTimeout, CdnUnreachable),
        (httpx.UnsupportedProtocol, CdnUnreachable),
        (httpx.ReadTimeout, CdnInterrupted),
        (httpx.ReadError, CdnInterrupted),
        (httpx.WriteError, CdnInterrupted),
        (httpx.RemoteProtocolError, CdnInterrupted),
    ],
)
async def test_connection_failure_raises_with_the_address(
    error: type[Exception], expected: type[GalerlyError]
) -> None:
    async with client(raising(error)) as cdn:
        with pytest.raises(expected, match=r"http://cdn\.test:8001: .*connection refused"):
            await cdn.purge("g/a.jpg")
        with pytest.raises(expected):
            _ = [warmed async for warmed in cdn.warm("g/a.jpg")]


async def test_malformed_key_raises_without_a_request() -> None:
    async with client(raising(AssertionError)) as cdn:
        for key in ("", "../a", "a\\b", "a\udcff"):
            with pytest.raises(MalformedKey):
                await cdn.delete(key)


@pytest.mark.parametrize("token", ["", "s3cret"])
async def test_token_is_sent_as_bearer_and_not_in_the_url(token: str) -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"originals": [], "next": ""})

    async with client(handler, token) as cdn:
        await cdn.list("a b/#?%", "a b/ä")
    assert requests[0].headers.get("authorization") == (f"Bearer {token}" if token else None)
    assert "s3cret" not in str(requests[0].url)
    assert dict(requests[0].url.params) == {"prefix": "a b/#?%", "after": "a b/ä", "limit": "1000"}


WARMED = {
    "key": "g/a.jpg",
    "target": {"size": {"width_px": 150, "height_px": 150}, "format": "webp"},
    "length_bytes": 7,
    "was_there": False,
    "duration_ms": 1.5,
}


async def test_warm_yields_renditions_before_an_error_line_raises() -> None:
    failed = {"key": "g/a.jpg", "error": {"code": "unsettled", "message": "?", "request_id": "7f-1"}}
    lines = "".join(json.dumps(line) + "\n" for line in (WARMED, failed))
    async with client(lambda _: httpx.Response(200, text=lines)) as cdn:
        warmed = cdn.warm("g/a.jpg")
        assert str((await anext(warmed)).target) == "150x150.webp"
        with pytest.raises(Unsettled):
            await anext(warmed)


async def test_warm_with_interrupted_response_raises() -> None:
    async def interrupted() -> AsyncIterator[bytes]:
        yield json.dumps(WARMED).encode() + b"\n"
        raise httpx.RemoteProtocolError("peer closed connection")

    async with client(lambda _: httpx.Response(200, content=interrupted())) as cdn:
        with pytest.raises(CdnInterrupted):
            _ = [warmed async for warmed in cdn.warm("g/a.jpg")]


async def test_upload_sends_checksums_in_headers() -> None:
    requests: list[tuple[httpx.Request, bytes]] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        requests.append((request, await request.aread()))
        accepted = Accepted("g/a b.jpg", "replaced", "v", 4, "jpeg", 1, 1)
        return httpx.Response(200, content=to_json(accepted))

    transport = httpx.MockTransport(handler)
    digests = {name: hashlib.new(name, b"abcd").digest() for name in ("md5", "sha256")}
    async with Client("http://cdn.test:8001", transport=transport) as cdn:
        accepted = await cdn.upload("g/a b.jpg", chunks(b"ab", b"cd"), replaces=True, digests=digests)
    (request, body) = requests[0]
    assert accepted.outcome == "replaced"
    assert (request.method, str(request.url), body) == (
        "PUT",
        "http://cdn.test:8001/originals/g/a%20b.jpg?replace=true",
        b"abcd",
    )
    headers = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    assert read_checksums(headers) == digests
