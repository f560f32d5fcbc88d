"""The command that serves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import invalidation, terminal

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog="Example: galerly-cdn serve ~/Pictures --port 8080")
@click.argument("photographs", required=False)
@click.option("--store", help="Folder or address (s3://bucket) with originals/ and resized/ in it.")
@click.option("--writable", is_flag=True, default=None, help="Take uploads into the folder PHOTOGRAPHS too.")
@click.option("--host", help="Address to listen on. [127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on, 0 for any free one. [8000]")
@click.option(
    "--renditions", help="Folder or address for the renditions. [in the store, or your cache folder]"
)
@click.option("--workers", type=int, help="Render processes. [one per core]")
@click.option("--browse", is_flag=True, default=None, help="Serve the page on a public address too.")
@click.option("--admin-port", type=int, help="Port of the admin side, 0 for any free one. [none]")
@click.option("--admin-host", help="Address of the admin side. [127.0.0.1]")
@click.option("--admin-token-file", help="File with its bearer token; any address but loopback needs one.")
@terminal.CONFIG
def serve(photographs: str | None, file: Path | None, **options: object) -> None:
    """Serve PHOTOGRAPHS, a folder or an address: its pictures at /resize/…, a page to browse them at /.

    A folder is only read. A photograph added, edited or replaced in it shows on the next request.
    With --store in place of PHOTOGRAPHS the store keeps originals and renditions both, and takes uploads.
    Stop with Ctrl-C or SIGTERM: answers under way are finished first.
    """
    from galerly_cdn.app import server

    settings = terminal.load_settings(file, **options).settings
    is_clean = server.serve(
        settings,
        photographs,
        lambda address: click.echo(f"galerly-cdn serves {address}"),
        lambda address: click.echo(f"galerly-cdn is administered at {address}"),
        invalidation.sender(settings),
    )
    sys.exit(0 if is_clean else 1)
