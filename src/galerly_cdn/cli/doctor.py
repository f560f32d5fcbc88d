"""The command `doctor`, which looks for the causes of missing, slow and costly pictures."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from galerly_cdn.aws.deploy.stack import StackState
    from galerly_cdn.insight.doctor.checks import Finding
    from galerly_cdn.insight.doctor.stack import VerifiedPoint
    from galerly_cdn.insight.doctor.store import Contents
    from galerly_cdn.settings.table import Settings


@click.command(
    epilog="Example: galerly-cdn doctor --url https://cdn.example.com/resize/thumbnail/wedding/1.jpg"
)
@click.option(
    "--url",
    help="Address of a running CDN, or of one of its pictures. [a picture of the store, if one is given]",
)
@click.option("--store", help="A store to open: a folder or an address (s3://bucket).")
@click.option("--stack", help="Name of a CloudFormation stack of galerly-cdn.")
@click.option("--verify", is_flag=True, help="Run `aws verify` on the stack too: takes minutes, costs cents.")
@terminal.CONFIG
@terminal.JSON
def doctor(  # noqa: PLR0913 - the options
    url: str | None, store: str | None, stack: str | None, file: Path | None, *, verify: bool, as_json: bool
) -> None:
    """Check this machine, a running CDN, a store and a stack on AWS; print what was found and what to do.

    The settings are those that the server has: give the same --config and variables. A store that they name
    is checked too, and so are fronts and nodes. Exits with 1 if a check failed; warnings do not count.
    """
    from galerly_cdn.insight.doctor.checks import Status

    settings = terminal.load_settings(file, store=store).settings
    _check_url(url)
    if verify and stack is None:
        raise click.UsageError("--verify needs --stack.")
    count: Counter[Status] = Counter()
    for finding in _findings(settings, url, stack, verify=verify):
        terminal.print_value(finding, str(finding), as_json=as_json)
        count[finding.status] += 1
    if not as_json:
        failed, warnings = count[Status.FAILED], count[Status.WARNING]
        click.echo(f"{count.total()} checks: {failed} failed, {warnings} with a warning.")
    if count[Status.FAILED]:
        sys.exit(1)


def _check_url(url: str | None) -> None:
    """Raises `UsageError` for what is no address."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise click.UsageError(f"--url {url}: write https://cdn.example.com, or the address of a picture.")


def _findings(settings: Settings, url: str | None, stack: str | None, *, verify: bool) -> Iterator[Finding]:
    """The findings of each subject, as soon as its facts are read."""
    yield from _machine(settings)
    if settings.fronts or settings.nodes:
        yield from _fleet(settings)
    contents = None
    if settings.store:
        contents = yield from _store(settings)
    if url is not None:
        yield from _url(settings, url, contents.sample if contents else "")
    if stack is not None:
        yield from _stack(settings, stack, verify=verify)


def _machine(settings: Settings) -> Iterator[Finding]:
    from galerly_cdn.app import renderer
    from galerly_cdn.insight.doctor import checks, machine, machine_facts
    from galerly_cdn.server import serve

    listeners = 1 + (settings.admin_port >= 0)
    files = serve.files_needed(listeners, settings.max_connections)
    yield from checks.run(machine.CHECKS, machine_facts.read(settings, files, renderer.describe_worker))


def _fleet(settings: Settings) -> Iterator[Finding]:
    """The fronts and nodes are refreshed for a photograph that does not exist."""
    import asyncio

    from galerly_cdn.app.stores import open_refresh
    from galerly_cdn.errors import SettingsError
    from galerly_cdn.insight.doctor import checks, fleet

    async def read() -> fleet.FleetFacts:
        try:
            async with open_refresh(settings) as refresh:
                targets = settings.all_targets[:1]
                refreshed = await refresh("galerly-cdn-doctor/missing.jpg", targets) if refresh else ()
        except SettingsError as error:
            return fleet.FleetFacts(settings=settings, problem="; ".join(error.problems))
        return fleet.FleetFacts(settings=settings, refreshed=refreshed)

    yield from checks.run(fleet.CHECKS, asyncio.run(read()))


def _store(settings: Settings) -> Generator[Finding, None, Contents | None]:
    """Returns what was listed."""
    import asyncio

    from galerly_cdn.app.stores import command_telemetry
    from galerly_cdn.clock import SYSTEM_CLOCK
    from galerly_cdn.insight.doctor import checks, store, store_facts

    facts = asyncio.run(store_facts.read(settings, command_telemetry(), SYSTEM_CLOCK))
    yield from checks.run(store.CHECKS, facts)
    return facts.contents


def _url(settings: Settings, url: str, sample: str) -> Iterator[Finding]:
    """`sample` is the key of a photograph, for an address that is not a picture's; empty for none."""
    from galerly_cdn.clock import SYSTEM_CLOCK
    from galerly_cdn.insight.doctor import checks, url_facts
    from galerly_cdn.insight.doctor.url import CHECKS
    from galerly_cdn.links import Links

    if sample and urlsplit(url).path in {"", "/"}:
        url = Links(url, settings.sizes).src(sample, str(settings.size_rules[0].size))
    yield from checks.run(CHECKS, url_facts.read(url, settings, SYSTEM_CLOCK.wall()))


def _stack(settings: Settings, name: str, *, verify: bool) -> Iterator[Finding]:
    """Raises `AwsMissing`, `AwsRefused`, `DeploymentFailed`."""
    import datetime as dt

    from galerly_cdn.aws.deploy import http_viewer, stack_facts
    from galerly_cdn.aws.deploy.stack import Stack
    from galerly_cdn.aws.errors import DeploymentFailed
    from galerly_cdn.insight.doctor import checks
    from galerly_cdn.insight.doctor.stack import CHECKS
    from galerly_cdn.serialization import replaced

    stack = Stack(name, lambda _event: None)
    state = stack.state()
    if state is None:
        raise DeploymentFailed(f"there is no stack {name}")
    facts = stack_facts.read(state, stack.resources(), http_viewer.fetch, dt.datetime.now(dt.UTC))
    if verify:
        facts = replaced(facts, verified=_verified(settings, name, state))
    yield from checks.run(CHECKS, facts)


def _verified(settings: Settings, name: str, state: StackState) -> tuple[VerifiedPoint, ...]:
    """The results of `aws verify`."""
    from galerly_cdn.aws.deploy import http_viewer, verify_account
    from galerly_cdn.aws.deploy.smoke_test import Deployed, SmokeViewer
    from galerly_cdn.insight.doctor.stack import VerifiedPoint

    viewer = SmokeViewer(Deployed.from_outputs(state.outputs), http_viewer.fetch)
    return tuple(
        VerifiedPoint(one.what, f"{one.found}, expected {one.expected}", one.is_met)
        for one in verify_account.run_checks(viewer, name, settings)
    )
