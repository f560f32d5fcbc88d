"""Makes the original pictures for the recordings: small, and with the same bytes every time."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image, ImageCms, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _scene(width: int, height: int, stripe: str = "crimson") -> Image.Image:
    """Gradients and hard edges without symmetry, so that a wrongly rotated picture is recognised."""
    vertical = Image.linear_gradient("L").resize((width, height))
    horizontal = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize((width, height))
    radial = Image.radial_gradient("L").resize((width, height))
    picture = Image.merge("RGB", (horizontal, vertical, radial))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((width // 8, height // 8, width // 3, height // 4), fill=stripe)
    for number in range(12):
        draw.line((width // 2, height // 2, width - 1, number * height // 12), fill="ivory")
    return picture


def _encode(picture: Image.Image, form: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's options
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def _exif(*, orientation: int = 1, gps: bool = False, credit: bool = False) -> bytes:
    block = Image.Exif()
    block[ExifTags.Base.Model] = "A camera"
    block[ExifTags.Base.Orientation] = orientation
    if credit:
        block[ExifTags.Base.Copyright] = "(c) 2025 Ada Lovelace"
        block[ExifTags.Base.Artist] = "Ada Lovelace"
    if gps:
        block.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (51, 30, 26), 3: "W", 4: (0, 7, 39)})
    return block.tobytes()


def _jpeg(width: int = 420, height: int = 280, stripe: str = "crimson", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's options
    return _encode(_scene(width, height, stripe), "JPEG", **{"quality": 90, **options})


def _sideways() -> bytes:
    stored = _scene(200, 300).transpose(Image.Transpose.ROTATE_90)
    return _encode(stored, "JPEG", quality=90, exif=_exif(orientation=6))


def _transparent(form: str) -> bytes:
    picture = _scene(300, 200)
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return _encode(picture, form)


def _animated(form: str, frames: int) -> bytes:
    frame_images = [
        _scene(60, 40, stripe) for stripe in ("crimson", "navy", "gold", "black", "teal")[:frames]
    ]
    return _encode(frame_images[0], form, save_all=True, append_images=frame_images[1:], duration=50)


def _multi_page_tiff() -> bytes:
    return _encode(_scene(60, 40), "TIFF", save_all=True, append_images=[_scene(60, 40, "navy")])


def _profiled() -> bytes:
    """A JPEG with an sRGB profile whose creation date is fixed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2025, 1, 1, 0, 0, 0)
    return _jpeg(icc_profile=bytes(profile))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _deep() -> bytes:
    """A PNG with 16 bits per sample."""
    rows = [b"\0" + b"".join(struct.pack(">3H", x << 9, y << 9, 999) for x in range(90)) for y in range(60)]
    return _png(90, 60, 16, b"".join(rows))


PICTURES: dict[str, Callable[[], bytes]] = {
    "jpeg": _jpeg,
    "other": functools.partial(_jpeg, 280, 420, "navy"),
    "third": functools.partial(_jpeg, 300, 300, "gold"),
    "large": functools.partial(_jpeg, 1200, 850),
    "little": functools.partial(_jpeg, 60, 40),
    "progressive": functools.partial(_jpeg, progressive=True),
    "grey": lambda: _encode(_scene(420, 280).convert("L"), "JPEG"),
    "cmyk": lambda: _encode(_scene(420, 280).convert("CMYK"), "JPEG"),
    "located": lambda: _jpeg(exif=_exif(gps=True)),
    "credited": lambda: _jpeg(exif=_exif(credit=True, gps=True)),
    "sideways": _sideways,
    "profiled": _profiled,
    "clear": functools.partial(_transparent, "PNG"),
    "solid": lambda: _encode(_scene(300, 200), "PNG"),
    "palette": lambda: _encode(_scene(300, 200).quantize(64), "PNG"),
    "deep": _deep,
    "webp": lambda: _encode(_scene(300, 200), "WEBP", quality=90),
    "clear-webp": functools.partial(_transparent, "WEBP"),
    "gif": functools.partial(_animated, "GIF", 1),
    "moving-gif": functools.partial(_animated, "GIF", 5),
    "moving-webp": functools.partial(_animated, "WEBP", 3),
    "tiff": lambda: _encode(_scene(300, 200), "TIFF", compression="tiff_lzw"),
    "pages": _multi_page_tiff,
    "cut": lambda: _jpeg()[:4000],
    "headless": lambda: _jpeg()[:300],
    "huge": lambda: _png(30_000, 30_000, 8, bytes(64)),
    "text": lambda: b"a photograph, honestly\n",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
    "bmp": lambda: _encode(_scene(9, 9), "BMP"),
    "empty": lambda: b"",
}


