"""Parses the parts of a header that libvips does not report: JPEG marker segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator


_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_LOSSLESS_MARKERS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_HIERARCHICAL_MARKERS = frozenset({0xC5, 0xC6, 0xCD, 0xCE, 0xDE})
_JPEG_LS_MARKER = 0xF7
_SAMPLE_BITS = 8
_SCAN_MARKER = 0xDA
_APP2_MARKER = 0xE2
_COEFFICIENT_BYTES = 2
_APPLE_GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap"
_ADOBE_GAIN_MAP = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"


class JpegFrame(Value, frozen=True):
    """A frame header (ITU-T T.81 B.2.2); `sampling` is (horizontal, vertical) of each component."""

    width_px: int
    height_px: int
    bits: int
    is_progressive: bool
    sampling: tuple[tuple[int, int], ...]
    is_buffered: bool
    """Whether there are several scans: the decoder then holds every coefficient, at any output size."""

    @property
    def coefficient_bytes(self) -> int:
        """The memory for the coefficients: 3 B/px at 4:2:0, 4 at 4:2:2, 6 at 4:4:4; 0 if not buffered."""
        if not self.is_buffered:
            return 0
        max_horizontal = max(horizontal for horizontal, _ in self.sampling)
        max_vertical = max(vertical for _, vertical in self.sampling)
        samples = sum(horizontal * vertical for horizontal, vertical in self.sampling)
        pixels = self.width_px * self.height_px
        return _COEFFICIENT_BYTES * pixels * samples // max(max_horizontal * max_vertical, 1)


def jpeg_segments(original: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and payload of every segment up to and including the first scan header."""
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
    """Return the first frame header, with whether its scans are buffered; None if it is missing or short."""
    marker, header, components = 0, b"", 0
    for kind, payload in jpeg_segments(original):
        if kind in _FRAME_MARKERS and not header:
            marker, header = kind, payload
        elif kind == _SCAN_MARKER and payload:
            components = payload[0]
    if len(header) < 6 or len(header) < 6 + 3 * header[5]:
        return None
    sampling = tuple((header[7 + 3 * i] >> 4, header[7 + 3 * i] & 15) for i in range(header[5]))
    is_progressive = marker in _PROGRESSIVE_MARKERS
    return JpegFrame(
        width_px=int.from_bytes(header[3:5], "big"),
        height_px=int.from_bytes(header[1:3], "big"),
        bits=header[0],
        is_progressive=is_progressive,
        sampling=sampling,
        is_buffered=is_progressive or components < len(sampling),
    )


def unsupported_process(original: bytes) -> str | None:
    """Return the name of a coding process that libjpeg does not decode (T.81 table B.1), such as 12 bits."""
    for marker, payload in jpeg_segments(original):
        if marker == _JPEG_LS_MARKER:
            return "JPEG-LS"
        if marker in _LOSSLESS_MARKERS:
            return "lossless JPEG"
        if marker in _HIERARCHICAL_MARKERS:
            return "hierarchical JPEG"
        if marker in _FRAME_MARKERS:
            is_deep = payload[:1] not in {b"", bytes([_SAMPLE_BITS])}
            return f"{payload[0]}-bit JPEG" if is_deep else None
    return None


def has_gain_map(original: bytes) -> bool:
    """Return whether the file holds an HDR gain map (UltraHDR, ISO 21496-1, Apple's auxiliary picture)."""
    is_multi_picture = False
    for marker, payload in jpeg_segments(original):
        if _ADOBE_GAIN_MAP in payload or _ISO_GAIN_MAP in payload:
            return True
        is_multi_picture = is_multi_picture or (marker == _APP2_MARKER and payload.startswith(b"MPF\0"))
    return is_multi_picture and _APPLE_GAIN_MAP in original
