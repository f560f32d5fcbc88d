"""Opens originals with libvips' loaders; only this module calls them.

The original's format, detected from its magic bytes, selects the loader from an allow-list. A file name,
a declared type and libvips' own detection are not used (CVE-2026-66066 passed uploads to any loader that
accepted them). Originals are passed as bytes and not as paths, because some loaders select by suffix.

Loaders outside the allow-list are blocked in the whole process. The formats that libvips can decode are
determined by decoding, because its HEIF loader opens headers of pictures whose codec is not built in.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import pyvips

from galerly_cdn.errors import Undecodable, UnsupportedFormat
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.originals import heic, raw
from galerly_cdn.render.sample_images import COLOR, SPECIMENS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Image = pyvips.Image
Error = pyvips.Error

_COLOR_TOLERANCE = 12
"""Largest difference of a decoded sample (0 to 255) from its colour: lossy formats change it."""

_LOADERS: Final[Mapping[OriginalFormat, Callable[..., Image]]] = {
    OriginalFormat.JPEG: pyvips.Image.jpegload_source,
    OriginalFormat.PNG: pyvips.Image.pngload_source,
    OriginalFormat.WEBP: pyvips.Image.webpload_source,
    OriginalFormat.GIF: pyvips.Image.gifload_source,
    OriginalFormat.TIFF: pyvips.Image.tiffload_source,
    OriginalFormat.AVIF: pyvips.Image.heifload_source,
}
ALLOWED_CLASSES: Final = ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif")


def load(original: bytes, kind: OriginalFormat, **options: float) -> Image:
    """Open the first frame of an original and read its header; return a lazy, sequential image.

    `options` are those of the loader (`shrink`, `scale`). Raises `Undecodable` if the header is damaged.
    Damage in the pixels, warnings included, raises `decoders.Error` when they are evaluated. HEIC is decoded
    here as a whole, and damage in it raises `Undecodable`.
    """
    if kind is OriginalFormat.HEIC:
        return heic.load(original)
    source = pyvips.Source.new_from_memory(original)  # a buffer would be copied each time it is opened
    try:
        image = _loader(kind)(source, access="sequential", fail_on="warning", **options)
    except pyvips.Error as error:
        raise Undecodable(error_text(error)) from error
    image._references.append(source)  # noqa: SLF001 - pyvips keeps buffers alive with a lazy picture, not sources
    return image


def load_header(original: bytes, kind: OriginalFormat) -> Image:
    """Open an original as `load` does, for its header alone: no pixel is decoded."""
    return heic.read_header(original) if kind is OriginalFormat.HEIC else load(original, kind)


def _loader(kind: OriginalFormat) -> Callable[..., Image]:
    """Return the loader; pyright would check the options against every loader's own parameters."""
    return _LOADERS[kind]


def error_text(error: pyvips.Error) -> str:
    """Return libvips' message on one line, for the log."""
    return " ".join(f"{error.message} {error.detail}".split())


def block_untrusted_loaders() -> None:
    """Block every loader outside the allow-list in this process, and disable libvips' operation cache.

    `vips_block_untrusted_set` is not enough: it leaves the matrix, raw and UltraHDR loaders. The operation
    cache would keep originals in memory after they are rendered.
    """
    pyvips.cache_set_max(0)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in ALLOWED_CLASSES:
        pyvips.operation_block_set(f"VipsForeignLoad{name}", False)


def version() -> str:
    """Return the version of the loaded libvips, such as `8.18.7`."""
    return ".".join(str(pyvips.version(part)) for part in range(3))


@functools.cache
def decodable_formats() -> frozenset[OriginalFormat]:
    """Return the formats that the loaded libvips decodes, determined by decoding a sample of each."""
    return frozenset(kind for kind in OriginalFormat if _decodes(kind))


def _decodes(kind: OriginalFormat) -> bool:
    """Decode the sample of a format; that loads its library, which cannot be loaded inside the sandbox."""
    if kind is OriginalFormat.RAW:
        return raw.is_installed()
    try:
        image = load(SPECIMENS[kind], kind)
        pixel = image.colourspace("srgb").getpoint(8, 8)
    except (Undecodable, UnsupportedFormat, pyvips.Error):
        return False
    return all(abs(a - b) <= _COLOR_TOLERANCE for a, b in zip(pixel, COLOR, strict=False))
