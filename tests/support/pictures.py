"""Builds test pictures that resemble photographs; the same call makes the same bytes.

They are made with Pillow, so that the renderer does not read files written by its own library. `scene` has
no symmetry: a picture turned or mirrored by mistake differs everywhere.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray

CREATOR = "Ada Lovelace"
COPYRIGHT = "(c) 2025 Ada Lovelace"
LATITUDE_DEGREES = (51, 30, 26)
CAMERA = "Babbage Difference No. 2"
"""The camera's name in EXIF: a rendition that contains it has kept metadata that must be dropped."""


@functools.lru_cache(maxsize=32)
def pixels(width: int, height: int) -> NDArray[np.uint8]:
    """Return height × width × 3 samples: a sky, a sun, a dark field, fine grain and hard edges."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / max(width - 1, 1), y / max(height - 1, 1)
    sky = np.stack([90 + 120 * x, 120 + 70 * (1 - y), 230 - 110 * y], axis=-1)
    field = np.stack([60 + 70 * y, 90 + 60 * x, 30 + 40 * x * y], axis=-1)
    picture = np.where((y > 0.62 + 0.1 * np.sin(9 * x))[..., None], field, sky)
    sun = (x - 0.22) ** 2 + (y - 0.28) ** 2 < 0.012
    picture[sun] = (250, 226, 120)
    door = (x > 0.7) & (x < 0.86) & (y > 0.5) & (y < 0.9)
    picture[door] = (190, 40, 48)
    grain = np.random.default_rng(7).normal(0, 5, (height, width, 1))
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def scene(width: int = 600, height: int = 400) -> Image.Image:
    """Return the scene as an RGB Pillow picture."""
    return Image.fromarray(pixels(width, height))


def scene_with_alpha(width: int = 600, height: int = 400) -> Image.Image:
    """Return the scene with alpha falling to the right; fully transparent pixels are black."""
    alpha = np.tile(np.linspace(255, 0, width).astype(np.uint8), (height, 1))
    colors = pixels(width, height).copy()
    colors[alpha < 8] = 0
    return Image.fromarray(np.dstack([colors, alpha]))


def brighter(picture: Image.Image, by: int) -> Image.Image:
    """Return the picture with `by` added to every sample, at most 255."""
    return Image.fromarray(np.clip(np.asarray(picture).astype(int) + by, 0, 255).astype(np.uint8))


def turned(upright: Image.Image, orientation: int) -> Image.Image:
    """Return the picture as a camera with this EXIF orientation stores it."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return upright.transpose(undo[orientation]) if orientation in undo else upright


def exif(*, orientation: int = 1, gps: bool = False, credit: bool = False) -> bytes:
    """Return an EXIF block with its identifier."""
    block = Image.Exif()
    block[ExifTags.Base.Model] = CAMERA
    block[ExifTags.Base.Orientation] = orientation
    if credit:
        block[ExifTags.Base.Copyright] = COPYRIGHT
        block[ExifTags.Base.Artist] = CREATOR
    if gps:
        block.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: LATITUDE_DEGREES, 3: "W", 4: (0, 7, 39)})
    return block.tobytes()


