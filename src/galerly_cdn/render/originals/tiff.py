"""Decides which page of a TIFF is shown, and refuses the kinds that would be shown wrongly.

libvips reads the first page, even if it is a thumbnail, and passes some kinds of samples on unconverted. The
full-size page is found here; `tiff_samples` converts its samples. Camera raw files are TIFFs whose first page
is a thumbnail; `raw_kind` recognises them.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from galerly_cdn.errors import Undecodable, UnsupportedFormat
from galerly_cdn.render.originals import tiff_directory as tags
from galerly_cdn.render.originals.tiff_directory import Directory, directory_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_MASK, _CFA, _LOG_LUV, _LINEAR_RAW = 4, 32803, 32845, 34892
_COLORS: Final = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, PALETTE: 1, SEPARATED: 4}
"""Photometric interpretation → the samples that are not extra; 3 for the others (TIFF 6.0 §§4 to 23)."""
_PHOTOMETRIC_NAMES: Final = {
    WHITE_IS_ZERO: "grey",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    PALETTE: "palette",
    _MASK: "transparency mask",
    SEPARATED: "CMYK",
    YCBCR: "YCbCr",
    CIELAB: "CIELab",
    ICCLAB: "ICCLab",
    10: "ITULab",
    32844: "LogL",
}
UNSIGNED, FLOAT, _VOID = 1, 3, 4
_FORMAT_NAMES: Final = {
    UNSIGNED: "integer",
    2: "signed integer",
    FLOAT: "float",
    5: "complex integer",
    6: "complex",
}
_DEPTHS: Final = {
    UNSIGNED: {
        WHITE_IS_ZERO: {1, 2, 4, 8, 16, 32},
        BLACK_IS_ZERO: {1, 2, 4, 8, 16, 32},
        RGB: {8, 16, 32},
        PALETTE: {1, 2, 4, 8, 16},
        SEPARATED: {8, 16},
        YCBCR: {8},
        CIELAB: {8, 16},
        ICCLAB: {8, 16},
    },
    FLOAT: {WHITE_IS_ZERO: {16, 32}, BLACK_IS_ZERO: {16, 32}, RGB: {16, 32}, CIELAB: {32}},
}
"""Sample format → photometric interpretation → the bits of a sample that are shown right."""
_UNCOMPRESSED, _LZW, _JPEG = 1, 5, 7
_DECODED: Final = frozenset({_UNCOMPRESSED, 2, 3, 4, _LZW, _JPEG, 8, 32773, 32946, 50001})
"""What libvips decodes: none, CCITT, LZW, JPEG, deflate, PackBits and WebP, with libtiff as in its wheel."""
_LOG_COMPRESSIONS: Final = frozenset({34676, 34677})
_COMPRESSION_NAMES: Final = {
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT",
    32771: "CCITT RLE-W",
    32809: "ThunderScan",
    32908: "PixarFilm",
    32909: "PixarLog",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34715: "JBIG2",
    34887: "LERC",
    34925: "LZMA",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    50000: "ZSTD",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_SUBSAMPLINGS: Final = frozenset({(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)})
"""The subsamplings of Cb and Cr that libtiff converts to RGB (`TIFFRGBAImage`)."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
_PREMULTIPLIED: Final = frozenset({BLACK_IS_ZERO, RGB, SEPARATED, CIELAB})

_RAW_MAGIC: Final = (
    (((0, b"IIRO"),), "Olympus ORF"),
    (((0, b"IIRS"),), "Olympus ORF"),
    (((0, b"MMOR"),), "Olympus ORF"),
    (((0, b"IIU\0"),), "Panasonic RW2"),
    (((0, b"FUJIFILMCCD-RAW"),), "Fujifilm RAF"),
    (((0, b"FOVb"),), "Sigma X3F"),
    (((0, b"\0MRM"),), "Minolta MRW"),
    (((25, b"ARECOYK"),), "Contax raw"),
    (((4, b"ftypcrx "),), "Canon CR3"),
    (((6, b"HEAPCCDR"),), "Canon CRW"),
    (((4, b"\x10\0\0\0CR\2\0"),), "Canon CR2"),
    (((8, b"IIII"), (13, b"waR")), "Phase One IIQ"),
    (((8, b"MMMMRaw"),), "Phase One IIQ"),
)
"""The (position, bytes) by which ExifTool recognises raw formats, and their names."""
_RAW_PHOTOMETRICS: Final = frozenset({_CFA, _LINEAR_RAW})
_RAW_COMPRESSIONS: Final = frozenset({32767, 32769, 32770, 32867, 34713, 65000, 65535})
"""Sony, packed, Samsung, Kodak KDC, Nikon, Kodak DCR and Pentax (ExifTool, tag Compression)."""
_RAW_MAKERS: Final = {
    "NIKON": "Nikon NEF",
    "SONY": "Sony ARW",
    "PENTAX": "Pentax PEF",
    "RICOH": "Pentax PEF",
    "SAMSUNG": "Samsung SRW",
    "HASSELBLAD": "Hasselblad 3FR",
    "SEIKO EPSON": "Epson ERF",
    "EASTMAN KODAK": "Kodak DCR",
    "KODAK": "Kodak DCR",
    "LEAF": "Leaf MOS",
    "MAMIYA": "Mamiya MEF",
    "PHASE ONE": "Phase One IIQ",
}
"""The start of the maker's name, in upper case, and the kind of its raw files."""


