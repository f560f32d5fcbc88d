"""Originals whose colours are named in unusual ways, with the pixels that Chromium shows.

Every original shows the eight colours of `PROBE`, or of `GREYS` if it is grey, each 16 × 16 pixels.
`tests/support/shown_colors.py` holds what Chromium shows of them.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from galerly_cdn.render import icc
from galerly_cdn.render.originals import av1, heif
from tests.support import pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE = "202020 606060 a0a0a0 e0e0e0 c86432 408040 3264c8 b49682"
GREYS = "202020 606060 a0a0a0 e0e0e0 7c7c7c 666666 696969 9d9d9d"
BLOCK_PX = 16


def probe(colors: str = PROBE) -> NDArray[np.uint8]:
    """Return the blocks of colours, height × width × 3."""
    row = np.array([list(bytes.fromhex(color)) for color in colors.split()], np.uint8)[None]
    return np.kron(row, np.ones((BLOCK_PX, BLOCK_PX, 1), np.uint8))


def colors_of(picture: Image.Image) -> str:
    """Return the colour at the middle of each block."""
    pixels = np.asarray(picture.convert("RGB"))[BLOCK_PX // 2, BLOCK_PX // 2 :: BLOCK_PX]
    return " ".join(bytes(pixel.tolist()).hex() for pixel in pixels)


def largest_difference(one: str, other: str) -> int:
    pairs = zip(bytes.fromhex(one), bytes.fromhex(other), strict=True)
    return max(abs(a - b) for a, b in pairs)


def png(*chunks: tuple[bytes, bytes], deep: bool = False) -> bytes:
    """Return the probe as a PNG of 8 or 16 bits, with more chunks after its header."""
    return _png(probe(), 2, chunks, deep=deep)


def grey_png(*chunks: tuple[bytes, bytes], deep: bool = False, alpha: bool = False) -> bytes:
    """Return the greys as a grey PNG, which may be of 16 bits and have opaque alpha."""
    grey = probe(GREYS)[..., :1]
    bands = np.concatenate([grey, np.full_like(grey, 255)], 2) if alpha else grey
    return _png(bands, 4 if alpha else 0, chunks, deep=deep)


def _png(
    pixels: NDArray[np.uint8], kind: int, chunks: tuple[tuple[bytes, bytes], ...], *, deep: bool
) -> bytes:
    height, width, _ = pixels.shape
    samples = pixels.astype(">u2") * 257 if deep else pixels
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, kind, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pictures.chunk(name, data) for name, data in body)


def palette_png(chunk: tuple[bytes, bytes]) -> bytes:
    """Return the probe as a palette PNG with a chunk after its palette."""
    plain = pictures.saved(Image.fromarray(probe()).quantize(8), "PNG")
    at = plain.index(b"IDAT") - 4
    return plain[:at] + pictures.chunk(*chunk) + plain[at:]


def grey_jpeg(profile: bytes) -> bytes:
    """Return the greys as a JPEG with one band and a profile."""
    return pictures.saved(Image.fromarray(probe(GREYS)[..., 0]), "JPEG", quality=100, icc_profile=profile)


def cicp(primaries: int, transfer: int, matrix: int = 0, full_range: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, matrix, full_range])


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def gama(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def chrm(*values: int) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *values)


def tinted_profile() -> bytes:
    """Return a profile for RGB whose curve of blue differs: it gives greys a tint."""
    profile = bytearray(icc.profile_bytes(icc.NamedColors(12, 5)))
    entry = profile.index(b"bTRC")
    start = int.from_bytes(profile[entry + 4 : entry + 8], "big")
    profile[start + 12 : start + 16] = round(1.3 * 65536).to_bytes(4, "big")
    return bytes(profile)


def avif(primaries: int, transfer: int) -> bytes:
    """Return the probe as an AVIF with these code points in its `nclx` box."""
    plain = pictures.saved(Image.fromarray(probe()), "AVIF", quality=100, subsampling="4:4:4", speed=9)
    points = plain.index(b"colrnclx") + 8
    return plain[:points] + struct.pack(">HH", primaries, transfer) + plain[points + 4 :]


def grey_avif(samples: str, profile: bytes | None = None) -> bytes:
    """Return the greys as an AVIF of one plane, of `full` or `limited` range."""
    options = {"icc_profile": profile} if profile else {}
    grey = Image.fromarray(probe(GREYS)[..., 0])
    return pictures.saved(grey, "AVIF", quality=100, subsampling="4:0:0", range=samples, speed=9, **options)


def without_nclx(original: bytes) -> bytes:
    """Return the AVIF without the box that names its colours and its range."""
    return original.replace(b"colrnclx", b"freenclx")


def avif_with_limited_alpha() -> bytes:
    """Return an AVIF whose bitstream says that its alpha plane, 16 to 235, has limited range."""
    alpha = np.linspace(16, 235, BLOCK_PX * 8).round().astype(np.uint8)[None].repeat(BLOCK_PX, 0)
    picture = Image.fromarray(np.dstack([probe(), alpha]))
    plain = pictures.saved(picture, "AVIF", quality=100, subsampling="4:4:4", speed=9)
    meta = heif.meta_of(plain)
    item = heif.alpha_item(meta) if meta else None
    assert meta is not None
    assert item is not None
    full = heif.sequence_header(plain, meta, item)
    assert full == av1.SequenceHeader(is_monochrome=True, primaries=2, transfer=2, is_full_range=True)
    for bit in reversed(range(8 * 32)):
        flipped = bytearray(plain)
        flipped[meta.extents[item].start + bit // 8] ^= 1 << bit % 8
        read = heif.sequence_header(bytes(flipped), meta, item)
        if read == av1.SequenceHeader(is_monochrome=True, primaries=2, transfer=2, is_full_range=False):
            return bytes(flipped)
    raise AssertionError("no bit is the flag of the range")


_DEEP_GREY_AVIFS = {
    10: (
        "0000SW^{RQVRmU|00000VRmU|ZE0pPZE0a<0002#ZDn*}000000000XXk=`10000000000aA{+7000000000000000000004"
        "sdC7Z2$lO000310016oY;R)#0000)000310RR910RR924FCWDHvj+tC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)"
        "|UJ00000XlZbAZ~y=RNojCnZvX%Q6lrsCWdHyG00000fB*mh5C8xG4sdCBX#fBK009aB000bOb}>VN09*h7000wXZ)|dIV{C"
        "W;0RRmE1^@s602gU+ZD9Za00000009621OWnr1ONa4KW$`TbP@mx2^bjv`#c0R7=SV;5C8z6)Am}8^&omgmIu{AmBHsoz9^w"
        "|8G_nq<kY;3?zOBg96C{G"
    ),
    12: (
        "0000SW^{RQVRmU|00000VRmU|ZE0pPZE0a<0002#ZDn*}000000000XXk=`10000000000aA{+7000000000000000000004"
        "sdC7Z2$lO000310016oY;R)#0000)000310RR910RR924FCWDI{*LxC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)"
        "|UJ00000XlZbAZ~y=RNojCnZvX%Q6lrsCWdHyG00000fB*mh5C8xG4sdCBX#fBK009gD000bOb}>VNKzslI000wXZ)|dIV{C"
        "W;0RRmE1^@s602gU+ZD9Za00000009621OWnr1ONa4Lv3VXbP@mx30N5a`yK)s3_vn05C8z6)Am|fo?yqMIc6;dL2Z}N^oo("
        "ihjbZ&*}9SNOS|%_^t0eEufzC?"
    ),
}
DEEP_GREY_AVIFS = {bits: base64.b85decode(text) for bits, text in _DEEP_GREY_AVIFS.items()}
"""The greys as AVIFs of one plane and limited range, made with libavif 1.4 (Pillow makes 8 bits only)."""

P3_PROFILE = icc.profile_bytes(icc.NamedColors(12, 13))
ADOBE_PROFILE = icc.profile_bytes(icc.ADOBE_RGB)
P3_POINTS = chrm(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_CHUNK = (b"sRGB", b"\0")
LINEAR = gama(100_000)

PNGS = {
    **{
        f"cICP transfer {code}": png(cicp(1, code)) for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 17)
    },
    **{f"cICP primaries {code}": png(cicp(code, 13)) for code in (0, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 22)},
    "cICP of 16 bits": png(cicp(9, 5), deep=True),
    "cICP before iCCP": png(cicp(12, 13), iccp(pictures.srgb_profile())),
    "cICP after iCCP": png(iccp(pictures.srgb_profile()), cicp(12, 13)),
    "cICP of sRGB before iCCP": png(cicp(1, 13), iccp(P3_PROFILE)),
    "cICP before sRGB": png(cicp(12, 13), SRGB_CHUNK),
    "unknown cICP and iCCP": png(cicp(2, 2), iccp(P3_PROFILE)),
    "unknown cICP and gAMA": png(cicp(2, 2), LINEAR),
    "cICP of narrow range and iCCP": png(cicp(1, 13, 0, 0), iccp(P3_PROFILE)),
    "short cICP": png((b"cICP", bytes([12, 13, 0]))),
    "cICP after the palette": palette_png(cicp(12, 13)),
    "gAMA after the palette": palette_png(gama(100_000)),
    "iCCP after the palette": palette_png(iccp(P3_PROFILE)),
    "gAMA after 300 comments": png(*[(b"tEXt", b"a\0b")] * 300, LINEAR),
    "iCCP before sRGB": png(SRGB_CHUNK, iccp(P3_PROFILE)),
    "iCCP before gAMA": png(LINEAR, iccp(pictures.srgb_profile())),
    "damaged iCCP and gAMA": png((b"iCCP", b"x\0\0garbage"), LINEAR),
    "cut iCCP and gAMA": png(iccp(P3_PROFILE[:300]), LINEAR),
    "sRGB before gAMA and cHRM": png(LINEAR, P3_POINTS, SRGB_CHUNK),
    "invalid sRGB and gAMA": png((b"sRGB", b"\x09"), LINEAR),
    "gAMA linear": png(LINEAR),
    "gAMA linear of 16 bits": png(LINEAR, deep=True),
    "gAMA 1/1.8": png(gama(55_556)),
    "gAMA 1/5": png(gama(20_000)),
    "gAMA of 1": png(gama(1)),
    "gAMA of 0": png(gama(0)),
    "gAMA just below sRGB's": png(gama(43_181)),
    "gAMA just sRGB's": png(gama(43_182)),
    "gAMA just above sRGB's": png(gama(47_728)),
    "short gAMA": png((b"gAMA", b"\0\0")),
    "first of two gAMA": png(LINEAR, gama(45_455)),
    "cHRM alone": png(P3_POINTS),
    "cHRM and gAMA of sRGB": png(P3_POINTS, gama(45_455)),
    "cHRM and gAMA": png(P3_POINTS, LINEAR),
    "cHRM with the white of D50": png(chrm(34570, 35850, 64000, 33000, 30000, 60000, 15000, 6000), LINEAR),
    "cHRM of ProPhoto": png(chrm(34567, 35850, 73470, 26530, 15960, 84040, 3660, 10), gama(55_556)),
    "cHRM of zeros": png(chrm(*[0] * 8), LINEAR),
    "cHRM without an area": png(chrm(31270, 32900, *[10000] * 6), LINEAR),
    "cHRM over 1": png(chrm(31270, 32900, 164_000, 33000, 30000, 60000, 15000, 6000), LINEAR),
}
GREY_FILES = {
    "grey PNG with gAMA": grey_png(LINEAR),
    "grey PNG with cICP": grey_png(cicp(5, 17)),
    "grey PNG with a profile for RGB": grey_png(iccp(ADOBE_PROFILE)),
    "deep grey PNG with a profile for RGB": grey_png(iccp(ADOBE_PROFILE), deep=True),
    "grey PNG with alpha and a profile for RGB": grey_png(iccp(ADOBE_PROFILE), alpha=True),
    "grey PNG with a profile that tints": grey_png(iccp(tinted_profile())),
    "deep grey PNG with alpha and a tint": grey_png(iccp(tinted_profile()), deep=True, alpha=True),
    "grey JPEG with a profile for RGB": grey_jpeg(ADOBE_PROFILE),
    "grey JPEG with a profile that tints": grey_jpeg(tinted_profile()),
    "grey AVIF of limited range": grey_avif("limited"),
    "grey AVIF of limited range in the bitstream": without_nclx(grey_avif("limited")),
    "grey AVIF of full range": grey_avif("full"),
    "grey AVIF with a profile for RGB": grey_avif("full", ADOBE_PROFILE),
    **{f"{bits} bit AVIF of limited range": body for bits, body in DEEP_GREY_AVIFS.items()},
    **{
        f"{bits} bit AVIF, range in the bitstream": without_nclx(body)
        for bits, body in DEEP_GREY_AVIFS.items()
    },
}
AVIFS = {
    **{f"nclx transfer {code}": avif(1, code) for code in (0, 1, 2, 4, 5, 6, 7, 8, 14, 17)},
    **{f"nclx primaries {code}": avif(code, 13) for code in (0, 2, 4, 5, 6, 9, 10, 11, 12, 22)},
    "nclx without a transfer function": avif(12, 2),
    "nclx without primaries": avif(2, 4),
}
ORIGINALS = PNGS | GREY_FILES | AVIFS
