"""The command that tries the cloud design on one machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from local_cloudfront.laptop import Running

_DEFAULT_PORT = 8780


@click.command(epilog="Example: galerly-cdn aws local ~/Pictures")
@click.argument("photographs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--port", type=int, default=_DEFAULT_PORT, show_default=True, help="0 for any free one.")
@terminal.CONFIG
def local(photographs: Path, port: int, file: Path | None) -> None:
    """Serve PHOTOGRAPHS as AWS would: the template that is deployed, run on this machine. Costs nothing.

    CloudFront is a double that reads the template; the viewer function runs in Node or njs, the resizer under
    AWS's runtime client, S3 is versitygw. The photographs are copied to it: theirs is a temporary folder.
    Without versitygw the folder itself is the bucket, and is only read.

    Prints its address, what leads other commands to the store, and CloudFront's access log (access_log = false
    for none). Stop with Ctrl-C: nothing is left behind.
    """
    import asyncio

    from galerly_cdn.errors import AwsMissing

    try:
        from local_cloudfront import laptop
    except ImportError as error:
        raise AwsMissing("pip install 'galerly-cdn[aws]'") from error
    settings = terminal.load(file).settings
    asyncio.run(
        laptop.serve(photographs, settings, port, announce=_announce, progress=_progress, record=click.echo)
    )


def _announce(running: Running) -> None:
    from local_cloudfront import gateway

    click.echo(f"address   {running.address}")
    if running.first:
        click.echo(f"try       {running.first}")
    if running.gateway:
        click.echo(f"s3        {running.gateway}, in a temporary folder with copies of the photographs")
    else:
        click.echo("s3        none: the folder answers in its place, its signatures verified by ourselves; that")
        click.echo("          S3 takes CloudFront's requests, and what changes in a bucket, is not shown")
        click.echo(f"          versitygw is an S3 server: {gateway.INSTALL}")
    for name, value in running.variables.items():
        click.echo(f"store     export {name}={shlex.quote(value)}")


def _progress(done: int, of: int) -> None:
    """A line that is written over, for people alone."""
    if sys.stderr.isatty():
        click.echo(f"\rcopied {done} of {of} photographs", nl=done == of, err=True)
