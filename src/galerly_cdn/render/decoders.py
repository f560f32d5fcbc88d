"""Opens originals with libvips' loaders; only this module calls them.

The original's format, detected from its magic bytes, selects the loader from an allow-list. A file name,
a declared type and libvips' own detection are not used (CVE-2026-66066 passed uploads to any loader that
accepted them). Originals are passed as bytes and not as paths, because some loaders select by suffix.

Loaders outside the allow-list are blocked in the whole process. The formats that libvips can decode are
determined by decoding, because its HEIF loader opens headers of pictures whose codec is not built in.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from typing import TYPE_CHECKING, Final

import pyvips

from galerly_cdn.errors import TooMuchMemory, Undecodable, UnsupportedFormat
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.originals import heic, raw, tiff, tiff_samples
from galerly_cdn.render.sample_images import COLOR, SPECIMENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# The operation cache would keep originals in memory after they are rendered, and delay the report of
# libjpeg's warnings, which libvips makes when a decoded JPEG is released.
pyvips.cache_set_max(0)

# One thread for each image: several could read a sequential image out of order where two parts of it are
# evaluated together, and they add nothing to the throughput of one worker process for each core.
pyvips.concurrency_set(1)  # type: ignore[attr-defined]  # missing in its type hints

Image = pyvips.Image
Error = pyvips.Error

_LOGGER: Final = logging.getLogger("pyvips")
_JPEG_WARNINGS: Final = re.compile(r"read gave (\d+) warnings")
_COLOR_TOLERANCE = 12
"""Largest difference of a decoded sample (0 to 255) from its colour: lossy formats change it."""

_NO_MEMORY: Final = re.compile(
    r"out of memory|insufficient memory|memory allocation|cannot allocate", re.IGNORECASE
)
"""What libvips, libjpeg, libpng, libheif and the C library say when memory cannot be allocated."""

_LOADERS: Final[Mapping[OriginalFormat, Callable[..., Image]]] = {
    OriginalFormat.JPEG: pyvips.Image.jpegload_source,
    OriginalFormat.PNG: pyvips.Image.pngload_source,
    OriginalFormat.WEBP: pyvips.Image.webpload_source,
    OriginalFormat.GIF: pyvips.Image.gifload_source,
    OriginalFormat.TIFF: pyvips.Image.tiffload_source,
    OriginalFormat.AVIF: pyvips.Image.heifload_source,
}
ALLOWED_CLASSES: Final = ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif")


def load(
    original: bytes | bytearray,
    kind: OriginalFormat,
    fail_on: str = "warning",
    **options: float,
) -> Image:
    """Open the first frame of an original and read its header; return a lazy, sequential image.

    `options` are those of the loader (`shrink`, `scale`). Raises `Undecodable` if the header is damaged.
    Damage in the pixels raises `decoders.Error` when they are evaluated: with `fail_on="warning"` also what
    a decoder only warns of, unless it is found after the last strip of lines has been read. HEIC is decoded
    here as a whole, and damage in it raises `Undecodable`.
    """
    if kind is OriginalFormat.HEIC:
        return heic.load(bytes(original))
    if kind is OriginalFormat.TIFF:
        return _load_tiff(bytes(original))
    return _opened(original, kind, fail_on=fail_on, **options)


def _load_tiff(original: bytes) -> Image:
    """Open the full-size page of a TIFF, with its samples in a form of the pipeline.

    `n-pages` of the image counts the pictures in the file without reduced copies of them. Raises
    `UnsupportedFormat` for kinds that would be shown wrongly.
    """
    page = tiff.shown_page(original)
    directory = page.directory
    image = _opened(
        tiff.readable(original, page),
        OriginalFormat.TIFF,
        fail_on="error" if tiff.is_warned_of(original, page) else "warning",
        page=directory.number,
        subifd=directory.child,
    )
    if (image.width, image.height) != directory.sides_px:
        raise Undecodable("the TIFF directory cannot be read")
    image = tiff_samples.normalised(image, page).copy()
    image.set_type(pyvips.GValue.gint_type, "n-pages", page.pictures)
    image.set_type(pyvips.GValue.gint_type, "orientation", page.orientation)
    return image


def _opened(original: bytes | bytearray, kind: OriginalFormat, **options: float | str) -> Image:
    source = pyvips.Source.new_from_memory(original)  # a buffer would be copied each time it is opened
    try:
        image = _loader(kind)(source, access="sequential", **options)
    except pyvips.Error as error:
        raise refusal(error) from error
    image._references.append(source)  # noqa: SLF001 - pyvips keeps buffers alive with a lazy picture, not sources
    return image


def load_header(original: bytes, kind: OriginalFormat) -> Image:
    """Open an original as `load` does, for its header alone: no pixel is decoded."""
    return heic.read_header(original) if kind is OriginalFormat.HEIC else load(original, kind)


def _loader(kind: OriginalFormat) -> Callable[..., Image]:
    """Return the loader; pyright would check the options against every loader's own parameters."""
    return _LOADERS[kind]


def refusal(error: pyvips.Error) -> Undecodable | TooMuchMemory:
    """Return the error for an original that libvips did not decode.

    A lack of memory says nothing about the file, and must not become its stored verdict.
    """
    text = error_text(error)
    return TooMuchMemory(text) if _NO_MEMORY.search(text) else Undecodable(text)


def error_text(error: pyvips.Error) -> str:
    """Return libvips' message on one line, for the log."""
    return " ".join(f"{error.message} {error.detail}".split())


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what libvips logs in this process meanwhile, in place of writing it to the log."""
    collected: list[str] = []
    handler = _Collector(collected)
    propagates, _LOGGER.propagate = _LOGGER.propagate, False
    _LOGGER.addHandler(handler)
    try:
        yield collected
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.propagate = propagates


class _Collector(logging.Handler):
    def __init__(self, collected: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._collected = collected

    def emit(self, record: logging.LogRecord) -> None:
        self._collected.append(record.getMessage())


def jpeg_warnings(collected: list[str]) -> int:
    """Return the number of libjpeg's warnings, which libvips logs when a decoded JPEG is released."""
    return sum(int(match[1]) for text in collected if (match := _JPEG_WARNINGS.search(text)))


def first_message() -> str:
    """Return and clear libvips' error buffer, which holds libjpeg's first warning."""
    return " ".join(str(pyvips.Error("").detail).split())


def block_untrusted_loaders() -> None:
    """Block every loader outside the allow-list in this process.

    `vips_block_untrusted_set` is not enough: it leaves the matrix, raw and UltraHDR loaders.
    """
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
    except (Undecodable, UnsupportedFormat, TooMuchMemory, pyvips.Error):
        return False
    return all(abs(a - b) <= _COLOR_TOLERANCE for a, b in zip(pixel, COLOR, strict=False))
