"""Damages JPEGs as disks and transfers do, and makes irregular ones whose pixels are as before."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_POSITIONS = 9
_SIXTEENTHS = 16
PAGE_BYTES = 4096


def mutations(original: bytes, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield (name, damaged JPEG): pages overwritten, bytes deleted or inserted, the tail lost."""
    chance = random.Random(seed)
    start = scan_at(original)
    for position in range(1, _POSITIONS + 1):
        at = start + (len(original) - start) * position // (_POSITIONS + 1)
        page = max(at // PAGE_BYTES * PAGE_BYTES, start)
        page_end = min(page + PAGE_BYTES, len(original))
        yield f"zeroed page at {position}", original[:page] + bytes(page_end - page) + original[page_end:]
        yield (
            f"random page at {position}",
            original[:page] + chance.randbytes(page_end - page) + original[page_end:],
        )
        for length in (512, 64):
            yield f"{length} bytes deleted at {position}", original[:at] + original[at + length :]
            yield (
                f"{length} bytes inserted at {position}",
                original[:at] + chance.randbytes(length) + original[at:],
            )
    for sixteenth in range(1, _SIXTEENTHS):
        at = start + (len(original) - start) * sixteenth // _SIXTEENTHS
        yield f"cut at {sixteenth}/16", original[:at]
        yield f"zeroed from {sixteenth}/16", original[:at] + bytes(len(original) - at)


def irregularities(original: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (name, irregular JPEG) with the pixels of a baseline JPEG with restart markers.

    All of them were found in files of cameras and editors, and Chromium shows them whole.
    """
    start = scan_at(original)
    jfif, restart = original.index(b"JFIF\0"), original.index(b"\xff\xd0", start)
    yield "spectral selection of zero", original[: start - 3] + bytes(3) + original[start:]
    yield "JFIF 2.01", original[: jfif + 5] + b"\x02" + original[jfif + 6 :]
    yield "bytes between segments", original[: jfif + 14] + bytes(26) + original[jfif + 14 :]
    yield (
        "bytes before a restart marker",
        original[:restart] + b"\x12\x34\0\x10\x20\x30\x41\x42\x43" + original[restart:],
    )
    yield (
        "zeros before restart markers",
        original[:restart] + bytes(40) + original[restart:].replace(b"\xff\xd2", bytes(3) + b"\xff\xd2"),
    )
    yield "zeros before the end", original[:-2] + bytes(300) + original[-2:]
    yield "no end marker", original[:-2]
    yield "bytes after the end", original + b"trailer" * 100
    for transform in (2, 7):
        adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes((transform,))
        yield f"Adobe transform {transform}", original[:2] + adobe + original[jfif + 14 :]


def scan_at(original: bytes) -> int:
    """Return the offset of the entropy-coded data of the first scan."""
    marker = original.index(b"\xff\xda", original.index(b"\xff\xc4"))
    return marker + 2 + int.from_bytes(original[marker + 2 : marker + 4], "big")
