"""The commands `config`, which shows the settings, and `version`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from galerly_cdn import __version__
from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog="Example: GALERLY_WORKERS=4 galerly-cdn config")
@terminal.CONFIG
@terminal.JSON
def config(file: Path | None, *, as_json: bool) -> None:
    """Show every setting, its value, and the source of the value."""
    from galerly_cdn.settings.table import DESCRIBED

    loaded = terminal.load_settings(file)
    values = {setting.name: getattr(loaded.settings, setting.name) for setting in DESCRIBED}
    if as_json:
        shown = {name: {"value": value, "from": loaded.origin[name]} for name, value in values.items()}
        click.echo(json.dumps(shown, indent=2))
        return
    for setting in DESCRIBED:
        click.echo(f"\n# {setting.description}")
        click.echo(f"{setting.name} = {_toml(values[setting.name])}  # {loaded.origin[setting.name]}")


@click.command(epilog="Example: galerly-cdn version --json")
@terminal.JSON
def version(*, as_json: bool) -> None:
    """Show the versions of galerly-cdn and of its libvips, and the formats that libvips decodes."""
    from galerly_cdn.app import renderer

    ready = renderer.describe_renderer(terminal.load_settings(None, workers=1).settings)
    versions = {"galerly-cdn": __version__, "libvips": ready.libvips, "decodes": " ".join(ready.formats)}
    lines = "\n".join(f"{name} {value}" for name, value in versions.items())
    click.echo(json.dumps(versions) if as_json else lines)


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + "".join(f"\n    {_toml(one)}," for one in value) + "\n]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML 1.0 allows no raw DEL
