"""The command `aws warm`: warms every photograph of a deployed stack by a job of S3 Batch Operations."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.aws import deployed

if TYPE_CHECKING:
    from pathlib import Path

    from galerly_cdn.aws.deploy.warm_job import Estimate, Job, Manifest, Report, WarmJobs

_POLL_S = 10.0
_MAX_FAILURES = 20
"""Failures that are printed; the report in the bucket has all of them."""


@click.command(epilog="Example: galerly-cdn aws warm --stack photographs --all")
@deployed.STACK
@click.option("--all", "is_all", is_flag=True, help="Every photograph of the bucket.")
@click.option("--gallery", type=terminal.GalleryParameter(), help="Every photograph of this gallery.")
@click.option("--status", "status_id", metavar="JOB", help="Show a job; if it has ended, its report.")
@click.option("--cancel", "cancel_id", metavar="JOB", help="Cancel a job. What it has made stays.")
@click.option("--dry-run", is_flag=True, help="Show the photographs and the price; start nothing.")
@deployed.YES
@terminal.CONFIG
@terminal.JSON
def warm(  # noqa: PLR0913 - its options
    name: str,
    file: Path | None,
    gallery: str | None,
    status_id: str | None,
    cancel_id: str | None,
    *,
    is_all: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the missing and the outdated renditions of every photograph, without viewers' requests.

    Missing ones are made in the sizes of the setting warm_sizes, outdated ones in every size.

    S3 Batch Operations invokes the prewarm function for each photograph, after the price was confirmed.
    What was replaced is invalidated. Ctrl-C leaves the job running; --status continues to wait for it.
    """
    from galerly_cdn.aws.deploy import warm_job

    if [is_all or bool(gallery), bool(status_id), bool(cancel_id)].count(True) != 1:
        raise click.UsageError("give one of --all, --gallery, --status and --cancel.")
    state = deployed.read_state(name)
    jobs = warm_job.WarmJobs(warm_job.WarmStack.from_outputs(state.outputs))
    if cancel_id:
        jobs.cancel(cancel_id)
        click.echo(f"{cancel_id} is cancelled.")
        return
    if status_id is None:
        manifest = jobs.list_photographs(gallery or "")
        memory_mb = int(state.parameters.get("Memory", "1769"))
        rules = terminal.load_settings(file).settings.size_rules
        most = sum(len(rule.targets) for rule in rules)  # outdated ones of sizes that are not warmed, too
        price = warm_job.estimate(manifest, most, memory_mb)
        terminal.print_value(price, _price_line(price), as_json=as_json)
        if dry_run or not manifest.photographs:
            return
        status_id = _start(jobs, manifest, yes=yes)
    _finish(jobs, status_id, state.outputs["DistributionId"], as_json=as_json)


def _start(jobs: WarmJobs, manifest: Manifest, *, yes: bool) -> str:
    """Ask, and start a job; its ID, which is printed on stderr at once. Raises `Abort`."""
    if not yes:
        click.confirm("Start the job?", abort=True, err=True)
    job_id = jobs.start(manifest)
    click.echo(f"job       {job_id}", err=True)
    return job_id


def _finish(jobs: WarmJobs, job_id: str, distribution: str, *, as_json: bool) -> None:
    """Wait for a job, print its report, and invalidate what it has replaced. Exits with 1 for a failure."""
    from galerly_cdn.aws.deploy import warm_job

    job = _wait(jobs, job_id)
    terminal.print_value(job, _job_line(job), as_json=as_json)
    if job.status != "Complete":
        sys.exit(1)
    report = jobs.report(job_id)
    terminal.print_value(report, _report_line(report), as_json=as_json)
    if report.replaced_keys:
        _invalidate(distribution, report)
    if report.failures:
        terminal.print_error(*warm_job.failure_lines(report.failures, _MAX_FAILURES))
        sys.exit(1)


def _wait(jobs: WarmJobs, job_id: str) -> Job:
    """The job when it has ended; its progress is shown on a terminal."""
    while not (job := jobs.state(job_id)).has_ended:
        if sys.stderr.isatty():
            click.echo(f"\r{_job_line(job)}", nl=False, err=True)
        time.sleep(_POLL_S)
    return job


def _invalidate(distribution: str, report: Report) -> None:
    from galerly_cdn.aws.deploy import invalidation

    keys = report.replaced_keys
    done = invalidation.invalidate(distribution, keys, deadline_s=invalidation.DEADLINE_S)
    click.echo(f"invalidated  {len(keys)} photographs, completed: {', '.join(done.ids)}", err=True)


def _price_line(price: Estimate) -> str:
    return (
        f"warm      {price.photographs} photographs, at most {price.renditions} renditions\n"
        f"price     at most ${price.dollars:.2f}: job ${price.job_dollars:.2f}, "
        f"renders ${price.render_dollars:.2f}, storing ${price.store_dollars:.2f}, "
        f"invalidations ${price.invalidation_dollars:.2f}"
    )


def _job_line(job: Job) -> str:
    reason = f": {job.reason}" if job.reason else ""
    return f"{job.status.lower():<9} {job.succeeded} of {job.total} photographs, {job.failed} failed{reason}"


def _report_line(report: Report) -> str:
    return (
        f"report    {report.photographs} photographs: {report.made} renditions made, of which "
        f"{report.outdated} replaced outdated ones; {report.current} were current; "
        f"{len(report.failures)} photographs failed"
    )
