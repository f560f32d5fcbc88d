"""Commands about what is deployed to AWS: delete it, verify it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from galerly_cdn.aws.deploy.retained_buckets import RetainedBucket
    from galerly_cdn.aws.deploy.smoke_test import Check
    from galerly_cdn.aws.deploy.stack import Stack, StackEvent

STACK = click.option("--stack", "name", required=True, help="The CloudFormation stack's name.")
YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command(epilog="Example: galerly-cdn aws destroy --stack photographs")
@STACK
@click.option(
    "--originals",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="delete erases the bucket, older versions and access logs too.",
)
@YES
def destroy(name: str, originals: str, *, yes: bool) -> None:
    """Delete what was deployed. The originals stay, and this says what they cost."""
    from galerly_cdn.aws.deploy import retained_buckets
    from galerly_cdn.errors import DeploymentFailed

    it = open_stack(name)
    state = it.state()
    if state is None:
        raise DeploymentFailed(f"there is no stack {name}")
    left = [one for one in map(retained_buckets.measure, it.buckets()) if one is not None]
    erases = originals == "delete"
    for one in left:
        click.echo(_leftover_line(one, erases=erases))
    if not yes:
        click.confirm(f"Delete the stack {name}?", abort=True, err=True)
        if erases and left:
            told = click.prompt(f"Nobody can bring them back. Type {left[0].bucket} to erase it", err=True)
            if told != left[0].bucket:
                raise click.Abort
    it.delete(state.arn)
    for one in left if erases else []:
        retained_buckets.erase(one.bucket)
    click.echo(f"{name} is gone.")


@click.command(epilog="Example: galerly-cdn aws verify --stack photographs")
@STACK
@terminal.CONFIG
@terminal.JSON
def verify(name: str, file: Path | None, *, as_json: bool) -> None:
    """Try on the real account what no test here can prove; prints what was expected and what was found.

    Puts photographs of its own there and takes them away again. Takes minutes, and a few cents.
    """
    from galerly_cdn.aws.deploy import http_viewer
    from galerly_cdn.aws.deploy.smoke_test import Deployed, SmokeViewer
    from galerly_cdn.aws.deploy.verify_account import run_checks
    from galerly_cdn.errors import DeploymentFailed

    settings = terminal.load_settings(file).settings
    state = open_stack(name).state()
    if state is None:
        raise DeploymentFailed(f"there is no stack {name}")
    print_checks(
        run_checks(SmokeViewer(Deployed.of(state.outputs), http_viewer.fetch), name, settings),
        as_json=as_json,
    )


def open_stack(name: str, tell: Callable[[StackEvent], object] = click.echo) -> Stack:
    """A stack whose events are lines."""
    from galerly_cdn.aws.deploy.stack import Stack

    return Stack(name, tell)


def print_checks(checks: Iterable[Check], *, as_json: bool) -> None:
    """A line for each, as it comes; ends with 1 if one is not met."""
    unmet = 0
    for one in checks:
        terminal.print_value(one, str(one), as_json=as_json)
        unmet += not one.is_met
    if unmet:
        terminal.print_error(f"{unmet} not as expected.")
        sys.exit(1)


def _leftover_line(one: RetainedBucket, *, erases: bool) -> str:
    fate = "is erased" if erases else f"stays: about ${one.month_dollars:.2f} a month"
    return f"{one.bucket}: {one.objects} objects, {terminal.format_bytes(one.length_bytes)}; {fate}"
