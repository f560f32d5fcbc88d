"""The command `upload`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.invalidation import refresh_warnings, refreshed_lines
from galerly_cdn.cli.library_options import LibraryOptions, library_options
from galerly_cdn.cli.progress import Progress, Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.library import Accepted, Library

_CHUNK_BYTES = 256 * 1024
_DEADLINE_S = 120.0
"""How long a command goes on although nothing could be uploaded."""


@click.command(epilog="Example: galerly-cdn upload ~/Wedding --gallery wedding --store s3://photographs")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--gallery",
    required=True,
    type=terminal.GalleryParameter(),
    help="Gallery to upload to. A key is GALLERY/file name: wedding/first dance.jpg.",
)
@click.option("--replace", is_flag=True, help="Replace photographs that have the same key. [refused]")
@library_options
@terminal.JSON
def upload(
    files: tuple[Path, ...], gallery: str, *, replace: bool, where: LibraryOptions, as_json: bool
) -> None:
    """Upload FILES to a gallery. A folder stands for the photographs in it and in its subfolders.

    Every photograph is decoded before it is accepted. A refused photograph does not stop the others; the
    reasons are printed at the end. A photograph for which the machine or the store is busy is sent again,
    until nothing could be uploaded for two minutes. A repeated command continues an interrupted one:
    photographs that are already stored are reported as unchanged.

    A key ends with the file's name, byte for byte, or its path in the folder. "é" as one character and as "e"
    with a combining accent (as macOS may store it) are different keys; links must use the same form.
    """
    items = _keys_by_file(files, gallery)
    progress = Progress(as_json=as_json)
    from galerly_cdn.clock import SYSTEM_CLOCK
    from galerly_cdn.retries import BUSY, Retries

    retries = Retries(BUSY, _DEADLINE_S, SYSTEM_CLOCK.monotonic)

    async def upload_all(library: Library) -> None:
        async def process(item: tuple[Path, str]) -> Result:
            accepted = await retries.run(
                lambda: _upload(library, *item, replaces=replace),
                lambda error, wait_s: _print_retry(item[0], error, wait_s),
            )
            # Of new photographs, which may be many, only what matters: few of them were requested before
            is_replaced = accepted.outcome == "replaced"
            told = [one for one in accepted.refreshed if one.dropped or one.problem or is_replaced]
            return Result(
                [accepted],
                _accepted_line(accepted) + refreshed_lines(told),
                refresh_warnings(accepted.key, accepted.refreshed),
            )

        await progress.run(items, process)

    where.run_rendering(upload_all, as_json=as_json, creates=True)
    sys.exit(progress.exit_code)


def _print_retry(file: Path, error: GalerlyError, wait_s: float) -> None:
    terminal.print_error(f"{click.format_filename(file)}: {error.public} It is sent again in {wait_s:.0f} s.")


async def _upload(library: Library, file: Path, key: str, *, replaces: bool) -> Accepted:
    """Upload a file, with its MD5 so that corruption on the way is detected."""
    import asyncio

    md5 = await asyncio.to_thread(_md5, file)
    return await library.upload(key, _chunks(file), replaces=replaces, digests={"md5": md5})


def _md5(file: Path) -> bytes:
    import hashlib

    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).digest()


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    import asyncio

    with file.open("rb") as stream:
        while chunk := await asyncio.to_thread(stream.read, _CHUNK_BYTES):
            yield chunk


def _keys_by_file(files: Iterable[Path], gallery: str) -> dict[str, tuple[Path, str]]:
    """Every file and its key, by the file's path. Raises `UsageError` for two files with one key, or none."""
    items: dict[str, tuple[Path, str]] = {}
    by_key: dict[str, Path] = {}
    for file, name in _find_files(files):
        key = f"{gallery}/{name}"
        if by_key.setdefault(key, file) != file:
            first, second = map(click.format_filename, (by_key[key], file))
            raise click.UsageError(f"{first} and {second} have the same key, {click.format_filename(key)}.")
        items[str(file)] = file, key
    if not items:
        raise click.UsageError("FILES contain no photograph.")
    return items


def _find_files(files: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Every file, and the photographs in every folder; each with the end of its key."""
    from galerly_cdn.render.formats import MEDIA_TYPES_BY_EXTENSION

    extensions = "|".join(MEDIA_TYPES_BY_EXTENSION)
    photograph_suffix = re.compile(rf"\.({extensions})", re.IGNORECASE)
    for argument in files:
        if not argument.is_dir():
            yield argument, argument.name
            continue
        for folder, subfolders, names in os.walk(argument):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for file in (Path(folder, name) for name in sorted(names) if not name.startswith(".")):
                if photograph_suffix.fullmatch(file.suffix) and file.is_file():
                    yield file, file.relative_to(argument).as_posix()


def _accepted_line(accepted: Accepted) -> str:
    sides = f"{accepted.width_px}×{accepted.height_px} px"
    length = terminal.format_bytes(accepted.length_bytes)
    return f"{accepted.outcome:<9}  {accepted.key}  {accepted.format}, {sides}, {length}"
