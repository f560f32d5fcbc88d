"""Takes the picture that a camera embeds in its raw file, with LibRaw, an optional dependency.

The camera's own JPEG looks as the photographer saw it; developing the sensor's data would give other
colours. The JPEG then goes through the same checks and steps as any JPEG.

LibRaw comes in the wheel of rawpy. Its C API is called directly, because importing rawpy imports NumPy:
135 ms of CPU and 17 MB in every worker process.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from galerly_cdn.errors import Undecodable, UnsupportedFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_PREVIEW_PX = 1000
"""The shortest long side of an embedded picture that is shown in place of the photograph."""
_JPEG = 1
"""`LIBRAW_IMAGE_JPEG`; bitmaps, HEVC and JPEG XL have other numbers."""
_NO_THUMBNAIL, _UNSUPPORTED_THUMBNAIL = -5, -6
_FILE_UNSUPPORTED, _NOT_IMPLEMENTED = -2, -7
_APP1 = 0xE1
_SCAN = 0xDA
_ORIENTATION_OF_FLIP: Final = {0: 1, 3: 3, 5: 8, 6: 6}
"""EXIF's orientation by LibRaw's `flip`: 5 is turned counter-clockwise, 6 clockwise."""


class _Sizes(ctypes.Structure):
    """The first members of `libraw_data_t`: the image and `libraw_image_sizes_t` up to `flip`."""

    _fields_ = (
        ("image", ctypes.c_void_p),
        *((name, ctypes.c_ushort) for name in ("raw_height", "raw_width", "height", "width")),
        *((name, ctypes.c_ushort) for name in ("top_margin", "left_margin", "iheight", "iwidth")),
        ("raw_pitch", ctypes.c_uint),
        ("pixel_aspect", ctypes.c_double),
        ("flip", ctypes.c_int),
    )


class _Processed(ctypes.Structure):
    """`libraw_processed_image_t` up to its data."""

    _fields_ = (
        ("type", ctypes.c_int),
        *((name, ctypes.c_ushort) for name in ("height", "width", "colors", "bits")),
        ("data_size", ctypes.c_uint),
    )


def is_installed() -> bool:
    """Whether rawpy is installed and its LibRaw can be loaded."""
    return _library() is not None


def preview(original: bytes, kind: str) -> bytes:
    """Return the JPEG that the camera embedded, with the raw file's orientation if it has none of its own.

    Raises `UnsupportedFormat` if LibRaw is not installed, does not read the file or finds no JPEG in it, and
    `Undecodable` if the file is damaged.
    """
    library = _library()
    if library is None:
        raise UnsupportedFormat(
            f"{kind}: rawpy is not installed",
            f"{kind} raw files are not decoded here; install pip install 'galerly-cdn[raw]' (not on AWS), "
            "or save the photograph as JPEG.",
        )
    data = library.libraw_init(0)
    if not data:
        raise MemoryError
    try:
        _check(library, library.libraw_open_buffer(data, original, len(original)), kind)
        _check(library, library.libraw_unpack_thumb(data), kind)
        jpeg = _jpeg_of(library, data, kind)
        return _oriented(jpeg, _flip(library, data))
    finally:
        library.libraw_close(data)


def too_small(kind: str, width_px: int, height_px: int) -> UnsupportedFormat:
    """Return the error for an embedded picture under `MIN_PREVIEW_PX`."""
    return UnsupportedFormat(
        f"{kind}: the preview has {width_px} × {height_px} px",
        f"This {kind} raw file holds only a small preview of {width_px} × {height_px} px; "
        "save the photograph as JPEG.",
    )


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Load LibRaw; None if rawpy is not installed. Call it before files are forbidden."""
    try:
        spec = importlib.util.find_spec("rawpy")
    except ImportError:
        return None
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("_rawpy*.so")):
            try:
                return _declared(ctypes.CDLL(str(file)))
            except (OSError, AttributeError):
                return None
    return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions (libraw.h). Raises `AttributeError` if the library has none of these names."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    signatures = {
        "libraw_init": (pointer, [ctypes.c_uint]),
        "libraw_open_buffer": (integer, [pointer, ctypes.c_char_p, ctypes.c_size_t]),
        "libraw_unpack_thumb": (integer, [pointer]),
        "libraw_dcraw_make_mem_thumb": (pointer, [pointer, ctypes.POINTER(integer)]),
        "libraw_dcraw_clear_mem": (None, [pointer]),
        "libraw_get_raw_height": (integer, [pointer]),
        "libraw_get_raw_width": (integer, [pointer]),
        "libraw_strerror": (ctypes.c_char_p, [integer]),
        "libraw_close": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _check(library: ctypes.CDLL, code: int, kind: str) -> None:
    """Raise the error of a LibRaw function's result; 0 is success."""
    if code == 0:
        return
    detail = f"LibRaw: {library.libraw_strerror(code).decode('ascii', 'replace')}"
    if code in {_NO_THUMBNAIL, _UNSUPPORTED_THUMBNAIL, _FILE_UNSUPPORTED, _NOT_IMPLEMENTED}:
        raise _no_jpeg(kind, detail)
    raise Undecodable(f"{kind}: {detail}")


