"""Builds TIFF files from samples, for the kinds of TIFF that Pillow does not write.

The names of tags are those of TIFF 6.0; a value is given as a number, a list of numbers or bytes.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

SUBFILE, OLD_SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
MAKE, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES = 271, 273, 274, 277, 278, 279
PLANAR, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = (
    284,
    317,
    320,
    322,
    323,
    324,
    325,
)
SUB_IFDS, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT = 330, 332, 338, 339
COEFFICIENTS, SUBSAMPLING, REFERENCE, ICC, DNG_VERSION = 529, 530, 532, 34675, 50706
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
_SAMPLE_FORMATS: Final = {"u": 1, "i": 2, "f": 3, "c": 6}
_BYTE, _SHORT, _LONG, _RATIONAL, _LONG8 = 1, 3, 4, 5, 16
_CODES: Final = {_BYTE: "B", 2: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "I", 7: "B", _LONG8: "Q"}
_LONGS: Final = frozenset({SUBFILE, WIDTH, LENGTH, ROWS, STRIP_BYTES, TILE_BYTES})


Order = Literal["<", ">"]
"""Byte order: II or MM."""


@dataclass(frozen=True)
class Page:
    """One picture of a TIFF: `samples` is height × width × samples for each pixel."""

    samples: NDArray[Any]
    photometric: int = RGB
    compression: int = NONE
    tags: Mapping[int, Any] = field(default_factory=dict)
    """Further tags; they replace those that follow from the other fields, and None leaves a tag out."""
    separate: bool = False
    tile_px: int = 0
    rows: int = 0
    """The rows of a strip; 0 is one strip."""
    blocks: tuple[bytes, ...] = ()
    """The compressed strips or tiles, if they are not made from the samples."""
    children: tuple[Page, ...] = ()


def tiff(*pages: Page, order: Order = "<", big: bool = False) -> bytes:
    """Return the file; `order` is `<` (II) or `>` (MM), `big` is BigTIFF."""
    writer = _Writer(order, big=big)
    for page in pages:
        link = writer.link
        struct.pack_into(order + writer.word, writer.out, link, writer.directory(page))
    return bytes(writer.out)


def ycbcr(
    rgb: NDArray[np.uint8],
    luma: tuple[float, float, float] = (0.299, 0.587, 0.114),
    reference: tuple[int, ...] = (0, 255, 128, 255, 128, 255),
) -> NDArray[np.uint8]:
    """Return Y, Cb and Cr of an RGB picture (TIFF 6.0 §21)."""
    red, green, blue = np.moveaxis(rgb.astype(float), 2, 0)
    light = luma[0] * red + luma[1] * green + luma[2] * blue
    codes = [light / 255, (blue - light) / (2 - 2 * luma[2]) / 127, (red - light) / (2 - 2 * luma[0]) / 127]
    spans = [(reference[at], reference[at + 1] - reference[at]) for at in (0, 2, 4)]
    made = [low + code * span for code, (low, span) in zip(codes, spans, strict=True)]
    codes_of_pixels: NDArray[np.uint8] = np.clip(np.rint(np.stack(made, axis=2)), 0, 255).astype(np.uint8)
    return codes_of_pixels


def subsampled(ycc: NDArray[np.uint8], across: int, down: int) -> bytes:
    """Return one strip of data units: `across` × `down` samples of Y, then Cb and Cr (TIFF 6.0 §21)."""
    height, width, _ = ycc.shape
    whole = np.pad(ycc, ((0, -height % down), (0, -width % across), (0, 0)), mode="edge")
    units = whole.reshape(whole.shape[0] // down, down, whole.shape[1] // across, across, 3).swapaxes(1, 2)
    light = units[..., 0].reshape(*units.shape[:2], down * across)
    color = np.rint(units[..., 1:].mean(axis=(2, 3))).astype(np.uint8)
    return np.concatenate([light, color], axis=2).tobytes()


def compressed(block: bytes, compression: int) -> bytes:
    """Return a strip or tile, compressed; LZW and PackBits are written without finding repetitions."""
    if compression == DEFLATE:
        return zlib.compress(block, 1)
    if compression == PACKBITS:
        return b"".join(bytes([len(part) - 1]) + part for part in _parts(block, 128))
    if compression == LZW:
        codes = [code for part in _parts(block, 250) for code in (256, *part)] + [257]
        bits = "".join(f"{code:09b}" for code in codes)
        return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return block


def _parts(block: bytes, length: int) -> Iterator[bytes]:
    return (block[at : at + length] for at in range(0, len(block), length))


class _Writer:
    """Writes one file; positions are those in `out`."""

    def __init__(self, order: Order, *, big: bool) -> None:
        self.order: Order = order
        self.big = big
        self.word, self.count = ("Q", "Q") if big else ("I", "H")
        magic = self.packed("HHHQ", 43, 8, 0, 0) if big else self.packed("HI", 42, 0)
        self.out = bytearray({"<": b"II", ">": b"MM"}[order] + magic)
        self.link = len(self.out) - struct.calcsize(self.word)

    def packed(self, kinds: str, *values: float) -> bytes:
        return struct.pack(self.order + kinds, *values)

    def placed(self, block: bytes) -> int:
        """Append at an even position (TIFF 6.0 §2) and return it."""
        self.out.extend(bytes(len(self.out) % 2) + block)
        return len(self.out) - len(block)

    def directory(self, page: Page) -> int:
        """Append the page and its children; return the position of its directory, and set `link`."""
        blocks = page.blocks or tuple(compressed(block, page.compression) for block in self.blocks(page))
        offsets, lengths = (TILE_OFFSETS, TILE_BYTES) if page.tile_px else (STRIP_OFFSETS, STRIP_BYTES)
        tags: dict[int, Any] = {lengths: [len(block) for block in blocks]}
        tags[offsets] = [self.placed(block) for block in blocks]
        if page.children:
            tags[SUB_IFDS] = [self.directory(child) for child in page.children]
        tags |= _derived(page) | dict(page.tags)
        entries = b"".join(self.entry(tag, value) for tag, value in sorted(tags.items()) if value is not None)
        start = self.placed(self.packed(self.count, len(entries) // (20 if self.big else 12)))
        self.out.extend(entries + self.packed(self.word, 0))
        self.link = len(self.out) - struct.calcsize(self.word)
        return start

    def entry(self, tag: int, value: Any) -> bytes:  # noqa: ANN401 - a tag's value
        kind, values = _typed(tag, value, big=self.big)
        content = (
            values if isinstance(values, bytes) else self.packed(f"{len(values)}{_CODES[kind]}", *values)
        )
        count = len(content) // struct.calcsize("=" + _CODES[kind]) // (2 if kind == _RATIONAL else 1)
        width = struct.calcsize(self.word)
        inline = content if len(content) <= width else self.packed(self.word, self.placed(content))
        return self.packed("HH" + self.word, tag, kind, count) + inline.ljust(width, b"\0")

    def blocks(self, page: Page) -> Iterator[bytes]:
        """Yield strips or tiles in the file's byte order; of each plane in turn if planes are separate."""
        samples = page.samples.astype(page.samples.dtype.newbyteorder(self.order))
        planes = [samples[..., [band]] for band in range(samples.shape[2])] if page.separate else [samples]
        height, width, _ = samples.shape
        down, across = (page.tile_px, page.tile_px) if page.tile_px else (page.rows or height, width)
        for plane, top, left in itertools.product(planes, range(0, height, down), range(0, width, across)):
            block = plane[top : top + down, left : left + across]
            if page.tile_px:
                missing = (down - block.shape[0], across - block.shape[1])
                block = np.pad(block, ((0, missing[0]), (0, missing[1]), (0, 0)))
            yield block.tobytes()