@functools.cache
def picture(name: str) -> bytes:
    """The bytes of a picture of `PICTURES`."""
    return PICTURES[name]()


_GALLERY = {
    "top.jpg": "jpeg",
    "g/a.jpg": "jpeg",
    "g/b.jpg": "other",
    "g/large.jpg": "large",
    "g/little.jpg": "little",
    "g/hit.jpg": "third",
    "g/replaced.jpg": "jpeg",
    "g/removed.jpg": "jpeg",
    "g/located.jpg": "located",
    "g/sideways.jpg": "sideways",
    "g/clear.png": "clear",
    "g/solid.png": "solid",
    "g/no-extension": "solid",
    "g/misnamed.jpg": "solid",
    "g/first dance é(1).jpg": "jpeg",
    "g/été #1?+100% & more.JPG": "other",
    'g/"quoted".jpg': "little",
    "g/back\\slash.jpg": "little",
    "g/a.tar.gz": "little",
    "g/Twin.jpg": "jpeg",
    "g/twin.jpg": "other",
    "g/deep/er/and/deeper.jpg": "little",
    "g/.hidden.jpg": "little",
    ".secret/a.jpg": "little",
    ".galerly/a.jpg": "little",
    "kinds/progressive.jpg": "progressive",
    "kinds/grey.jpg": "grey",
    "kinds/cmyk.jpg": "cmyk",
    "kinds/credited.jpg": "credited",
    "kinds/profiled.jpg": "profiled",
    "kinds/palette.png": "palette",
    "kinds/deep.png": "deep",
    "kinds/photo.webp": "webp",
    "kinds/clear.webp": "clear-webp",
    "kinds/still.gif": "gif",
    "kinds/moving.gif": "moving-gif",
    "kinds/moving.webp": "moving-webp",
    "kinds/photo.tiff": "tiff",
    "kinds/pages.tiff": "pages",
    "bad/cut.jpg": "cut",
    "bad/headless.jpg": "headless",
    "bad/huge.png": "huge",
    "bad/text.jpg": "text",
    "bad/drawing.svg": "svg",
    "bad/drawing.bmp": "bmp",
    "bad/empty.jpg": "empty",
}
_PRIVATE = {
    "open/a.jpg": "jpeg",
    "clients/smith/1.jpg": "jpeg",
    "clients/smith/2.jpg": "other",
    "clients/smith/Anna & Ben.jpg": "third",
    "clients/smith/deeper/3.jpg": "jpeg",
    "clients/jones/1.jpg": "other",
    "clients/shallow.jpg": "jpeg",
    "clientsandmore/x.jpg": "little",
}
_MANY = {f"many/{number:02}.jpg": "little" for number in range(61)}
COLLECTIONS = {
    "gallery": _GALLERY,
    "private": _PRIVATE,
    "many": {**_MANY, "later/a.jpg": "jpeg", "top.jpg": "jpeg"},
    "none": {},
}
"""The contents of folders of photographs: the names of pictures by key."""


def make_folder(collection: str, folder: Path) -> None:
    """Create a folder of photographs. The collection `gallery` also has symbolic links."""
    folder.mkdir(parents=True)
    for key, name in COLLECTIONS[collection].items():
        put(folder, key, picture(name))
    if collection != "gallery":
        return
    outside = folder.with_name(f"{folder.name}-outside")
    put(outside, "a.jpg", picture("jpeg"))
    (folder / "links").mkdir()
    (folder / "links/inside.jpg").symlink_to("../g/a.jpg")
    (folder / "links/outside.jpg").symlink_to(outside / "a.jpg")
    (folder / "links/nowhere.jpg").symlink_to("nothing.jpg")
    (folder / "links/loop.jpg").symlink_to("loop.jpg")
    (folder / "links/folder").symlink_to("../kinds")


def put(folder: Path, key: str, content: bytes) -> None:
    """Create or replace a file atomically."""
    file = folder / key
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(".waiting")
    temporary.write_bytes(content)
    temporary.replace(file)
