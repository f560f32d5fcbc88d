"""Reads the chunks of a PNG (PNG 3rd edition §5.3)."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

from galerly_cdn.errors import Undecodable
from galerly_cdn.render.originals.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNATURE_BYTES: Final = 8
_MAX_CHUNKS: Final = 1 << 18
_HEADER_BYTES: Final = 13
_CONTROL_BYTES: Final = 26
_SEQUENCE_BYTES: Final = 4
_MAX_PROFILE_BYTES: Final = 4 << 20
_MIN_PROFILE_BYTES: Final = 128


def chunks_before_pixels(original: bytes) -> dict[bytes, bytes]:
    """Return the data of the first chunk of each type before the first IDAT.

    As in Chromium, a chunk with a wrong checksum counts as absent, and so does `cICP` after `PLTE` (PNG 3rd
    edition §5.6).
    """
    chunks: dict[bytes, bytes] = {}
    for name, data, checksum in _chunks(original, _SIGNATURE_BYTES):
        if name == b"IDAT":
            break
        is_late = name == b"cICP" and b"PLTE" in chunks
        if not is_late and name not in chunks and zlib.crc32(name + data) == checksum:
            chunks[name] = data
    return chunks


def sides(original: bytes) -> tuple[int, int] | None:
    """Return width and height; None if the first chunk is no whole `IHDR` (PNG 3rd edition §11.2.1)."""
    name, data, checksum = next(_chunks(original, _SIGNATURE_BYTES), (b"", b"", 0))
    if name != b"IHDR" or len(data) != _HEADER_BYTES or zlib.crc32(name + data) != checksum:
        return None
    width, height = struct.unpack(">II", data[:8])
    return width, height


def embedded_profile(chunks: dict[bytes, bytes]) -> bytes | None:
    """Return the ICC profile of `iCCP` (PNG 3rd edition §11.3.2.3); None if it is missing or damaged.

    libpng, and so libvips, drops a profile for RGB in a grey picture. Only the profile's signature and its
    length are checked (ICC.1:2022 §7.2).
    """
    _, _, packed = chunks.get(b"iCCP", b"").partition(b"\0")
    if packed[:1] != b"\0":  # the only compression method
        return None
    try:
        profile = zlib.decompressobj().decompress(packed[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    is_whole = len(profile) >= _MIN_PROFILE_BYTES and len(profile) == int.from_bytes(profile[:4], "big")
    return profile if is_whole and profile[36:40] == b"acsp" else None


def separate_frame(original: bytes, chunks: dict[bytes, bytes]) -> Frame | None:
    """Return where the first frame of an animation lies if the default image is none of its frames.

    The default image is a frame if `fcTL` comes before `IDAT` (PNG 3rd edition §11.3.6.2). None also if there
    is no animation, or if its first frame has no data: Chromium shows the default image then. Raises
    `Undecodable` if the frame is missing or lies partly outside the canvas.
    """
    if b"fcTL" in chunks or chunks.get(b"acTL", b"")[:4] in {b"", bytes(4)}:
        return None
    of_frames = (one for one in _after_pixels(original) if one[0] in {b"fcTL", b"fdAT"})
    name, control, _ = next(of_frames, (b"", b"", 0))
    if name != b"fcTL" or len(control) != _CONTROL_BYTES:
        raise Undecodable("the animation has no first frame")
    if next(of_frames, (b"", b"", 0))[0] != b"fdAT":
        return None
    width, height, left, top = struct.unpack(">4I", control[4:20])
    canvas_width, canvas_height = sides(original) or (0, 0)
    if not (0 < width <= canvas_width - left and 0 < height <= canvas_height - top):
        raise Undecodable("the first frame lies outside the canvas")
    return Frame(left, top, width, height)


def as_still(original: bytes, frame: Frame) -> bytes:
    """Return the first frame of an animation whose default image is no frame, as a PNG of its own.

    Raises `Undecodable` if a checksum of its data is wrong.
    """
    parts = [original[:_SIGNATURE_BYTES]]
    for name, data, _ in _chunks(original, _SIGNATURE_BYTES):
        if name == b"IDAT":
            break
        if name == b"IHDR":
            parts.append(_chunk(name, struct.pack(">II", frame.width_px, frame.height_px) + data[8:]))
        elif name not in {b"acTL", b"fcTL"}:
            parts.append(_chunk(name, data))
    is_first = False
    for name, data, checksum in _after_pixels(original):
        if name == b"fcTL":
            if is_first:
                break
            is_first = True
        elif name == b"fdAT" and is_first:
            if zlib.crc32(name + data) != checksum:
                raise Undecodable("a checksum of the first frame is wrong")
            parts.append(_chunk(b"IDAT", data[_SEQUENCE_BYTES:]))
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _after_pixels(original: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the chunks after the first IDAT."""
    is_after = False
    for name, data, checksum in _chunks(original, _SIGNATURE_BYTES):
        if is_after:
            yield name, data, checksum
        is_after = is_after or name == b"IDAT"


def _chunks(original: bytes, position: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield type, data and checksum of each chunk that is not cut off."""
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(original[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(original):
            return
        checksum = int.from_bytes(original[end : end + 4], "big")
        yield original[position + 4 : position + 8], original[position + 8 : end], checksum
        position = end + 4


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
