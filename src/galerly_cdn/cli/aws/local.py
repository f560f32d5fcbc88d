"""The command that tries the cloud design on one machine."""

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
    help="Make every picture of an upload at once. Needs versitygw.",
)
@terminal.CONFIG
def local(photographs: Path, port: int, prewarm: str, file: Path | None) -> None:
    """Serve PHOTOGRAPHS as AWS would: what is deployed, run on this machine. It costs nothing.

    CloudFront is a double that reads the template; the viewer function runs in Node or njs, the resizer under
    AWS's own runtime client, S3 is versitygw, to which the photographs are copied for as long as this runs.
    Without versitygw the folder itself is the bucket: it is only read, unless you upload to it.

    Prints its address, what leads other commands here, and then the logs of CloudFront and the resizer,
    unless the setting access_log is false. Stop with Ctrl-C or SIGTERM: nothing is left behind.
    """
    import asyncio

    from galerly_cdn.errors import AwsMissing

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
    """Until a signal. More of them, from whatever wraps the command, do not cut the clearing up short."""
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
            _announce(running, deployment.program)
            await asyncio.Event().wait()


def _announce(running: RunningDeployment, program: str | None) -> None:
    from galerly_cdn.aws_local.s3 import versitygw

    click.echo(f"address  {running.address}")
    if running.example_url:
        click.echo(f"try      {running.example_url}")
    if program:
        click.echo(f"s3       {program}, which holds copies: what is uploaded there ends with it")
    else:
        click.echo("s3       none: the folder answers in its place, and we verify signatures ourselves.")
        click.echo(
            "         Not shown: that an S3 server takes them, and what it makes of concurrent writes."
        )
        click.echo(f"         With versitygw it is: {versitygw.INSTALL}")
    for own, name in running.key_ids.items():
        click.echo(f"signing  https://{running.address.partition('://')[2]}/… by a copy of {own}.private.pem")
        click.echo(f"         that is called {name}.private.pem; what is signed is then asked by http://")
    click.echo("\nFor galerly-cdn upload, ls, warm, inspect, purge and rm, in another terminal:")
    for name, value in running.variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo()


def _progress(done: int, of: int) -> None:
    """A line that is written over, for people alone."""
    if sys.stderr.isatty():
        click.echo(f"\rcopied {done} of {of} photographs", nl=done == of, err=True)
