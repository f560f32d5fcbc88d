"""Speaking to a running CDN: errors cross by their code, what is no admin side is told in one sentence."""

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
    by_code,
)
from galerly_cdn.http.checksums import read_checksums
from galerly_cdn.library import Accepted
from galerly_cdn.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Answer = Callable[[httpx.Request], httpx.Response]

SERVED = [kind for kind in by_code().values() if not issubclass(kind, CommandError)]


def client(answer: Answer, token: str = "") -> Client:
    return Client("http://cdn.test:8001/", token, transport=httpx.MockTransport(answer))


def refusing(error: type[Exception]) -> Answer:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise error("nobody there", request=request)  # type: ignore[call-arg]  # httpx's errors take it

    return refuse


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.code)
async def test_an_error_crosses_by_its_code(kind: type[GalerlyError]) -> None:
    told = {"error": {"code": kind.code, "message": kind.public, "request_id": "7f-1"}}
    with pytest.raises(kind) as caught:
        async with client(lambda _: httpx.Response(kind.status, json=told)) as one:
            await one.delete("g/a.jpg")
    assert type(caught.value) is kind
    if kind is not RangeNotSatisfiable:
        assert caught.value.detail == "request 7f-1"


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
async def test_what_is_no_admin_side_is_told_apart(status: int, body: bytes) -> None:
    async with client(lambda _: httpx.Response(status, content=body)) as one:
        with pytest.raises(UnexpectedAnswer):
            await one.delete("g/a.jpg")


@pytest.mark.parametrize(
    ("error", "told"),
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
async def test_a_connection_that_fails_is_told_with_its_address(
    error: type[Exception], told: type[GalerlyError]
) -> None:
    async with client(refusing(error)) as one:
        with pytest.raises(told, match=r"http://cdn\.test:8001: .*nobody there"):
            await one.purge("g/a.jpg")
        with pytest.raises(told):
            _ = [made async for made in one.warm("g/a.jpg")]


async def test_a_malformed_key_is_never_sent() -> None:
    async with client(refusing(AssertionError)) as one:
        for key in ("", "../a", "a\\b", "a\udcff"):
            with pytest.raises(MalformedKey):
                await one.delete(key)


@pytest.mark.parametrize("token", ["", "s3cret"])
async def test_the_token_is_a_bearers_and_never_in_the_address(token: str) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"originals": [], "next": ""})

    async with client(answer, token) as one:
        await one.list("a b/#?%", "a b/ä")
    assert seen[0].headers.get("authorization") == (f"Bearer {token}" if token else None)
    assert "s3cret" not in str(seen[0].url)
    assert dict(seen[0].url.params) == {"prefix": "a b/#?%", "after": "a b/ä", "limit": "1000"}


WARMED = {
    "key": "g/a.jpg",
    "target": {"size": {"width_px": 150, "height_px": 150}, "format": "webp"},
    "length_bytes": 7,
    "was_there": False,
    "duration_ms": 1.5,
}


async def test_lines_that_end_in_a_failure_tell_what_was_done_before_it() -> None:
    failed = {"key": "g/a.jpg", "error": {"code": "unsettled", "message": "?", "request_id": "7f-1"}}
    lines = "".join(json.dumps(one) + "\n" for one in (WARMED, failed))
    async with client(lambda _: httpx.Response(200, text=lines)) as one:
        told = one.warm("g/a.jpg")
        assert str((await anext(told)).target) == "150x150.webp"
        with pytest.raises(Unsettled):
            await anext(told)


async def test_lines_that_are_cut_off_are_no_success() -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield json.dumps(WARMED).encode() + b"\n"
        raise httpx.RemoteProtocolError("peer closed connection")

    async with client(lambda _: httpx.Response(200, content=cut())) as one:
        with pytest.raises(CdnInterrupted):
            _ = [made async for made in one.warm("g/a.jpg")]


async def test_an_uploads_checksums_go_ahead_of_its_bytes() -> None:
    seen: list[tuple[httpx.Request, bytes]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request, await request.aread()))
        accepted = Accepted("g/a b.jpg", "replaced", "v", 4, "jpeg", 1, 1)
        return httpx.Response(200, content=to_json(accepted))

    transport = httpx.MockTransport(answer)
    digests = {name: hashlib.new(name, b"abcd").digest() for name in ("md5", "sha256")}
    async with Client("http://cdn.test:8001", transport=transport) as one:
        accepted = await one.upload("g/a b.jpg", chunks(b"ab", b"cd"), replaces=True, digests=digests)
    (request, body) = seen[0]
    assert accepted.outcome == "replaced"
    assert (request.method, str(request.url), body) == (
        "PUT",
        "http://cdn.test:8001/originals/g/a%20b.jpg?replace=true",
        b"abcd",
    )
    headers = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    assert read_checksums(headers) == digests
