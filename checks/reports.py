"""Renders the files of reported mistakes, and compares each with what must be true of it.

FOLDER contains the files and a README.tsv with the columns `file`, `expected`, `got` and `oracle`, which are
for people. What is checked is in `reports.toml`, by the files' names. A file without an entry there is
rendered and described beside Pillow's picture.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFile

from checks import oracle
from galerly_cdn.errors import GalerlyError
from galerly_cdn.model import Format, Target
from galerly_cdn.recipes import job_of
from galerly_cdn.render.formats import MEDIA_TYPES_BY_EXTENSION
from galerly_cdn.render.pool import worker
from galerly_cdn.settings.table import Settings
from tests.support.color_difference import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["file"]
_EXTENSIONS = frozenset(MEDIA_TYPES_BY_EXTENSION) | {"dng", "nef", "arw", "pef", "cr2"}
_MEAN_TOLERANCE = 4
_MAX_DIFFERENCE = 2.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BROWSER_S = 60


@dataclass(frozen=True)
class Expected:
    """An entry of `reports.toml`."""

    pattern: str
    status: list[int]
    refusal: str = ""
    size: str = "2000x2000"
    sides_px: list[int] = field(default_factory=list)
    mean_rgb: list[int] = field(default_factory=list)
    like: str = ""
    max_difference: float = _MAX_DIFFERENCE
    is_opaque: bool = False
    rows_within: float = 0.0


def run(folder: Path) -> int:
    """Print a line for each file; returns 1 if one is not as it must be."""
    with (folder / "README.tsv").open(encoding="utf-8", newline="") as table:
        names = [row["file"] for row in csv.DictReader(table, delimiter="\t")]
    renderer = worker.libvips()
    renderer.check()
    failures = 0
    for name in names:
        path = folder / name
        if path.suffix.lower().lstrip(".") not in _EXTENSIONS or not path.is_file():
            print(f"skipped   {name}: not a picture in this folder")
            continue
        expected = entry(name)
        size = expected.size if expected else Expected.size
        status, picture = _rendered(renderer, path, size)
        problems = list(_problems(expected, status, picture, path)) if expected else []
        failures += bool(problems)
        verdict = "no entry" if expected is None else "DEVIATES" if problems else "right"
        print(f"{verdict:9} {name}: {_described(status, picture)}; Pillow: {_pillow(path, size)}", flush=True)
        print(*(f"          {problem}" for problem in problems), sep="\n", end="\n" if problems else "")
    print(f"{failures} deviations")
    return bool(failures)


def entry(name: str) -> Expected | None:
    """The first entry of `reports.toml` whose pattern matches; braces hold alternatives."""
    for row in _TABLE:
        if any(fnmatch.fnmatch(name.lower(), pattern) for pattern in _alternatives(row["pattern"])):
            return Expected(**row)
    return None


def _alternatives(pattern: str) -> list[str]:
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    return [match[1] + one + match[3] for one in match[2].split(",")] if match else [pattern]


def _rendered(renderer: worker.Renderer, path: Path, size: str) -> tuple[int, Image.Image | str]:
    """The status of the rendition as PNG, and the picture or the error."""
    settings = Settings()
    rule = next(rule for rule in settings.size_rules if str(rule.size) == size)
    job = job_of(rule, Target(rule.size, Format.PNG), settings)
    try:
        _, body = next(renderer.prepare(path.read_bytes(), job, False)[1])
    except GalerlyError as error:
        return error.status, f"{error.code} {error.detail}"
    picture = Image.open(io.BytesIO(body))
    picture.load()
    return 200, picture


def _problems(expected: Expected, status: int, picture: Image.Image | str, path: Path) -> Iterator[str]:
    if status not in expected.status:
        yield f"status {status}, expected {expected.status}"
    if isinstance(picture, str):
        if expected.refusal and not picture.startswith(expected.refusal):
            yield f"refused as {picture.split()[0]}, expected {expected.refusal}"
        return
    if expected.sides_px and list(picture.size) != expected.sides_px:
        yield f"sides {picture.size}, expected {expected.sides_px}"
    mean = mean_rgb(picture)
    if expected.mean_rgb and any(
        abs(a - b) > _MEAN_TOLERANCE for a, b in zip(mean, expected.mean_rgb, strict=True)
    ):
        yield f"mean {mean}, expected {expected.mean_rgb}"
    if expected.is_opaque and "A" in picture.getbands():
        lowest = picture.getchannel("A").getextrema()[0]
        if lowest != 255:
            yield f"alpha is {lowest} somewhere"
    if expected.like:
        yield from _unlike(expected, picture, path)


def _unlike(expected: Expected, picture: Image.Image, path: Path) -> Iterator[str]:
    if expected.like == "chromium" and not _browser():
        print(f"          {path.name} is not compared: Chromium is not installed", file=sys.stderr)
        return
    try:
        reference = (
            _by_chromium(path, picture.size)
            if expected.like == "chromium"
            else _by_pillow(path, expected.size)
        )
    except (OSError, ValueError, SyntaxError) as error:
        yield f"{expected.like} does not show it: {error}"
        return
    shown = oracle.on_white(picture)
    reference = oracle.on_white(reference)
    if reference.size != shown.size:
        reference = reference.resize(shown.size, Image.Resampling.LANCZOS)
    difference = float(steps(shown, reference).mean())
    rows = [np.asarray(one).mean(axis=(1, 2)) for one in (shown, reference)]
    if expected.rows_within and np.abs(rows[0] - rows[1]).max() > expected.rows_within:
        yield f"rows {rows[0].round()}, in {expected.like} {rows[1].round()}"
    if difference > expected.max_difference:
        yield f"mean CIEDE2000 difference from {expected.like} {difference:.1f}: {mean_rgb(reference)} there"


def _by_pillow(path: Path, size: str) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # such as a JPEG without its last marker
    width_px, height_px = map(int, size.split("x"))
    return oracle.fitted(oracle.upright(path), width_px, height_px)


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def _by_chromium(path: Path, sides_px: tuple[int, int]) -> Image.Image:
    """A screenshot of the picture at the rendition's sides, on white."""
    width_px, height_px = sides_px
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        page.write_text(
            f'<body style="margin:0;background:#fff"><img src="{path.resolve().as_uri()}" '
            f'style="display:block;width:{width_px}px;height:{height_px}px">'
        )
        command = [
            str(_browser()),
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--force-device-scale-factor=1",
            f"--user-data-dir={folder}/profile",
            f"--window-size={max(width_px, 500)},{max(height_px, 500)}",
            f"--screenshot={shot}",
            page.as_uri(),
        ]
        subprocess.run(command, capture_output=True, timeout=_BROWSER_S, check=False)
        with Image.open(shot) as image:
            return image.convert("RGB").crop((0, 0, width_px, height_px))


def mean_rgb(picture: Image.Image) -> tuple[int, ...]:
    """The mean of each channel, on white."""
    return tuple(int(value + 0.5) for value in np.asarray(oracle.on_white(picture)).mean(axis=(0, 1)))


def _described(status: int, picture: Image.Image | str) -> str:
    if isinstance(picture, str):
        return f"{status} {picture}"
    return f"{status} {picture.width}x{picture.height} {picture.mode} mean {mean_rgb(picture)}"


def _pillow(path: Path, size: str) -> str:
    try:
        picture = _by_pillow(path, size)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError) as error:
        return f"{type(error).__name__} {error}"
    return f"{picture.width}x{picture.height} mean {mean_rgb(picture)}"
