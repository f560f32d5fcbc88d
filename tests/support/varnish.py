"""Runs Varnish with `deploy/varnish/galerly.vcl`, for nodes on ports of this machine."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.nginx import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VCL = Path(__file__).parents[2] / "deploy/varnish/galerly.vcl"


def configuration(nodes: Sequence[int], secret_file: Path) -> str:
    """The documented VCL with the ports of two nodes."""
    ports = iter(nodes)
    text = re.sub(r'\.host = "10\.0\.0\.[12]"', '.host = "127.0.0.1"', VCL.read_text("utf-8"))
    text = re.sub(r'\.port = "8000"', lambda _: f'.port = "{next(ports)}"', text)
    return text.replace("/etc/varnish/galerly.secret", str(secret_file))


@contextlib.contextmanager
def running(folder: Path, text: str) -> Iterator[int]:
    """Varnish with this VCL; yields its port."""
    program = shutil.which("varnishd")
    assert program
    file, port = folder / "galerly.vcl", free_port()
    file.write_text(text, "utf-8")
    command = [program, "-F", "-j", "none", "-n", str(folder / "varnish"), "-a", f"127.0.0.1:{port}"]
    with subprocess.Popen(
        [*command, "-f", str(file), "-s", "malloc,64m", "-T", "none", "-p", "thread_pool_min=5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            _wait(port, process)
            yield port
        finally:
            process.terminate()


def _wait(port: int, process: subprocess.Popen[str]) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise RuntimeError(process.communicate()[0]) from None
            continue
        return
