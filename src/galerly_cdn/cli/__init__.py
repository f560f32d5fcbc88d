"""The command line. Exit codes: 0 success, 1 failure, 2 usage error."""

from __future__ import annotations

import click

from galerly_cdn.cli import terminal

_MODULES = {
    "serve": "serve",
    "demo": "serve",
    "render": "photograph",
    "inspect": "photograph",
    "upload": "upload",
    "link": "addresses",
    "ls": "originals",
    "warm": "originals",
    "purge": "originals",
    "rm": "originals",
    "store": "store",
    "nginx": "nginx",
    "keys": "addresses",
    "sign": "addresses",
    "report": "report",
    "aws": "aws.commands",
    "cost": "cost",
    "doctor": "doctor",
    "config": "about",
    "version": "about",
    "completion": "completion",
}
"""The module below this package that defines each command."""


@click.group(
    cls=terminal.CommandGroup, modules=_MODULES, context_settings={"help_option_names": ["-h", "--help"]}
)
def main() -> None:
    """An image CDN: serves a folder or a store of photographs in the size and format each browser needs.

    \b
    Try it:
      galerly-cdn serve ~/Pictures
      galerly-cdn render photo.jpg --size 800x600 -o small.jpg
      galerly-cdn inspect photo.jpg

    \b
    Use a store, which accepts uploads:
      galerly-cdn upload photo.jpg --gallery wedding --store photographs
      galerly-cdn serve --store photographs

    `galerly-cdn config` lists every setting.
    """  # noqa: D301 - \b is click's mark of a paragraph that keeps its lines
    terminal.end_at_sigterm()
