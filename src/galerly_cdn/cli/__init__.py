"""The command line. Exit codes: 0 success, 1 failure, 2 usage error."""

from __future__ import annotations

import click

from galerly_cdn.cli import (
    about,
    addresses,
    cost,
    doctor,
    originals,
    photograph,
    report,
    serve,
    store,
    store_audit,
    terminal,
    upload,
)
from galerly_cdn.cli.aws import commands


@click.group(cls=terminal.CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
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


@click.command(epilog='Example: eval "$(galerly-cdn completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    \b
    bash  eval "$(galerly-cdn completion bash)"      in ~/.bashrc
    zsh   eval "$(galerly-cdn completion zsh)"       in ~/.zshrc
    fish  galerly-cdn completion fish | source       in ~/.config/fish/config.fish
    """  # noqa: D301 - as in `main`
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    complete = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    click.echo(complete(ctx.find_root().command, {}, "galerly-cdn", "_GALERLY_CDN_COMPLETE").source())


for _command in (store_audit.audit, store_audit.clean):
    store.store.add_command(_command)
for _command in (
    serve.serve,
    serve.demo,
    photograph.render,
    photograph.inspect,
    upload.upload,
    addresses.link,
    originals.ls,
    originals.warm,
    originals.purge,
    originals.rm,
    store.store,
    addresses.keys,
    addresses.sign,
    report.report,
    commands.aws,
    cost.cost,
    doctor.doctor,
    about.config,
    about.version,
    completion,
):
    main.add_command(_command)
