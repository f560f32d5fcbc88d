"""Builds raw files as cameras write them: a TIFF with sensor data, a small thumbnail and an embedded JPEG.

LibRaw opens them. The sensor's data is grey, so a picture that was developed from it is recognised.
"""

from __future__ import annotations

import struct

from tests.support import pictures

SHORT, LONG, ASCII, BYTE, RATIONAL = 3, 4, 2, 1, 5
_SIZES = {SHORT: 2, LONG: 4, ASCII: 1, BYTE: 1, RATIONAL: 8}
_CODES = {SHORT: "H", LONG: "I", ASCII: "B", BYTE: "B", RATIONAL: "II"}

Tags = dict[int, tuple[int, tuple[int, ...]]]


def nef(jpeg: bytes, *, orientation: int = 1, sensor: tuple[int, int] = (320, 240)) -> bytes:
    """Return a Nikon NEF: IFD0 is a thumbnail of 160 × 120, the JPEG and the sensor data are SubIFDs."""
    return _raw(jpeg, {271: text("NIKON CORPORATION"), 272: text("NIKON D90")}, orientation, sensor)


def dng(jpeg: bytes, *, orientation: int = 1, sensor: tuple[int, int] = (320, 240)) -> bytes:
    """Return an Adobe DNG of the same structure (DNG 1.4, chapter 2)."""
    tags: Tags = {
        271: text("Acme"),
        272: text("One"),
        50706: (BYTE, (1, 4, 0, 0)),
        50708: text("Acme One"),
        50721: (10, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)),
        50778: (SHORT, (21,)),
    }
    return _raw(jpeg, tags, orientation, sensor)


def text(words: str) -> tuple[int, tuple[int, ...]]:
    """Return the type and the values of a text tag."""
    return ASCII, tuple(words.encode() + b"\0")


def _raw(jpeg: bytes, tags: Tags, orientation: int, sensor: tuple[int, int]) -> bytes:
    thumbnail = pictures.scene(160, 120).tobytes()
    width, height = sensor
    levels = struct.pack("<H", 512) * (width * height)
    position = 8
    offsets = []
    for block in (thumbnail, jpeg, levels):
        offsets.append(position)
        position += len(block) + len(block) % 2
    previews = _directory(
        {
            254: (LONG, (1,)),
            259: (SHORT, (6,)),
            513: (LONG, (offsets[1],)),
            514: (LONG, (len(jpeg),)),
        },
        position,
    )
    cfa = _directory(
        {
            254: (LONG, (0,)),
            256: (LONG, (width,)),
            257: (LONG, (height,)),
            258: (SHORT, (16,)),
            259: (SHORT, (1,)),
            262: (SHORT, (32803,)),
            273: (LONG, (offsets[2],)),
            277: (SHORT, (1,)),
            278: (LONG, (height,)),
            279: (LONG, (len(levels),)),
            33421: (SHORT, (2, 2)),
            33422: (BYTE, (0, 1, 1, 2)),
        },
        position + len(previews),
    )
    first: Tags = {
        254: (LONG, (1,)),
        256: (LONG, (160,)),
        257: (LONG, (120,)),
        258: (SHORT, (8, 8, 8)),
        259: (SHORT, (1,)),
        262: (SHORT, (2,)),
        273: (LONG, (offsets[0],)),
        274: (SHORT, (orientation,)),
        277: (SHORT, (3,)),
        278: (LONG, (120,)),
        279: (LONG, (len(thumbnail),)),
        330: (LONG, (position, position + len(previews))),
        **tags,
    }
    start = position + len(previews) + len(cfa)
    body = b"".join(block + bytes(len(block) % 2) for block in (thumbnail, jpeg, levels))
    return b"II*\0" + struct.pack("<I", start) + body + previews + cfa + _directory(first, start)


def _directory(tags: Tags, start: int) -> bytes:
    """Return a directory that begins at `start`, and after it the values that do not fit into it."""
    table, values = struct.pack("<H", len(tags)), b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in sorted(tags.items()):
        code = {10: "i"}.get(kind, _CODES.get(kind, "I").replace("II", "I"))
        content = struct.pack(f"<{len(numbers)}{code}", *numbers)
        count = len(numbers) // 2 if kind in {RATIONAL, 10} else len(numbers)
        table += struct.pack("<HHI", tag, kind, count)
        if len(content) <= 4:
            table += content.ljust(4, b"\0")
        else:
            table += struct.pack("<I", after + len(values))
            values += content + bytes(len(content) % 2)
    return table + struct.pack("<I", 0) + values
