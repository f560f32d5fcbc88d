"""Defines the messages between the server and one hit process, and encodes and decodes their frames.

Each message is one packet of a Unix socket (SOCK_SEQPACKET): a kind (one byte), the message as JSON without a
line break, a line feed, and raw bytes. A packet with a connection has its descriptor (SCM_RIGHTS).

    Start → Ready                     once
    Give                              a connection without a request, for the process to serve
    Data … Return                     the connection goes back, with the bytes that were read and not answered
    Closed                            a connection has ended
    Forget → Forgotten                renditions that were purged
    Records                           access records, counted events, the bytes of the renditions in memory
    Drain                             the process returns all connections
    Stop                              the process sends what is left, and ends
"""

from __future__ import annotations

from galerly_cdn.serialization import ValidationError, Value, from_json, to_json
from galerly_cdn.settings.locations import Locations
from galerly_cdn.settings.table import Settings
from galerly_cdn.telemetry import AccessRecord

MAX_PACKET_BYTES = 192 * 1024
"""What the kernel takes in one packet with its default limits (`net.core.wmem_max`)."""
DATA_BYTES = 64 * 1024
"""The raw bytes of one packet."""


class Start(Value, frozen=True, kw_only=True):
    """What a hit process serves: the settings, the folders, and what the recipes depend on."""

    settings: Settings
    locations: Locations
    libvips: str
    formats: tuple[str, ...]


class Ready(Value, frozen=True):
    """The process can serve connections."""


class Give(Value, frozen=True):
    """A connection, by a number of the server's."""

    number: int


class Data(Value, frozen=True):
    """A part of what was read from a connection; the rest follows."""

    number: int


class Return(Value, frozen=True):
    """A connection that the server serves from now on, and whether the process answered a request on it."""

    number: int
    is_used: bool


class Closed(Value, frozen=True):
    """A connection has ended."""

    number: int


class Forget(Value, frozen=True):
    """Removes renditions from memory: their keys and targets."""

    number: int
    renditions: tuple[tuple[str, str], ...]


class Forgotten(Value, frozen=True):
    """The renditions of a `Forget` are in memory no more; `removed` are the targets of those that were."""

    number: int
    removed: tuple[str, ...]


class ResultRecord(Value, frozen=True):
    """A request that a hit process answered, with its result as in `TrafficStatistics`."""

    record: AccessRecord
    result: str


class Records(Value, frozen=True):
    """What happened since the last message of this kind, and the bytes in memory now."""

    records: tuple[ResultRecord, ...]
    events: dict[str, int]
    memory_bytes: int


class Drain(Value, frozen=True):
    """The server stops: connections are to be returned once their responses are sent."""


class Stop(Value, frozen=True):
    """The server has stopped."""


Message = Start | Ready | Give | Data | Return | Closed | Forget | Forgotten | Records | Drain | Stop
_TYPES: dict[bytes, type[Message]] = {
    b"s": Start,
    b"R": Ready,
    b"g": Give,
    b"D": Data,
    b"r": Return,
    b"C": Closed,
    b"f": Forget,
    b"F": Forgotten,
    b"A": Records,
    b"d": Drain,
    b"S": Stop,
}
_KINDS = {message_type: kind for kind, message_type in _TYPES.items()}


class ProtocolError(Exception):
    """The packet is no message, or the message is not expected."""


def encode(message: Message, data: bytes = b"") -> bytes:
    """The packet of a message with raw bytes."""
    return b"%b%b\n%b" % (_KINDS[type(message)], to_json(message), data)


def decode(packet: bytes) -> tuple[Message, bytes]:
    """The inverse of `encode`. Raises `ProtocolError`."""
    text, end, data = packet[1:].partition(b"\n")
    kind = _TYPES.get(packet[:1])
    if kind is None or not end:
        raise ProtocolError(f"no message: {packet[:40]!r}")
    try:
        return from_json(kind, text), data
    except ValidationError as error:
        raise ProtocolError(str(error)) from error
