"""Makes the irregularities that leave every pixel as it is, as cameras and editors write them. Pure.

Each is shown whole by browsers. A photograph with one of them must be served, with the same pixels.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from galerly_cdn.render.formats import OriginalFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_APPENDED = b"\0" * 32 + b"appended by a sync tool, or tail"
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x02"
_BASELINE, _DQT, _SOS, _APP0, _APP14, _FILL = 0xC0, 0xDB, 0xDA, 0xE0, 0xEE, 0xFF


def kinds(kind: OriginalFormat) -> tuple[str, ...]:
    """The irregularities of a format."""
    return (*_MADE.get(kind, {}), "bytes appended")


def apply(original: bytes, name: str, kind: OriginalFormat) -> bytes | None:
    """The irregular file; None if this one cannot have the irregularity."""
    if name == "bytes appended":
        return original + _APPENDED
    return _MADE[kind][name](original)


def _without_eoi(original: bytes) -> bytes | None:
    return original[:-2] if original.endswith(b"\xff\xd9") else None


def _with_junk(original: bytes) -> bytes | None:
    at = dict(_segments(original)).get(_DQT)
    return original[:at] + bytes(26) + original[at:] if at else None


def _with_scan_parameters(original: bytes) -> bytes | None:
    """Zeroes as the end of the spectral selection, which Samsung's cameras write (ITU-T T.81 B.2.3)."""
    found = dict(_segments(original))
    at = found.get(_SOS)
    if at is None or _BASELINE not in found or original[at + 4] != 3:
        return None
    end = at + 5 + 2 * original[at + 4]
    return original[:end] + b"\0\0\0" + original[end + 3 :]


def _with_jfif_version(original: bytes) -> bytes | None:
    at = dict(_segments(original)).get(_APP0)
    if at is None or original[at + 4 : at + 9] != b"JFIF\0":
        return None
    return original[: at + 9] + b"\x02\x01" + original[at + 11 :]


def _with_adobe_transform(original: bytes) -> bytes | None:
    """An Adobe segment with transform 2, that of four components, in a picture of three."""
    found = dict(_segments(original))
    at = found.get(_SOS)
    if at is None or _APP14 in found or original[at + 4] != 3:
        return None
    return original[:at] + _ADOBE + original[at:]


def _segments(original: bytes) -> Iterator[tuple[int, int]]:
    """Marker and position of each segment up to the first scan, the first of a kind last (for `dict`)."""
    found = []
    position = 2
    while position + 4 <= len(original) and original[position] == _FILL:
        marker = original[position + 1]
        if marker == _FILL:
            position += 1
            continue
        found.append((marker, position))
        if marker == _SOS:
            break
        position += 2 + int.from_bytes(original[position + 2 : position + 4], "big")
    return iter(found[::-1])


def _without_iend(original: bytes) -> bytes | None:
    return original[:-12] if original[-8:-4] == b"IEND" else None


def _with_unknown_chunk(original: bytes) -> bytes:
    body = b"teSt" + b"unknown"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return original[:33] + chunk + original[33:]


def _without_trailer(original: bytes) -> bytes | None:
    return original[:-1] if original.endswith(b"\0;") else None


_MADE: dict[OriginalFormat, dict[str, Callable[[bytes], bytes | None]]] = {
    OriginalFormat.JPEG: {
        "no EOI": _without_eoi,
        "26 B before DQT": _with_junk,
        "SOS parameters": _with_scan_parameters,
        "JFIF 2.01": _with_jfif_version,
        "Adobe transform": _with_adobe_transform,
    },
    OriginalFormat.PNG: {"no IEND": _without_iend, "unknown chunk": _with_unknown_chunk},
    OriginalFormat.GIF: {"no trailer": _without_trailer},
}
