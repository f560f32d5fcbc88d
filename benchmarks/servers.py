"""Starts servers for measurements, and sends requests over keep-alive connections.

The client's cost does not count, because CPU is read from the server's processes.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from benchmarks import proc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from galerly_cdn.settings.table import Settings

_STOP_TIMEOUT_S = 40.0
_POLL_S = 0.01


class Running(NamedTuple):
    """A running server: its address, and the process at the root of its process tree."""

    address: str
    pid: int


class Answer(NamedTuple):
    """A response and its duration."""

    status: int
    body: bytes
    etag: str | None
    duration_s: float
    timing: str = ""
    """Server-Timing."""


class Client:
    """One keep-alive connection. With separate `send` and `receive`, several requests can be pending."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
        self._sent_s = 0.0

    def send(self, path: str, headers: Mapping[str, str] | None = None) -> None:
        self._sent_s = time.perf_counter()
        self._connection.request("GET", path, headers={"Accept": "*/*", **(headers or {})})

    def receive(self) -> Answer:
        response = self._connection.getresponse()
        body = response.read()
        duration_s = time.perf_counter() - self._sent_s
        headers = response.headers
        return Answer(response.status, body, headers["etag"], duration_s, headers["server-timing"] or "")

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        self.send(path, headers)
        return self.receive()

    def close(self) -> None:
        self._connection.close()


def ask_all(address: str, paths: Sequence[str], concurrency: int) -> list[Answer]:
    """The response for every path. Raises `RuntimeError` for a status other than 200."""
    local = threading.local()
    clients: list[Client] = []

    def ask(path: str) -> Answer:
        if not hasattr(local, "client"):
            local.client = Client(address)
            clients.append(local.client)
        answer: Answer = local.client.get(path)
        if answer.status != 200:
            raise RuntimeError(f"{address}: status {answer.status} for {path}: {answer.body[:200]!r}")
        return answer

    try:
        with ThreadPoolExecutor(concurrency) as pool:
            return list(pool.map(ask, paths))
    finally:
        for client in clients:
            client.close()


def picture(key: str, segment: str) -> str:
    """The path of a rendition: `picture("a/b.jpg", "800x600.webp")`."""
    return f"/resize/{segment}/{quote(key)}"


@contextmanager
def galerly(photographs: Path, renditions: Path, **settings: object) -> Iterator[Running]:
    """Run `galerly-cdn serve` with the access log on, which is read. Every worker has started.

    `settings` are those of `galerly-cdn config`.
    """
    command = [sys.executable, "-m", "galerly_cdn", "serve", str(photographs)]
    command += ["--port", "0", "--renditions", str(renditions)]
    environment = {f"GALERLY_{name.upper()}": str(value) for name, value in settings.items()}
    with _started(command, environment) as running:
        yield running


@contextmanager
def galerly_over(store: Settings, **settings: object) -> Iterator[Running]:
    """Run `galerly-cdn serve` over a remote store."""
    command = [sys.executable, "-m", "galerly_cdn", "serve", "--port", "0"]
    values = {"store": store.store, "store_endpoint": store.store_endpoint, **settings}
    environment = {f"GALERLY_{name.upper()}": str(value) for name, value in values.items()}
    with _started(command, environment) as running:
        yield running


@contextmanager
def application(module: str, *arguments: str) -> Iterator[Running]:
    """Run a module that prints its address as the last word of a line, as `galerly-cdn serve` does."""
    with _started([sys.executable, "-m", module, *arguments], {}) as running:
        yield running


@contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Running]:
    variables = {**os.environ, **environment}
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=variables) as process,
        ThreadPoolExecutor(1) as reader,
    ):
        assert process.stdout
        try:
            words = process.stdout.readline().decode().split()
            if not words:
                raise RuntimeError(f"{' '.join(command)} did not start")
            reader.submit(_discard, process.stdout.fileno())
            proc.settle(process.pid)
            yield Running(words[-1], process.pid)
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_S)


def _discard(fd: int) -> None:
    """Read the access log to its end, so that a full pipe does not block the server."""
    while os.read(fd, 1 << 16):
        pass


@contextmanager
def started_group(command: Sequence[str], address: str, environment: Mapping[str, str]) -> Iterator[Running]:
    """Run a server that prints no address, in its own process group, and wait until `address` answers."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        while not _is_listening(address):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(_POLL_S)
        proc.settle(process.pid)
        yield Running(address, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_STOP_TIMEOUT_S)


def _is_listening(address: str) -> bool:
    client = Client(address)
    try:
        client.get("/")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()
    return True
