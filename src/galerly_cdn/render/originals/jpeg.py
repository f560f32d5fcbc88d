"""Reads the marker segments of a JPEG, and repairs irregularities that do not change its pixels.

libjpeg reports header irregularities and damaged pixels alike, as warnings. `repaired` removes the
irregularities that cameras and editors make, so that every remaining warning means damage:

- bytes between two segments (replaced with fill bytes, ITU-T T.81 B.1.1.2);
- a JFIF version other than 1, an Adobe transform that does not fit the number of components, and
  spectral selection in a sequential scan, all of which libjpeg ignores;
- a missing end-of-image marker after a complete scan.

A sequential JPEG of one scan is decoded line by line. libjpeg then stops after the last line and does not
look at what is left of the entropy-coded data. `extension` is one more row of MCUs, which a complete file
does not contain: decoding it shows whether the data ended where the picture does.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

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
_RESTART_INTERVAL_MARKER = 0xDD
_APP0_MARKER, _APP2_MARKER, _APP14_MARKER = 0xE0, 0xE2, 0xEE
_END_OF_IMAGE: Final = b"\xff\xd9"
_COEFFICIENT_BYTES = 2
_APPLE_GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap"
_ADOBE_GAIN_MAP = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
_MAX_HEIGHT_PX = 65_500
"""libjpeg's JPEG_MAX_DIMENSION."""
_MAX_EXPECTED_WARNINGS = 50
"""libvips ends a decode at the 100th warning."""
_SEQUENTIAL_SELECTION: Final = bytes((0, 63, 0))
_VALID_TRANSFORMS: Final = {3: (0, 1), 4: (0, 2)}
"""Number of components → values of Adobe's colour transform; libjpeg takes the last one for any other."""
_NEXT_SEGMENT = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_ZEROS_BEFORE_MARKER = re.compile(rb"\x00\x00+\xff[\xd0-\xd7\xd9]")


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
        samples = sum(horizontal * vertical for horizontal, vertical in self.sampling)
        pixels = self.width_px * self.height_px
        return _COEFFICIENT_BYTES * pixels * samples // max(self._max_horizontal * self._max_vertical, 1)

    @property
    def mcu_px(self) -> tuple[int, int]:
        """Width and height of a minimum coded unit of a scan with all components (T.81 A.2)."""
        if len(self.sampling) == 1:
            return 8, 8
        return 8 * self._max_horizontal, 8 * self._max_vertical

    @property
    def mcus(self) -> tuple[int, int]:
        """Number of minimum coded units in a row, and of their rows."""
        return -(-self.width_px // self.mcu_px[0]), -(-self.height_px // self.mcu_px[1])

    def interpolates_lines(self, shrink: int) -> bool:
        """Return whether libjpeg interpolates chroma between lines at this shrink-on-load.

        It scales a component that is subsampled in both directions by a larger inverse DCT in place of that.
        """
        return any(
            vertical < self._max_vertical and (shrink == 1 or horizontal == self._max_horizontal)
            for horizontal, vertical in self.sampling
        )

    @property
    def _max_horizontal(self) -> int:
        return max(horizontal for horizontal, _ in self.sampling)

    @property
    def _max_vertical(self) -> int:
        return max(vertical for _, vertical in self.sampling)


class Layout(Value, frozen=True):
    """Where the parts of a JPEG are, as offsets in bytes, and the repairs of its header."""

    frame: JpegFrame
    frame_at: int
    """Of the frame header's marker."""
    scan_at: int
    """Of the entropy-coded data of the first scan."""
    restart_interval: int
    """In MCUs; 0 if there are no restart markers."""
    repairs: tuple[tuple[int, bytes], ...]
    """(Offset, bytes to write there)."""


class Extension(NamedTuple):
    """One more row of MCUs below the picture."""

    mcu_px: tuple[int, int]
    end_px: int
    """Height of the picture with the row."""
    warnings: int
    """Number of warnings that libjpeg gives in the row if the entropy-coded data of the file is complete."""
    begins_with_restart: bool
    """Whether a restart marker is due before the row; padding bits are skipped there."""


class Segment(NamedTuple):
    """A marker segment: its marker, the offset of the marker, its payload, and the offset of its end."""

    marker: int
    at: int
    payload: bytes
    end: int


def segments(original: bytes | bytearray) -> Iterator[Segment]:
    """Yield every segment up to and including the first scan header; bytes between two are skipped."""
    position = 2
    while 2 <= (position := original.find(b"\xff", position)) <= len(original) - 4:
        marker = original[position + 1]
        if marker in {0x00, 0xFF}:  # a fill byte (B.1.1.2), or not a marker
            position += 1
            continue
        end = position + 2 + int.from_bytes(original[position + 2 : position + 4], "big")
        yield Segment(marker, position, bytes(original[position + 4 : end]), end)
        if marker == _SCAN_MARKER:
            return
        position = end


def read_layout(original: bytes | bytearray) -> Layout | None:
    """Return the layout; None if a frame header or scan header is missing or short."""
    found = list(segments(original))
    frame = next((one for one in found if one.marker in _FRAME_MARKERS), None)
    if frame is None or found[-1].marker != _SCAN_MARKER or not found[-1].payload:
        return None
    scan = found[-1]
    header = _read_frame(frame, scan_components=scan.payload[0])
    if header is None:
        return None
    intervals = [one.payload for one in found if one.marker == _RESTART_INTERVAL_MARKER]
    return Layout(
        frame=header,
        frame_at=frame.at,
        scan_at=scan.end,
        restart_interval=int.from_bytes(intervals[-1][:2], "big") if intervals else 0,
        repairs=tuple(_repairs(found, header)),
    )


def _repairs(found: list[Segment], frame: JpegFrame) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes to write there) for every irregularity of the header."""
    for before, segment in itertools.pairwise((Segment(0, 0, b"", 2), *found)):
        if segment.at > before.end:
            yield before.end, b"\xff" * (segment.at - before.end)
    for segment in found:
        payload = segment.payload
        if segment.marker == _APP0_MARKER and payload.startswith(b"JFIF\0") and payload[5:6] != b"\x01":
            yield segment.at + 9, b"\x01"
    adobe = [one for one in found if one.marker == _APP14_MARKER and one.payload[:5] == b"Adobe"]
    transforms = _VALID_TRANSFORMS.get(len(frame.sampling), ())
    if adobe and transforms and len(adobe[-1].payload) >= 12 and adobe[-1].payload[11] not in transforms:
        yield adobe[-1].at + 15, bytes(transforms[-1:])
    if not frame.is_progressive and not found[-1].payload.endswith(_SEQUENTIAL_SELECTION):
        yield found[-1].end - 3, _SEQUENTIAL_SELECTION


def _read_frame(segment: Segment, scan_components: int) -> JpegFrame | None:
    header = segment.payload
    if len(header) < 6 or len(header) < 6 + 3 * header[5] or not header[5]:
        return None
    sampling = tuple((header[7 + 3 * i] >> 4, header[7 + 3 * i] & 15) for i in range(header[5]))
    is_progressive = segment.marker in _PROGRESSIVE_MARKERS
    return JpegFrame(
        width_px=int.from_bytes(header[3:5], "big"),
        height_px=int.from_bytes(header[1:3], "big"),
        bits=header[0],
        is_progressive=is_progressive,
        sampling=sampling,
        is_buffered=is_progressive or scan_components < len(sampling),
    )


def repaired(original: bytes | bytearray, layout: Layout) -> bytes | bytearray:
    """Return the JPEG without the irregularities that the module's description lists.

    A `bytearray` is changed in place, which saves a copy of the photograph. A missing end-of-image marker
    is added only if the scans that are there contain every coefficient; zero bytes before it are no data.
    """
    is_ended = original.rfind(_END_OF_IMAGE, layout.scan_at) >= 0
    adds_end = not is_ended and (not layout.frame.is_buffered or _is_complete(original, layout))
    if not layout.repairs and not adds_end:
        return original
    data = original if isinstance(original, bytearray) else bytearray(original)
    for at, content in layout.repairs:
        data[at : at + len(content)] = content
    if adds_end:
        end = len(data.rstrip(b"\0"))
        del data[end + (data[end - 1] == 0xFF) :]  # the first zero after 0xFF belongs to it
        data += _END_OF_IMAGE
    return data


def without_zeros_before_markers(data: bytes | bytearray, layout: Layout) -> bytearray | None:
    """Return the JPEG with zero bytes directly before a restart or end marker as fill bytes; None if none.

    Entropy-coded data is padded with 1-bits (T.81 F.1.2.3), so two zero bytes there are rarely part of it.
    """
    return _zeros_filled(data, layout, kept_bytes=0)


def with_zeros_as_data(
    data: bytes | bytearray, layout: Layout, *, ends_with_zero: bool
) -> bytes | bytearray | None:
    """Return the JPEG with one zero byte as data where `repaired` or `without_zeros_before_markers` drop it.

    Data that needs no padding can end with a zero byte. More of them could stand for missing blocks.
    `ends_with_zero`: the file did so before `repaired` added an end marker. None if there are no such bytes.
    """
    if ends_with_zero and data.endswith(_END_OF_IMAGE):
        return data[: -len(_END_OF_IMAGE)] + b"\0" + _END_OF_IMAGE
    return _zeros_filled(data, layout, kept_bytes=1)


def _zeros_filled(data: bytes | bytearray, layout: Layout, *, kept_bytes: int) -> bytearray | None:
    runs = [match.span() for match in _ZEROS_BEFORE_MARKER.finditer(data, layout.scan_at)]
    if not runs:
        return None
    filled = bytearray(data)
    for start, end in runs:
        # The first zero after 0xFF belongs to it
        first = min(start + (filled[start - 1] == 0xFF) + kept_bytes, end - 2)
        filled[first : end - 2] = b"\xff" * (end - 2 - first)
    return filled


def extension(layout: Layout) -> Extension | None:
    """Return the row to announce with `with_height`; None if libjpeg reads the whole file, or cannot.

    With restart markers libjpeg warns once more for each restart interval that begins in the row.
    """
    frame = layout.frame
    columns, rows = frame.mcus
    end_px = (rows + 1) * frame.mcu_px[1]
    first, interval = columns * rows, layout.restart_interval
    restarts = (first + columns - 1) // interval - (first - 1) // interval if interval else 0
    if frame.is_buffered or end_px > _MAX_HEIGHT_PX or restarts >= _MAX_EXPECTED_WARNINGS:
        return None
    return Extension(
        frame.mcu_px,
        end_px,
        warnings=1 + restarts,
        begins_with_restart=bool(interval) and first % interval == 0,
    )


def with_height(data: bytes | bytearray, layout: Layout, height_px: int) -> bytes | bytearray:
    """Return the JPEG with this height in its frame header; a `bytearray` is changed in place."""
    place, height = slice(layout.frame_at + 5, layout.frame_at + 7), height_px.to_bytes(2, "big")
    if data[place] == height:
        return data
    changed = data if isinstance(data, bytearray) else bytearray(data)
    changed[place] = height
    return changed


def unsupported_process(original: bytes | bytearray) -> str | None:
    """Return the name of a coding process that libjpeg does not decode (T.81 table B.1), such as 12 bits."""
    for marker, _, payload, _ in segments(original):
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


def has_gain_map(original: bytes | bytearray) -> bool:
    """Return whether the file holds an HDR gain map (UltraHDR, ISO 21496-1, Apple's auxiliary picture)."""
    is_multi_picture = False
    for marker, _, payload, _ in segments(original):
        if _ADOBE_GAIN_MAP in payload or _ISO_GAIN_MAP in payload:
            return True
        is_multi_picture = is_multi_picture or (marker == _APP2_MARKER and payload.startswith(b"MPF\0"))
    return is_multi_picture and _APPLE_GAIN_MAP in original


def _is_complete(original: bytes | bytearray, layout: Layout) -> bool:
    """Return whether the scans contain every coefficient with all its bits (T.81 G.1.1.1, G.1.2)."""
    complete: set[tuple[int, int]] = set()
    for scan in _scan_headers(original, layout):
        count = scan[0] if scan else 0
        if len(scan) < 1 + 2 * count + 3:
            return False
        first, last, approximation = scan[1 + 2 * count :][:3] if layout.frame.is_progressive else (0, 63, 0)
        if approximation & 15 == 0:
            complete |= {(scan[1 + 2 * i], k) for i in range(count) for k in range(first, min(last, 63) + 1)}
    return len(complete) >= 64 * len(layout.frame.sampling)


def _scan_headers(original: bytes | bytearray, layout: Layout) -> Iterator[bytes]:
    """Yield the payload of every scan header."""
    yield from (one.payload for one in segments(original) if one.marker == _SCAN_MARKER)
    position = layout.scan_at
    while match := _NEXT_SEGMENT.search(original, position):
        start = match.end() + 2
        position = match.end() + int.from_bytes(original[match.end() : start], "big")
        if original[match.end() - 1] == _SCAN_MARKER:
            yield bytes(original[start:position])
