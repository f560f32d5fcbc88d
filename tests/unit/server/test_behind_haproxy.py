"""Tests servers behind a real HAProxy: its PROXY protocol headers, its checks, and a node that drains."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support import nginx, pictures
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURE = "/resize/tiny/g/a.jpg"
CHECKS = "option httpchk\nhttp-check send meth GET uri /health/readyz"
"""As docs/draining.md says."""
CONFIGURATION = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend public
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    {checks}
    default-server check inter 100ms fall 2 rise 1
    {nodes}
"""


@contextlib.contextmanager
def serving(root: Path, **settings: object) -> Iterator[ServeProcess]:
    settings = {"health_path": "/health", **settings}
    running = ServeProcess(root / "photographs", root / "renditions", settings)
    try:
        running.put("g/a.jpg", pictures.jpeg(60, 40))
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@contextlib.contextmanager
def haproxy(folder: Path, *nodes: str) -> Iterator[int]:
    """HAProxy in front of `nodes`, lines of its configuration; yields its port."""
    port = nginx.free_port()
    lines = "\n    ".join(f"server node{number} {node}" for number, node in enumerate(nodes))
    file = folder / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(port=port, checks=CHECKS, nodes=lines))
    with subprocess.Popen(["haproxy", "-db", "-q", "-f", file]) as process:
        try:
            while not accepts(port):
                assert process.poll() is None
            yield port
        finally:
            process.kill()


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            return bool(connection.getsockname() != connection.getpeername())  # it may connect to itself
    except ConnectionRefusedError:
        return False


def get(port: int, path: str = PICTURE, source: str = "") -> int:
    """The status of one request from an address of this machine."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=30, source_address=(source, 0) if source else None
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.mark.server("haproxy")
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2 proxy-v2-options crc32c"])
def test_client_of_haproxy_is_the_one_of_its_header(tmp_path: Path, version: str) -> None:
    with serving(tmp_path, proxy_protocol="127.0.0.1/32") as server:
        node = f"127.0.0.1:{server.port} {version} source 127.0.0.1"
        with haproxy(tmp_path, node) as port:
            assert get(port, source="127.0.0.9") == 200
        records = server.stop()
    clients = {record["client"] for record in records if record["path"] == PICTURE}
    assert "127.0.0.9" in clients
    checks = {(record["client"], record["status"]) for record in records if record["path"] != PICTURE}
    assert checks <= {("127.0.0.1", 200)}  # as LOCAL or UNKNOWN


@pytest.mark.server("haproxy")
def test_node_that_drains_behind_haproxy_fails_no_request(tmp_path: Path) -> None:
    """HAProxy notices by its checks within the delay, and sends the requests to the other node."""
    with (
        serving(tmp_path, drain_delay_s=2) as stopped,
        serving(tmp_path) as other,
        haproxy(tmp_path, f"127.0.0.1:{stopped.port}", f"127.0.0.1:{other.port}") as port,
    ):
        statuses: Counter[int] = Counter()
        has_ended = threading.Event()

        def load() -> None:
            while not has_ended.is_set():
                statuses[get(port)] += 1

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        records = stopped.stop()
        has_ended.set()
        for thread in threads:
            thread.join()
    assert {*statuses} == {200}
    assert ("/health/readyz", 503) in {(record["path"], record["status"]) for record in records}
