"""The commands that serve: a folder or a store, and the samples."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import invalidation, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.contents import Contents
    from galerly_cdn.settings.table import Settings


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `serve` and `demo` share."""
    for option in reversed(
        (
            click.option("--host", help="Address to listen on, or unix:/path. [127.0.0.1]"),
            click.option("--port", type=int, help="Port to listen on; 0 takes any free port. [8000]"),
            click.option(
                "--renditions",
                help="Folder or address for the renditions. [in the store, or your cache folder]",
            ),
            click.option("--workers", type=int, help="Render processes. [one per core]"),
            click.option("--processes", type=int, help="Processes that answer viewers. [1]"),
            click.option(
                "--browse", is_flag=True, default=None, help="Serve the gallery page on a public address too."
            ),
            click.option("--verbose", is_flag=True, help="Log debug messages on stderr (log_level = debug)."),
            terminal.CONFIG,
        )
    ):
        command = option(command)
    return command


@click.command(epilog="Example: galerly-cdn serve ~/Pictures --port 8080")
@click.argument("photographs", required=False)
@click.option("--store", help="Folder or address (s3://bucket) that holds originals/ and resized/.")
@click.option(
    "--writable", is_flag=True, default=None, help="Accept uploads into the folder PHOTOGRAPHS too."
)
@click.option("--admin-port", type=int, help="Port of the admin API; 0 takes any free port. [none]")
@click.option("--admin-host", help="Address of the admin API, or unix:/path. [127.0.0.1]")
@click.option(
    "--admin-token-file",
    help="File with the admin API's bearer token; required unless its address is loopback.",
)
@_options
def serve(photographs: str | None, file: Path | None, *, verbose: bool, **options: object) -> None:
    """Serve PHOTOGRAPHS, a folder or an address: its pictures at /resize/…, a gallery page at /.

    A folder is only read. A photograph that is added, edited or replaced in it shows on the next request.
    With --store in place of PHOTOGRAPHS the store keeps both originals and renditions, and accepts uploads.
    Stop with Ctrl-C or SIGTERM: responses in progress are finished first, a second signal ends them.
    """
    if photographs and Path(photographs).is_file():
        folder = Path(photographs).parent
        raise click.UsageError(f"{photographs} is a file. Serve its folder: galerly-cdn serve {folder}")
    _serve(photographs, file, verbose=verbose, **options)


@click.command(epilog="Example: galerly-cdn demo --port 8080")
@_options
def demo(file: Path | None, *, verbose: bool, **options: object) -> None:
    """Serve a gallery of samples that comes with galerly-cdn, as `serve` serves a folder."""
    from importlib import resources

    with resources.as_file(resources.files("galerly_cdn") / "demo") as folder:
        _serve(str(folder), file, verbose=verbose, **options)


def _serve(photographs: str | None, file: Path | None, *, verbose: bool, **options: object) -> None:
    from galerly_cdn.render.pool import fork_server_process

    if verbose:
        options["log_level"] = "debug"
    settings = terminal.load_settings(file, **options).settings
    # It loads libvips while this process loads the server.
    command = fork_server_process.worker_command()
    with fork_server_process.ForkServerProcess(command) as fork_server, _without_collections():
        from galerly_cdn.app import server
        from galerly_cdn.settings.locations import is_remote

        # A remote store is not counted: listing it takes long, and is billed.
        counts_contents = sys.stdout.isatty() and not is_remote(settings.store or photographs or "")
        is_clean = server.serve(
            settings,
            photographs,
            lambda address: click.echo(f"galerly-cdn serves {address}"),
            announce_admin=lambda address: click.echo(f"galerly-cdn is administered at {address}"),
            invalidate=invalidation.key_invalidator(settings),
            describe=functools.partial(_describe, settings) if counts_contents else None,
            fork_server=fork_server,
        )
    sys.exit(0 if is_clean else 1)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage during a start, which makes hardly any; the server collects when it is ready."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _describe(settings: Settings, address: str, contents: Contents) -> None:
    """Print what is served, one picture's address, and how to stop."""
    from galerly_cdn.links import Links
    from galerly_cdn.settings.networks import UNIX
    from galerly_cdn.settings.sizes import named

    photographs = f"{contents.photographs} photograph{'' if contents.photographs == 1 else 's'}"
    galleries = f"{contents.galleries} {'gallery' if contents.galleries == 1 else 'galleries'}"
    click.echo(f"  contents  {photographs} in {galleries}")
    if contents.other_files:
        click.echo(f"  ignored   {contents.other_files} other files, by their extension")
    if contents.first_photograph and not settings.private_prefixes:
        rules = named(settings.size_rules)
        size = str(rules[len(rules) // 2].size)
        is_unix = address.startswith(UNIX)
        url = Links("" if is_unix else address.rstrip("/"), settings.sizes).src(
            contents.first_photograph, size
        )
        click.echo(f"  picture   {url}")
    click.echo("  stop      Ctrl-C")
