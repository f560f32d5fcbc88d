"""The commands on stored originals: `ls`, `warm`, `purge`, `rm`."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.invalidation import refresh_warnings, refreshed_lines
from galerly_cdn.cli.library_options import LibraryOptions, library_options
from galerly_cdn.cli.progress import Progress, Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from galerly_cdn.fill import Warmed
    from galerly_cdn.library import Catalog, Deleted, Library, Listing, Page, Purged
    from galerly_cdn.model import Listed

C = TypeVar("C", bound="Catalog")

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC without its name costs half as much, 100,000 times
_PAGE = 999
"""With the original that tells whether there is another page, as many as S3 lists at once."""
_KEYS = click.argument("keys", nargs=-1)
_GALLERY = click.option(
    "--gallery", type=terminal.GalleryParameter(), help="Use every photograph of this gallery."
)


@click.command(epilog="Example: galerly-cdn ls wedding/ --store s3://photographs")
@click.argument("prefix", default="", type=terminal.PrefixParameter())
@library_options
@terminal.JSON
def ls(prefix: str, *, where: LibraryOptions, as_json: bool) -> None:
    """List the originals whose keys begin with PREFIX: length in bytes, time (UTC), key."""
    from galerly_cdn.serialization import to_json

    async def show(catalog: Listing) -> None:
        async for page in pages(catalog, prefix):
            if page.originals:
                lines = [to_json(one).decode() if as_json else _listed_line(one) for one in page.originals]
                click.echo("\n".join(lines))

    where.run_listing(show)


@click.command(epilog="Example: galerly-cdn purge --gallery wedding --admin http://127.0.0.1:8001")
@_KEYS
@_GALLERY
@library_options
@terminal.JSON
def purge(keys: tuple[str, ...], gallery: str | None, *, where: LibraryOptions, as_json: bool) -> None:
    """Delete the renditions of the photographs KEYS. They are rendered again on request."""
    from galerly_cdn.errors import NoSuchOriginal

    async def process(catalog: Catalog, key: str) -> Result:
        purged = await catalog.purge(key)
        if not purged.removed and not await _exists(catalog, key):
            raise NoSuchOriginal
        text = f"purged  {key}  {_count_renditions(len(purged.removed))}"
        return _changed(purged, text)

    _process_keys(keys, gallery, where.run, process, as_json=as_json)


@click.command(epilog="Example: galerly-cdn warm --gallery wedding --store s3://photographs")
@_KEYS
@_GALLERY
@library_options
@terminal.JSON
def warm(keys: tuple[str, ...], gallery: str | None, *, where: LibraryOptions, as_json: bool) -> None:
    """Render the photographs KEYS in advance, in the sizes of the setting `warm_sizes`.

    By default, these are the sizes with a name. Each is rendered in every format that browsers choose.

    Renditions that are stored and current are kept, so a repeated command continues an interrupted one.
    In a running CDN, viewers have priority.
    """

    async def process(library: Library, key: str) -> Result:
        warmed = [one async for one in library.warm(key)]
        return Result(warmed, _warmed_line(key, warmed))

    _process_keys(keys, gallery, where.run_rendering, process, as_json=as_json)


@click.command(epilog="Example: galerly-cdn rm wedding/blurred.jpg --store s3://photographs")
@click.argument("keys", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@library_options
@terminal.JSON
def rm(keys: tuple[str, ...], *, yes: bool, where: LibraryOptions, as_json: bool) -> None:
    """Delete the photographs KEYS and their renditions. On a terminal, it asks for confirmation."""
    from galerly_cdn.errors import NoSuchOriginal

    if not yes and _is_terminal():
        what = keys[0] if len(keys) == 1 else f"{len(keys)} photographs"
        click.confirm(f"Delete {what}, original and renditions?", abort=True, err=True)

    async def process(catalog: Catalog, key: str) -> Result:
        deleted = await catalog.delete(key)
        if not deleted.existed and not deleted.removed:
            raise NoSuchOriginal
        outcome = "deleted" if deleted.existed else "absent "
        text = f"{outcome}  {key}  {_count_renditions(len(deleted.removed))}"
        return _changed(deleted, text)

    _process_keys(keys, None, where.run, process, as_json=as_json)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _process_keys(
    keys: tuple[str, ...],
    gallery: str | None,
    run: Callable[..., object],
    process: Callable[[C, str], Awaitable[Result]],
    *,
    as_json: bool,
) -> None:
    """Process every key, or every key of the gallery; exit with 1 if one fails. Raises `UsageError`."""
    if bool(keys) == bool(gallery):
        raise click.UsageError("give either KEYS or --gallery.")

    progress = Progress(as_json=as_json)

    async def process_all(catalog: C) -> None:
        items = _gallery_keys(catalog, gallery) if gallery else {key: key for key in keys}
        await progress.run(items, lambda key: process(catalog, key))

    run(process_all, as_json=as_json)
    sys.exit(progress.exit_status)


def _changed(changed: Purged | Deleted, text: str) -> Result:
    return Result(
        [changed],
        text + refreshed_lines(changed.refreshed),
        refresh_warnings(changed.key, changed.refreshed),
    )


async def _gallery_keys(catalog: Catalog, gallery: str) -> AsyncIterator[dict[str, str]]:
    """Every key of a gallery, in parts, as its own name.

    Raises `NoSuchOriginal` for none, so that a mistyped name is an error.
    """
    from galerly_cdn.errors import NoSuchOriginal

    async for page in pages(catalog, f"{gallery}/"):
        if not page.originals:
            raise NoSuchOriginal(f"no key begins with {gallery}/")
        yield {listed.key: listed.key for listed in page.originals}


async def _exists(catalog: Listing, key: str) -> bool:
    """Whether there is an original. Its key is the first of those that begin with it."""
    return any(one.key == key for one in (await catalog.list(key, limit=1)).originals)


async def pages(catalog: Listing, prefix: str) -> AsyncIterator[Page]:
    """The pages of the listing of a prefix."""
    page = await catalog.list(prefix, limit=_PAGE)
    yield page
    while page.next:
        page = await catalog.list(prefix, page.next, limit=_PAGE)
        yield page


def _listed_line(listed: Listed) -> str:
    time = (_EPOCH + timedelta(seconds=int(listed.modified_s))).isoformat(" ")
    return f"{listed.length_bytes:>12}  {time}  {listed.key}"


def _warmed_line(key: str, warmed: Sequence[Warmed]) -> str:
    # If the original was replaced during warming, a target is yielded twice; the last one counts.
    renditions = {one.target: one for one in warmed}.values()
    rendered = sum(not one.was_there for one in renditions)
    length = terminal.format_bytes(sum(one.length_bytes for one in renditions))
    return f"warmed  {key}  {rendered} rendered, {len(renditions) - rendered} already stored, {length}"


def _count_renditions(count: int) -> str:
    return f"{count} renditions" if count != 1 else "1 rendition"
