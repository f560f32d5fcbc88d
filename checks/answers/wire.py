"""Sends requests byte for byte, and reads their answers byte for byte."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field

_PATIENCE_S = 60.0
_END_PATIENCE_S = 5.0


@dataclass
class Answer:
    """One answer; headers in their order and case. Status 0: the connection ended without one."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    """The statuses before it: 100."""
    is_cut: bool = False
    """The connection ended within it."""
    beyond: bytes = b""
    """What came after it, though nothing more was asked."""
    is_kept: bool = False
    """The connection stayed open, though it was said to close."""

    def header(self, name: str) -> str:
        """The header's first value; empty for none."""
        return next((value for told, value in self.headers if told.lower() == name), "")


class Wire:
    """A viewer's connection: kept as long as the server keeps it, then opened anew."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._read = b""

    def ask(self, request: bytes, invited: bytes = b"", *, is_head: bool = False) -> Answer:
        """Send a request and read its answer; `invited` is sent when 100 has been answered."""
        answer = Answer()
        try:
            self._send(request)
            if invited and self._begin(answer):
                self._send(invited)
            self._fill(answer, is_head=is_head)
        except EOFError:
            answer.is_cut = True
        if answer.header("connection").lower() == "close":
            self._read_on(answer)
        answer.beyond, self._read = self._read, b""
        if answer.is_cut or answer.beyond or answer.header("connection").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._read = b""

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _send(self, content: bytes) -> None:
        with contextlib.suppress(OSError):  # it may refuse before everything is sent
            self._opened().sendall(content)

    def _begin(self, answer: Answer) -> bool:
        """Read a head; whether it is an interim one."""
        status, *headers = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = status.partition(" ")
        code, _, reason = rest.partition(" ")
        if version != "HTTP/1.1" or not code.isdecimal():
            raise ValueError(f"no answer in HTTP/1.1: {status!r}")
        if int(code) < 200:
            answer.interim.append(int(code))
            return True
        answer.status, answer.reason = int(code), reason
        for line in headers:
            name, _, value = line.partition(": ")
            answer.headers.append((name, value))
        return False

    def _fill(self, answer: Answer, *, is_head: bool) -> None:
        while not answer.status:
            self._begin(answer)
        if is_head or answer.status in {204, 304}:
            return
        if answer.header("transfer-encoding") == "chunked":
            while length := int(self._until(b"\r\n"), 16):
                answer.body += self._exactly(length)
                self._until(b"\r\n")
            self._until(b"\r\n")
        else:
            answer.body = self._exactly(int(answer.header("content-length")))

    def _until(self, mark: bytes) -> bytes:
        """What comes before the mark. Raises `EOFError`."""
        while mark not in self._read:
            self._more()
        found, _, self._read = self._read.partition(mark)
        return found

    def _exactly(self, length: int) -> bytes:
        while len(self._read) < length:
            self._more()
        found, self._read = self._read[:length], self._read[length:]
        return found

    def _read_on(self, answer: Answer) -> None:
        """Read until the connection ends."""
        self._opened().settimeout(_END_PATIENCE_S)
        try:
            while True:
                self._more()
        except EOFError:
            pass
        except TimeoutError:
            answer.is_kept = True

    def _more(self) -> None:
        try:
            chunk = self._opened().recv(256 * 1024)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise EOFError
        self._read += chunk
