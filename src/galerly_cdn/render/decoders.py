"""Which decoder may see an original: the door to libvips' loaders.

The magic bytes choose (`kind`), by our own allow-list: a name, a declared type or libvips' own sniffing
never do (CVE-2026-66066 handed uploads to whichever loader felt called). Originals are bytes, never
paths: some loaders choose by file suffix. Loaders outside the list are blocked in the whole process, and
what libvips can *really* decode is found by decoding, because its HEIF reader opens headers of
pictures whose codec was never built in.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import pyvips

from galerly_cdn.errors import Undecodable
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.sample_images import COLOR, SPECIMENS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Image = pyvips.Image
Error = pyvips.Error

_SPECIMEN_TOLERANCE = 12


_LOADERS: Final[Mapping[OriginalFormat, Callable[..., Image]]] = {
    OriginalFormat.JPEG: pyvips.Image.jpegload_source,
    OriginalFormat.PNG: pyvips.Image.pngload_source,
    OriginalFormat.WEBP: pyvips.Image.webpload_source,
    OriginalFormat.GIF: pyvips.Image.gifload_source,
    OriginalFormat.TIFF: pyvips.Image.tiffload_source,
    OriginalFormat.AVIF: pyvips.Image.heifload_source,
    OriginalFormat.HEIC: pyvips.Image.heifload_source,
}
ALLOWED_CLASSES: Final = ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif")


def load(original: bytes, kind: OriginalFormat, **options: float) -> Image:
    """A lazy picture, header read: strict, top to bottom once, its first frame only.

    `options` are the loader's own (`shrink`, `scale`). Raises `Undecodable`; damage further down
    comes as `loaders.Error` when the pixels are asked for.
    """
    source = pyvips.Source.new_from_memory(original)  # a buffer would be copied at every opening
    try:
        image = _loader(kind)(source, access="sequential", fail_on="warning", **options)
    except pyvips.Error as error:
        raise Undecodable(error_text(error)) from error
    image._references.append(source)  # noqa: SLF001 - pyvips keeps buffers alive with a lazy picture, not sources
    return image


def _loader(kind: OriginalFormat) -> Callable[..., Image]:
    return _LOADERS[kind]


def error_text(error: pyvips.Error) -> str:
    """libvips' own words on one line, for the log."""
    return " ".join(f"{error.message} {error.detail}".split())


def block_untrusted_loaders() -> None:
    """Block every loader outside the allow-list in this process and switch libvips' cache off.

    Blocking libvips' "untrusted" ones is not enough: matrix, rawload and the UltraHDR reader would
    stay. The operation cache would keep finished originals in memory.
    """
    pyvips.cache_set_max(0)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in ALLOWED_CLASSES:
        pyvips.operation_block_set(f"VipsForeignLoad{name}", False)


def version() -> str:
    """The version of the libvips in use, e.g. `8.18.7`."""
    return ".".join(str(pyvips.version(part)) for part in range(3))


@functools.cache
def decodable_formats() -> frozenset[OriginalFormat]:
    """The formats this libvips really decodes, found by decoding a specimen of each."""
    return frozenset(kind for kind in OriginalFormat if _decodes(kind))


def _decodes(kind: OriginalFormat) -> bool:
    try:
        image = load(SPECIMENS[kind], kind)
        pixel = image.colourspace("srgb").getpoint(8, 8)
    except (Undecodable, pyvips.Error):
        return False
    return all(abs(a - b) <= _SPECIMEN_TOLERANCE for a, b in zip(pixel, COLOR, strict=False))
