"""Tests the sockets that the server listens on: unix sockets, and those that a service manager passes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import SettingsError
from galerly_cdn.nginx.configuration import configuration
from galerly_cdn.nginx.front import Front, check_front
from galerly_cdn.server.passed_sockets import adopt
from galerly_cdn.server.sockets import bind
from galerly_cdn.settings.table import Settings
from tests.support import nginx, pictures
from tests.support.cdn_process import PROGRAM, environment
from tests.support.raw_http import Echo, get, run, serving
from tests.support.shapes import send_request

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path() -> Iterator[Path]:
    """The path of a socket file, short enough for every system (a unix address has 107 bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "public.sock"


def test_unix_socket_serves_clients_that_have_no_address_and_no_limit(path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(host=f"unix:{path}", max_connections_per_client=1)
        async with serving(Echo(), settings) as served, served.viewer() as viewer, served.viewer() as other:
            assert served.address == f"unix:{path}"
            for one in (viewer, other):
                await one.send(get())
                assert json.loads((await one.response())[2])["client"] == "unix:"

    run(scenario())
    assert not path.exists()


def test_client_with_a_bound_unix_socket_has_no_address_either(path: Path) -> None:
    def request() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.bind(str(path.with_name("client.sock")))
            client.connect(str(path))
            client.sendall(get("/", "Connection: close"))
            return b"".join(iter(lambda: client.recv(65536), b""))

    async def scenario() -> None:
        async with serving(Echo(), Settings(host=f"unix:{path}")):
            response = await asyncio.to_thread(request)
            assert json.loads(response.partition(b"\r\n\r\n")[2])["client"] == "unix:"

    run(scenario())


def test_stale_socket_file_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(path))
        ended.listen()
    with bind(f"unix:{path}", 0), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o666  # its folder decides who reaches it
    assert not path.exists()


@pytest.mark.parametrize("backlog", [0, 10])
def test_socket_of_a_server_that_listens_is_not_replaced(path: Path, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as clients:
        other.bind(str(path))
        other.listen(backlog)
        for _ in range(2):  # the smaller backlog is full then
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
        with pytest.raises(SettingsError) as raised:
            bind(f"unix:{path}", 0)
        assert raised.value.problems == [f"host, port: cannot listen on unix:{path}: Address already in use"]
        assert path.exists()


def test_file_that_is_another_server_s_by_now_is_kept(path: Path) -> None:
    with bind(f"unix:{path}", 0):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path.with_name("other.sock")))
            path.with_name("other.sock").rename(path)
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unix:", "write the whole path"),
        ("unix:public.sock", "write the whole path"),
        ("unix:{folder}/file", "it is a file, no socket"),
        ("unix:{folder}", "it is a file, no socket"),
        ("unix:{folder}/none/public.sock", "No such file or directory"),
        ("unix:{folder}/file/public.sock", "Not a directory"),
        ("unix:{folder}/" + "a" * 108, "AF_UNIX path too long"),
        ("unix:{folder}/a\0b", "embedded null"),
        ("a\0b", "the host name is unknown"),
    ],
)
def test_address_at_which_no_socket_can_be_made_is_one_problem(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SettingsError) as raised:
        bind(name.format(folder=tmp_path), 0)
    (problem,) = raised.value.problems
    assert reason in problem
    assert (tmp_path / "file").read_text() == "kept"


def test_passed_descriptor_that_is_no_listening_socket_is_one_problem() -> None:
    with (
        tempfile.TemporaryFile() as file,
        socket.socket() as idle,
        socket.socket(type=socket.SOCK_DGRAM) as datagram,
    ):
        for fd in (file.fileno(), idle.fileno(), datagram.fileno(), 99_999):
            with pytest.raises(SettingsError, match=f"LISTEN_FDS: descriptor {fd} \\(public\\) is no "):
                adopt("public", fd)


# a process with sockets of a service manager


