"""Reads the tables of a corpus: `good/` and `bad/`, each with a `SOURCES.tsv`.

The columns used are `file`, `expected` (ok, reject, either, or a sentence that begins with one of them),
`width` and `height`. `expectations.toml` corrects the expected result of files whose table is wrong.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CORRECTED = tomllib.loads((Path(__file__).parent / "expectations.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Entry:
    """One file of a corpus: its key below the folder, its description, and the expected result."""

    key: str
    path: Path
    description: str
    expected: str


def entries(folder: Path) -> Iterator[Entry]:
    """The entries of `good/` or `bad/` in the order of their table."""
    with (folder / "SOURCES.tsv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            key = row["file"]
            expected = _CORRECTED[key]["expected"] if key in _CORRECTED else row["expected"]
            yield Entry(key, folder / key, row["what"], expected)
