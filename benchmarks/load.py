"""How is a server kept busy without pause? By raw sockets: their client is cheaper than any server.

A server that waits between requests pays for a wake-up with each; a busy one does not.
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

AT_ONCE = 32
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


def keep_busy(address: str, path: str, headers: Mapping[str, str], requests: int, wanted: int) -> None:
    """Ask so many times for the same, on 32 connections. Raises `RuntimeError` for any other status."""
    for status in statuses(address, itertools.repeat(path, requests), headers):
        if status != wanted:
            raise RuntimeError(f"{path} was answered {status}, wanted {wanted}")


def statuses(address: str, paths: Iterable[str], headers: Mapping[str, str]) -> Iterator[int]:
    """The status of every path, in order; 32 connections always have a request under way."""
    place = urlsplit(address)
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": place.netloc, **headers}.items())
    sockets = [socket.create_connection((place.hostname, place.port)) for _ in range(AT_ONCE)]
    buffer = memoryview(bytearray(1 << 20))
    idle, waiting = sockets[::-1], deque[socket.socket]()
    try:
        for path in paths:
            if not idle:
                yield _receive(waiting[0], buffer)
                idle.append(waiting.popleft())
            idle[-1].sendall(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())
            waiting.append(idle.pop())
        for one in waiting:
            yield _receive(one, buffer)
    finally:
        for one in sockets:
            one.close()


def _receive(connection: socket.socket, buffer: memoryview) -> int:
    """Read one answer that fits into the buffer; its status."""
    have = wanted = status = 0
    while not wanted or have < wanted:
        got = connection.recv_into(buffer[have:])
        have += got
        if not wanted:
            head, found, _ = bytes(buffer[: min(have, 4096)]).partition(_END)
            if found:
                length = _LENGTH.search(head + b"\r\n")
                wanted = len(head) + len(_END) + (int(length[1]) if length else 0)
                status = int(head.split(b" ", 2)[1])
        if not got:
            raise RuntimeError(f"the answer ended after {bytes(buffer[:60])!r}")
    return status
