"""The service of deploy/systemd, started as its socket units start it, at the first connection."""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import pictures
from tests.support.cdn_process import environment
from tests.support.deploy_files import ROOT, unit_values
from tests.support.ports import fixed_port
from tests.support.shapes import send_request

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = ROOT / "deploy/systemd"


@pytest.fixture
def notifications() -> Iterator[socket.socket]:
    """Where the server tells its state: an address in the abstract namespace, which the kernel chooses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")
        receiver.settimeout(60)
        yield receiver


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed if it has not ended."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment(), text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.server("systemd-socket-activate")
def test_service_of_the_unit_uses_its_sockets_and_says_when_it_is_ready(
    tmp_path: Path, notifications: socket.socket
) -> None:
    service = unit_values(UNITS / "galerly-cdn.service")
    command = service["ExecStart"].replace("/opt/galerly-cdn/bin", str(Path(sys.executable).parent))
    (tmp_path / "store/originals").mkdir(parents=True)
    (tmp_path / "store/originals/a.jpg").write_bytes(pictures.jpeg(60, 40))
    (tmp_path / "galerly-cdn.toml").write_text(f'store = "{tmp_path}/store"\n', "utf-8")
    sockets = [UNITS / name for name in service["Sockets"].split()]
    names = [unit_values(one)["FileDescriptorName"] for one in sockets]
    ports = {name: fixed_port() for name in names}
    variables = {
        "NOTIFY_SOCKET": f"@{notifications.getsockname()[1:].decode()}",
        "WATCHDOG_USEC": f"{int(service['WatchdogSec']) * 1_000_000}",
        "XDG_CACHE_HOME": str(tmp_path),
        "GALERLY_WORKERS": "1",
    }
    activate = ["systemd-socket-activate", f"--fdname={':'.join(names)}"]
    activate += [f"--listen=127.0.0.1:{port}" for port in ports.values()]
    activate += [f"--setenv={name}={value}" for name, value in variables.items()]
    activate += shlex.split(command.replace("/etc/galerly-cdn.toml", str(tmp_path / "galerly-cdn.toml")))
    with started(activate) as process:
        assert process.stderr
        for _ in ports:
            assert "Listening on" in process.stderr.readline()
        assert send_request(ports["public"], "GET", "/resize/tiny/a.jpg", {}).status == 200
        assert send_request(ports["admin"], "GET", "/readyz", {}).status == 200
        addresses = [f"http://127.0.0.1:{ports[name]}/" for name in ("public", "admin")]
        assert notifications.recv(4096).decode() == f"READY=1\nSTATUS=serves {' and '.join(addresses)}"
        assert notifications.recv(4096) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        assert notifications.recv(4096).startswith(b"STOPPING=1")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
