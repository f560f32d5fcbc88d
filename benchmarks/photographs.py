"""Selects the photographs to measure with: a folder's, or the demo's with a camera's grain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyvips

if TYPE_CHECKING:
    from argparse import ArgumentParser

_ROOT = Path(__file__).parent.parent
_CACHE = _ROOT / ".galerly"
_DEMO = _ROOT / "src" / "galerly_cdn" / "demo"
_LARGE = "coast/wet-stones.jpg"
_LARGE_PX = 24_000_000
_GRAIN_SIGMA = 3.2
"""Noise in 8-bit levels: the demo's pictures are smooth, so that they are small; camera files are not."""
_QUALITY = 93


def add_option(parser: ArgumentParser) -> None:
    """Add the option `--photographs FOLDER`."""
    parser.add_argument(
        "--photographs",
        type=Path,
        metavar="FOLDER",
        help="Folder of JPEGs to measure with. [the demo's, 12 MP each, with grain]",
    )


def folder(chosen: Path | None) -> Path:
    """The chosen folder, or the folder of the demo's pictures with grain, which are made if missing."""
    if chosen is not None:
        return chosen.resolve()
    made = _CACHE / "grained"
    for source in sorted(_DEMO.rglob("*.jpg")):
        _make(source, made / source.relative_to(_DEMO), scale=1.0)
    return made


def keys(root: Path) -> list[str]:
    """The keys of the JPEGs in a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))


def large() -> Path:
    """A picture of 24 megapixels with grain, as a baseline JPEG."""
    made = _CACHE / "grained-24" / _LARGE
    image = pyvips.Image.new_from_file(str(_DEMO / _LARGE))
    _make(_DEMO / _LARGE, made, scale=(_LARGE_PX / (image.width * image.height)) ** 0.5)
    return made


def _make(source: Path, made: Path, scale: float) -> None:
    """Write an enlarged copy with grain, a baseline JPEG with the source's metadata, unless it exists."""
    if made.exists():
        return
    image = pyvips.Image.new_from_file(str(source)).resize(scale)
    grain = pyvips.Image.gaussnoise(image.width, image.height, sigma=_GRAIN_SIGMA, mean=0, seed=1)
    made.parent.mkdir(parents=True, exist_ok=True)
    unfinished = made.with_suffix(".unfinished")
    unfinished.write_bytes((image + grain).cast("uchar").jpegsave_buffer(Q=_QUALITY))
    unfinished.replace(made)
