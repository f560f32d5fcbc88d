"""Animations whose first frame does not cover the canvas, or is not the default image."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from tests.support import pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
CANVAS_PX = (60, 50)
SMALL_PX = (40, 30)


class FrameCase(NamedTuple):
    """An original, and what is seen of it: the sides, the box of its visible pixels, and their colour."""

    original: bytes
    sides_px: tuple[int, int]
    box: tuple[int, int, int, int]
    color: tuple[int, ...]


def gif(
    screen_px: tuple[int, int], place: tuple[int, int], *, frames: int = 1, transparency: int | None = None
) -> bytes:
    """Return a GIF with frames of 40 × 30 pixels, the first one red, at a place on a screen."""
    shots = [flat(color) for color in (RED, BLUE)][:frames]
    options = {} if transparency is None else {"transparency": transparency}
    animated = {"save_all": True, "append_images": shots[1:], "duration": 50} if frames > 1 else {}
    body = bytearray(pictures.saved(shots[0], "GIF", optimize=False, **animated, **options))
    struct.pack_into("<HH", body, 6, *screen_px)
    descriptor = body.index(b"\x2c\0\0\0\0" + struct.pack("<HH", *SMALL_PX))
    struct.pack_into("<HH", body, descriptor + 1, *place)
    return bytes(body)


def flat(color: tuple[int, int, int]) -> Image.Image:
    """Return a palette picture of one colour."""
    picture = Image.new("P", SMALL_PX, 1)
    picture.putpalette([9, 9, 9, *color, 255, 255, 255])
    return picture


def block(color: tuple[int, ...], sides_px: tuple[int, int] = CANVAS_PX) -> NDArray[np.uint8]:
    return np.full((sides_px[1], sides_px[0], len(color)), color, np.uint8)


def apng(
    default: NDArray[np.uint8],
    *frames: tuple[NDArray[np.uint8], tuple[int, int]],
    kind: int = 2,
    depth: int = 8,
    is_default_a_frame: bool = False,
    count: int | None = None,
    palette: bytes = b"",
) -> bytes:
    """Return an animated PNG of a default image and further frames at their places."""
    header = struct.pack(">IIBBBBB", *CANVAS_PX, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"acTL", struct.pack(">II", len(frames) if count is None else count, 0))]
    if palette:
        parts.append((b"PLTE", palette))
    number = 0
    if is_default_a_frame:
        parts.append((b"fcTL", control(0, CANVAS_PX, (0, 0))))
        number = 1
    parts.append((b"IDAT", compressed(default, depth)))
    for pixels, place in frames:
        parts.append((b"fcTL", control(number, (pixels.shape[1], pixels.shape[0]), place)))
        parts.append((b"fdAT", struct.pack(">I", number + 1) + compressed(pixels, depth)))
        number += 2
    body = b"".join(pictures.chunk(name, data) for name, data in [*parts, (b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + body


def control(number: int, sides_px: tuple[int, int], place: tuple[int, int]) -> bytes:
    """Return the data of `fcTL` (PNG 3rd edition §11.3.6.2)."""
    return struct.pack(">IIIIIHHBB", number, *sides_px, *place, 1, 10, 0, 0)


def compressed(pixels: NDArray[np.uint8], depth: int) -> bytes:
    samples = pixels.astype(">u2") * 257 if depth == 16 else pixels
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))


SMALL_GREEN = (block(GREEN, (20, 10)), (5, 7))
SMALL_BOX = (5, 7, 25, 17)
WHOLE_BOX = (0, 0, *CANVAS_PX)
LATER = (block(BLUE), (0, 0))

CASES = {
    "gif on a larger screen": FrameCase(gif(CANVAS_PX, (0, 0)), CANVAS_PX, (0, 0, 40, 30), RED),
    "gif in the middle": FrameCase(gif(CANVAS_PX, (5, 7)), CANVAS_PX, (5, 7, 45, 37), RED),
    "gif at the border": FrameCase(gif(CANVAS_PX, (20, 20)), CANVAS_PX, (20, 20, 60, 50), RED),
    "gif over the border": FrameCase(gif(CANVAS_PX, (30, 30)), (70, 60), (30, 30, 70, 60), RED),
    "gif outside the screen": FrameCase(gif(CANVAS_PX, (70, 10)), (110, 50), (70, 10, 110, 40), RED),
    "gif on a smaller screen": FrameCase(gif((20, 20), (0, 0)), SMALL_PX, (0, 0, 40, 30), RED),
    "gif on a narrower screen": FrameCase(gif((20, 50), (0, 0)), (40, 50), (0, 0, 40, 30), RED),
    "gif without a screen": FrameCase(gif((0, 0), (0, 0)), SMALL_PX, (0, 0, 40, 30), RED),
    "gif of two frames": FrameCase(gif(CANVAS_PX, (5, 7), frames=2), CANVAS_PX, (5, 7, 45, 37), RED),
    "gif with another transparent colour": FrameCase(
        gif(CANVAS_PX, (5, 7), transparency=2), CANVAS_PX, (5, 7, 45, 37), RED
    ),
    "apng with a separate default image": FrameCase(
        apng(block(RED), (block(GREEN), (0, 0)), LATER), CANVAS_PX, WHOLE_BOX, GREEN
    ),
    "apng with a small first frame": FrameCase(
        apng(block(RED), SMALL_GREEN, LATER), CANVAS_PX, SMALL_BOX, GREEN
    ),
    "apng of one frame": FrameCase(apng(block(RED), SMALL_GREEN), CANVAS_PX, SMALL_BOX, GREEN),
    "apng with a wrong number of frames": FrameCase(
        apng(block(RED), SMALL_GREEN, count=5), CANVAS_PX, SMALL_BOX, GREEN
    ),
    "apng of no frames": FrameCase(apng(block(RED), SMALL_GREEN, count=0), CANVAS_PX, WHOLE_BOX, RED),
    "apng whose default image is a frame": FrameCase(
        apng(block(RED), SMALL_GREEN, is_default_a_frame=True, count=2), CANVAS_PX, WHOLE_BOX, RED
    ),
    "apng of 16 bits": FrameCase(apng(block(RED), SMALL_GREEN, LATER, depth=16), CANVAS_PX, SMALL_BOX, GREEN),
    "apng with alpha": FrameCase(
        apng(block((*RED, 255)), (block((*GREEN, 128), (20, 10)), (5, 7)), kind=6),
        CANVAS_PX,
        SMALL_BOX,
        (*GREEN, 128),
    ),
    "grey apng": FrameCase(
        apng(block((200,)), (block((100,), (20, 10)), (5, 7)), kind=0), CANVAS_PX, SMALL_BOX, (100, 100, 100)
    ),
    "palette apng": FrameCase(
        apng(block((0,)), (block((1,), (20, 10)), (5, 7)), kind=3, palette=bytes([*RED, *GREEN])),
        CANVAS_PX,
        SMALL_BOX,
        GREEN,
    ),
}


def seen(picture: Image.Image) -> tuple[tuple[int, int], tuple[int, int, int, int] | None, tuple[int, ...]]:
    """Return the sides, the box of the visible pixels, and the colour in its middle."""
    rgba = picture.convert("RGBA")
    box = rgba.getchannel("A").getbbox()
    if box is None:
        return rgba.size, None, (0, 0, 0, 0)
    color = rgba.getpixel(((box[0] + box[2]) // 2, (box[1] + box[3]) // 2))
    assert isinstance(color, tuple)
    return rgba.size, box, color


def expected(case: FrameCase) -> tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, ...]]:
    return case.sides_px, case.box, case.color if len(case.color) == 4 else (*case.color, 255)
