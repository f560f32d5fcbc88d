"""The command `aws verify`: checks on a real account what no documentation specifies."""

from __future__ import annotations

import datetime as dt
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.aws import deploy, deployed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.aws.deploy.smoke_test import Check
    from galerly_cdn.settings.table import Settings

_FULL_PRICE = (
    "This deploys a stack of its own, checks it, and deletes it with its buckets. It takes about an hour, "
    "most of it CloudFront's deployments, and costs less than $1: one hour of the paid metrics, alarms and "
    "the dashboard, and some hundred requests."
)


@click.command(epilog="Example: galerly-cdn aws verify --stack photographs")
@deployed.STACK
@click.option("--full", is_flag=True, help="Deploy a stack of this name, check it, and delete it again.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default="galerly-verify.json",
    show_default=True,
    help="With --full: the file to write the results to.",
)
@deployed.YES
@terminal.CONFIG
@terminal.JSON
def verify(  # noqa: PLR0913 - its options
    name: str, file: Path | None, report: Path, *, full: bool, yes: bool, as_json: bool
) -> None:
    """Check a deployed stack where only the real AWS can show the result; print the expected and the actual.

    Uploads photographs of its own and deletes them again. Takes minutes, and costs a few cents. With --full
    it needs no stack; its report names, for each result that is not as expected, what avoids the cause.
    """
    from galerly_cdn.aws.errors import DeploymentFailed

    settings = terminal.load_settings(file).settings
    if not full:
        deployed.print_checks(_checks(name, settings), as_json=as_json)
        return
    if deployed.open_stack(name).state() is not None:
        raise DeploymentFailed(f"the stack {name} exists: --full makes and deletes one of its own")
    click.echo(_FULL_PRICE, err=True)
    if not yes:
        click.confirm(f"Deploy, check and delete {name}?", abort=True, err=True)
    _verify_own_stack(name, file, settings, report, as_json=as_json)


def _verify_own_stack(
    name: str, file: Path | None, settings: Settings, report: Path, *, as_json: bool
) -> None:
    """Deploy, check, delete; write the report also if one of them fails. Exits with 1 for a failure."""
    from galerly_cdn.aws.deploy import open_points
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.serialization import to_json

    context = click.get_current_context()
    started_s, at = time.monotonic(), dt.datetime.now(dt.UTC)
    checks: list[open_points.CheckedPoint] = []
    failure = ""
    try:
        try:
            _invoke(context, deploy.deploy, name=name, yes=True, prewarm="on", file=file)
            for check in _checks(name, settings):
                terminal.print_value(check, str(check), as_json=as_json)
                checks.append(open_points.checked(check, name))
        finally:
            if deployed.open_stack(name).state() is not None:
                _invoke(context, deployed.destroy, name=name, originals="delete", yes=True)
    except GalerlyError as error:
        failure = open_points.anonymous(f"{error.code}: {error.detail or error.public}", name)
    result = open_points.VerificationReport(
        at=at.isoformat(timespec="seconds"),
        checks=tuple(checks),
        duration_s=round(time.monotonic() - started_s, 1),
        failure=failure,
    )
    report.write_bytes(to_json(result) + b"\n")
    unmet = [check for check in checks if not check.is_met]
    click.echo(
        f"{report}: {len(checks)} results, {len(unmet)} not as expected. Please send it to the project."
    )
    if failure or unmet:
        terminal.print_error(*filter(None, [failure, *(f"{one.what}: {one.switch}" for one in unmet)]))
        sys.exit(1)


def _invoke(context: click.Context, command: click.Command, **options: object) -> None:
    """Run another command; a failed smoke test, which exits with 1, is among the checks again."""
    try:
        context.invoke(command, **options)
    except SystemExit as end:
        if end.code not in {0, 1}:
            raise


def _checks(name: str, settings: Settings) -> Iterator[Check]:
    from galerly_cdn.aws.deploy import http_viewer
    from galerly_cdn.aws.deploy.smoke_test import Deployed, SmokeViewer
    from galerly_cdn.aws.deploy.verify_account import run_checks

    state = deployed.read_state(name)
    viewer = SmokeViewer(Deployed.from_outputs(state.outputs), http_viewer.fetch)
    return run_checks(viewer, name, settings)
