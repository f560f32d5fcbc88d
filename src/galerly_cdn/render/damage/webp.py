"""Finds damage in a WebP's data, which have no checksum, by how much of them libwebp reads.

libwebp refuses data that end too early. Data with a damaged part are read to another length, nearly always:
either they end too early, or some are left. libwebp does not say that some are left, but it then decodes the
picture without them as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from galerly_cdn.errors import Undecodable
from galerly_cdn.render import decoders
from galerly_cdn.render.formats import OriginalFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

SURPLUS_BYTES: Final = {b"VP8 ": 16, b"VP8L": 8}
"""How many bytes of an undamaged picture's data may stay unread; libwebp's encoder writes at most 3 and 1."""
_RIFF_HEADER_BYTES: Final = 12
_CHUNK_HEADER_BYTES: Final = 8
_FRAME_HEADER_BYTES: Final = 16
_SHRINK: Final = 8


class Chunk(NamedTuple):
    """A chunk of the container: its name, and where its header and its data begin."""

    name: bytes
    position: int
    length: int

    @property
    def end(self) -> int:
        return self.position + _CHUNK_HEADER_BYTES + self.length


def check(original: bytes) -> None:
    """Raise `Undecodable` if the first frame can be decoded without the last bytes of its data.

    Costs one decode at an eighth of the sides. Damage that leaves the length unchanged is not found.
    """
    shortened = without_last_bytes(original)
    if shortened is not None and _is_decodable(shortened):
        raise Undecodable("the WebP's data go on after its last pixel")


def without_last_bytes(original: bytes) -> bytes | None:
    """Return the file with the last bytes of the first frame's data cut out; None if it has too few.

    The sizes of the chunk, of its frame (`ANMF`) and of the file (`RIFF`) are reduced to match.
    """
    frame: Chunk | None = None
    for chunk in _chunks(original):
        if chunk.name == b"ANMF":
            frame = chunk
        elif count := SURPLUS_BYTES.get(chunk.name):
            if chunk.length < 2 * count:
                return None
            shortened = bytearray(original)
            for outer in (Chunk(b"RIFF", 0, int.from_bytes(original[4:8], "little")), frame, chunk):
                if outer is not None:
                    size = max(outer.length - count, 0).to_bytes(4, "little")
                    shortened[outer.position + 4 : outer.position + 8] = size
            del shortened[chunk.end - count : chunk.end]
            return bytes(shortened)
    return None


def _chunks(original: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to the end of the first frame; the chunks inside `ANMF` follow it."""
    end = min(len(original), _CHUNK_HEADER_BYTES + int.from_bytes(original[4:8], "little"))
    position = _RIFF_HEADER_BYTES
    while position + _CHUNK_HEADER_BYTES <= end:
        length = int.from_bytes(original[position + 4 : position + 8], "little")
        chunk = Chunk(original[position : position + 4], position, length)
        yield chunk
        if chunk.name == b"ANMF":
            position += _CHUNK_HEADER_BYTES + _FRAME_HEADER_BYTES
            end = min(end, chunk.end)
        else:
            position = chunk.end + length % 2


def _is_decodable(original: bytes) -> bool:
    try:
        image = decoders.load(original, OriginalFormat.WEBP)
        if min(image.width, image.height) >= 2 * _SHRINK:
            image = decoders.load(original, OriginalFormat.WEBP, scale=1 / _SHRINK)
        image.getpoint(0, 0)  # libvips decodes the whole frame for its first row
    except (Undecodable, decoders.Error):
        return False
    return True
