"""Two nodes of one store for a front, and requests as viewers and attackers send them."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.access import keys
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.shapes import ServeProcess, send_request

if TYPE_CHECKING:
    from pathlib import Path

    from galerly_cdn.access.signing import Signer
    from tests.support.shapes import Answer

AVIF = {"Accept": "image/avif,image/webp,*/*"}

PICTURE = "/resize/tiny/g/a.jpg"
PRIVATE = "/resize/tiny/clients/smith/1.jpg"


class Fleet:
    """Two nodes of one store, and a front."""

    def __init__(self, root: Path, **values: object) -> None:
        given = {"public_urls": "https://cdn.test", "trusted_proxies": "127.0.0.1/32", **values}
        self.root = root
        (root / "front").mkdir()
        self.nodes = [ServeProcess(root / "photographs", root / "renditions", dict(given)) for _ in range(2)]
        self.put("g/a.jpg")

    def put(self, key: str, quality: int = 92) -> None:
        self.nodes[0].put(key, pictures.jpeg(60, 40, quality=quality))

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def stop(self) -> list[dict[str, object]]:
        """The access logs of both nodes."""
        return [line for node in self.nodes if node.process.poll() is None for line in node.stop()]


def front_settings(**values: object) -> Settings:
    return Settings(public_urls=("https://cdn.test",), **values)  # type: ignore[arg-type]  # the caller names fields


def get(port: int, path: str = PICTURE, method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return send_request(port, method, path, {"Host": "cdn.test", **AVIF, **named})


def entries(root: Path) -> list[str]:
    """The keys of the front's cache entries."""
    files = (file for file in (root / "front/cache").rglob("*") if file.is_file())
    keys = (file.read_bytes().partition(b"\nKEY: ")[2].partition(b"\n")[0] for file in files)
    return sorted(key.decode("latin-1") for key in keys)


def raw_status(port: int, target: str, header: str, method: str = "GET") -> int:
    """As `raw_answer`, the status alone."""
    return raw_answer(port, target, header, method).status


class RawAnswer(NamedTuple):
    """The status and the body of a response; the status is 0 if the connection was closed without any."""

    status: int
    body: bytes


def raw_answer(port: int, target: str, header: str, method: str = "GET") -> RawAnswer:
    """The response to a request that is sent as it is written."""
    request = f"{method} {target} HTTP/1.1\r\nConnection: close\r\n{header}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.encode("latin-1"))
        received = b""
        with contextlib.suppress(ConnectionResetError):  # after its answer to a malformed request
            while chunk := connection.recv(65536):
                received += chunk
    body = received.partition(b"\r\n\r\n")[2]
    return RawAnswer(int(received[9:12]), body) if received.startswith(b"HTTP/") else RawAnswer(0, body)


def signer_with_key(folder: Path) -> Signer:
    """A signer; the folder has its public key alone, as a node wants it."""
    _, _, private = keys.create_key_pair(folder, ecdsa=True)
    signer = keys.load_signer(private)
    private.unlink()
    return signer
