"""Tests of the server over real sockets: listening, error responses and stopping."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import SettingsError
from galerly_cdn.server import serve
from galerly_cdn.server.serve import Listener
from galerly_cdn.settings.table import Settings
from tests.support.raw_http import Echo, Served, answer, get, run, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.http.request import Receive, Scope, Send
    from galerly_cdn.http.responses import Response


def _listener(host: str = "127.0.0.1", port: int = 0) -> Listener:
    return Listener(application=Echo(), host=host, port=port)


def test_serve_port_in_use_raises_one_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        with pytest.raises(SettingsError) as raised:
            serve.run(serve.serve(_listener("127.0.0.1", port), settings=Settings()))
    assert raised.value.problems == [f"host, port: cannot listen on 127.0.0.1:{port}: Address already in use"]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("no-such-host.invalid", "the host name is unknown"),
        (f"{'a' * 64}.example", "the host name is unknown"),
    ],
)
def test_serve_unusable_host_raises_one_problem(host: str, reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        serve.run(serve.serve(_listener(host, 0), settings=Settings()))
    assert raised.value.problems == [f"host, port: cannot listen on {host}:0: {reason}"]


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://"), ("::1", "http://[::1]:")],
)
def test_on_ready_gets_address_of_running_server(host: str, shown: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")

    async def scenario() -> None:
        async with serving(Echo(), Settings(host=host, port=0)) as served, served.viewer() as viewer:
            assert served.address.startswith(shown)
            assert served.address.endswith("/")
            await viewer.send(get())
            status, headers, body = await viewer.response()
            assert status == 200
            assert "date" in headers
            assert "server" not in headers
            assert json.loads(body)["client"] in {"127.0.0.1", "::1"}

    run(scenario())


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_listeners_are_ready_in_order_with_own_application_and_limits() -> None:
    async def scenario() -> None:
        addresses: asyncio.Queue[str] = asyncio.Queue()
        one_client = Settings(max_connections=1)
        listeners = [
            Listener(application=application, host="127.0.0.1", port=0, on_ready=addresses.put_nowait)
            for application in (Echo(), lambda _, __, send: answer(send, b"the other application"))
        ]
        running = asyncio.ensure_future(serve.serve(*listeners, settings=one_client))
        first, second = Served(await addresses.get()), Served(await addresses.get())
        async with first.viewer() as viewer, second.viewer() as other:
            await viewer.send(get("/a"))
            assert json.loads((await viewer.response())[2])["raw_path"] == "/a"
            await other.send(get("/a"))
            assert (await other.response())[2] == b"the other application"
            async with first.viewer() as third:
                assert (await third.response())[0] == 503
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(scenario())


def test_serve_one_unusable_address_starts_no_listener() -> None:
    addresses: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        first = Listener(application=Echo(), host="127.0.0.1", port=0, on_ready=addresses.append)
        with pytest.raises(SettingsError, match="Address already in use"):
            serve.run(serve.serve(first, _listener(port=occupied.getsockname()[1]), settings=Settings()))
    assert addresses == []


def test_large_dropped_body_gets_response_without_reset() -> None:
    async def refused(_: Scope, __: Receive, send: Send) -> None:
        await answer(send, b"no" * 50_000, 405)

    async def scenario() -> None:
        async with serving(Echo(a=refused)) as served, served.viewer() as viewer:
            head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
            sending = asyncio.ensure_future(viewer.send(head + b"x" * 3_000_000))
            status, headers, body = await viewer.response()
            assert (status, len(body), headers["connection"]) == (405, 100_000, "close")
            assert await viewer.read_to_end() == b""
            await sending

    run(scenario())


def test_listener_refuse_makes_error_responses() -> None:
    recorded: list[tuple[str, str]] = []

    def refuse(error: GalerlyError, client: str) -> Response:
        recorded.append((error.code, client))
        return serve.refuse(error, client)

    async def scenario() -> None:
        async with serving(Echo(), refuse=refuse) as served, served.viewer() as viewer:
            await viewer.send(b"nonsense\r\n\r\n")
            assert (await viewer.response())[0] == 400

    run(scenario())
    assert recorded == [("bad-request", "127.0.0.1")]


def test_oversized_request_does_not_affect_next_connections() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as served:
            async with served.viewer() as viewer:
                await viewer.send(get("/a", "X: " + "a" * 40_000))
                assert (await viewer.response())[0] == 431
            async with served.viewer() as viewer:
                for _ in range(100):
                    await viewer.send(get("/a"))
                    assert (await viewer.response())[0] == 200

    run(scenario())


def test_raise_file_limit_raises_soft_limit_only() -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "from galerly_cdn.server import serve\n"
        "serve.raise_file_limit(300)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 300)\n"
        "serve.raise_file_limit(10**12)\n"
        "serve.raise_file_limit(10)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 300)\n"
    )

    async def scenario() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        assert (await child.communicate())[0].split() == [b"True", b"True"]

    run(scenario())


SERVER = """
import asyncio, sys
from galerly_cdn.server import serve
from galerly_cdn.settings.table import Settings

BODY = bytes(range(256)) * 16384  # 4 MiB: more than a socket's buffers take
released = asyncio.Event()
waiting = 0

async def application(scope, receive, send):
    global waiting
    body = b"ok"
    if scope["raw_path"] == b"/open":
        released.set()
    elif scope["raw_path"] == b"/render":
        waiting += 1
        await released.wait()
    elif scope["raw_path"] == b"/waiting":
        body = str(waiting).encode()
    elif scope["raw_path"] == b"/download":
        body = BODY
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

