"""Defines the messages between the server and a worker process, and encodes and decodes their frames.

A frame is a kind (one byte), the lengths of its two parts (big-endian, 4 bytes each), a message as JSON,
and a body of raw bytes. The server sends `Request` (with a file descriptor of the original), `Continue`
and `Abandon`; the worker sends the others:

    Start → Started                                        between the server and the fork server: a worker
    Ready                                                  once, after its start (or Failed, then it ends)
    Request → MemoryNeeded → Continue → Done … Continue → Done    a job: one picture for each Continue
    Request → Done                                         an inspection of the header
    Abandon                                                in place of a Continue: the job ends
    Failed                                                 in place of MemoryNeeded or Done: the request ends

The server sends `Continue` when the memory for the picture is reserved. Server and worker both import
this module, so it imports nothing that is slow to load.
"""

from __future__ import annotations

import socket
import struct

from galerly_cdn.model import Facts, Job, Rendered
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.serialization import ValidationError, Value, from_json, to_json

HEADER = struct.Struct("!cII")
_MAX_MESSAGE_BYTES = 64 * 1024
_MAX_BODY_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


class ProtocolError(Exception):
    """The bytes are not a frame, or the message is not expected."""


class WorkerLimits(Value, frozen=True):
    """The limits of a worker process: address space, and CPU time for each picture."""

    memory_bytes: int
    cpu_s: float


class Start(Value, frozen=True):
    """Asks the fork server for a worker. Its socket and its stderr come with the message."""

    limits: WorkerLimits


class Started(Value, frozen=True):
    """The fork server has started a worker."""

    pid: int


class Request(Value, frozen=True):
    """A job, or without a job an inspection, of an original that has exactly `length_bytes`.

    `is_known_good`: the original was decoded before, and no damage was found.
    """

    length_bytes: int
    job: Job | None
    is_known_good: bool = False


class Continue(Value, frozen=True):
    """Asks for the next picture of the job: memory for it is reserved."""


class Abandon(Value, frozen=True):
    """Ends the job: its remaining pictures are not wanted."""


class Ready(Value, frozen=True):
    """A worker is ready: the version of libvips, the formats it decodes, and the limits that are in force."""

    libvips: str
    formats: tuple[str, ...]
    limits: tuple[str, ...]


class MemoryNeeded(Value, frozen=True):
    """The original's header is read: its kind, and the memory that decoding will take."""

    memory_bytes: int
    kind: OriginalFormat


class Done(Value, frozen=True):
    """A result: the facts, or the description of a rendition whose bytes are the body.

    The first picture of a job has the facts too, unless the original is known to be good.
    """

    resident_bytes: int
    rendered: Rendered | None = None
    facts: Facts | None = None


class Failed(Value, frozen=True):
    """An error of `galerly_cdn.errors`, by its code; `public` only if the error has its own sentence.

    With the facts if the header could be read.
    """

    resident_bytes: int
    code: str
    detail: str
    public: str = ""
    facts: Facts | None = None


Message = Start | Started | Request | Continue | Abandon | Ready | MemoryNeeded | Done | Failed
_TYPES: dict[bytes, type[Message]] = {
    b"s": Start,
    b"S": Started,
    b"r": Request,
    b"c": Continue,
    b"a": Abandon,
    b"R": Ready,
    b"M": MemoryNeeded,
    b"D": Done,
    b"F": Failed,
}
_KINDS = {message_type: kind for kind, message_type in _TYPES.items()}


def encode_frame(message: Message, body_bytes: int = 0) -> bytes:
    """Return the frame of a message without the body, which the caller sends after it."""
    text = to_json(message)
    return HEADER.pack(_KINDS[type(message)], len(text), body_bytes) + text


def decode_lengths(header: bytes | bytearray) -> tuple[int, int]:
    """Return the lengths in bytes of the message and of the body that follow a frame's header.

    Raises `ProtocolError` for an unknown kind and for lengths over the limits, before any allocation.
    """
    kind, message_bytes, body_bytes = HEADER.unpack(header)
    if kind not in _TYPES or message_bytes > _MAX_MESSAGE_BYTES or body_bytes > _MAX_BODY_BYTES:
        raise ProtocolError(f"the frame header {bytes(header)!r} is invalid")
    return message_bytes, body_bytes


def decode_message(header: bytes | bytearray, text: bytes | bytearray) -> Message:
    """Return the message of a frame. Raises `ProtocolError` if the JSON does not fit the kind."""
    try:
        return from_json(_TYPES[bytes(header[:1])], text)
    except ValidationError as error:
        raise ProtocolError(str(error)) from error


def send_message(server: socket.socket, message: Message, body: bytes = b"") -> None:
    """Send a frame from the worker, blocking. Raises `OSError` when the server is gone."""
    server.sendall(encode_frame(message, len(body)))
    if body:
        server.sendall(body)


def receive_message(server: socket.socket, max_fds: int = 1) -> tuple[Message, list[int]]:
    """Receive a frame in the worker, blocking: the message and the file descriptors sent with it.

    Raises `EOFError` when the server has closed the connection, and `ProtocolError` only if the server
    has another version than the worker.
    """
    header, fds, _, _ = socket.recv_fds(server, HEADER.size, max_fds)
    if not header:
        raise EOFError
    header += _receive_exactly(server, HEADER.size - len(header))
    message_bytes, _ = decode_lengths(header)
    return decode_message(header, _receive_exactly(server, message_bytes)), list(fds)


def _receive_exactly(server: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = server.recv(min(count - len(received), _CHUNK_BYTES))
        if not chunk:
            raise EOFError
        received += chunk
    return bytes(received)
