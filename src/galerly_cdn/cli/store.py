"""The command group `store`: the list of recipes that a store holds for all of its processes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from galerly_cdn.model import RecipeEntry

_MAX_NAMES = 4


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The store, or the folder that is served without one, and `--config` and `--json`."""
    photographs = click.argument("photographs", required=False)
    store = click.option("--store", help="The store: a folder or an address (s3://bucket).")
    return photographs(store(terminal.CONFIG(terminal.JSON(command))))


@click.group(
    cls=terminal.CommandGroup,
    modules={"audit": "store_audit", "clean": "store_audit", "recipes": "store", "rollback": "store"},
    epilog="Example: galerly-cdn store recipes --store s3://photographs",
)
def store() -> None:
    """Show what a store holds, clean it up, and change which recipes are current in it.

    A recipe is a digest of what decides a rendition's bytes: the release, libvips, the sizes, the qualities.
    A store lists the recipes of all processes that use it, and the last one of a size and format is current
    for all of them. A process whose settings change appends its recipes when it starts.
    """


@store.command(epilog="Example: galerly-cdn store rollback --store s3://photographs")
@_options
def rollback(photographs: str | None, store: str | None, *, file: Path | None, as_json: bool) -> None:
    """Make the recipes of this release and these settings current again, in a store or for PHOTOGRAPHS.

    Use it after going back to an earlier release or setting. A process of earlier recipes does not replace
    the renditions of newer ones, because it cannot know which of the two is wanted: it serves them, and says
    so at its start and in `/readyz`. The command appends to the list of recipes. Every process reads it
    within ten seconds, and renders each picture once more when it is requested.

    Run it with the release and the settings of the servers. Nothing changes if their recipes are current.
    """
    from galerly_cdn.app import renderer
    from galerly_cdn.serialization import to_json

    entry = renderer.roll_back(terminal.load_settings(file, store=store, workers=1).settings, photographs)
    if as_json:
        click.echo(to_json(entry).decode())
    elif entry is None:
        click.echo("unchanged  the recipes of this release and these settings are current")
    else:
        click.echo(f"current    {_names(entry)}, by entry {entry.number}")


@store.command(epilog="Example: galerly-cdn store recipes --store photographs")
@_options
def recipes(photographs: str | None, store: str | None, *, file: Path | None, as_json: bool) -> None:
    """Print the list of recipes of a store or of PHOTOGRAPHS: number, time (UTC), release, sizes and formats.

    The last line that names a size and format is current for it.
    """
    from galerly_cdn.app import stores
    from galerly_cdn.serialization import to_json

    settings = terminal.load_settings(file, store=store).settings
    for entry in stores.read_recipes(settings, photographs):
        click.echo(to_json(entry).decode() if as_json else _line(entry))


def _line(entry: RecipeEntry) -> str:
    time = datetime.fromtimestamp(entry.at_s, UTC).isoformat(" ", "seconds")[:19]
    return f"{entry.number:>4}  {time}  {entry.release or 'unknown':<10}  {_names(entry)}"


def _names(entry: RecipeEntry) -> str:
    if not entry.recipes:
        return "unreadable"
    names = ", ".join(list(entry.recipes)[:_MAX_NAMES])
    more = len(entry.recipes) - _MAX_NAMES
    return f"{names} and {more} more" if more > 0 else names
