"""The command `aws local`: runs the AWS deployment on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from galerly_cdn.aws_local.photograph_folder import LocalDeployment, RunningDeployment


@click.command(epilog="Example: galerly-cdn aws local ~/Pictures")
@click.argument("photographs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--port", type=int, default=8780, show_default=True, help="Port to listen on, 0 for any free one."
)
@click.option(
    "--prewarm",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Render the sizes of warm_sizes of an upload at once. Needs versitygw.",
)
@terminal.CONFIG
def local(photographs: Path, port: int, prewarm: str, file: Path | None) -> None:
    """Serve PHOTOGRAPHS with the AWS deployment, run on this machine. It costs nothing.

    CloudFront is a simulation that reads the template. The viewer function runs in Node or njs, the resizer
    under AWS's own runtime client. S3 is versitygw; the photographs are copied to it while this runs. Without
    versitygw the folder itself is the bucket, and is only read, unless you upload to it.

    Prints the address, the variables that make other commands use it, and then the logs of CloudFront and the
    resizer, unless the setting access_log is false. Stop it with Ctrl-C or SIGTERM; it removes its files.
    """
    import asyncio

    from galerly_cdn.aws.errors import AwsMissing

    try:
        from galerly_cdn.aws_local import photograph_folder
        from galerly_cdn.aws_local.s3 import versitygw
    except ImportError as error:
        raise AwsMissing("pip install 'galerly-cdn[aws]'") from error
    deployment = photograph_folder.LocalDeployment(
        photographs=str(photographs),
        settings=terminal.load_settings(file).settings,
        port=port,
        program=versitygw.find_program(),
        prewarms=prewarm == "on",
    )
    asyncio.run(_serve(deployment))


async def _serve(deployment: LocalDeployment) -> None:
    """Serve until a signal. Further signals do not interrupt the removal of files."""
    import asyncio
    import contextlib
    import signal

    from galerly_cdn.aws_local import photograph_folder

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        async with photograph_folder.start(deployment, _progress, click.echo) as running:
            _print_addresses(running, deployment.program)
            await asyncio.Event().wait()


def _print_addresses(running: RunningDeployment, program: str | None) -> None:
    from galerly_cdn.aws_local.s3 import versitygw

    click.echo(f"address  {running.address}")
    if running.example_url:
        click.echo(f"try      {running.example_url}")
    if program:
        click.echo(
            f"s3       {program}, with copies of the photographs; uploads to it are lost when it stops"
        )
    else:
        click.echo("s3       none: the folder takes its place, and this program verifies the signatures.")
        click.echo("         This does not test an S3 server's signature check and its concurrent writes.")
        click.echo(f"         versitygw does: {versitygw.INSTALL}")
    for own, name in running.key_ids.items():
        click.echo(
            f"signing  https://{running.address.partition('://')[2]}/… with a copy of {own}.private.pem"
        )
        click.echo(f"         named {name}.private.pem; request the signed address with http://")
    click.echo("\nFor galerly-cdn upload, ls, warm, inspect, purge and rm, in another terminal:")
    for name, value in running.variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo()


def _progress(done: int, of: int) -> None:
    """A progress line that overwrites itself, if the output is a terminal."""
    if sys.stderr.isatty():
        click.echo(f"\rcopied {done} of {of} photographs", nl=done == of, err=True)
