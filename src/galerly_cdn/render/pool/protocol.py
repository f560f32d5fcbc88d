"""What passes between the server and a worker process: messages, and how they are framed.

A frame is a kind (one byte), the lengths of its two parts, a message as JSON, and bytes beside it. The
server says `Order` (an original's file descriptor travels with it), `Go` and `Stop`, the worker the rest:

    Hello                                     once, when it is ready (or Failed, and it ends)
    Order → Weighed → Go → Done … Go → Done   a job: a picture for each Go, said when the memory is there
    Order → Done                              an inspection
    Stop                                      in place of a Go: no more of this job
    Failed                                    in place of Weighed or Done: the order is over

Both sides import this file, so it imports nothing slow.
"""

from __future__ import annotations

import socket
import struct

from galerly_cdn.model import Facts, Job, Rendered
from galerly_cdn.serialization import ValidationError, Value, from_json, to_json

HEAD = struct.Struct("!cII")
_MAX_MESSAGE_BYTES = 64 * 1024
_MAX_BODY_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


class ProtocolError(Exception):
    """Bytes that are no frame, or a frame nobody asked for."""


class WorkerLimits(Value, frozen=True):
    """What a worker may take of the machine."""

    memory_bytes: int
    cpu_s: float


class Request(Value, frozen=True):
    """The work: a job, or without one an inspection, of an original of exactly so many bytes."""

    length_bytes: int
    job: Job | None


class Continue(Value, frozen=True):
    """The memory is there: make the next picture."""


class Abandon(Value, frozen=True):
    """The pictures still to come are not wanted: forget the job."""


class Ready(Value, frozen=True):
    """A worker is ready: its libvips, the formats that really decode, and which limits hold."""

    libvips: str
    formats: tuple[str, ...]
    confined: tuple[str, ...]


class MemoryNeeded(Value, frozen=True):
    """The header is read: the memory that decoding would take."""

    weight_bytes: int


class Done(Value, frozen=True):
    """A result; a rendition's bytes are beside it."""

    resident_bytes: int
    rendered: Rendered | None = None
    facts: Facts | None = None


class Failed(Value, frozen=True):
    """An error of `galerly_cdn.errors` by its code."""

    resident_bytes: int
    code: str
    detail: str


Message = Request | Continue | Abandon | Ready | MemoryNeeded | Done | Failed
_KINDS: dict[bytes, type[Message]] = {
    b"o": Request,
    b"g": Continue,
    b"s": Abandon,
    b"h": Ready,
    b"w": MemoryNeeded,
    b"d": Done,
    b"f": Failed,
}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}


def frame(message: Message, body_bytes: int = 0) -> bytes:
    """The frame of `message`, without the bytes that are to follow it."""
    text = to_json(message)
    return HEAD.pack(_LETTERS[type(message)], len(text), body_bytes) + text


def lengths(head: bytes | bytearray) -> tuple[int, int]:
    """Bytes of the message and of the body that follow. Raises `Garbage` before anything is allocated."""
    letter, message_bytes, body_bytes = HEAD.unpack(head)
    if letter not in _KINDS or message_bytes > _MAX_MESSAGE_BYTES or body_bytes > _MAX_BODY_BYTES:
        raise ProtocolError(repr(bytes(head)))
    return message_bytes, body_bytes


def message(head: bytes | bytearray, text: bytes | bytearray) -> Message:
    """The message itself. Raises `Garbage`."""
    try:
        return from_json(_KINDS[bytes(head[:1])], text)
    except ValidationError as error:
        raise ProtocolError(str(error)) from error


def send_message(to: socket.socket, words: Message, body: bytes = b"") -> None:
    """Blocking, the worker's. Raises `OSError` when the server is gone."""
    to.sendall(frame(words, len(body)))
    if body:
        to.sendall(body)


def receive_message(server: socket.socket) -> tuple[Message, int | None]:
    """Blocking, the worker's: the next message, and the descriptor that came with it.

    Raises `EOFError` when the server has closed, `Garbage` never from a server of this version.
    """
    head, fds, _, _ = socket.recv_fds(server, HEAD.size, 1)
    if not head:
        raise EOFError
    head += _exactly(server, HEAD.size - len(head))
    message_bytes, _ = lengths(head)
    return message(head, _exactly(server, message_bytes)), fds[0] if fds else None


def _exactly(server: socket.socket, count: int) -> bytes:
    read = bytearray()
    while len(read) < count:
        chunk = server.recv(min(count - len(read), _CHUNK_BYTES))
        if not chunk:
            raise EOFError
        read += chunk
    return bytes(read)
