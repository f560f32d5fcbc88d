"""Finds missing and damaged parts of an original that its decoder passes over, by checksums and lengths.

docs/damage.md lists what is found and what is not.
"""

from __future__ import annotations

import zlib
from typing import Final

from galerly_cdn.errors import Undecodable
from galerly_cdn.render.damage import avif_grid, gif_frame, tiff_strips, webp
from galerly_cdn.render.formats import OriginalFormat

_PNG_SIGNATURE_BYTES: Final = 8
_PNG_MAX_CHUNKS: Final = 200_000
_PNG_HARMLESS: Final = frozenset(
    {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"hIST", b"sPLT", b"bKGD", b"oFFs", b"pCAL", b"sCAL"}
)
"""Ancillary chunks without influence on the pixels (PNG 3rd edition §11.3); a wrong checksum is no damage."""


def check(original: bytes, kind: OriginalFormat) -> None:
    """Raise `Undecodable` if a part of the file that determines its pixels is missing or damaged.

    No pixel is decoded. Bytes after the end of the picture, and damage in texts and dates, are accepted.
    """
    match kind:
        case OriginalFormat.PNG:
            check_png(original)
        case OriginalFormat.GIF:
            gif_frame.check(original)
        case OriginalFormat.TIFF:
            tiff_strips.check_structure(original)
        case _:
            pass


def check_by_decoding(original: bytes, kind: OriginalFormat) -> None:
    """Raise `Undecodable` for damage that only another decode shows; limits must have been checked before.

    Raises `TooMuchMemory` if a decoder needs more than it may have, as damaged sides can announce.
    """
    match kind:
        case OriginalFormat.WEBP:
            webp.check(original)
        case OriginalFormat.AVIF:
            avif_grid.check(original)
        case OriginalFormat.TIFF:
            tiff_strips.check(original)
        case _:
            pass


def check_png(original: bytes) -> None:
    """Require every chunk before IEND whole, and with its right checksum (PNG 3rd edition §5.3).

    libspng skips an ancillary chunk with a wrong checksum: without its `iCCP`, `cICP` or `tRNS` chunk a
    picture has other colours. It reads no further than the last row: a wrong last `IDAT` passes. Unknown
    types are compared too, because the type itself may be damaged. A file without `IEND` is accepted.
    """
    view = memoryview(original)
    position = _PNG_SIGNATURE_BYTES
    for _ in range(_PNG_MAX_CHUNKS):
        length = int.from_bytes(view[position : position + 4], "big")
        name = bytes(view[position + 4 : position + 8])
        end = position + 8 + length
        if name == b"IEND" or len(name) < 4:
            return
        checksum = view[end : end + 4]
        if len(checksum) < 4:
            raise Undecodable(f"the PNG ends inside its chunk {name!r}")
        if name not in _PNG_HARMLESS and zlib.crc32(view[position + 4 : end]) != int.from_bytes(
            checksum, "big"
        ):
            raise Undecodable(f"the PNG's chunk {name!r} has a wrong checksum")
        position = end + 4
    raise Undecodable(f"the PNG has more than {_PNG_MAX_CHUNKS} chunks")
