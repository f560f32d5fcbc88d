"""Commands about originals that are there: list, delete, purge, warm."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.library_options import LibraryOptions, library_options
from galerly_cdn.cli.progress import Outcome, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from galerly_cdn.fill import Warmed
    from galerly_cdn.library import Catalog, Library
    from galerly_cdn.model import Listed

C = TypeVar("C", bound="Catalog")

_KEYS = click.argument("keys", nargs=-1)
_GALLERY = click.option(
    "--gallery", type=terminal.GalleryParameter(), help="Every photograph of this gallery."
)


@click.command(epilog="Example: galerly-cdn ls wedding/ --store s3://photographs")
@click.argument("prefix", default="", type=terminal.PrefixParameter())
@library_options
@terminal.JSON
def ls(prefix: str, *, where: LibraryOptions, as_json: bool) -> None:
    """List the originals whose keys begin with PREFIX: bytes, time (UTC), key."""

    async def show(catalog: Catalog) -> None:
        async for one in _all(catalog, prefix):
            terminal.print_value(one, _listed(one), as_json=as_json)

    where.run(show, as_json=as_json)


@click.command(epilog="Example: galerly-cdn purge --gallery wedding --admin http://127.0.0.1:8001")
@_KEYS
@_GALLERY
@library_options
@terminal.JSON
def purge(keys: tuple[str, ...], gallery: str | None, *, where: LibraryOptions, as_json: bool) -> None:
    """Remove what was made of the photographs KEYS, which stay: it is made anew when asked for."""

    async def act(catalog: Catalog, key: str) -> Outcome:
        purged = await catalog.purge(key)
        return Outcome([purged], f"purged  {key}  {_renditions(len(purged.removed))}")

    _over(keys, gallery, where.run, act, as_json=as_json)


@click.command(epilog="Example: galerly-cdn warm --gallery wedding --store s3://photographs")
@_KEYS
@_GALLERY
@library_options
@terminal.JSON
def warm(keys: tuple[str, ...], gallery: str | None, *, where: LibraryOptions, as_json: bool) -> None:
    """Make every size and format of the photographs KEYS before anybody asks.

    What is there and current stays as it is: run it again to go on where it was cut off. Viewers of a
    running CDN go first.
    """

    async def act(library: Library, key: str) -> Outcome:
        made = [one async for one in library.warm(key)]
        return Outcome(made, _warmed(key, made))

    _over(keys, gallery, where.run_rendering, act, as_json=as_json)


@click.command(epilog="Example: galerly-cdn rm wedding/blurred.jpg --store s3://photographs")
@click.argument("keys", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@library_options
@terminal.JSON
def rm(keys: tuple[str, ...], *, yes: bool, where: LibraryOptions, as_json: bool) -> None:
    """Delete the photographs KEYS and all that was made of them. On a terminal it asks first."""
    if not yes and _is_terminal():
        named = keys[0] if len(keys) == 1 else f"{len(keys)} photographs"
        click.confirm(f"Delete {named}, original and renditions?", abort=True, err=True)

    async def act(catalog: Catalog, key: str) -> Outcome:
        deleted = await catalog.delete(key)
        word = "deleted" if deleted.existed else "absent "
        return Outcome([deleted], f"{word}  {key}  {_renditions(len(deleted.removed))}")

    _over(keys, None, where.run, act, as_json=as_json)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _over(
    keys: tuple[str, ...],
    gallery: str | None,
    run: Callable[..., None],
    act: Callable[[C, str], Awaitable[Outcome]],
    *,
    as_json: bool,
) -> None:
    """Act on every key, or every key of the gallery; ends with 1 if one failed."""
    if bool(keys) == bool(gallery):
        raise click.UsageError("say which: KEYS or --gallery, one of the two.")

    report = Progress(as_json=as_json)

    async def work(catalog: C) -> None:
        chosen = await _keys_of(catalog, gallery) if gallery else keys
        await report.run({key: key for key in chosen}, lambda key: act(catalog, key))

    run(work, as_json=as_json)
    sys.exit(1 if report.failures else 0)


async def _keys_of(catalog: Catalog, gallery: str) -> list[str]:
    """Every key of a gallery. Raises `NoSuchOriginal` if there is none: a mistyped name is no success."""
    from galerly_cdn.errors import NoSuchOriginal

    keys = [one.key async for one in _all(catalog, f"{gallery}/")]
    if not keys:
        raise NoSuchOriginal(f"no key begins with {gallery}/")
    return keys


async def _all(catalog: Catalog, prefix: str) -> AsyncIterator[Listed]:
    """The originals under a prefix, page after page."""
    page = await catalog.list(prefix)
    while True:
        for one in page.originals:
            yield one
        if not page.next:
            return
        page = await catalog.list(prefix, page.next)


def _listed(one: Listed) -> str:
    time = datetime.fromtimestamp(one.modified_s, UTC)
    return f"{one.length_bytes:>12}  {time:%Y-%m-%d %H:%M:%S}  {one.key}"


def _warmed(key: str, pictures: Sequence[Warmed]) -> str:
    there = {one.target: one for one in pictures}.values()  # one told twice was replaced meanwhile
    made = sum(not one.was_there for one in there)
    length = terminal.format_bytes(sum(one.length_bytes for one in there))
    return f"warmed  {key}  {made} made, {len(there) - made} were there, {length}"


def _renditions(number: int) -> str:
    return f"{number} renditions" if number != 1 else "1 rendition"
