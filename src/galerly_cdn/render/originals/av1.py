"""Reads the sequence header of an AV1 bitstream (AV1 bitstream specification §5.5)."""

from __future__ import annotations

from typing import Final

from galerly_cdn.serialization import Value

_SEQUENCE_HEADER: Final = 1
_MAX_UNITS: Final = 8
_UNSPECIFIED: Final = 2
_RGB_OF_SRGB: Final = (1, 13, 0)
"""BT.709, sRGB and the identity matrix: such a stream has the full range, and no flag for it."""


class SequenceHeader(Value, frozen=True):
    """The colours of a bitstream; code points are those of H.273, 2 if they are not specified."""

    is_monochrome: bool
    primaries: int
    transfer: int
    is_full_range: bool


class _Bits:
    """Reads fixed numbers of bits, the highest first. Raises `EOFError` at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return bool(self.read(1))

    def skip_variable(self) -> None:
        """Skip a number of variable length (§4.10.3)."""
        zeros = 0
        while not self.flag():
            zeros += 1
        self.read(zeros)


def sequence_header(stream: bytes) -> SequenceHeader | None:
    """Return the first sequence header in a stream of open bitstream units; None if there is none."""
    position = 0
    for _ in range(_MAX_UNITS):
        if position >= len(stream):
            return None
        kind, has_extension, has_size = stream[position] >> 3 & 15, stream[position] & 4, stream[position] & 2
        position += 2 if has_extension else 1
        length, position = _leb128(stream, position) if has_size else (len(stream) - position, position)
        if kind == _SEQUENCE_HEADER:
            try:
                return _parsed(_Bits(stream[position : position + length]))
            except EOFError:
                return None
        position += length
    return None


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    """Return the number (§4.10.5) and the position after it."""
    value = 0
    for index, byte in enumerate(stream[position : position + 8]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, position + index + 1
    return value, position + 8


def _parsed(bits: _Bits) -> SequenceHeader:
    profile = bits.read(3)
    bits.flag()
    is_reduced = bits.flag()
    if is_reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    if not is_reduced and bits.flag():
        bits.read(4 + 3)
    bits.read(3)
    if not is_reduced:
        _skip_tools(bits)
    bits.read(3)
    return _color_config(bits, profile)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.flag():  # timing info
        bits.read(32 + 32)
        if bits.flag():
            bits.skip_variable()
        if bits.flag():  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(32 + 5 + 5)
    has_display_delay = bits.flag()
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.flag()
        if delay_bits and bits.flag():
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.flag():
            bits.read(4)


def _skip_tools(bits: _Bits) -> None:
    bits.read(4)
    has_order_hint = bits.flag()
    if has_order_hint:
        bits.read(2)
    selects_screen_content = bits.flag()
    if (selects_screen_content or bits.flag()) and not bits.flag():
        bits.flag()
    if has_order_hint:
        bits.read(3)


def _color_config(bits: _Bits, profile: int) -> SequenceHeader:
    """Read §5.5.2 up to the range."""
    is_deep = bits.flag()
    if profile == 2 and is_deep:
        bits.flag()
    is_monochrome = profile != 1 and bits.flag()
    points = (
        (bits.read(8), bits.read(8), bits.read(8))
        if bits.flag()
        else (_UNSPECIFIED, _UNSPECIFIED, _UNSPECIFIED)
    )
    is_full_range = (points == _RGB_OF_SRGB and not is_monochrome) or bits.flag()
    return SequenceHeader(is_monochrome, points[0], points[1], is_full_range)
