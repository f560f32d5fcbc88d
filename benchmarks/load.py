"""Keeps a server busy without pauses, with a client on raw sockets that costs less CPU than the server.

An idle server pays for a wake-up with each request; a busy one does not.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONNECTIONS = 32
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


def keep_busy(address: str, path: str, headers: Mapping[str, str], requests: int, wanted: int) -> None:
    """Request a path repeatedly on 32 connections. Raises `RuntimeError` for a status other than `wanted`."""
    for status in statuses(address, itertools.repeat(path, requests), headers):
        if status != wanted:
            raise RuntimeError(f"status {status} for {path}, wanted {wanted}")


def statuses(address: str, paths: Iterable[str], headers: Mapping[str, str]) -> Iterator[int]:
    """The status for every path, in order; 32 requests are pending at any time."""
    parts = urlsplit(address)
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": parts.netloc, **headers}.items())
    sockets = [socket.create_connection((parts.hostname, parts.port)) for _ in range(CONNECTIONS)]
    buffer = memoryview(bytearray(1 << 20))
    idle, waiting = sockets[::-1], deque[socket.socket]()
    try:
        for path in paths:
            if not idle:
                yield _receive(waiting[0], buffer)
                idle.append(waiting.popleft())
            idle[-1].sendall(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())
            waiting.append(idle.pop())
        for connection in waiting:
            yield _receive(connection, buffer)
    finally:
        for connection in sockets:
            connection.close()


def _receive(connection: socket.socket, buffer: memoryview) -> int:
    """Read one response, which must fit into the buffer; returns its status."""
    received = expected = status = 0
    while not expected or received < expected:
        count = connection.recv_into(buffer[received:])
        received += count
        if not expected:
            head, end, _ = bytes(buffer[: min(received, 4096)]).partition(_END)
            if end:
                length = _LENGTH.search(head + b"\r\n")
                expected = len(head) + len(_END) + (int(length[1]) if length else 0)
                status = int(head.split(b" ", 2)[1])
        if not count:
            raise RuntimeError(f"the response ended after {bytes(buffer[:60])!r}")
    return status
