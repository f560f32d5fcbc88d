"""Reads what libvips does not say of a header: JPEG marker segments and PNG chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator


_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN_MARKER = 0xDA
_APP2_MARKER = 0xE2
_COEFFICIENT_BYTES = 2
_APPLE_GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap"
_ADOBE_GAIN_MAP = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"


class JpegFrame(Value, frozen=True):
    """The frame header (T.81 B.2.2); `sampling` is (horizontal, vertical) of each component."""

    width_px: int
    height_px: int
    bits: int
    is_progressive: bool
    sampling: tuple[tuple[int, int], ...]
    is_buffered: bool
    """Several scans: the decoder holds every coefficient of the picture, whatever its output size."""

    @property
    def coefficient_bytes(self) -> int:
        """Memory for the coefficients: 3 B/px at 4:2:0, 4 at 4:2:2, 6 at 4:4:4; 0 when streamed."""
        if not self.is_buffered:
            return 0
        widest = max(across for across, _ in self.sampling) * max(down for _, down in self.sampling)
        samples = sum(across * down for across, down in self.sampling)
        return _COEFFICIENT_BYTES * self.width_px * self.height_px * samples // max(widest, 1)


def jpeg_segments(original: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of every segment up to and including the first scan header."""
    position = 2
    while position + 4 <= len(original) and original[position] == 0xFF:
        marker = original[position + 1]
        if marker == 0xFF:  # a fill byte (B.1.1.2)
            position += 1
            continue
        end = position + 2 + int.from_bytes(original[position + 2 : position + 4], "big")
        yield marker, original[position + 4 : end]
        if marker == _SCAN_MARKER:
            return
        position = end


def jpeg_frame(original: bytes) -> JpegFrame | None:
    """The frame header and how its first scan is laid out; None where there is none."""
    marker, found, components = 0, b"", 0
    for kind, payload in jpeg_segments(original):
        if kind in _FRAME_MARKERS and not found:
            marker, found = kind, payload
        elif kind == _SCAN_MARKER and payload:
            components = payload[0]
    if len(found) < 6 or len(found) < 6 + 3 * found[5]:
        return None
    sampling = tuple((found[7 + 3 * i] >> 4, found[7 + 3 * i] & 15) for i in range(found[5]))
    is_progressive = marker in _PROGRESSIVE_MARKERS
    return JpegFrame(
        width_px=int.from_bytes(found[3:5], "big"),
        height_px=int.from_bytes(found[1:3], "big"),
        bits=found[0],
        is_progressive=is_progressive,
        sampling=sampling,
        is_buffered=is_progressive or components < len(sampling),
    )


def has_gain_map(original: bytes) -> bool:
    """Whether an HDR gain map rides along (UltraHDR, ISO 21496-1, Apple's auxiliary picture)."""
    multi_picture = False
    for marker, payload in jpeg_segments(original):
        if _ADOBE_GAIN_MAP in payload or _ISO_GAIN_MAP in payload:
            return True
        multi_picture = multi_picture or (marker == _APP2_MARKER and payload.startswith(b"MPF\0"))
    return multi_picture and _APPLE_GAIN_MAP in original


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
