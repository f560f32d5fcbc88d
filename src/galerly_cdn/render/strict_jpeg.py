"""Decodes and scales a JPEG, and refuses it if its entropy-coded data is damaged.

libvips with `fail_on="warning"` is not enough: it looks at libjpeg's warnings before each strip of lines,
so those of the last strip only reach a log, and data that is left over after the last line gives none. A
baseline JPEG without restart markers is one chain of codes, and damage in its middle often shows only there.

The decode that makes the picture is therefore also the check. With shrink-on-load it reads a row of MCUs
below the picture (`jpeg.extension`): in a complete file that row holds no data, so libjpeg warns once and
leaves it mid-grey. At full size libjpeg would blend the row's chroma into the last line: the data is then
read through a source that knows how much of it was read. In any doubt a decode at 1/8 decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from galerly_cdn.errors import Undecodable
from galerly_cdn.render import decoders
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.originals import jpeg

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.render.decoders import Image

_MID_GREY: Final = frozenset({127, 128})
"""Samples of a block without coefficients; CMYK is inverted."""
_DATA_ENDED: Final = ("premature end of data segment", "found marker 0xd9 instead of RST")
_STRAY_BYTES: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd[0-7]")
_MAX_STRAY_BYTES = 16
"""Bytes between the data of a restart interval and its marker that are not taken for damage."""
_SHRINKS = (8, 4, 2, 1)
_MIN_ROW_PX = 64


class _Decoded(NamedTuple):
    image: Image
    """Scaled, in memory."""
    message: str
    """libjpeg's first warning."""
    is_left_over: bool
    """Whether entropy-coded data follows the picture's."""
    is_clean: bool
    """Whether the warnings are exactly those of a complete file."""


def decode(
    original: bytes | bytearray, layout: jpeg.Layout, shrink: int, scale: Callable[[Image], Image]
) -> Image:
    """Return the scaled image, in memory. A `bytearray` is changed: see `jpeg.repaired`.

    `shrink` is the loader's option; `scale` is applied to the lazy image. Raises `Undecodable` if the pixels
    are damaged, and `decoders.Error`.
    """
    data = jpeg.repaired(original, layout)
    decoded = _decode(data, layout, shrink, scale)
    if not decoded.is_clean and (zeros_filled := jpeg.without_zeros_before_markers(data, layout)):
        data = zeros_filled
        decoded = _decode(data, layout, shrink, scale)
    if decoded.is_clean:
        return decoded.image
    if decoded.is_left_over:
        raise Undecodable("entropy-coded data is left over after the last line")
    warnings, message = _plain_warnings(data, layout)
    stray = _STRAY_BYTES.search(message)
    if warnings > 1 or (warnings == 1 and not (stray and int(stray[1]) <= _MAX_STRAY_BYTES)):
        raise Undecodable(message)
    return decoded.image


def load(original: bytes | bytearray, layout: jpeg.Layout, shrink: int) -> Image:
    """Return the lazy image of a JPEG that is known to be undamaged."""
    return _open(jpeg.repaired(original, layout), shrink)


def _open(data: bytes | bytearray | decoders.CountingSource, shrink: int) -> Image:
    return decoders.load(data, OriginalFormat.JPEG, "error", shrink=shrink)


def _decode(
    data: bytes | bytearray, layout: jpeg.Layout, shrink: int, scale: Callable[[Image], Image]
) -> _Decoded:
    row = jpeg.extension(layout) if shrink > 1 else None
    if row is not None:
        return _decode_with_row(jpeg.with_height(data, layout, row.end_px), layout, row, shrink, scale)
    end = -1 if layout.frame.is_buffered else jpeg.scan_end(data, layout)
    source = decoders.CountingSource(data, end) if end >= 0 else None
    with decoders.collected_warnings() as collected:
        image = scale(_open(source or data, shrink)).copy_memory()
        message = decoders.first_message()
    warnings = decoders.jpeg_warnings(collected)
    is_left_over = source is not None and source.position < end
    return _Decoded(image, message, is_left_over, is_clean=warnings == 0 and not is_left_over)


def _decode_with_row(
    data: bytearray,
    layout: jpeg.Layout,
    row: jpeg.Extension,
    shrink: int,
    scale: Callable[[Image], Image],
) -> _Decoded:
    """Decode a JPEG that announces a row of MCUs below its picture.

    The first MCU of the row is decoded from the padding bits, and is arbitrary. If it is mid-grey too, the
    data may have ended before. The padding bits can also form a code that does not exist, which is a second
    warning; with restart markers it cannot be told from a warning inside the picture.
    """
    with decoders.collected_warnings() as collected:
        image, below, message = _evaluate_with_row(_open(data, shrink), layout, row, shrink, scale)
    warnings = decoders.jpeg_warnings(collected)
    mcu_px, bands = row.mcu_px[0] // shrink, image.bands
    first, others = below[: max(mcu_px // 2, 1) * bands], below[(mcu_px + mcu_px // 2) * bands :]
    is_left_over = not _MID_GREY.issuperset(others)
    is_clean = (
        row.warnings <= warnings <= row.warnings + (not layout.restart_interval)
        and any(text in message for text in _DATA_ENDED)
        and not is_left_over
        and not _MID_GREY.issuperset(first)
    )
    return _Decoded(image, message, is_left_over, is_clean)


def _evaluate_with_row(
    loaded: Image, layout: jpeg.Layout, row: jpeg.Extension, shrink: int, scale: Callable[[Image], Image]
) -> tuple[Image, bytes, str]:
    """Return the scaled picture in memory, the last line of the row below it, and libjpeg's first warning.

    Both are evaluated at once, because a sequential image is read only once, from top to bottom.
    """
    width_px, height_px = layout.frame.width_px // shrink, layout.frame.height_px // shrink
    scaled = scale(loaded.crop(0, 0, width_px, height_px))
    row_px = min(loaded.width, max(scaled.width, _MIN_ROW_PX))
    below = loaded.crop(0, row.end_px // shrink - 1, row_px, 1)
    joined = scaled.join(below, "vertical", expand=True).copy_memory()
    message = decoders.first_message()
    samples = bytes(joined.crop(0, scaled.height, row_px, 1).write_to_memory())
    return joined.crop(0, 0, scaled.width, scaled.height), samples, message


def _plain_warnings(data: bytes | bytearray, layout: jpeg.Layout) -> tuple[int, str]:
    """Return the number of warnings of a decode without the row below the picture, and the first one."""
    frame = layout.frame
    shrink = next(k for k in _SHRINKS if k <= min(frame.width_px, frame.height_px))
    with decoders.collected_warnings() as collected:
        _open(jpeg.with_height(data, layout, frame.height_px), shrink).copy_memory()
        message = decoders.first_message()
    return decoders.jpeg_warnings(collected), message
