"""Sends requests and reads responses over a socket, without an HTTP library that would change them."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field

_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 5.0


@dataclass
class Answer:
    """One response; headers in their order and case. Status 0: the connection closed without a response."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    """Interim statuses before it, such as 100."""
    is_cut: bool = False
    """The connection was closed within the response."""
    beyond: bytes = b""
    """Bytes after the response, without a further request."""
    is_kept: bool = False
    """The connection stayed open in spite of `Connection: close`."""

    def header(self, name: str) -> str:
        """The header's first value; empty for none."""
        return next((value for header, value in self.headers if header.lower() == name), "")


class Wire:
    """A keep-alive connection, reopened when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._buffer = b""

    def send(self, request: bytes, body_after_100: bytes = b"", *, is_head: bool = False) -> Answer:
        """Send a request and read its response; `body_after_100` is sent after the interim status 100."""
        answer = Answer()
        try:
            self._write(request)
            if body_after_100 and self._read_head(answer):
                self._write(body_after_100)
            self._read_rest(answer, is_head=is_head)
        except EOFError:
            answer.is_cut = True
        if answer.header("connection").lower() == "close":
            self._read_to_end(answer)
        answer.beyond, self._buffer = self._buffer, b""
        if answer.is_cut or answer.beyond or answer.header("connection").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer = b""

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _write(self, content: bytes) -> None:
        with contextlib.suppress(OSError):  # the server may respond and close before everything is sent
            self._connect().sendall(content)

    def _read_head(self, answer: Answer) -> bool:
        """Read a status line and headers; returns whether the status is interim."""
        status, *headers = self._read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = status.partition(" ")
        code, _, reason = rest.partition(" ")
        if version != "HTTP/1.1" or not code.isdecimal():
            raise ValueError(f"not an HTTP/1.1 status line: {status!r}")
        if int(code) < 200:
            answer.interim.append(int(code))
            return True
        answer.status, answer.reason = int(code), reason
        for line in headers:
            name, _, value = line.partition(": ")
            answer.headers.append((name, value))
        return False

    def _read_rest(self, answer: Answer, *, is_head: bool) -> None:
        while not answer.status:
            self._read_head(answer)
        if is_head or answer.status in {204, 304}:
            return
        if answer.header("transfer-encoding") == "chunked":
            while length := int(self._read_until(b"\r\n"), 16):
                answer.body += self._read_exactly(length)
                self._read_until(b"\r\n")
            self._read_until(b"\r\n")
        else:
            answer.body = self._read_exactly(int(answer.header("content-length")))

    def _read_until(self, mark: bytes) -> bytes:
        """The bytes before the mark. Raises `EOFError`."""
        while mark not in self._buffer:
            self._receive()
        before, _, self._buffer = self._buffer.partition(mark)
        return before

    def _read_exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._receive()
        content, self._buffer = self._buffer[:length], self._buffer[length:]
        return content

    def _read_to_end(self, answer: Answer) -> None:
        """Read until the server closes the connection."""
        self._connect().settimeout(_CLOSE_TIMEOUT_S)
        try:
            while True:
                self._receive()
        except EOFError:
            pass
        except TimeoutError:
            answer.is_kept = True

    def _receive(self) -> None:
        try:
            chunk = self._connect().recv(256 * 1024)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise EOFError
        self._buffer += chunk
