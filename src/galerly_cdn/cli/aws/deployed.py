"""The command `aws destroy`, and what the commands for a deployed stack have in common."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from galerly_cdn.aws.deploy.buckets import RetainedBucket
    from galerly_cdn.aws.deploy.smoke_test import Check
    from galerly_cdn.aws.deploy.stack import Stack, StackEvent, StackState

STACK = click.option("--stack", "name", required=True, help="The CloudFormation stack's name.")
YES = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


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
    """Delete the stack. The buckets with the originals stay; their monthly cost is printed."""
    from galerly_cdn.aws.deploy import buckets
    from galerly_cdn.aws.errors import DeploymentFailed

    stack = open_stack(name)
    state = stack.state()
    if state is None:
        raise DeploymentFailed(f"there is no stack {name}")
    retained = [bucket for bucket in map(buckets.measure, stack.buckets()) if bucket is not None]
    erases = originals == "delete"
    for bucket in retained:
        click.echo(_bucket_line(bucket, erases=erases))
    if not yes:
        click.confirm(f"Delete the stack {name}?", abort=True, err=True)
        if erases and retained:
            first = retained[0].bucket
            answer = click.prompt(f"Erased originals cannot be restored. Type {first} to erase it", err=True)
            if answer != first:
                raise click.Abort
    stack.delete(state)
    for bucket in retained if erases else []:
        buckets.erase(bucket.bucket, functools.partial(_print_erased, bucket))
    click.echo(f"{name} is deleted.")


def open_stack(name: str, on_event: Callable[[StackEvent], object] = click.echo) -> Stack:
    """A stack whose events are printed."""
    from galerly_cdn.aws.deploy.stack import Stack

    return Stack(name, on_event)


def read_state(name: str) -> StackState:
    """The state of a stack. Raises `DeploymentFailed` if there is none."""
    from galerly_cdn.aws.errors import DeploymentFailed

    state = open_stack(name).state()
    if state is None:
        raise DeploymentFailed(f"there is no stack {name}")
    return state


def print_checks(checks: Iterable[Check], *, as_json: bool) -> None:
    """Print each check as it ends. Exits with 1 if a result was not as expected."""
    unmet = 0
    for check in checks:
        terminal.print_value(check, str(check), as_json=as_json)
        unmet += not check.is_met
    if unmet:
        terminal.print_error(f"{unmet} results are not as expected.")
        sys.exit(1)


def _print_erased(bucket: RetainedBucket, erased: int) -> None:
    """A progress line that overwrites itself, if the output is a terminal."""
    if sys.stderr.isatty():
        click.echo(f"\r{bucket.bucket}: {erased} of {bucket.objects} erased", nl=False, err=True)


def _bucket_line(bucket: RetainedBucket, *, erases: bool) -> str:
    result = "is erased" if erases else f"stays: about ${bucket.month_dollars:.2f} a month"
    return (
        f"{bucket.bucket}: {bucket.objects} objects, {terminal.format_bytes(bucket.length_bytes)}; {result}"
    )