def saved(picture: Image.Image, form: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    """Return the picture's bytes in one of Pillow's formats."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def jpeg(
    width: int = 600,
    height: int = 400,
    *,
    orientation: int = 1,
    profile: bytes | None = None,
    progressive: bool = False,
    gps: bool = False,
    credit: bool = False,
    quality: int = 92,
    subsampling: str = "4:2:0",
) -> bytes:
    """Return a camera's JPEG; `width` and `height` are those of the upright picture."""
    options: dict[str, Any] = {"quality": quality, "progressive": progressive, "subsampling": subsampling}
    options["exif"] = exif(orientation=orientation, gps=gps, credit=credit)
    if profile:
        options["icc_profile"] = profile
    return saved(turned(scene(width, height), orientation), "JPEG", **options)


def png(width: int = 600, height: int = 400, *, alpha: bool = True, orientation: int = 1) -> bytes:
    """Return a PNG, by default with alpha."""
    picture = scene_with_alpha(width, height) if alpha else scene(width, height)
    return saved(turned(picture, orientation), "PNG", exif=exif(orientation=orientation), compress_level=1)


def adam7_png(width: int = 64, height: int = 64) -> bytes:
    """Return a PNG with a header for Adam7 interlacing (PNG 3rd edition §8.1) and too little data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def webp(width: int = 600, height: int = 400, *, alpha: bool = False, orientation: int = 1) -> bytes:
    """Return a lossy WebP."""
    picture = scene_with_alpha(width, height) if alpha else scene(width, height)
    return saved(turned(picture, orientation), "WEBP", quality=92, exif=exif(orientation=orientation))


def avif(width: int = 600, height: int = 400, *, alpha: bool = False) -> bytes:
    """Return an AVIF."""
    picture = scene_with_alpha(width, height) if alpha else scene(width, height)
    return saved(picture, "AVIF", quality=85, speed=10)


def gif(width: int = 60, height: int = 40, *, frames: int = 1) -> bytes:
    """Return a GIF in which each further frame is brighter."""
    shots = [brighter(scene(width, height), 9 * n) for n in range(frames)]
    return saved(shots[0], "GIF", save_all=True, append_images=shots[1:], duration=50)


def animated_webp(width: int = 60, height: int = 40, *, frames: int = 3) -> bytes:
    """Return a WebP animation."""
    shots = [brighter(scene(width, height), 9 * n) for n in range(frames)]
    return saved(shots[0], "WEBP", save_all=True, append_images=shots[1:], duration=50)


def animated_png(width: int = 60, height: int = 40, *, frames: int = 2) -> bytes:
    """Return a PNG animation."""
    shots = [brighter(scene(width, height), 9 * n) for n in range(frames)]
    return saved(shots[0], "PNG", save_all=True, append_images=shots[1:], duration=50)


def pages_tiff(width: int = 60, height: int = 40, *, pages: int = 2) -> bytes:
    """Return a TIFF with several pages."""
    return saved(
        scene(width, height), "TIFF", save_all=True, append_images=[scene(width, height)] * (pages - 1)
    )


def tiff(
    width: int = 600, height: int = 400, *, orientation: int = 1, compression: str = "tiff_lzw"
) -> bytes:
    """Return an 8-bit RGB TIFF."""
    picture = turned(scene(width, height), orientation)
    return saved(picture, "TIFF", compression=compression, tiffinfo={274: orientation})


def grey(width: int = 600, height: int = 400) -> bytes:
    """Return a JPEG with one band."""
    return saved(scene(width, height).convert("L"), "JPEG", quality=92)


def palette_png(width: int = 600, height: int = 400) -> bytes:
    """Return a palette PNG of 256 colours."""
    return saved(scene(width, height).quantize(256), "PNG")


def deep_png(width: int = 600, height: int = 400, values: NDArray[np.uint16] | None = None) -> bytes:
    """Return a 16-bit RGB PNG of `values` (height × width × 3), by default of the scene times 257."""
    deep = pixels(width, height).astype(np.uint16) * 257 if values is None else values
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def cmyk_jpeg(width: int = 600, height: int = 400, *, profile: bytes | None = None) -> bytes:
    """Return a CMYK JPEG, converted without black generation."""
    options = {"icc_profile": profile} if profile else {}
    return saved(scene(width, height).convert("CMYK"), "JPEG", quality=92, **options)


def truncated(original: bytes, share: float = 0.6) -> bytes:
    """Return the first `share` of the bytes, as after an interrupted upload."""
    return original[: int(len(original) * share)]


def huge_header_png(width: int = 30_000, height: int = 30_000) -> bytes:
    """Return a PNG of less than 100 bytes with a header for `width` × `height` pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def huge_header_jpeg(width: int = 60_000, height: int = 60_000, *, progressive: bool = False) -> bytes:
    """Return a small JPEG with a frame header for `width` × `height` pixels."""
    small = bytearray(jpeg(64, 48, progressive=progressive))
    marker = small.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    small[marker + 5 : marker + 9] = struct.pack(">HH", height, width)
    return bytes(small)


def disguises() -> dict[str, bytes]:
    """Return files that are not photographs, by what they are."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
    return {
        "svg": svg,
        "svg-bom": b"\xef\xbb\xbf" + svg,
        "svg-declared": b'<?xml version="1.0"?>' + svg,
        "svgz": zlib.compress(svg),
        "html": b"<!doctype html><script>alert(1)</script>",
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
        "postscript": b"%!PS-Adobe-3.0\nshowpage\n",
        "mvg": b"push graphic-context\nviewbox 0 0 640 480\nimage over 0,0 0,0 'https://127.0.0.1:9/x'\n",
        "csv": b"1,2,3\n4,5,6\n7,8,9\n",
        "matrix": b"3 3\n1 2 3\n4 5 6\n7 8 9\n",
        "vips": b"\x08\xf2\xa6\xb6" + bytes(60),
        "vips-swapped": b"\xb6\xa6\xf2\x08" + bytes(60),
        "zip": b"PK\x03\x04" + bytes(60),
        "bmp": saved(scene(8, 8), "BMP"),
        "ico": saved(scene(16, 16), "ICO"),
        "jxl": b"\xff\x0a" + bytes(60),
        "jp2": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(60),
        "mp4": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(60),
        "text": b"a photograph, honestly\n",
        "empty": b"",
        "one-byte": b"\xff",
    }


def srgb_profile() -> bytes:
    """Return an sRGB profile as editors embed it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float = 1.8) -> bytes:
    """Return a profile for grey (ICC.1:2022 §8.3.3) whose curve is a power."""
    white = b"".join(struct.pack(">i", round(value * 65536)) for value in (0.9642, 1, 0.82491))
    tags = {
        b"desc": b"mluc"
        + struct.pack(">4xII4sII", 1, 12, b"enUS", 2, 28)
        + "g".encode("utf-16-be")
        + b"\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"kTRC": b"curv" + struct.pack(">4xIH", 1, round(gamma * 256)) + b"\0\0",
    }
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(data), len(content))
        data += content
    header = struct.pack(">I4xI", 128 + len(table) + len(data), 0x04300000) + b"mntrGRAYXYZ " + bytes(12)
    return (header + b"acsp" + bytes(28) + white).ljust(128, b"\0") + table + data


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
