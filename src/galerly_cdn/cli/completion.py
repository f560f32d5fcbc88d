"""The command that prints a shell's completion script."""

from __future__ import annotations

import click


@click.command(epilog='Example: eval "$(galerly-cdn completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    \b
    bash  eval "$(galerly-cdn completion bash)"      in ~/.bashrc
    zsh   eval "$(galerly-cdn completion zsh)"       in ~/.zshrc
    fish  galerly-cdn completion fish | source       in ~/.config/fish/config.fish
    """  # noqa: D301 - \b is click's mark of a paragraph that keeps its lines
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    complete = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    click.echo(complete(ctx.find_root().command, {}, "galerly-cdn", "_GALERLY_CDN_COMPLETE").source())
