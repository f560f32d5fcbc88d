"""The command `doctor`, which looks for the causes of missing, slow and costly pictures."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from galerly_cdn.insight.doctor.checks import Finding
    from galerly_cdn.settings.table import Settings


@click.command(
    epilog="Example: galerly-cdn doctor --url https://cdn.example.com/resize/thumbnail/wedding/1.jpg"
)
@click.option("--url", help="Address of a running CDN, or of one of its pictures, which shows more.")
@click.option("--store", help="A store to open: a folder or an address (s3://bucket).")
@terminal.CONFIG
@terminal.JSON
def doctor(url: str | None, store: str | None, file: Path | None, *, as_json: bool) -> None:
    """Check this machine, a running CDN and a store; print what was found, why it matters, and what to do.

    The settings are those that the server has: give the same --config and variables. A store that they name
    is checked too. Exits with 1 if a check failed; warnings do not count.
    """
    from galerly_cdn.insight.doctor.checks import Status

    settings = terminal.load_settings(file, store=store).settings
    _check_url(url)
    count: Counter[Status] = Counter()
    for finding in _findings(settings, url):
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


def _findings(settings: Settings, url: str | None) -> Iterator[Finding]:
    """The findings of each subject, as soon as its facts are read."""
    yield from _machine(settings)
    if settings.store:
        yield from _store(settings)
    if url is not None:
        yield from _url(settings, url)


def _machine(settings: Settings) -> Iterator[Finding]:
    from galerly_cdn.app import renderer
    from galerly_cdn.insight.doctor import checks, machine, machine_facts
    from galerly_cdn.server import serve

    listeners = 1 + (settings.admin_port >= 0)
    files = serve.files_needed(listeners, settings.max_connections)
    return checks.run(machine.CHECKS, machine_facts.read(settings, files, renderer.describe_worker))


def _store(settings: Settings) -> Iterator[Finding]:
    import asyncio

    from galerly_cdn.app.stores import command_telemetry
    from galerly_cdn.clock import SYSTEM_CLOCK
    from galerly_cdn.insight.doctor import checks, store, store_facts

    facts = asyncio.run(store_facts.read(settings, command_telemetry(), SYSTEM_CLOCK))
    return checks.run(store.CHECKS, facts)


def _url(settings: Settings, url: str) -> Iterator[Finding]:
    from galerly_cdn.clock import SYSTEM_CLOCK
    from galerly_cdn.insight.doctor import checks, url_facts
    from galerly_cdn.insight.doctor.url import CHECKS

    return checks.run(CHECKS, url_facts.read(url, settings, SYSTEM_CLOCK.wall()))
