"""The shapes a scenario runs on: each takes originals, answers viewers and its admin, and restarts."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.expectations import Imposed
    from tests.support.s3_servers import Objects


@dataclass(frozen=True)
class Answer:
    """A response as a viewer sees it; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    cache: str = ""
    """Cache-Status, without our name."""


class Shape(Protocol):
    """What every shape can do for a scenario."""

    imposed: Sequence[Imposed]
    """What its platform answers otherwise."""

    @property
    def key_id(self) -> str:
        """The name of the public key that signatures are verified by."""
        ...

    def now_s(self) -> float:
        """The time by its clock, in seconds of the epoch."""
        ...

    def wait(self, duration_s: float) -> None:
        """Let time pass, where the clock is set by hand."""
        ...

    def put(self, key: str, original: bytes) -> None:
        """Put or replace an original; when it returns, no old picture may be answered."""
        ...

    def remove(self, key: str) -> None:
        """Delete an original."""
        ...

    def rot(self) -> None:
        """Damage every stored rendition."""
        ...

    def lose(self) -> None:
        """Delete every stored rendition behind its back."""
        ...

    def restart(self) -> None:
        """Stop and start again; only the store remembers."""
        ...

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """One request of a viewer."""
        ...

    def administer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """One request to the admin side."""
        ...


@dataclass
class OneMachine:
    """`galerly-cdn serve` over a folder, as a process of its own, with its admin side."""

    folder: Path
    renditions: Path
    settings: dict[str, object] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    """Of its environment, beside those of the settings."""
    imposed: Sequence[Imposed] = ()
    key_id: str = "K1"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start()

    def _start(self) -> None:
        settings = {"renditions": self.renditions, "workers": 1, **self.settings}
        self._serve(settings, self.folder)

    def _serve(self, settings: dict[str, object], *arguments: str | Path) -> None:
        variables = {f"GALERLY_{name.upper()}": str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "galerly_cdn", "serve", *arguments, "--port", "0", "--admin-port", "0"],
            stdout=subprocess.PIPE,
            env={**os.environ, **variables, **self.variables},
        )
        self.port = self._announced("galerly-cdn serves ")
        self.admin_port = self._announced("galerly-cdn is administered at ")

    def _announced(self, what: str) -> int:
        """The port in the next line. Raises `RuntimeError` if it says something else, or nothing."""
        assert self.process.stdout
        line = self.process.stdout.readline().decode()
        if not line.startswith(what):
            self.process.kill()
            self.process.communicate()
            raise RuntimeError(f"it did not start; exit {self.process.returncode}, last words {line!r}")
        return int(line.rpartition(":")[2].strip().strip("/"))

    def now_s(self) -> float:
        return time.time()

    def wait(self, duration_s: float) -> None:
        raise NotImplementedError(f"nothing here takes {duration_s} s")

    def put(self, key: str, original: bytes) -> None:
        file = self.folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        waiting = file.with_name(f".{file.name}.new")
        waiting.write_bytes(original)
        waiting.replace(file)

    def remove(self, key: str) -> None:
        (self.folder / key).unlink()

    def rot(self) -> None:
        for file in self.stored():
            damaged = bytearray(file.read_bytes())
            damaged[-20] ^= 0x40
            file.write_bytes(damaged)

    def lose(self) -> None:
        for file in self.stored():
            file.unlink()

    def stored(self) -> list[Path]:
        """The files of the stored renditions."""
        return [file for file in self.renditions.rglob("*") if file.is_file() and file.name != "CACHEDIR.TAG"]

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> list[dict[str, object]]:
        """Stop as an operator does; the access records of the run. Asserts that it ends with 0."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return [json.loads(line) for line in output.splitlines()]

    def request(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        return ask(self.port, method, path, headers)

    def administer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        return ask(self.admin_port, method, path, {"Content-Length": str(len(body)), **headers}, body)


@dataclass
class OverS3(OneMachine):
    """`galerly-cdn serve --store s3://…`; originals come by any other S3 client, and show at once."""

    bucket: Objects | None = None

    def __post_init__(self) -> None:
        self._start()

    @property
    def objects(self) -> Objects:
        assert self.bucket
        return self.bucket

    def _start(self) -> None:
        told = self.objects.settings()
        settings = {
            "store": told.store,
            "store_endpoint": told.store_endpoint,
            "store_fresh_s": 0,
            "workers": 1,
            **self.settings,
        }
        self._serve(settings)

    def put(self, key: str, original: bytes) -> None:
        self.objects.put(f"originals/{key}", original)

    def remove(self, key: str) -> None:
        self.objects.remove(f"originals/{key}")

    def rot(self) -> None:
        self.objects.damage_renditions()

    def lose(self) -> None:
        self.objects.delete_renditions()


def ask(port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """One request on a connection of its own, with no header that it was not told."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        cache = told.get("cache-status", "").removeprefix("galerly-cdn; ")
        return Answer(response.status, told, response.read(), cache)
    finally:
        connection.close()
