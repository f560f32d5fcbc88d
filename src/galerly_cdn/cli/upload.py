"""The command that brings originals in."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.library_options import LibraryOptions, library_options
from galerly_cdn.cli.progress import Outcome, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from galerly_cdn.library import Accepted, Library

_CHUNK_BYTES = 256 * 1024
_NAMED_AS_PHOTOGRAPHS = re.compile(
    r"\.(jpe?g|jpe|jfif|png|webp|gif|tiff?|avif|hei[cf]|dng|cr[23]|nef|arw|raf|orf|rw2)", re.IGNORECASE
)
"""What is taken out of a folder. Raw files too: they are refused with the reason, not left out in silence."""


@click.command(epilog="Example: galerly-cdn upload ~/Wedding --gallery wedding --store s3://photographs")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--gallery",
    required=True,
    type=terminal.GalleryParameter(),
    help="Keys are GALLERY/file name: wedding/first dance.jpg.",
)
@click.option("--replace", is_flag=True, help="Replace other photographs of the same names. [refused]")
@library_options
@terminal.JSON
def upload(
    files: tuple[Path, ...], gallery: str, *, replace: bool, where: LibraryOptions, as_json: bool
) -> None:
    """Upload FILES into a gallery; of a folder, the photographs in it and below it.

    Every photograph is decoded before it is accepted. One that is refused stops nothing: the reasons come
    at the end. Run it again to go on where it was cut off; what is there already is told as unchanged.

    The end of a key is the file's name, byte for byte, or its path below the folder. é as one character and
    as e with an accent, as some systems write it, are two keys: links have to say the same.
    """
    things = _keyed(files, gallery)
    report = Progress(as_json=as_json)

    async def work(archivist: Library) -> None:
        async def send(thing: tuple[Path, str]) -> Outcome:
            accepted = await _upload(archivist, *thing, replaces=replace)
            return Outcome([accepted], _line(accepted))

        await report.run(things, send)

    where.run_rendering(work, as_json=as_json)
    sys.exit(1 if report.failures else 0)


async def _upload(archivist: Library, file: Path, key: str, *, replaces: bool) -> Accepted:
    """Its MD5 goes ahead of the bytes: one that changes on the way is noticed."""
    import asyncio

    md5 = await asyncio.to_thread(_md5, file)
    return await archivist.upload(key, _chunks(file), replaces=replaces, digests={"md5": md5})


def _md5(file: Path) -> bytes:
    import hashlib

    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).digest()


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    import asyncio

    with file.open("rb") as opened:
        while chunk := await asyncio.to_thread(opened.read, _CHUNK_BYTES):
            yield chunk


def _keyed(files: Iterable[Path], gallery: str) -> dict[str, tuple[Path, str]]:
    """Every file with its key, by the name it is told under. Raises `UsageError` for two of one key."""
    things: dict[str, tuple[Path, str]] = {}
    by_key: dict[str, Path] = {}
    for file, tail in _found(files):
        key = f"{gallery}/{tail}"
        if by_key.setdefault(key, file) != file:
            one, other = map(click.format_filename, (by_key[key], file))
            raise click.UsageError(f"{one} and {other} would both be {click.format_filename(key)}.")
        things[str(file)] = file, key
    if not things:
        raise click.UsageError("there is no photograph in what was named.")
    return things


def _found(files: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The files named, and the photographs of the folders named; each with the end of its key."""
    for named in files:
        if not named.is_dir():
            yield named, named.name
            continue
        for folder, below, names in os.walk(named):
            below[:] = sorted(one for one in below if not one.startswith("."))
            for file in (Path(folder, one) for one in sorted(names) if not one.startswith(".")):
                if _NAMED_AS_PHOTOGRAPHS.fullmatch(file.suffix) and file.is_file():
                    yield file, file.relative_to(named).as_posix()


def _line(accepted: Accepted) -> str:
    sides = f"{accepted.width_px}×{accepted.height_px} px"
    length = terminal.format_bytes(accepted.length_bytes)
    return f"{accepted.outcome:<9}  {accepted.key}  {accepted.format}, {sides}, {length}"