class Manager:
    """Starts `galerly-cdn serve` as systemd does: with listening sockets and a socket for notifications."""

    def __init__(self, folder: Path, sockets: dict[str, socket.socket]) -> None:
        (folder / "photographs").mkdir()
        (folder / "photographs" / "a.jpg").write_bytes(pictures.jpeg(60, 40))
        self.folder = folder
        self.sockets = sockets
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.settimeout(30)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, notify_socket: str, *options: str, **variables: str) -> subprocess.Popen[str]:
        fds = [one.fileno() for one in self.sockets.values()]
        statements = [
            "import os, sys",
            *(f"os.dup2({fd}, {100 + at})" for at, fd in enumerate(fds)),
            *(f"os.dup2({100 + at}, {3 + at})" for at in range(len(fds))),
            "os.environ['LISTEN_PID'] = str(os.getpid())",
            "os.execv(sys.argv[1], sys.argv[1:])",
        ]
        paths = [str(self.folder / "photographs"), "--renditions", str(self.folder / "r")]
        process = subprocess.Popen(
            [PROGRAM[0], "-c", "; ".join(statements), *PROGRAM, "serve", *paths, "--workers", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=fds,
            env=environment(
                NOTIFY_SOCKET=notify_socket,
                WATCHDOG_USEC="100000",
                LISTEN_FDS=str(len(fds)),
                LISTEN_FDNAMES=":".join(self.sockets),
                **variables,
            ),
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for one in (*self.sockets.values(), self.notifications):
            one.close()

    def notified(self) -> str:
        return self.notifications.recv(4096).decode()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in ("admin", "public")}
    started = Manager(tmp_path, sockets)
    yield started
    started.close()


def port(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def test_service_manager_is_told_ready_watchdog_and_stopping(manager: Manager, path: Path) -> None:
    manager.notifications.bind(str(path))
    process = manager.start(str(path))
    public, admin = (f"http://127.0.0.1:{port(manager.sockets[name])}/" for name in ("public", "admin"))
    assert manager.notified() == f"READY=1\nSTATUS=serves {public} and {admin}"
    assert [manager.notified() for _ in range(3)] == ["WATCHDOG=1"] * 3
    process.send_signal(signal.SIGTERM)
    while (told := manager.notified()) == "WATCHDOG=1":
        pass
    assert told == "STOPPING=1\nSTATUS=answers requests for 0 s more, then finishes those in progress"
    assert process.wait(30) == 0


def test_restart_with_passed_sockets_loses_no_connection(manager: Manager, path: Path) -> None:
    """Connections that are made while no process runs wait in the socket for the next one."""
    manager.notifications.bind(str(path))
    first = manager.start(str(path))
    assert manager.notified().startswith("READY=1")
    public, admin = port(manager.sockets["public"]), port(manager.sockets["admin"])
    assert send_request(public, "GET", "/resize/tiny/a.jpg", {}).status == 200
    assert send_request(admin, "GET", "/readyz", {}).status == 200
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    with socket.create_connection(("127.0.0.1", public)) as waiting:
        waiting.sendall(get("/resize/tiny/a.jpg", "Connection: close"))
        manager.start(str(path))
        assert waiting.recv(17) == b"HTTP/1.1 200 OK\r\n"


def test_passed_admin_socket_on_a_public_address_needs_a_token(manager: Manager) -> None:
    """What is allowed on loopback only is decided by the socket, not by `admin_host`."""
    manager.sockets["admin"].close()
    manager.sockets["admin"] = socket.create_server(("0.0.0.0", 0))
    process = manager.start("")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors == "galerly-cdn: admin_host 0.0.0.0 is not loopback: set admin_token_file\n"


@pytest.mark.server("nginx")
def test_front_reaches_a_node_on_a_unix_socket_and_names_the_client(tmp_path: Path, path: Path) -> None:
    manager = Manager(tmp_path, {})
    port = nginx.free_port()
    front = Front(
        nodes=(f"unix:{path}",),
        listen=(f"127.0.0.1:{port}",),
        cache_folder=f"{tmp_path}/cache",
        log=f"{tmp_path}/access.log",
    )
    text = configuration(check_front(front, Settings()), Settings())
    try:
        process = manager.start("", "--host", f"unix:{path}", GALERLY_TRUSTED_PROXIES="unix:")
        assert process.stdout
        assert process.stdout.readline() == f"galerly-cdn serves unix:{path}\n"
        with nginx.running(tmp_path, text, port):
            assert send_request(port, "GET", "/resize/tiny/a.jpg", {}).status == 200
        process.send_signal(signal.SIGTERM)
        (record,) = process.communicate(timeout=30)[0].splitlines()
        assert json.loads(record)["client"] == "127.0.0.1"
    finally:
        manager.close()
