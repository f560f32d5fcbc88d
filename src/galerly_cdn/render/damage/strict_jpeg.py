"""Decodes and scales a JPEG, and refuses it if its entropy-coded data is damaged.

libvips with `fail_on="warning"` is not enough: it looks at libjpeg's warnings before each strip of lines,
so those of the last strip only reach a log, and data that is left over after the last line gives none. A
baseline JPEG without restart markers is one chain of codes, and damage in its middle often shows only there.

The decode that makes the picture is therefore also the check. It reads a row of MCUs below the picture
(`jpeg.extension`): in a complete file that row holds no data, so libjpeg warns once and leaves it mid-grey.
In any doubt a decode at 1/8 without that row decides. Good files are decoded once, damaged ones twice, and
with zero bytes before a marker up to four times.
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
_DATA_ENDED: Final = "premature end of data segment"
_NO_RESTART: Final = "found marker 0xd9 instead of RST"
_STRAY_BYTES: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd[0-7]")
_COLOR_BANDS = 3
_LUMA: Final = (0.299, 0.587, 0.114)
_MAX_STRAY_BYTES = 12
"""Bytes between the data of a restart interval and its marker that are not taken for damage."""
_SHRINKS = (8, 4, 2, 1)
_MIN_ROW_PX = 64


class _Decoded(NamedTuple):
    image: Image
    """Scaled, in memory."""
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
    ends_with_zero = original.endswith(b"\0")
    data = jpeg.repaired(original, layout)
    decoded = _decode(data, layout, shrink, scale)
    if decoded.is_clean:
        return decoded.image
    with_zero = jpeg.with_zeros_as_data(data, layout, ends_with_zero=ends_with_zero)
    if zeros_filled := jpeg.without_zeros_before_markers(data, layout):
        data = zeros_filled
        decoded = _decode(data, layout, shrink, scale)
    if not decoded.is_clean and with_zero and (again := _decode(with_zero, layout, shrink, scale)).is_clean:
        return again.image
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
    """Return the lazy image of a JPEG that is known to be undamaged, with the pixels that `decode` scales."""
    data = jpeg.repaired(original, layout)
    row = _row(layout, shrink)
    if row is not None and layout.frame.interpolates_lines(shrink):
        return _picture(_open(jpeg.with_height(data, layout, row.end_px), shrink), layout, row, shrink)
    return _open(jpeg.with_height(data, layout, layout.frame.height_px), shrink)


def _open(data: bytes | bytearray, shrink: int) -> Image:
    return decoders.load(data, OriginalFormat.JPEG, "error", shrink=shrink)


def _decode(
    data: bytes | bytearray, layout: jpeg.Layout, shrink: int, scale: Callable[[Image], Image]
) -> _Decoded:
    row = _row(layout, shrink)
    if row is not None:
        return _decode_with_row(jpeg.with_height(data, layout, row.end_px), layout, row, shrink, scale)
    with decoders.collected_warnings() as collected:
        image = scale(_open(data, shrink)).copy_memory()
        decoders.first_message()  # cleared for a decode that follows
    is_clean = decoders.jpeg_warnings(collected) == 0
    return _Decoded(image, is_left_over=False, is_clean=is_clean)


def _decode_with_row(
    data: bytes | bytearray,
    layout: jpeg.Layout,
    row: jpeg.Extension,
    shrink: int,
    scale: Callable[[Image], Image],
) -> _Decoded:
    """Decode a JPEG that announces a row of MCUs below its picture.

    Without a restart marker before the row its first MCU is decoded from the padding bits, and is arbitrary:
    if it is mid-grey too, the data may have ended before. The padding bits can also form a code that does
    not exist, which is a second warning; with restart markers that may be one of the picture.
    """
    with decoders.collected_warnings() as collected:
        image, below, message = _evaluate_with_row(_open(data, shrink), layout, row, shrink, scale)
    warnings = decoders.jpeg_warnings(collected)
    mcu_px, bands = row.mcu_px[0] // shrink, image.bands
    first, others = below[: max(mcu_px // 2, 1) * bands], below[(mcu_px + mcu_px // 2) * bands :]
    is_left_over = not _MID_GREY.issuperset(others)
    if row.begins_with_restart:
        is_expected = warnings == row.warnings and _NO_RESTART in message
    else:
        most = row.warnings + (not layout.restart_interval)
        is_expected = (
            row.warnings <= warnings <= most and _DATA_ENDED in message and not _MID_GREY.issuperset(first)
        )
    return _Decoded(image, is_left_over, is_clean=is_expected and not is_left_over)


def _picture(loaded: Image, layout: jpeg.Layout, row: jpeg.Extension, shrink: int) -> Image:
    """Return the picture without the row below it, and without the row's chroma in its last line.

    Chroma that libjpeg interpolates between lines is 3/4 of a line's own and 1/4 of the next line's, which is
    neutral here. Only below the first MCU it is arbitrary: that part takes the chroma of the line above.
    """
    width_px, height_px = layout.frame.width_px // shrink, layout.frame.height_px // shrink
    picture = loaded.crop(0, 0, width_px, height_px)
    is_last_of_mcu = layout.frame.height_px % row.mcu_px[1] == 0
    if not (is_last_of_mcu and layout.frame.interpolates_lines(shrink)) or height_px == 1:
        return picture
    first_px = min(row.mcu_px[0] // shrink + 1, width_px)
    last, above = (picture.crop(0, height_px - distance, width_px, 1) for distance in (1, 2))
    restored = last.recomb(_matrix(4 / 3))
    first = above.crop(0, 0, first_px, 1).recomb(_matrix(1)) + (last - above).crop(0, 0, first_px, 1).recomb(
        _matrix(0)
    )
    restored = restored.insert(first, 0, 0).rint().cast("uchar")
    return picture.crop(0, 0, width_px, height_px - 1).join(restored, "vertical")


def _matrix(factor: float) -> Image:
    """Return the matrix that multiplies the distance of R, G and B from luma (ITU-T T.871) by a factor."""
    return decoders.Image.new_from_array(
        [
            [factor * (row == column) + (1 - factor) * luma for column, luma in enumerate(_LUMA)]
            for row in range(3)
        ]
    )


def _row(layout: jpeg.Layout, shrink: int) -> jpeg.Extension | None:
    """Return the row to decode below the picture; None if its chroma cannot be removed from the picture."""
    is_removable = len(layout.frame.sampling) == _COLOR_BANDS or not layout.frame.interpolates_lines(shrink)
    return jpeg.extension(layout) if is_removable else None


def _evaluate_with_row(
    loaded: Image, layout: jpeg.Layout, row: jpeg.Extension, shrink: int, scale: Callable[[Image], Image]
) -> tuple[Image, bytes, str]:
    """Return the scaled picture in memory, the last line of the row below it, and libjpeg's first warning.

    Both are evaluated at once, because a sequential image is read only once, from top to bottom.
    """
    scaled = scale(_picture(loaded, layout, row, shrink))
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