_PYRAMID_LEVELS = 3


class Page(NamedTuple):
    """The page that is shown, and how its samples are stored."""

    directory: Directory
    pictures: int
    """The pictures in the file that are no reduced copies of another, this one included."""
    orientation: int
    """The orientation; that of its parent if it names none."""

    @property
    def photometric(self) -> int:
        return self.directory.first(tags.PHOTOMETRIC, -1)

    @property
    def compression(self) -> int:
        return self.directory.first(tags.COMPRESSION, _UNCOMPRESSED)

    @property
    def samples(self) -> int:
        """The samples of each pixel, extra samples included."""
        return self.directory.first(tags.SAMPLES, 1)

    @property
    def colors(self) -> int:
        """The samples of each pixel that are not extra."""
        return _COLORS.get(self.photometric, 3)

    @property
    def bits(self) -> int:
        """The bits of a sample."""
        return self.directory.first(tags.BITS, 1)

    @property
    def sample_format(self) -> int:
        sample_format = self.directory.first(tags.SAMPLE_FORMAT, UNSIGNED)
        return UNSIGNED if sample_format == _VOID else sample_format

    @property
    def is_grey(self) -> bool:
        return self.photometric in {WHITE_IS_ZERO, BLACK_IS_ZERO}

    @property
    def is_lab_code(self) -> bool:
        """Whether the samples are integers that stand for L*, a* and b*."""
        return self.photometric in {CIELAB, ICCLAB} and self.sample_format == UNSIGNED

    @property
    def is_separate(self) -> bool:
        """Whether each sample has a plane of its own."""
        return self.directory.first(tags.PLANAR, 1) == 2 and self.samples > 1

    @property
    def subsampling(self) -> tuple[int, int]:
        """How many samples of Y, across and down, share one Cb and one Cr; the default is 2 and 2."""
        across, down = (*self.directory.values.get(tags.SUBSAMPLING, (2, 2)), 0)[:2]
        return int(across), int(down)

    @property
    def is_ycbcr_code(self) -> bool:
        """Whether the samples are Y, Cb and Cr of each pixel, which the JPEG decoder does not convert."""
        return self.photometric == YCBCR and self.compression != _JPEG and self.subsampling == (1, 1)

    @property
    def is_subsampled(self) -> bool:
        """Whether libvips has libtiff convert the page from YCbCr to RGBA."""
        return self.photometric == YCBCR and self.compression != _JPEG and self.subsampling != (1, 1)

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """The shares of red, green and blue in Y (TIFF 6.0 §21); the default is BT.601."""
        red, green, blue = (*self.directory.values.get(tags.COEFFICIENTS, ()), 0, 0, 0)[:3]
        return (red, green, blue) if min(red, green, blue) > 0 else (0.299, 0.587, 0.114)

    @property
    def reference(self) -> tuple[float, ...]:
        """The codes of black and white in Y, Cb and Cr (TIFF 6.0 §21)."""
        codes = self.directory.values.get(tags.REFERENCE, ())[:6]
        is_usable = len(codes) == 6 and all(codes[at] < codes[at + 1] for at in (0, 2, 4))
        return codes if is_usable else (0, 255, 128, 255, 128, 255)

    @property
    def extras(self) -> tuple[float, ...]:
        """What each extra sample is; a single one that the file does not describe is alpha.

        OpenCV writes such files, and Pillow reads them so.
        """
        count = max(self.samples - self.colors, 0)
        named = self.directory.values.get(tags.EXTRA_SAMPLES, ())[:count]
        return named if len(named) == count else (_UNASSOCIATED,) * (count == 1) or (0,) * count

    @property
    def alpha(self) -> int | None:
        """The number of alpha among the extra samples; None if there is no alpha."""
        return next((at for at, kind in enumerate(self.extras) if kind in {_ASSOCIATED, _UNASSOCIATED}), None)

    @property
    def is_premultiplied(self) -> bool:
        """Whether the colours are multiplied by alpha: associated alpha (TIFF 6.0 §18)."""
        return self.alpha is not None and self.extras[self.alpha] == _ASSOCIATED

    @property
    def divides_by_alpha(self) -> bool:
        """Whether `tiff_samples` divides by alpha, because libvips would take another maximum of alpha."""
        is_scaled = self.sample_format == FLOAT and self.photometric != RGB
        is_deep = self.bits == 32 or (self.photometric == SEPARATED and self.bits == 16)
        return self.is_premultiplied and (
            self.is_lab_code or is_scaled or (is_deep and self.sample_format == UNSIGNED)
        )


