"""Builds an AVIF that is a grid of tiles; neither Pillow nor libvips writes one."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from tests.support import pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image


def grid(width: int = 256, height: int = 192, *, columns: int = 2, rows: int = 2) -> bytes:
    """Return a grid of the scene (ISO/IEC 23008-12 §6.6.2.3); the sides must be multiples of the numbers."""
    tile_px = (width // columns, height // rows)
    scene = pictures.scene(width, height)
    corners = [(x * tile_px[0], y * tile_px[1]) for y in range(rows) for x in range(columns)]
    tiles = [scene.crop((x, y, x + tile_px[0], y + tile_px[1])) for x, y in corners]
    files = [_saved(tile) for tile in tiles]
    header = bytes((0, 0, rows - 1, columns - 1)) + struct.pack(">HH", width, height)
    return _file([header, *map(_data, files)], _content(files[0], b"av1C"), (width, height), tile_px)


def _saved(tile: Image.Image) -> bytes:
    out = io.BytesIO()
    tile.save(out, "AVIF", quality=85, speed=10, subsampling="4:2:0")
    return out.getvalue()


def _content(file: bytes, name: bytes) -> bytes:
    at = file.index(name)
    return file[at + 4 : at - 4 + int.from_bytes(file[at - 4 : at], "big")]


def _data(file: bytes) -> bytes:
    return _content(file, b"mdat")


def _file(
    items: Sequence[bytes], configuration: bytes, sides_px: tuple[int, int], tile_px: tuple[int, int]
) -> bytes:
    start = _box(b"ftyp", b"avif\0\0\0\0avifmif1miafMA1B")
    offset = len(start) + len(_meta(items, 0, configuration, sides_px, tile_px)) + 8
    return start + _meta(items, offset, configuration, sides_px, tile_px) + _box(b"mdat", b"".join(items))


def _meta(
    items: Sequence[bytes],
    offset: int,
    configuration: bytes,
    sides_px: tuple[int, int],
    tile_px: tuple[int, int],
) -> bytes:
    numbers = range(1, len(items) + 1)
    kinds = [b"grid", *[b"av01"] * (len(items) - 1)]
    infos = (_full(b"infe", struct.pack(">HH", n, 0) + kinds[n - 1] + b"\0", version=2) for n in numbers)
    places = []
    for number, item in zip(numbers, items, strict=True):
        places.append(struct.pack(">HHHII", number, 0, 1, offset, len(item)))
        offset += len(item)
    tiles = struct.pack(f">HH{len(items) - 1}H", 1, len(items) - 1, *numbers[1:])
    properties = (
        _full(b"ispe", struct.pack(">II", *sides_px))
        + _full(b"ispe", struct.pack(">II", *tile_px))
        + _box(b"av1C", configuration)
        + _full(b"pixi", b"\3\x08\x08\x08")
    )
    uses = b"".join(struct.pack(">H", n) + (b"\2\x01\x04" if n == 1 else b"\3\x02\x83\x04") for n in numbers)
    return _full(
        b"meta",
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
        + _full(b"pitm", struct.pack(">H", 1))
        + _full(b"iloc", b"\x44\0" + struct.pack(">H", len(items)) + b"".join(places))
        + _full(b"iinf", struct.pack(">H", len(items)) + b"".join(infos))
        + _full(b"iref", _box(b"dimg", tiles))
        + _box(
            b"iprp",
            _box(b"ipco", properties) + _full(b"ipma", struct.pack(">I", len(items)) + uses),
        ),
    )


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def _full(name: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(name, bytes((version, 0, 0, 0)) + content)
