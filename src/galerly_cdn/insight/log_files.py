"""Finds log files: files, folders, and the standard input. What a file is shows in its first bytes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from galerly_cdn.insight.log_lines import FileKind
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

_MAGIC = {
    b"\x1f\x8b": FileKind.GZIP,  # RFC 1952 §2.3.1
    b"\x28\xb5\x2f\xfd": FileKind.ZSTD,  # RFC 8878 §3.1.1
    b"PAR1": FileKind.PARQUET,  # Apache Parquet, "File Format"
}


class LogFile(Value, frozen=True):
    """A file to read, by its path."""

    path: str
    kind: FileKind


def find(paths: Iterable[Path]) -> Iterator[LogFile]:
    """The files that are named, and those in the folders that are named; hidden ones and empty ones are not.

    A rotated set may be named as `access.log*`: its compression is not told by the names. Raises `OSError`.
    """
    for path in paths:
        files = _in_folder(path) if path.is_dir() else [path]
        for file in files:
            kind = _kind(file)
            if kind is not None:
                yield LogFile(str(file), kind)


def save(stream: BinaryIO, path: Path) -> None:
    """Write a stream to a file, because what it is shows only at its beginning."""
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        path for path in found if not any(name.startswith(".") for name in path.relative_to(folder).parts)
    ]


def _kind(path: Path) -> FileKind | None:
    """None for an empty file."""
    with path.open("rb") as file:
        first = file.read(4)
    if not first:
        return None
    return next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), FileKind.PLAIN)
