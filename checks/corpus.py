"""Reads the tables of a corpus: `good/` and `bad/`, each with a `SOURCES.tsv`.

The columns used are `file`, `what` and `expected`: ok, reject, either, or a sentence that begins with one of
them. `expectations.toml` corrects the expected result of files whose table is wrong. The tables were made
with a decoder that lacks HEVC; the tests install one.
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
            yield Entry(row["file"], folder / row["file"], row["what"], _expected(row))


def _expected(row: dict[str, str]) -> str:
    """The expected result with an HEVC decoder: a HEIC that was refused only for its codec may be shown."""
    if row["file"] in _CORRECTED:
        return str(_CORRECTED[row["file"]]["expected"])
    if row["expected"].startswith("ok if an HEVC decoder is present"):
        return "ok"
    return "either" if "compression format has not been built" in row["what"] else row["expected"]
