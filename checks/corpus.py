"""Reads the tables of a corpus: `good/` and `bad/`, each with a `SOURCES.tsv`.

The columns used are `file`, `expected` (ok, reject, either, or a sentence that begins with one of them),
`width` and `height`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
            yield Entry(row["file"], folder / row["file"], row["what"], row["expected"])
