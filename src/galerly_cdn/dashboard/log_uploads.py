"""Receives log files that an operator drops on the page: in one request, as files of a folder.

The body is a line of JSON that names the files with their lengths, and then their bytes, one after the other.
A browser makes such a body of files without reading them into memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from galerly_cdn.errors import CommandError, MalformedBody
from galerly_cdn.serialization import Meta, ValidationError, Value, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

MAX_BYTES = 512 * 1024 * 1024
"""Of all files of a request."""
MAX_FILES = 64
_MAX_HEAD_BYTES = 16 * 1024
_BATCH_BYTES = 1024 * 1024


class LogsTooLarge(CommandError):
    """`MAX_BYTES` bounds what an upload takes of the machine's disk, or of its memory if `/tmp` is in it."""

    status = 413
    code = "logs-too-large"
    public = "The log files have more than 512 MiB together; make the report where they are, or choose fewer."


class LogsNotStored(CommandError):
    """The machine's folder for temporary files is full."""

    status = 507
    code = "logs-not-stored"
    public = "The server has no room for the log files."


class SentFile(Value, frozen=True):
    """One file of the body."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    length_bytes: Annotated[int, Meta(ge=0)]


class _Head(Value, frozen=True):
    files: Annotated[tuple[SentFile, ...], Meta(min_length=1, max_length=MAX_FILES)]


async def receive(chunks: AsyncIterator[bytes], folder: Path) -> tuple[SentFile, ...]:
    """Write the files of a body to `folder`, which is created, each under its number: `0`, `1`, ….

    Raises `MalformedBody`, `LogsTooLarge`, `LogsNotStored`, and what reading the body raises.
    """
    buffered = bytearray()
    async for chunk in chunks:
        buffered += chunk
        if b"\n" in buffered or len(buffered) > _MAX_HEAD_BYTES:
            break
    line, end, rest = bytes(buffered).partition(b"\n")
    if not end or len(line) > _MAX_HEAD_BYTES:
        raise MalformedBody("the first line does not name the files")
    try:
        files = from_json(_Head, line).files
    except ValidationError as error:
        raise MalformedBody(str(error)) from error
    if sum(one.length_bytes for one in files) > MAX_BYTES:
        raise LogsTooLarge
    try:
        await _write(_batches(rest, chunks), files, folder)
    except OSError as error:
        raise LogsNotStored(str(error)) from error
    return files


async def _batches(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The bytes in larger parts: a thread writes each, so that a slow disk does not delay viewers."""
    batch = bytearray(first)
    async for chunk in chunks:
        batch += chunk
        if len(batch) >= _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)


async def _write(batches: AsyncIterator[bytes], files: tuple[SentFile, ...], folder: Path) -> None:
    """Raises `MalformedBody` if the body is longer or shorter than its files, and `OSError`."""
    paths = [folder / str(number) for number in range(len(files))]
    await asyncio.to_thread(_create, paths)
    number, missing = 0, files[0].length_bytes
    async for batch in batches:
        rest = memoryview(batch)
        while rest:
            while not missing:
                number += 1
                if number == len(files):
                    raise MalformedBody("the body is longer than its files")
                missing = files[number].length_bytes
            await asyncio.to_thread(_append, paths[number], rest[:missing])
            written = min(missing, len(rest))
            rest, missing = rest[written:], missing - written
    if missing or any(one.length_bytes for one in files[number + 1 :]):
        raise MalformedBody("the body is shorter than its files")


def _create(paths: Iterable[Path]) -> None:
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()


def _append(path: Path, part: memoryview) -> None:
    with path.open("ab") as file:
        file.write(part)
