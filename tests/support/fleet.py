"""Starts a fleet on this machine: fronts (nginx) before nodes (`galerly-cdn serve`) that share an S3 store.

Nodes and fronts keep their ports when they are started again, as machines keep their addresses.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import threading
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from galerly_cdn.http import front_refresh
from galerly_cdn.settings import load
from tests.support import cdn_process, nginx
from tests.support.ports import fixed_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.support.s3_servers import Objects

PUBLIC_URL = "https://cdn.test"
TOKEN = "0123456789abcdef0123456789abcdef"
"""Of the admin APIs; the secret that drops entries of the fronts is derived from it."""
_STARTED = (b"galerly-cdn serves ", b"galerly-cdn is administered at ")
_END_S = 60
_VALID_UNTIL = struct.Struct("<q")
_VALID_UNTIL_AT = 8
"""Where nginx keeps the time until which an entry of its cache is used (ngx_http_file_cache_header_t)."""


@dataclass
class Node:
    """`galerly-cdn serve` over a bucket. Its access log and its errors are files of `folder`."""

    folder: Path
    settings: dict[str, object]
    port: int = field(default_factory=fixed_port)
    admin_port: int = field(default_factory=fixed_port)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process, "the node was not started"
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until both ports accept connections. Raises `RuntimeError` if it ends first."""
        self.begin()
        self.wait_until_started()

    def begin(self) -> None:
        """Start it, and do not wait."""
        variables = {f"GALERLY_{name.upper()}": str(value) for name, value in self.settings.items()}
        ports = ["--port", str(self.port), "--admin-port", str(self.admin_port)]
        with (self.folder / "errors.log").open("ab") as errors:
            self._process = subprocess.Popen(
                [*cdn_process.PROGRAM, "serve", *ports],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=cdn_process.environment(**variables),
                start_new_session=True,  # Ctrl+C is for the process that ends all parts in order
            )

    def wait_until_started(self) -> None:
        output = self.process.stdout
        assert output
        lines = [output.readline() for _ in _STARTED]
        if not all(line.startswith(start) for line, start in zip(lines, _STARTED, strict=True)):
            self.process.kill()
            raise RuntimeError(f"a node did not start: {self.errors()}")
        self._reader = threading.Thread(target=self._keep_log)
        self._reader.start()

    def _keep_log(self) -> None:
        output = self.process.stdout
        assert output
        with output, (self.folder / "access.log").open("ab", buffering=0) as log:
            while written := os.read(output.fileno(), 1 << 16):
                log.write(written)

    def stop(self) -> None:
        """End it with SIGTERM. Asserts that it ends with 0."""
        self.process.terminate()
        self.wait_until_ended()
        assert self.process.returncode == 0, self.errors()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.wait_until_ended()

    def wait_until_ended(self) -> None:
        self.process.wait(_END_S)
        self._reader.join()

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log. It is complete when the node has ended."""
        return [json.loads(line) for line in (self.folder / "access.log").read_bytes().splitlines()]

    def errors(self) -> str:
        return (self.folder / "errors.log").read_text("utf-8")


@dataclass
class Front:
    """nginx before nodes, with the configuration that `galerly-cdn nginx` prints.

    `changes` replaces texts of the configuration, such as a lifetime for which a test cannot wait.
    """

    folder: Path
    settings: dict[str, object]
    changes: dict[str, str]
    port: int = field(default_factory=fixed_port)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process, "the front was not started"
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _configuration(self, nodes: Sequence[Node]) -> str:
        variables = {f"GALERLY_{name.upper()}": str(value) for name, value in self.settings.items()}
        settings = load.load_settings(environment=variables).settings
        token = load.admin_token(settings, variables)
        secret_md5 = front_refresh.secret_md5(token or "")
        ports = [node.port for node in nodes]
        text = nginx.front_configuration(self.folder, self.port, ports, settings, secret_md5=secret_md5)
        for old, new in self.changes.items():
            assert old in text, f"the configuration has no {old!r}"
            text = text.replace(old, new)
        return text

    def start(self, nodes: Sequence[Node]) -> None:
        self._process = nginx.start(self.folder, self._configuration(nodes), self.port)

    def reload(self, nodes: Sequence[Node]) -> None:
        """Print the configuration again, and have nginx read it (`nginx -s reload`)."""
        nginx.write(self.folder, self._configuration(nodes))
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Answer the requests that there are, then end (`nginx -s quit`)."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(_END_S)

    def kill(self) -> None:
        """End nginx and its workers with SIGKILL."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_END_S)

    def expire(self) -> None:
        """Make every entry of the cache as old as after its lifetime: a node has to confirm it."""
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError), entry.open("r+b") as file:
                file.seek(_VALID_UNTIL_AT)
                file.write(_VALID_UNTIL.pack(1))

    def empty(self) -> None:
        """Delete every entry of the cache; nginx asks a node for an entry without a file."""
        for entry in self._entries():
            entry.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        return [file for file in (self.folder / "cache").rglob("*") if file.is_file()]


class Fleet:
    """Two fronts and two nodes over a bucket. `values` are settings of the nodes and the fronts."""

    def __init__(
        self, root: Path, bucket: Objects, values: Mapping[str, object], changes: dict[str, str] | None = None
    ) -> None:
        self.root = root
        self.bucket = bucket
        token_file = root / "token"
        token_file.write_text(TOKEN, "ascii")
        s3 = bucket.settings()
        self.settings: dict[str, object] = {
            "store": s3.store,
            "store_endpoint": s3.store_endpoint,
            "public_urls": PUBLIC_URL,
            "trusted_proxies": "127.0.0.1/32",
            "workers": 1,
            "admin_token_file": token_file,
            **values,
        }
        self.nodes = [self._new_node(number) for number in (1, 2)]
        self.fronts = [
            Front(self._folder(f"front-{number}"), self.settings, changes or {}) for number in (1, 2)
        ]
        # Both lists are settings of the nodes, so that a change at one is seen everywhere at once
        self.settings["fronts"] = ";".join(f"http://127.0.0.1:{front.port}" for front in self.fronts)
        self.settings["nodes"] = ";".join(f"http://127.0.0.1:{node.admin_port}" for node in self.nodes)

    def _new_node(self, number: int) -> Node:
        return Node(self._folder(f"node-{number}"), self.settings)

    def start(self) -> None:
        """Start all; after an exception nothing runs."""
        with contextlib.ExitStack() as starting:
            starting.callback(self.close)
            start_all(self.nodes)
            for front in self.fronts:
                front.start(self.nodes)
            starting.pop_all()

    def add_node(self) -> Node:
        """Start a further node. The fronts use it after `reload`."""
        node = self._new_node(len(self.nodes) + 1)
        node.start()
        self.nodes.append(node)
        return node

    def reload(self) -> None:
        for front in self.fronts:
            front.reload(self.nodes)

    def close(self) -> None:
        """End fronts and nodes that run."""
        for front in self.fronts:
            if front.is_running:
                front.kill()
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            node.process.terminate()
        for node in running:
            node.wait_until_ended()

    def front_of(self, path: str) -> Front:
        """One of the fronts, the same for all pictures of a gallery."""
        return self.fronts[zlib.crc32("".join(path.split("/")[3:4]).encode()) % len(self.fronts)]

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder


def start_all(nodes: Sequence[Node]) -> None:
    """Start several nodes at once."""
    for node in nodes:
        node.begin()
    for node in nodes:
        node.wait_until_started()
