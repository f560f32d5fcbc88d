"""Runs `galerly-cdn serve` over a folder or S3, and declares what a scenario needs of any shape."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.expectations import PlatformDifference
    from tests.support.s3_servers import Objects


@dataclass(frozen=True)
class Answer:
    """A response as a viewer gets it. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes
    cache: str = ""
    """The value of Cache-Status without the cache's name."""


class Shape(Protocol):
    """A way to deploy the CDN, on which scenarios run."""

    differences: Sequence[PlatformDifference]
    """Where its platform responds otherwise than the scenarios say."""

    @property
    def key_id(self) -> str:
        """The ID of the public key with which signatures are verified."""
        ...

    def now_s(self) -> float:
        """The time by the shape's clock, in seconds of the epoch."""
        ...

    def wait(self, duration_s: float) -> None:
        """Advances the clock, if the shape has one that tests set."""
        ...

    def put(self, key: str, original: bytes) -> None:
        """Puts or replaces an original. When it returns, the old renditions must not be served any more."""
        ...

    def remove(self, key: str) -> None:
        """Deletes an original."""
        ...

    def damage_renditions(self) -> None:
        """Changes a byte of every stored rendition."""
        ...

    def delete_renditions(self) -> None:
        """Deletes every stored rendition without the CDN."""
        ...

    def restart(self) -> None:
        """Stops and starts the CDN, which empties its caches in memory."""
        ...

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """The response to a viewer's request."""
        ...

    def administer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The response to a request to the admin API."""
        ...


@dataclass
class ServeProcess:
    """A process of `galerly-cdn serve` over a folder, with the admin API."""

    folder: Path
    renditions: Path
    settings: dict[str, object] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables in addition to the settings."""
    differences: Sequence[PlatformDifference] = ()
    key_id: str = "K1"
    program: Sequence[str] = (sys.executable, "-m", "galerly_cdn")
    """The command line of `galerly-cdn`."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start()

    def _start(self) -> None:
        settings = {"renditions": self.renditions, "workers": 1, **self.settings}
        self._serve(settings, self.folder)

    def _serve(self, settings: dict[str, object], *arguments: str | Path) -> None:
        variables = {f"GALERLY_{name.upper()}": str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(
            [*self.program, "serve", *arguments, "--port", "0", "--admin-port", "0"],
            stdout=subprocess.PIPE,
            env={**os.environ, **variables, **self.variables},
        )
        self.port = self._read_port("galerly-cdn serves ")
        self.admin_port = self._read_port("galerly-cdn is administered at ")

    def _read_port(self, prefix: str) -> int:
        """The port in the next line of output. Raises `RuntimeError` unless it begins with `prefix`."""
        assert self.process.stdout
        line = self.process.stdout.readline().decode()
        if not line.startswith(prefix):
            self.process.kill()
            self.process.communicate()
            raise RuntimeError(f"it did not start: exit status {self.process.returncode}, last line {line!r}")
        return int(line.rpartition(":")[2].strip().strip("/"))

    def now_s(self) -> float:
        return time.time()

    def wait(self, duration_s: float) -> None:
        raise NotImplementedError(f"this shape's clock cannot be advanced by {duration_s} s")

    def put(self, key: str, original: bytes) -> None:
        file = self.folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.new")
        temporary.write_bytes(original)
        temporary.replace(file)

    def remove(self, key: str) -> None:
        (self.folder / key).unlink()

    def damage_renditions(self) -> None:
        self.restart()  # a server that has stopped has written every rendition
        for file in self.rendition_files():
            damaged = bytearray(file.read_bytes())
            damaged[-20] ^= 0x40
            file.write_bytes(damaged)

    def delete_renditions(self) -> None:
        for file in self.rendition_files():
            file.unlink()

    def rendition_files(self) -> list[Path]:
        """The files of all stored renditions and fact records, without those that are being written."""
        return [file for file in self.renditions.glob("??/[!.]*") if file.is_file()]

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> list[dict[str, object]]:
        """Stops the process with SIGTERM, and returns its access log. Asserts that the exit status is 0."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return [json.loads(line) for line in output.splitlines()]

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """The Host header is that of the tests' public URL, as a proxy passes it."""
        return send_request(self.port, method, path, {"Host": "cdn.test", **headers})

    def administer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        return send_request(
            self.admin_port, method, path, {"Content-Length": str(len(body)), **headers}, body
        )


@contextmanager
def running(root: Path, **settings: object) -> Iterator[ServeProcess]:
    """A server process; it is killed if the test did not stop it."""
    shape = ServeProcess(root / "photographs", root / "renditions", settings)
    try:
        yield shape
    finally:
        if shape.process.poll() is None:
            shape.process.kill()
        shape.process.communicate()


@dataclass
class TwoProcesses(ServeProcess):
    """A server with a hit process, which must answer with each picture as the server does."""

    def _start(self) -> None:
        settings = {"renditions": self.renditions, "workers": 1, "processes": 2, **self.settings}
        self._serve(settings, self.folder)

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        answer = super().request(method, path, headers)
        if answer.status in {200, 304} and answer.cache:
            assert _as_any_process(self._request_second(method, path, headers)) == _as_any_process(answer)
        return answer

    def _request_second(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """A request behind another one: the server gives the connection away after its first response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            exchange(connection, "GET", "/first", {"Host": "cdn.test"})
            return exchange(connection, method, path, {"Host": "cdn.test", **headers})
        finally:
            connection.close()


def _as_any_process(answer: Answer) -> Answer:
    """The response without what differs between two of the same picture."""
    varying = {"date", "server-timing", "cache-status"}
    same = {name: value for name, value in answer.headers.items() if name not in varying}
    return Answer(answer.status, same, answer.body)


@dataclass
class S3ServeProcess(ServeProcess):
    """A process of `galerly-cdn serve --store s3://…`. Originals are put by another S3 client."""

    bucket: Objects | None = None

    def __post_init__(self) -> None:
        self._start()

    @property
    def objects(self) -> Objects:
        assert self.bucket
        return self.bucket

    def _start(self) -> None:
        s3_settings = self.objects.settings()
        settings = {
            "store": s3_settings.store,
            "store_endpoint": s3_settings.store_endpoint,
            "store_fresh_s": 0,
            "workers": 1,
            **self.settings,
        }
        self._serve(settings)

    def put(self, key: str, original: bytes) -> None:
        self.objects.put(f"originals/{key}", original)

    def remove(self, key: str) -> None:
        self.objects.remove(f"originals/{key}")

    def damage_renditions(self) -> None:
        self.objects.damage_renditions()

    def delete_renditions(self) -> None:
        self.objects.delete_renditions()


def send_request(port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """Sends one request on a connection of its own, with no headers but these."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        return exchange(connection, method, path, headers, body)
    finally:
        connection.close()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes = b"",
) -> Answer:
    """Sends one request, and receives the response."""
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body or None)
    response = connection.getresponse()
    response_headers = {name.lower(): value for name, value in response.getheaders()}
    cache = response_headers.get("cache-status", "").removeprefix("galerly-cdn; ")
    return Answer(response.status, response_headers, response.read(), cache)
