"""Shared parts of the commands: options, parameter types, settings, and printing of results and errors."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.serialization import Value
    from galerly_cdn.settings.load import LoadedSettings
    from galerly_cdn.stored_keys import Shard

CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GALERLY_CONFIG",
    help="Read settings from this TOML file (or GALERLY_CONFIG).",
)
RUN_AGAIN = 75
"""The exit code for what running the command again may finish (EX_TEMPFAIL of sysexits.h)."""
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class CommandGroup(click.Group):
    """Loads each command when it is asked for; prints errors as lines on stderr, and sets the exit code."""

    def __init__(self, *, modules: Mapping[str, str], **options: Any) -> None:  # noqa: ANN401 - click's
        """`modules` names, for each command, the module below this package that defines it."""
        super().__init__(**options)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        return sorted(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.modules and cmd_name not in self.commands:
            module = importlib.import_module(f"galerly_cdn.cli.{self.modules[cmd_name]}")
            self.add_command(getattr(module, cmd_name))
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        from galerly_cdn.errors import FormatNotAllowed, GalerlyError, SettingsError, SizeNotAllowed

        try:
            return super().invoke(ctx)
        except SettingsError as error:
            print_error(*error.problems)
            sys.exit(2)
        except (SizeNotAllowed, FormatNotAllowed) as error:
            print_error(f"{error.public} `galerly-cdn config` shows the allow-list.")
            sys.exit(2)
        except GalerlyError as error:
            print_error(error.public + (f" ({error.detail})" if error.detail else ""))
            sys.exit(exit_code_of(error))
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader left (`| head`): click exits without a message
                raise
            print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            sys.exit(1)


class GalleryParameter(click.ParamType[str]):
    """A gallery's name, which is a key's start up to a slash: `wedding`, `clients/smith`."""

    name = "gallery"
    example = "wedding, or clients/smith"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from galerly_cdn.errors import MalformedKey
        from galerly_cdn.http.urls import checked_key

        try:
            checked_key(self.sample_key(value))
        except MalformedKey:
            name = click.format_filename(value)
            self.fail(f"no key can begin with {name}: use a {self.name} such as {self.example}.", param, ctx)
        return value

    def sample_key(self, value: str) -> str:
        """A string that is a valid key if the value is valid."""
        return value


class PrefixParameter(GalleryParameter):
    """A key's start, up to any character: `wedding/`, `wedding/IMG_`."""

    name = "prefix"
    example = "wedding/, or wedding/IMG_"

    def sample_key(self, value: str) -> str:
        return value + "x"


class ShardParameter(click.ParamType["Shard"]):
    """One of several equal parts of the photographs: `2/8`."""

    name = "i/n"

    def convert(self, value: str | Shard, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        from galerly_cdn.stored_keys import parse_shard

        if not isinstance(value, str):
            return value
        try:
            return parse_shard(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SHARD = click.option(
    "--shard",
    type=ShardParameter(),
    default="1/1",
    help="Only this part of the photographs, such as 2/8: eight machines take one each. [all]",
)


def exit_code_of(error: GalerlyError) -> int:
    """`RUN_AGAIN` for what may pass by itself, such as a store that cannot be reached; else 1."""
    from galerly_cdn.retries import TEMPORARY

    return RUN_AGAIN if isinstance(error, TEMPORARY) else 1


def end_at_sigterm() -> None:
    """Have SIGTERM end this process at once, with 143, also if it is the first one of a container.

    Linux ends that one by no signal for which it has no handler (pid_namespaces(7)).
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def print_error(*lines: str) -> None:
    """Print problems on stderr, one line each."""
    for line in lines:
        click.echo(f"galerly-cdn: {line}", err=True)


def load_settings(file: Path | None, **options: object) -> LoadedSettings:
    """The settings. Options override the environment, which overrides the file. Raises `SettingsError`."""
    from galerly_cdn.settings import load

    return load.load_settings(options, file)


def print_value(value: Value, text: str, *, as_json: bool, err: bool = False) -> None:
    """Print a value as one line of JSON, or its text."""
    from galerly_cdn.serialization import to_json

    click.echo(to_json(value).decode() if as_json else text, err=err)


def format_bytes(length_bytes: int) -> str:
    """A length with a unit, in powers of 1000: "1.5 MB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if length_bytes >= factor:
            return f"{length_bytes / factor:.1f} {unit}"
    return f"{length_bytes} bytes"