def shown_page(original: bytes) -> Page:
    """Return the page as `page_of` does. Raises `UnsupportedFormat` for kinds that would be shown wrongly."""
    page = page_of(original)
    if problem := next(_problems(page), None):
        raise UnsupportedFormat(f"{problem} TIFF")
    return page


def page_of(original: bytes) -> Page:
    """Return the first full-size page, or the largest if all are reduced copies or levels of a pyramid.

    Where a directory has children, the largest of them and itself is the page (a preview may come first).
    Raises `Undecodable` if there is no directory.
    """
    groups = directory_groups(original)
    full = [_largest(pictures) for group in groups if (pictures := [one for one in group if _is_full(one)])]
    if not full or _is_pyramid(full):
        full = [_largest(full or [one for group in groups for one in group])]
    directory = full[0]
    parent = groups[directory.number][0]
    orientation = directory.first(tags.ORIENTATION, parent.first(tags.ORIENTATION, 1))
    return Page(directory, len(full), orientation)


def readable(original: bytes, page: Page) -> bytes:
    """Return the file with tags changed so that libvips passes the page's samples on as they are.

    Lab and YCbCr are announced as RGB, because libvips or libtiff read some of their forms wrongly, and
    premultiplied colours that `tiff_samples` divides as not premultiplied. Subsampled YCbCr is announced as
    upright, because libtiff would turn each tile. Other files are returned unchanged.
    """
    changes: list[tuple[int, int, int]] = []
    if page.is_lab_code or page.is_ycbcr_code:
        changes.append((tags.PHOTOMETRIC, 0, RGB))
    if page.divides_by_alpha and page.alpha is not None:
        changes.append((tags.EXTRA_SAMPLES, page.alpha, _UNASSOCIATED))
    if page.is_subsampled and page.orientation != 1 and tags.ORIENTATION in page.directory.places:
        changes.append((tags.ORIENTATION, 0, 1))
    if not changes:
        return original
    patched = bytearray(original)
    for tag, index, value in changes:
        position, code = page.directory.places[tag]
        struct.pack_into(code, patched, position + index * struct.calcsize(code), value)
    return bytes(patched)


def is_warned_of(original: bytes, page: Page) -> bool:
    """Return whether libtiff warns of something that it reads right.

    These are extra samples that the file does not describe, and LZW of before 1990, whose codes have their
    lowest bit first: its first code, 256, starts with these bits (libtiff, `LZWPreDecode`).
    """
    described = len(page.directory.values.get(tags.EXTRA_SAMPLES, ()))
    start = page.directory.first(tags.STRIP_OFFSETS, page.directory.first(tags.TILE_OFFSETS, 0))
    codes = original[start : start + 2]
    is_old_lzw = page.compression == _LZW and len(codes) == 2 and codes[0] == 0 and bool(codes[1] & 1)
    return is_old_lzw or described < page.samples - page.colors


def raw_kind(original: bytes) -> str | None:
    """Return the name of a camera raw file's kind, such as "DNG" or "Nikon NEF"; None for other files."""
    for magic, name in _RAW_MAGIC:
        if all(original.startswith(part, position) for position, part in magic):
            return name
    if not original.startswith(tags.MAGIC):
        return None
    try:
        groups = directory_groups(original)
    except Undecodable:
        return None
    every = [one for group in groups for one in group]
    if tags.DNG_VERSION in every[0].values:
        return "DNG"
    maker = next((one.maker for one in every if one.maker), "")
    hides_picture = bool(maker) and not any(_is_full(one) for one in every)
    return _raw_name(maker) if hides_picture or any(map(_is_raw, every)) else None


