"""What the commands share: options, settings, and how an answer or an error is told."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from galerly_cdn.layers import Loaded
    from galerly_cdn.model import Value

CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GALERLY_CONFIG",
    help="Read settings from this TOML file (or GALERLY_CONFIG).",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


class Commands(click.Group):
    """Prints an error as one line for every problem, never a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        from galerly_cdn.errors import Forbidden, GalerlyError, SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as error:
            complain(*error.problems)
            sys.exit(2)
        except Forbidden as error:
            complain(f"{error.public} `galerly-cdn config` shows the allow-list.")
            sys.exit(2)
        except GalerlyError as error:
            complain(error.public + (f" ({error.detail})" if error.detail else ""))
            sys.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`: click ends quietly
                raise
            complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            sys.exit(1)


def complain(*lines: str) -> None:
    """Print problems, a line each."""
    for line in lines:
        click.echo(f"galerly-cdn: {line}", err=True)


def load(file: Path | None, **options: object) -> Loaded:
    """The settings: options over environment over file. Raises `SettingsError`."""
    from galerly_cdn import layers

    return layers.load(options, file)


def answer(value: Value, text: str, *, as_json: bool, err: bool = False) -> None:
    """Print a value as JSON, or as text for people."""
    from galerly_cdn.model import to_json

    click.echo(to_json(value).decode() if as_json else text, err=err)
