"""Runs nginx with a configuration, and fronts of nodes with the one that `galerly-cdn nginx` prints."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from galerly_cdn.nginx.configuration import configuration
from galerly_cdn.nginx.front import Front, check_front
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def own_folders(text: str, folder: Path) -> str:
    """The configuration with nginx's temporary files in `folder`, so that no rights are needed elsewhere."""
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
    return text.replace("http {", f"http {{\n{paths}", 1)


def _command(folder: Path, *options: str) -> list[str]:
    program = shutil.which("nginx")
    assert program
    # As root, nginx's workers would be another user's, who cannot enter the tests' folders
    user = "user root; " if os.geteuid() == 0 else ""
    own = f"daemon off; pid {folder}/pid; error_log {folder}/error.log warn; {user}"
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", own, *options]


def write(folder: Path, text: str) -> None:
    """Write the configuration that nginx reads at its start and when it is reloaded."""
    (folder / "nginx.conf").write_text(own_folders(text, folder), "utf-8")


def check(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """The result of `nginx -t`."""
    write(folder, text)
    return subprocess.run(_command(folder, "-t"), capture_output=True, text=True, check=False)


def start(folder: Path, text: str, port: int) -> subprocess.Popen[bytes]:
    """Start nginx with this configuration; it accepts connections on the port.

    It leads a process group, so that a signal reaches its workers too.
    """
    write(folder, text)
    process = subprocess.Popen(_command(folder), start_new_session=True)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            assert process.poll() is None, (folder / "error.log").read_text()
            continue
        return process


@contextmanager
def running(folder: Path, text: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """nginx with this configuration, accepting connections on the port."""
    with start(folder, text, port) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def front_configuration(
    folder: Path,
    port: int,
    nodes: Iterable[int],
    settings: Settings,
    **options: Any,  # noqa: ANN401 - fields of `Front`
) -> str:
    """What `galerly-cdn nginx` prints for nodes on ports of this machine; `options` are further ones."""
    front = Front(
        nodes=tuple(f"127.0.0.1:{node}" for node in nodes),
        listen=(f"127.0.0.1:{port}",),
        cache_folder=f"{folder}/cache",
        cache_size="1g",
        log=f"{folder}/access.log",
        **options,
    )
    return configuration(check_front(front, settings), settings)


@contextmanager
def running_front(folder: Path, nodes: Iterable[int], settings: Settings | None = None) -> Iterator[int]:
    """A front of nodes on these ports; yields its port."""
    port = free_port()
    text = front_configuration(folder, port, nodes, settings or Settings())
    with running(folder, text, port):
        yield port
