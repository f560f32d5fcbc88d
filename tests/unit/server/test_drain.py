"""Tests how a server stops: the delay in which requests are still answered, and what a load balancer sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import pictures
from tests.support.fake_connection import FakeConnection
from tests.support.raw_http import Echo, Served, answer, get, run
from tests.support.shapes import ServeProcess, send_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from galerly_cdn.http.request import Receive, Scope, Send

PICTURE = "/resize/tiny/g/a.jpg"
DELAY_S = 2.0


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServeProcess]:
    settings = {"health_path": "/health", "drain_delay_s": request.param}
    running = ServeProcess(tmp_path / "photographs", tmp_path / "renditions", settings)
    running.put("g/a.jpg", pictures.jpeg(60, 40))
    yield running
    running.process.kill()
    running.process.communicate()


class ReconnectingClient:
    """Sends requests without a pause until refused; reconnects where a response says so."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.statuses: set[int] = set()
        self.closes: list[bool] = []
        """Of each response, whether it ended its connection."""
        self.failed_s = 0.0
        """When a request got no response."""

    async def run(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                async with self._served.viewer() as viewer:
                    is_open = True
                    while is_open:
                        await viewer.send(get(PICTURE))
                        status, headers, _ = await viewer.response()
                        is_open = headers.get("connection") != "close"
                        self.statuses.add(status)
                        self.closes.append(not is_open)
        self.failed_s = time.monotonic()


@pytest.mark.parametrize("server", [DELAY_S], indirect=True)
def test_drain_delay_answers_every_request_of_clients_that_reconnect(server: ServeProcess) -> None:
    async def scenario() -> None:
        served = Served(f"http://127.0.0.1:{server.port}/")
        clients = [ReconnectingClient(served) for _ in range(8)]
        loads = [asyncio.create_task(client.run()) for client in clients]
        async with served.viewer() as idle:
            await idle.send(get(PICTURE))
            assert "connection" not in (await idle.response())[1]
            stopped_s = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            while not any(client.closes[-1:] == [True] for client in clients):
                await asyncio.wait(loads, timeout=0.01)
            await idle.send(get(PICTURE))
            status, headers, _ = await idle.response()
            assert (status, headers["connection"]) == (200, "close")
        await asyncio.gather(*loads)
        for client in clients:
            assert client.statuses == {200}
            assert client.closes == sorted(client.closes)  # each response after the signal
            assert client.closes[-1]
            assert client.failed_s - stopped_s >= DELAY_S

    run(scenario())
    assert server.process.wait(30) == 0


@pytest.mark.parametrize("server", [1000], indirect=True)
def test_readyz_says_draining_on_both_ports_until_a_second_signal(server: ServeProcess) -> None:
    paths = {server.port: "/health/readyz", server.admin_port: "/readyz"}
    assert [send_request(port, "GET", path, {}).status for port, path in paths.items()] == [200, 200]
    server.process.send_signal(signal.SIGTERM)
    for port, path in paths.items():
        while (response := send_request(port, "GET", path, {})).status == 200:
            pass
        assert response.status == 503
        assert json.loads(response.body)["listener"] == "draining"
        assert response.headers["connection"] == "close"
    assert send_request(server.admin_port, "GET", "/livez", {}).status == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0


async def test_drain_leaves_a_response_that_has_begun_and_ends_the_next() -> None:
    may_end = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        length = (b"content-length", b"4")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await may_end.wait()
        await send({"type": "http.response.body", "body": b"done", "more_body": False})

    connection = FakeConnection(Echo(slow=slow))
    await connection.feed(get("/slow"))
    connection.state.drain()
    may_end.set()
    await connection.feed(b"")
    assert connection.transport.sent.endswith(b"done")
    assert not connection.transport.has_sent_end
    await connection.feed(get())
    assert connection.statuses() == [200, 200]
    assert connection.transport.sent.count(b"connection: close\r\n") == 1
    assert connection.transport.has_sent_end


async def test_drain_ends_a_response_that_has_not_begun_and_new_connections() -> None:
    may_respond = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        await may_respond.wait()
        await answer(send, b"done")

    connection = FakeConnection(Echo(slow=slow))
    await connection.feed(get("/slow"))
    connection.state.drain()
    may_respond.set()
    await connection.feed(b"")
    assert connection.statuses() == [200]
    assert connection.transport.sent.count(b"connection: close\r\n") == 1
    assert connection.transport.has_sent_end


# probes

KUBELET = (
    b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n\r\n"
)
PROBES = {
    "kubelet": KUBELET % (b"%b", b"10.1.2.3:8001"),
    "kubelet IPv6": KUBELET % (b"%b", b"[fd00::7]:8001"),
    "varnish": b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "varnish without host_header": b"GET %b HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n",
    "haproxy": b"GET %b HTTP/1.0\r\n\r\n",
    "haproxy HEAD": b"HEAD %b HTTP/1.0\r\n\r\n",
    "haproxy with ver and hdr": b"GET %b HTTP/1.1\r\nhost: node\r\nuser-agent: HAProxy\r\n\r\n",
    "curl": b"GET %b HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
}


@pytest.fixture(scope="module")
def public_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """A server on a public address, its admin API behind a token."""
    root = tmp_path_factory.mktemp("server")
    (root / "token").write_text("0123456789abcdef" * 2)
    settings: dict[str, object] = {
        "health_path": "/health",
        "host": "0.0.0.0",
        "admin_host": "0.0.0.0",
        "admin_token_file": root / "token",
    }
    running = ServeProcess(root / "photographs", root / "renditions", settings)
    yield running
    running.stop()


@pytest.mark.parametrize("name", PROBES)
def test_probe_as_it_is_sent_gets_200_on_both_ports(public_server: ServeProcess, name: str) -> None:
    paths = {public_server.port: "/health", public_server.admin_port: ""}

    async def scenario() -> None:
        for port, prefix in paths.items():
            for check in ("livez", "readyz"):
                async with Served(f"http://127.0.0.1:{port}/").viewer() as viewer:
                    await viewer.send(PROBES[name].replace(b"%b", f"{prefix}/{check}".encode()))
                    head = await viewer.reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200 ")

    run(scenario())
