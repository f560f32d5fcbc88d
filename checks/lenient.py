"""Says what decoders that are not ours make of a file: whether they complain, and what they show.

JPEG is decoded by libjpeg-turbo's `djpeg`, which ends with status 2 after a warning and writes the picture
nevertheless. Other formats are decoded by Pillow: it complains if `load` raises (for PNG also `verify`, which
compares the checksums), and then shows the picture with `LOAD_TRUNCATED_IMAGES`.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageFile

from checks import oracle
from galerly_cdn.render.formats import OriginalFormat
from tests.support.color_difference import steps

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BOX_PX = (800, 600)
VISIBLE_STEPS = 5.0
"""The CIEDE2000 difference above which a pixel is different."""
VISIBLE_SHARE = 0.005
"""The share of different pixels above which a picture is visibly damaged."""
_DJPEG_S = 60
_MAX_PIXELS = 200_000_000
"""A damaged header may announce more pixels than memory holds."""
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError, RuntimeError)
"""What Pillow raises for damaged files."""


@dataclass(frozen=True)
class Shown:
    """What a lenient decoder makes of a file: a picture fitted into 800x600, or None if it shows none."""

    complains: bool
    picture: Image.Image | None


def missing_tools(*, with_variants: bool) -> list[str]:
    """One sentence for each tool that the check needs and that is not installed."""
    tools = ("djpeg", "jpegtran", "cjpeg") if with_variants else ("djpeg",)
    return [
        f"{tool} is not installed (Debian: apt install libjpeg-turbo-progs)"
        for tool in tools
        if shutil.which(tool) is None
    ]


def shown(content: bytes, kind: OriginalFormat) -> Shown:
    """Decode a file leniently."""
    return _by_djpeg(content) if kind is OriginalFormat.JPEG else _by_pillow(content, kind)


def different_share(one: Image.Image | None, other: Image.Image | None) -> float:
    """The share of visibly different pixels; 1 if one of them shows nothing, or another size."""
    if one is None or other is None or one.size != other.size:
        return 1.0
    if one.tobytes() == other.tobytes():
        return 0.0
    return float((steps(one, other) > VISIBLE_STEPS).mean())


def _by_djpeg(content: bytes) -> Shown:
    try:
        command = ["djpeg", "-scale", f"{_scale(content)}/8"]
        run = subprocess.run(command, input=content, capture_output=True, timeout=_DJPEG_S, check=False)
    except subprocess.TimeoutExpired:
        return Shown(complains=True, picture=None)
    try:
        with Image.open(io.BytesIO(run.stdout)) as decoded:
            return Shown(run.returncode != 0, oracle.fitted(decoded.convert("RGB"), *BOX_PX))
    except (*_DAMAGE, Image.DecompressionBombError):
        return Shown(complains=True, picture=None)


def _scale(content: bytes) -> int:
    """Eighths of its sides at which a picture is decoded: at least half as large again as the box."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            factor = min(image.width / BOX_PX[0], image.height / BOX_PX[1])
    except _DAMAGE:
        return 8
    return next((eighths for eighths in (1, 2, 4) if eighths * factor >= 1.5 * 8), 8)


def _by_pillow(content: bytes, kind: OriginalFormat) -> Shown:
    try:
        if kind is OriginalFormat.PNG:
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
        return Shown(complains=False, picture=_picture(content))
    except _DAMAGE:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return Shown(complains=True, picture=_picture(content))
    except _DAMAGE:
        return Shown(complains=True, picture=None)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _picture(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as header:
        if header.width * header.height > _MAX_PIXELS:
            raise ValueError(header.size)
    return oracle.on_white(oracle.fitted(oracle.upright(io.BytesIO(content)), *BOX_PX))


def variants(photograph: Path, folder: Path) -> Iterable[Path]:
    """Write a JPEG in other codings: the other of baseline and progressive, with restart markers, 4:4:4.

    Made by `jpegtran`, which keeps the coefficients, and for 4:4:4 by `djpeg` and `cjpeg`.
    """
    content = photograph.read_bytes()
    with Image.open(photograph) as image:
        is_progressive = "progressive" in image.info
    swapped = [] if is_progressive else ["-progressive"]
    made = {
        "baseline" if is_progressive else "progressive": ["jpegtran", "-copy", "none", *swapped],
        "restart": [
            "jpegtran",
            "-copy",
            "none",
            "-restart",
            "1",
            *(["-progressive"] if is_progressive else []),
        ],
        "444": ["cjpeg", "-quality", "88", "-sample", "1x1", *swapped],
        "444-restart": ["cjpeg", "-quality", "88", "-sample", "1x1", "-restart", "2"],
    }
    pixels = _run(["djpeg"], content)
    for name, command in made.items():
        written = _run(command, pixels if command[0] == "cjpeg" else content)
        if written:
            path = folder / f"{photograph.stem}.{name}.jpg"
            path.write_bytes(written)
            yield path


def _run(command: list[str], content: bytes) -> bytes:
    run = subprocess.run(command, input=content, capture_output=True, timeout=_DJPEG_S, check=False)
    return run.stdout if run.returncode == 0 else b""
