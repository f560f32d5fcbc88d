"""Finds log files: files, folders, a stream, a remote store. What a file is shows in its first bytes."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from galerly_cdn.insight.log_lines import FileKind
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from galerly_cdn.store.remote.bucket import Bucket

_DOWNLOADS = 8
"""Objects that are downloaded at a time: CloudFront delivers many small ones."""

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


async def download(bucket: Bucket, folder: Path) -> None:
    """Download every object of a root to a file in a folder.

    Raises `StoreRefused`, `StoreUnreachable`.
    """
    free = asyncio.Semaphore(_DOWNLOADS)

    async def fetch(key: str, path: Path) -> None:
        async with free:
            with path.open("wb") as file:

                def write(_: object, chunk: bytes) -> None:
                    file.write(chunk)

                await bucket.download(key, write)

    async with asyncio.TaskGroup() as downloads:
        number = 0
        async for listed in bucket.list("", ""):
            downloads.create_task(fetch(listed.key, folder / f"{number:08}"))
            number += 1


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
