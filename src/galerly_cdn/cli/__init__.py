"""The commands people type. Exit codes: 0 done, 1 it failed, 2 it was asked for wrongly."""

from __future__ import annotations

import click

from galerly_cdn.cli import about, completion, keys, link, originals, photograph, serve, terminal, upload
from galerly_cdn.cli.aws import commands


@click.group(cls=terminal.Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """An image CDN: photographs in a folder, the right picture in every browser.

    \b
    Try it:
      galerly-cdn serve ~/Pictures
      galerly-cdn render photo.jpg --size 800x600 -o small.jpg
      galerly-cdn inspect photo.jpg

    \b
    A store of its own:
      galerly-cdn upload photo.jpg --gallery wedding --store photographs
      galerly-cdn serve --store photographs

    Every setting is listed by `galerly-cdn config`.
    """  # noqa: D301 - click's mark of a paragraph that keeps its lines is the character itself


for _command in (
    serve.serve,
    serve.demo,
    photograph.render,
    photograph.inspect,
    upload.upload,
    link.link,
    originals.ls,
    originals.warm,
    originals.purge,
    originals.rm,
    keys.keys,
    keys.sign,
    commands.aws,
    about.config,
    about.version,
    completion.completion,
):
    main.add_command(_command)
