"""Tests connections that begin with a PROXY protocol header, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any, cast

import pytest

from galerly_cdn.server import serve
from galerly_cdn.server.connection import Connection
from galerly_cdn.server.proxy_connection import ProxyConnection
from galerly_cdn.settings import load
from galerly_cdn.settings.networks import Networks
from galerly_cdn.settings.table import Settings
from tests.support.fake_connection import FakeConnection, FakeTransport
from tests.support.raw_http import Echo, Viewer, get, run, serving
from tests.support.tls_certificates import make, trusting
from tests.unit.server.test_proxy_protocol import HEADERS, IPV4, binary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.responses import Response
    from tests.support.raw_http import Served

TEXT = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
LOOPBACK = ("127.0.0.1/32",)


class Recorded:
    """What a listener has refused: code and client."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str]] = []
        self.happened = asyncio.Event()

    def refuse(self, error: GalerlyError, client: str) -> Response:
        self.errors.append((error.code, client))
        self.happened.set()
        return serve.refuse(error, client)


@contextlib.asynccontextmanager
async def behind_proxy(**settings: object) -> AsyncIterator[tuple[Served, Recorded]]:
    recorded = Recorded()
    loaded = load.load_settings(
        {"port": 0, "proxy_protocol": LOOPBACK, "header_deadline_s": 1000, **settings}, environment={}
    ).settings
    async with serving(Echo(), loaded, recorded.refuse) as served:
        yield served, recorded


async def client_of(viewer: Viewer, sent: bytes) -> str:
    """Send bytes that hold one request; returns the client that the application saw."""
    await viewer.send(sent)
    status, _, body = await viewer.response()
    assert status == 200
    return str(json.loads(body)["client"])


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("is_split", [False, True])
def test_client_is_the_one_that_the_header_names(header: bytes, *, is_split: bool) -> None:
    peer = HEADERS[header]
    client = peer[0] if peer else "127.0.0.1"

    async def scenario() -> None:
        async with behind_proxy() as (served, recorded), served.viewer() as viewer:
            sent = header + get()
            if is_split:
                for at in range(min(len(sent) - 1, 200)):
                    await viewer.send(sent[at : at + 1])
                sent = sent[min(len(sent) - 1, 200) :]
            assert await client_of(viewer, sent) == client
            assert await client_of(viewer, get()) == client
            assert recorded.errors == []

    run(scenario())


def test_header_of_another_client_is_a_bad_request_and_no_header_is_needed() -> None:
    async def scenario() -> None:
        async with behind_proxy(proxy_protocol=("192.0.2.0/24",)) as (served, _):
            async with served.viewer() as viewer:
                assert await client_of(viewer, get()) == "127.0.0.1"
            async with served.viewer() as viewer:
                await viewer.send(TEXT + get())
                assert (await viewer.response())[0] == 400

    run(scenario())


@pytest.mark.parametrize("sent", [get(), b"\x16\x03\x01", b"PROXY TCP4 a b 1 2\r\n" + get()])
def test_proxy_without_a_header_is_recorded_and_gets_no_response(sent: bytes) -> None:
    async def scenario() -> None:
        async with behind_proxy() as (served, recorded), served.viewer() as viewer:
            await viewer.send(sent)
            with contextlib.suppress(ConnectionResetError):
                assert await viewer.read_to_end() == b""
            assert recorded.errors == [("bad-request", "127.0.0.1")]

    run(scenario())


@pytest.mark.parametrize(("sent", "errors"), [(b"", []), (TEXT[:-1], [("headers-too-slow", "127.0.0.1")])])
def test_slow_header_ends_the_connection(sent: bytes, errors: list[tuple[str, str]]) -> None:
    async def scenario() -> None:
        async with behind_proxy(header_deadline_s=0.1) as (served, recorded), served.viewer() as viewer:
            await viewer.send(sent)
            with contextlib.suppress(ConnectionResetError):
                assert await viewer.read_to_end() == b""
            assert recorded.errors == errors

    run(scenario())


def test_connections_are_limited_by_the_named_client() -> None:
    async def scenario() -> None:
        async with (
            behind_proxy(max_connections_per_client=1) as (served, recorded),
            served.viewer() as first,
            served.viewer() as second,
            served.viewer() as other,
        ):
            assert await client_of(first, TEXT + get()) == "192.0.2.1"
            await second.send(TEXT + get())
            assert (await second.response())[0] == 503
            assert await client_of(other, TEXT.replace(b"192.0.2.1", b"192.0.2.2") + get()) == "192.0.2.2"
            assert recorded.errors == [("too-many-connections", "192.0.2.1")]

    run(scenario())


def test_connections_that_wait_for_their_header_count_in_total() -> None:
    async def scenario() -> None:
        async with (
            behind_proxy(max_connections=1, proxy_protocol=("127.0.0.1/32",)) as (served, recorded),
            served.viewer() as first,
            served.viewer(),
        ):
            await recorded.happened.wait()
            assert recorded.errors == [("too-many-connections", "127.0.0.1")]
            assert await client_of(first, TEXT + get()) == "192.0.2.1"

    run(scenario())


class HandedTransport(FakeTransport):
    """A fake transport that notes which protocol serves it."""

    protocol: asyncio.Protocol | None = None

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol


async def test_connection_whose_header_arrives_during_a_stop_gets_a_last_response() -> None:
    beside = FakeConnection(Echo())
    state = beside.state
    connection = ProxyConnection(
        lambda peer: Connection(state, cast("Any", beside.loop), peer), state, Networks(LOOPBACK)
    )
    transport = HandedTransport("127.0.0.1")
    connection.connection_made(cast("Any", transport))
    connection.data_received(TEXT[:20])
    state.shutdown()
    assert not transport.ended
    connection.data_received(TEXT[20:] + get())
    assert isinstance(transport.protocol, Connection)
    await beside.feed(b"")
    assert b'"client": "192.0.2.1"' in transport.sent
    assert b"connection: close\r\n" in transport.sent
    assert transport.has_sent_end


def test_tls_follows_the_header(tmp_path: Path) -> None:
    files = make(tmp_path)

    def request(host: str | None, port: int | None) -> bytes:
        with socket.create_connection((host or "", port or 0)) as connection:
            connection.sendall(binary(0x21, 0x11, IPV4))
            with trusting(files.certificate).wrap_socket(connection, server_hostname="localhost") as secure:
                secure.sendall(get("/", "Connection: close"))
                received = b""
                with contextlib.suppress(ssl.SSLEOFError):
                    while data := secure.recv(65536):
                        received += data
                return received

    async def scenario() -> None:
        named = {"tls_certificate": str(files.certificate), "tls_key": str(files.key)}
        async with behind_proxy(**named) as (served, _):
            response = await asyncio.to_thread(request, served.host, served.port)
            assert json.loads(response.partition(b"\r\n\r\n")[2])["client"] == "192.0.2.1"

    run(scenario())


def test_proxy_on_a_unix_socket_names_the_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(host=f"unix:{tmp_path}/socket", proxy_protocol=("unix:",))
        async with serving(Echo(), settings) as served, served.viewer() as viewer:
            assert await client_of(viewer, TEXT + get()) == "192.0.2.1"

    run(scenario())
