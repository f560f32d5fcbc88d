"""Reads the boxes of a HEIF: AVIF and HEIC (ISO/IEC 23008-12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and content of each box in a sequence of boxes (ISO/IEC 14496-12 §4.2)."""
    position = 0
    while position + 8 <= len(body):
        length, header = int.from_bytes(body[position : position + 4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(body[position + 8 : position + 16], "big"), 16
        end = position + length if length else len(body)
        if end < position + header:
            return
        yield body[position + 4 : position + 8], body[position + header : end]
        position = end
