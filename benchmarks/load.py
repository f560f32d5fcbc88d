"""How is a server kept busy without pause? By raw sockets: their client is cheaper than any server.

A server that waits between requests pays for a wake-up with each; a busy one does not.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

AT_ONCE = 32
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


def keep_busy(address: str, path: str, headers: Mapping[str, str], requests: int, wanted: int) -> None:
    """Ask so many times for the same, on 32 connections. Raises `RuntimeError` for any other status."""
    place = urlsplit(address)
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": place.netloc, **headers}.items())
    request = f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()
    start = b"HTTP/1.1 %d " % wanted
    sockets = [socket.create_connection((place.hostname, place.port)) for _ in range(AT_ONCE)]
    buffer = memoryview(bytearray(1 << 20))
    try:
        for one in sockets:
            one.sendall(request)
        for number in range(requests):
            one = sockets[number % AT_ONCE]
            _receive(one, buffer, start)
            if number < requests - AT_ONCE:
                one.sendall(request)
    finally:
        for one in sockets:
            one.close()


def _receive(connection: socket.socket, buffer: memoryview, start: bytes) -> None:
    """Read one answer that begins with `start` and fits into the buffer; drop it."""
    have = wanted = 0
    while not wanted or have < wanted:
        got = connection.recv_into(buffer[have:])
        have += got
        if not wanted:
            head, found, _ = bytes(buffer[: min(have, 4096)]).partition(_END)
            if found:
                length = _LENGTH.search(head + b"\r\n")
                wanted = len(head) + len(_END) + (int(length[1]) if length else 0)
        if not got or not bytes(buffer[: len(start)]).startswith(start):
            raise RuntimeError(f"answered {bytes(buffer[:60])!r}, wanted {start!r}")
