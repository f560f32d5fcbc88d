"""Parses the parts of a header that libvips does not report: PNG chunks."""

from __future__ import annotations

from typing import Final

_SIGNATURE_BYTES: Final = 8
_MAX_CHUNKS: Final = 256


def png_chunks(original: bytes) -> dict[bytes, bytes]:
    """Return the data of the first chunk of each type before the first IDAT; checksums are not verified."""
    chunks: dict[bytes, bytes] = {}
    position = _SIGNATURE_BYTES
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(original[position : position + 4], "big")
        name = original[position + 4 : position + 8]
        if len(name) < 4 or name == b"IDAT":
            break
        chunks.setdefault(name, original[position + 8 : position + 8 + length])
        position += length + 12
    return chunks
