"""The command `aws logs`: shows the logs of all functions of a stack."""

from __future__ import annotations

import time

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.aws import deployed

_POLL_S = 3.0


@click.command(epilog="Example: galerly-cdn aws logs --stack photographs --follow")
@deployed.STACK
@click.option("--follow", is_flag=True, help="Wait for further lines, until Ctrl-C.")
@click.option(
    "--minutes", type=click.IntRange(1), default=10, show_default=True, help="Begin this many minutes ago."
)
@terminal.JSON
def logs(name: str, minutes: int, *, follow: bool, as_json: bool) -> None:
    """Show the functions' logs in the order of time, also those of Lambda@Edge in its regions."""
    from galerly_cdn.aws.deploy import logs as stack_logs

    now_s = time.time()  # noqa: TID251 - CloudWatch is asked by the time of day
    groups = stack_logs.find_groups(name)
    reader = stack_logs.LogReader(groups, int((now_s - minutes * 60) * 1000))
    while True:
        for line in reader.read():
            terminal.print_value(line, str(line), as_json=as_json)
        if not follow:
            return
        time.sleep(_POLL_S)