def _no_jpeg(kind: str, detail: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{kind}: {detail}",
        f"This {kind} raw file holds no JPEG preview that can be shown; save the photograph as JPEG.",
    )


def _jpeg_of(library: ctypes.CDLL, data: int, kind: str) -> bytes:
    """Return the embedded picture, if it is a JPEG. LibRaw adds EXIF with the orientation if it has none."""
    code = ctypes.c_int()
    made = library.libraw_dcraw_make_mem_thumb(data, ctypes.byref(code))
    if not made:
        _check(library, code.value or _NO_THUMBNAIL, kind)
    try:
        head = _Processed.from_address(made)
        if head.type != _JPEG:
            raise _no_jpeg(kind, f"the embedded picture has the type {head.type}")
        return ctypes.string_at(made + _Processed.data_size.offset + 4, head.data_size)
    finally:
        library.libraw_dcraw_clear_mem(made)


def _flip(library: ctypes.CDLL, data: int) -> int:
    """Return LibRaw's `sizes.flip`; 0 if the structure is not as this module knows it."""
    sizes = _Sizes.from_address(data)
    known = (library.libraw_get_raw_width(data), library.libraw_get_raw_height(data))
    return sizes.flip if (sizes.raw_width, sizes.raw_height) == known else 0


def _oriented(jpeg: bytes, flip: int) -> bytes:
    """Return the JPEG with its own orientation, else with the raw file's."""
    blocks = list(_exif_blocks(jpeg))
    added = [(start, end) for start, end in blocks[:1] if b"dcraw v" in jpeg[start:end]]
    own = blocks[len(added) :]
    if any(_has_orientation(jpeg[start + 10 : end]) for start, end in own):
        return _without(jpeg, added)
    orientation = _ORIENTATION_OF_FLIP.get(flip, 1)
    if added or orientation == 1:  # LibRaw's own block has the raw file's orientation, and its artist
        return _without(jpeg, own) if added else jpeg
    tiff_block = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff_block
    segment = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    plain = _without(jpeg, blocks)
    return plain[:2] + segment + plain[2:]


def _exif_blocks(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the EXIF segments before the first scan begin and end (ITU-T T.81 B.1.1.4)."""
    position = 2
    while jpeg[position : position + 1] == b"\xff" and position + 4 <= len(jpeg):
        marker = jpeg[position + 1]
        if marker == _SCAN:
            return
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        if marker == _APP1 and jpeg.startswith(b"Exif\0\0", position + 4):
            yield position, end
        position = end


def _has_orientation(block: bytes) -> bool:
    """Whether the first directory of a TIFF block has the tag Orientation (EXIF 2.32 §4.6.4)."""
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"
    start = int.from_bytes(block[4:8], order)
    count = int.from_bytes(block[start : start + 2], order)
    entries = range(start + 2, min(start + 2 + 12 * count, len(block)), 12)
    return any(int.from_bytes(block[entry : entry + 2], order) == 0x112 for entry in entries)


def _without(jpeg: bytes, parts: list[tuple[int, int]]) -> bytes:
    for start, end in reversed(parts):
        jpeg = jpeg[:start] + jpeg[end:]
    return jpeg