def _is_raw(directory: Directory) -> bool:
    return (
        directory.first(tags.PHOTOMETRIC, -1) in _RAW_PHOTOMETRICS
        or directory.first(tags.COMPRESSION, _UNCOMPRESSED) in _RAW_COMPRESSIONS
    )


def _raw_name(maker: str) -> str:
    upper = maker.upper()
    return next(
        (name for start, name in _RAW_MAKERS.items() if upper.startswith(start)),
        f"{maker or 'camera'} raw",
    )


def _is_full(directory: Directory) -> bool:
    is_mask = directory.first(tags.PHOTOMETRIC, -1) == _MASK
    return directory.is_picture and not directory.is_reduced and not is_mask


def _is_pyramid(directories: Sequence[Directory]) -> bool:
    """Return whether three pages or more are each half as wide and high as the next, or as the one before.

    Such levels are not always marked as reduced copies.
    """
    sides = sorted((one.sides_px for one in directories), reverse=True)
    in_order = [one.sides_px for one in directories] in (sides, sides[::-1])
    halves = all(
        abs(large - 2 * small) <= 1
        for larger, smaller in itertools.pairwise(sides)
        for large, small in zip(larger, smaller, strict=True)
    )
    return len(sides) >= _PYRAMID_LEVELS and in_order and halves


def _largest(directories: Iterable[Directory]) -> Directory:
    return max(directories, key=lambda one: one.sides_px[0] * one.sides_px[1])


def _problems(page: Page) -> Iterator[str]:
    """Yield the names of what neither libvips nor `tiff_samples` shows right."""
    color = _PHOTOMETRIC_NAMES.get(page.photometric, f"photometric interpretation {page.photometric}")
    is_log = page.photometric == _LOG_LUV and page.compression in _LOG_COMPRESSIONS
    if page.compression not in _DECODED and not is_log:
        yield f"{_COMPRESSION_NAMES.get(page.compression, f'compression {page.compression}')}-compressed"
    if is_log or page.photometric == -1:  # libvips converts the first and refuses the second
        return
    depths = set(page.directory.values.get(tags.BITS, (1,)))
    formats = set(page.directory.values.get(tags.SAMPLE_FORMAT, (UNSIGNED,))) - {_VOID}
    if len(depths) > 1 or len(formats) > 1:
        yield f"{color} with samples of different depths or formats in a"
    if page.bits not in _DEPTHS.get(page.sample_format, {}).get(page.photometric, set()):
        yield f"{page.bits}-bit {_FORMAT_NAMES.get(page.sample_format, 'unknown format')} {color}"
    if page.samples < page.colors or (page.bits < 8 and page.samples > 1):
        yield f"{color} with {page.samples} samples of {page.bits} bits in a"
    if page.is_premultiplied and page.photometric not in _PREMULTIPLIED:
        yield f"premultiplied {color}"
    yield from _layout_problems(page, color)


def _layout_problems(page: Page, color: str) -> Iterator[str]:
    """Yield the names of layouts that libtiff or libvips does not read."""
    is_tiled = tags.TILE_WIDTH in page.directory.values
    if page.is_separate and (is_tiled or page.compression == _JPEG):
        yield "tiled or JPEG-compressed, plane-separate"
    is_half = page.sample_format == FLOAT and page.bits == 16
    if page.is_separate and (page.is_grey or page.photometric == PALETTE or is_half):
        yield f"plane-separate {page.bits}-bit {color}"  # libvips takes lines from wrong positions
    if page.photometric == SEPARATED and page.directory.first(tags.INK_SET, 1) != 1:
        yield "separated inks other than CMYK in a"
    if page.compression == _JPEG and page.bits != 8:
        yield f"{page.bits}-bit JPEG-compressed"
    if page.compression == _JPEG and (page.is_lab_code or (is_tiled and page.samples != page.colors)):
        yield f"JPEG-compressed {color} with {page.samples} samples in a"
    if page.is_subsampled and (
        page.subsampling not in _SUBSAMPLINGS or page.is_separate or page.samples != 3
    ):
        yield "YCbCr of unusual subsampling in a"
    if page.is_subsampled and page.subsampling[1] > 1 and is_tiled and page.compression == _UNCOMPRESSED:
        yield "tiled, uncompressed, subsampled YCbCr"  # libtiff expects another number of bytes
