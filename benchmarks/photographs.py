"""Selects the photographs to measure with: a folder's, or the samples, which are made once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import samples

if TYPE_CHECKING:
    from argparse import ArgumentParser

_CACHE = Path(__file__).parent.parent / ".galerly"
_LARGE = "coast/wet-stones.jpg"


def add_option(parser: ArgumentParser) -> None:
    """Add the option `--photographs FOLDER`."""
    parser.add_argument(
        "--photographs",
        type=Path,
        metavar="FOLDER",
        help="Folder of JPEGs to measure with. [samples of 12 MP each]",
    )


def folder(chosen: Path | None) -> Path:
    """The chosen folder, or the folder of the samples, which are made if missing."""
    if chosen is None:
        chosen = _CACHE / "samples"
        samples.make(chosen)
    return chosen.resolve()


def keys(root: Path) -> list[str]:
    """The keys of the JPEGs in a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))


def large() -> Path:
    """A sample picture of 24 megapixels, as a baseline JPEG."""
    (path,) = samples.make(_CACHE / "samples-24", 24, [_LARGE])
    return path
