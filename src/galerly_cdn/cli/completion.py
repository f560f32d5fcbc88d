"""The command that teaches a shell the commands."""

from __future__ import annotations

import click


@click.command(epilog='Example: eval "$(galerly-cdn completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    \b
    bash  eval "$(galerly-cdn completion bash)"      in ~/.bashrc
    zsh   eval "$(galerly-cdn completion zsh)"       in ~/.zshrc
    fish  galerly-cdn completion fish | source       in ~/.config/fish/config.fish
    """  # noqa: D301 - as in `main`
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    kind = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    click.echo(kind(ctx.find_root().command, {}, "galerly-cdn", "_GALERLY_CDN_COMPLETE").source())
