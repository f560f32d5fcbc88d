"""What the commands share: options, settings, and how an answer or an error is told."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from galerly_cdn.serialization import Value
    from galerly_cdn.settings.load import LoadedSettings

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
            sys.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`: click ends quietly
                raise
            print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            sys.exit(1)


class GalleryParameter(click.ParamType[str]):
    """The beginning of keys, up to a slash: `wedding`, `clients/smith`."""

    name = "gallery"
    example = "wedding, or clients/smith"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from galerly_cdn.errors import MalformedKey
        from galerly_cdn.http.urls import checked_key

        try:
            checked_key(self.as_key(value))
        except MalformedKey:
            self.fail(f"no key begins with {click.format_filename(value)}: write {self.example}.", param, ctx)
        return value

    def as_key(self, value: str) -> str:
        return value


class PrefixParameter(GalleryParameter):
    """The beginning of keys, up to anywhere: `wedding/`, `wedding/IMG_`."""

    name = "prefix"
    example = "wedding/, or wedding/IMG_"

    def as_key(self, value: str) -> str:
        return value + "x"


def print_error(*lines: str) -> None:
    """Print problems, a line each."""
    for line in lines:
        click.echo(f"galerly-cdn: {line}", err=True)


def load_settings(file: Path | None, **options: object) -> LoadedSettings:
    """The settings: options over environment over file. Raises `SettingsError`."""
    from galerly_cdn.settings import load as layers

    return layers.load_settings(options, file)


def print_value(value: Value, text: str, *, as_json: bool, err: bool = False) -> None:
    """Print a value as JSON, or as text for people."""
    from galerly_cdn.serialization import to_json

    click.echo(to_json(value).decode() if as_json else text, err=err)


def format_bytes(length_bytes: int) -> str:
    """Bytes for people, in powers of 1000."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if length_bytes >= factor:
            return f"{length_bytes / factor:.1f} {unit}"
    return f"{length_bytes} bytes"
