"""What a PNG's header says and libvips does not: its chunks up to the pixels (PNG 3rd edition §5)."""

from __future__ import annotations

from typing import Final

_SIGNATURE_BYTES: Final = 8
_MAX_CHUNKS: Final = 256


def png_chunks(original: bytes) -> dict[bytes, bytes]:
    """The first chunk of each type before the first IDAT; a chunk's bytes are not checked."""
    found: dict[bytes, bytes] = {}
    at = _SIGNATURE_BYTES
    for _ in range(_MAX_CHUNKS):
        length, name = int.from_bytes(original[at : at + 4], "big"), original[at + 4 : at + 8]
        if len(name) < 4 or name == b"IDAT":
            break
        found.setdefault(name, original[at + 8 : at + 8 + length])
        at += length + 12
    return found
