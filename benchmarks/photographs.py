"""Which photographs are measured? Those of a folder, or our own samples, painted once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import samples

if TYPE_CHECKING:
    from argparse import ArgumentParser

_KEPT = Path(__file__).parent.parent / ".galerly"
_LARGE = "coast/wet-stones.jpg"


def add_option(parser: ArgumentParser) -> None:
    """`--photographs FOLDER`."""
    parser.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help="JPEGs to measure with. [our samples, 12 MP each]"
    )


def folder(chosen: Path | None) -> Path:
    """The folder asked for, or that of the samples."""
    if chosen is None:
        chosen = _KEPT / "samples"
        samples.make(chosen)
    return chosen.resolve()


def keys(root: Path) -> list[str]:
    """The JPEGs in a folder, by the keys they are served under."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))


def large() -> Path:
    """One sample of 24 megapixels, baseline."""
    (path,) = samples.make(_KEPT / "samples-24", 24, [_LARGE])
    return path