def _derived(page: Page) -> dict[int, Any]:
    """Return the tags that follow from the samples."""
    height, width, bands = page.samples.shape
    colors = {PALETTE: 1, WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, SEPARATED: 4}.get(page.photometric, 3)
    kind = page.samples.dtype
    tags: dict[int, Any] = {WIDTH: width, LENGTH: height, BITS: [8 * kind.itemsize] * bands}
    tags |= {COMPRESSION: page.compression, PHOTOMETRIC: page.photometric, SAMPLES: bands}
    tags |= {SAMPLE_FORMAT: [_SAMPLE_FORMATS[kind.kind]] * bands, PLANAR: 2 if page.separate else 1}
    if page.tile_px:
        tags |= {TILE_WIDTH: page.tile_px, TILE_LENGTH: page.tile_px}
    else:
        tags[ROWS] = page.rows or height
    if bands > colors:
        tags[EXTRA_SAMPLES] = [2] + [0] * (bands - colors - 1)
    return tags


def _typed(tag: int, value: Any, *, big: bool) -> tuple[int, Any]:  # noqa: ANN401 - a tag's value
    """Return the type of a tag's value, and its numbers or bytes."""
    if isinstance(value, bytes):
        return {ICC: 7, MAKE: 2}.get(tag, _BYTE), value
    values = [value] if isinstance(value, int) else list(value)
    if tag in {COEFFICIENTS, REFERENCE}:
        return _RATIONAL, [part for number in values for part in (round(number * 10_000), 10_000)]
    if tag in {STRIP_OFFSETS, TILE_OFFSETS, SUB_IFDS}:
        return (_LONG8 if big else _LONG), values
    return (_LONG if tag in _LONGS else _SHORT), values