async def drain():
    print("draining", flush=True)
    if "hold" in sys.argv:
        await released.wait()
    if "block" in sys.argv:
        sys.stdin.readline()

settings = Settings(port=0, drain_s=float(sys.argv[1]))
one = serve.Listener(
    application=application, host="127.0.0.1", port=0, on_ready=lambda address: print(address, flush=True)
)
serving = serve.serve(one, settings=settings, on_drain=drain)
print(serve.run(serving), flush=True)
"""


class Process:
    """A server in a process of its own, which signals stop."""

    def __init__(self, child: asyncio.subprocess.Process, address: str) -> None:
        self.child = child
        self.served = Served(address)

    async def line(self) -> str:
        assert self.child.stdout is not None
        return (await self.child.stdout.readline()).decode().strip()

    async def renders(self, number: int) -> None:
        """Wait until `number` requests are in progress."""
        async with self.served.viewer() as viewer:
            body = b""
            while body != str(number).encode():
                await viewer.send(get("/waiting"))
                body = (await viewer.response())[2]


async def _started(tmp_path: Path, *arguments: str) -> AsyncIterator[Process]:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    child = await asyncio.create_subprocess_exec(
        sys.executable, script, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        yield Process(child, (await child.stdout.readline()).decode().strip())
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


BODY = bytes(range(256)) * 16384


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_downloads_and_renders(tmp_path: Path, number: signal.Signals) -> None:
    async def download(served: Served, begun: asyncio.Semaphore, may_end: asyncio.Event) -> bytes:
        async with served.viewer() as viewer:
            await viewer.send(get("/download"))
            head = await viewer.reader.readuntil(b"\r\n\r\n")
            begun.release()
            await may_end.wait()
            body = await viewer.reader.readexactly(len(BODY))
            assert await viewer.read_to_end() == b""
            assert head.startswith(b"HTTP/1.1 200 ")
            return body

    async def render(served: Served) -> tuple[int, str | None]:
        async with served.viewer() as viewer:
            await viewer.send(get("/render"))
            status, headers, _ = await viewer.response()
            assert await viewer.read_to_end() == b""
            return status, headers.get("connection")

    async def scenario() -> None:
        async for process in _started(tmp_path, "20", "hold"):
            begun, may_end = asyncio.Semaphore(0), asyncio.Event()
            async with asyncio.TaskGroup() as group, process.served.viewer() as idle:
                downloads = [group.create_task(download(process.served, begun, may_end)) for _ in range(50)]
                renders = [group.create_task(render(process.served)) for _ in range(20)]
                await idle.send(get())
                await idle.response()
                for _ in downloads:
                    await begun.acquire()
                await process.renders(20)
                process.child.send_signal(number)
                assert await process.line() == "draining"
                async with process.served.viewer() as late:  # connections are served until on_drain returns
                    await late.send(get("/open"))
                    assert (await late.response())[0] == 200
                assert await idle.read_to_end() == b""
                may_end.set()
            assert [task.result() for task in downloads] == [BODY] * 50
            assert [status for status, _ in (task.result() for task in renders)] == [200] * 20
            assert await process.line() == "True"
            assert await process.child.wait() == 0

    run(scenario())


def test_stop_responses_say_connection_close(tmp_path: Path) -> None:
    async def scenario() -> None:
        async for process in _started(tmp_path, "20"):
            async with process.served.viewer() as busy, process.served.viewer() as other:
                await busy.send(get("/render"))
                await other.send(b"GET /open HTTP/1.1\r\n")
                await process.renders(1)
                process.child.send_signal(signal.SIGTERM)
                assert await process.line() == "draining"
                await other.send(b"Host: a\r\n\r\n")
                for viewer in (other, busy):
                    status, headers, _ = await viewer.response()
                    assert (status, headers["connection"]) == (200, "close")
                    assert await viewer.read_to_end() == b""
            assert await process.line() == "True"
            assert await process.child.wait() == 0

    run(scenario())


def test_stop_serves_connections_in_backlog(tmp_path: Path) -> None:
    async def scenario() -> None:
        async for process in _started(tmp_path, "20", "block"):
            process.child.send_signal(signal.SIGTERM)
            assert await process.line() == "draining"  # now its event loop is blocked
            async with process.served.viewer() as viewer:
                await viewer.send(get())
                assert process.child.stdin is not None
                process.child.stdin.write(b"go on\n")
                status, headers, _ = await viewer.response()
                assert (status, headers["connection"]) == (200, "close")
            assert await process.line() == "True"
            assert await process.child.wait() == 0

    run(scenario())


@pytest.mark.parametrize(
    ("drain_s", "signals"), [("1000", 2), ("0.01", 1)], ids=["a second signal", "drain_s"]
)
def test_stop_aborts_unfinished_requests(tmp_path: Path, drain_s: str, signals: int) -> None:
    async def scenario() -> None:
        async for process in _started(tmp_path, drain_s):
            async with process.served.viewer() as viewer:
                await viewer.send(get("/render"))
                await process.renders(1)
                process.child.send_signal(signal.SIGTERM)
                assert await process.line() == "draining"
                for _ in range(signals - 1):
                    process.child.send_signal(signal.SIGTERM)
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await viewer.response()
            assert await process.line() == "False"
            assert await process.child.wait() == 0

    run(scenario())


def test_cancelled_server_closes_all_files() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as served, served.viewer() as viewer:
            await viewer.send(get())
            await viewer.response()
            port = served.port
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    run(scenario())  # the first loop of a process opens libuv's pipe for signals, which stays open
    before = _open_files()
    run(scenario())
    assert _open_files() == before


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))
