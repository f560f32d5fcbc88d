"""The commands `store audit` and `store clean`: what a store holds, and what can be removed from it."""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, NamedTuple, Self

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.invalidation import keys_invalidator
from galerly_cdn.cli.progress import INTERVAL_S
from galerly_cdn.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from galerly_cdn.audit.judgement import Selection
    from galerly_cdn.audit.result import Audit, Cleaned, Removed
    from galerly_cdn.audit.survey import Progress
    from galerly_cdn.settings.table import Settings
    from galerly_cdn.stored_keys import Shard

_NOTHING, _SOMETHING = 0, 3
"""Exit codes of `audit`."""
_INTERVAL_S = 0.2


class AgeParameter(click.ParamType[float]):
    """An age: `90m`, `24h`, `30d`; in seconds."""

    name = "age"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([0-9]{1,6})([mhd])", value) if isinstance(value, str) else None
        if found is None:
            if isinstance(value, float):
                return value
            self.fail(f"{value!r} is no age: use 90m, 24h or 30d.", param, ctx)
        return float(int(found[1]) * {"m": 60, "h": 3600, "d": 86_400}[found[2]])


class AuditOptions(NamedTuple):
    """The options of both commands."""

    settings: Settings
    photographs: str | None
    shard: Shard
    inventory: str

    def selection(self, *, is_expired: bool | None = None, older_than_s: float = 0.0) -> Selection:
        """What the command is about."""
        from galerly_cdn.audit.judgement import Selection

        return Selection(is_expired, older_than_s, self.shard)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a store and a part of it, as one argument `where`."""

    @functools.wraps(command)
    def wrapped(
        *,
        photographs: str | None,
        store: str | None,
        shard: Shard,
        inventory: str,
        file: Path | None,
        **options: object,
    ) -> None:
        settings = terminal.load_settings(file, store=store).settings
        command(where=AuditOptions(settings, photographs, shard, inventory), **options)

    for add in (
        terminal.JSON,
        terminal.CONFIG,
        click.option(
            "--inventory",
            default="",
            help="List by an S3 Inventory (CSV) in place of requests: its manifest.json, a file or s3://….",
        ),
        terminal.SHARD,
        click.option("--store", help="The store: a folder or an address (s3://bucket)."),
        click.argument("photographs", required=False),
    ):
        wrapped = add(wrapped)
    return wrapped


@click.command(epilog="Example: galerly-cdn store audit --store s3://photographs")
@_options
def audit(*, where: AuditOptions, as_json: bool) -> None:
    """Show what a store or PHOTOGRAPHS holds, and what can be removed from it. Changes nothing.

    It lists all originals and everything beside them, and reads the record of each rendition, not its bytes:
    in a folder the head of each file, in S3 one request for each object. With --inventory it reads only
    those that may be outdated. Originals are not decoded: those that cannot be shown are told by their
    length, their name and the fact records of those that were requested.

    Give the settings of the servers: `sizes` decides what is in the allow-list.

    Exits with 0 if there is nothing to clean, with 3 if there is.
    """
    from galerly_cdn.insight import audit_text

    made = _run_audit(where, where.selection())
    terminal.print_value(made, audit_text.audit_text(made), as_json=as_json)
    sys.exit(_NOTHING if made.is_clean else _SOMETHING)


@click.command(epilog="Example: galerly-cdn store clean --store s3://photographs --dry-run")
@_options
@click.option("--expired", is_flag=True, help="Remove what the setting `expire` lets expire, and only that.")
@click.option(
    "--older-than", type=AgeParameter(), default=0.0, help="Keep what is younger: 90m, 24h, 30d. [remove all]"
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def clean(  # noqa: PLR0913 - its options
    *, where: AuditOptions, expired: bool, older_than: float, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Remove from a store or PHOTOGRAPHS what `store audit` lists, and print it.

    Each item is looked at again before it is removed, and removed only if it has not changed since: a
    rendition that a server stores meanwhile stays. Originals stay, unless they expire by a line of the
    setting `expire` that says so. With a `distribution`, CloudFront is invalidated.

    It may be interrupted and run again. A server needs no restart, and may run meanwhile.
    """
    import asyncio

    if not (yes or dry_run or _can_ask()):
        raise click.UsageError("there is no terminal to ask on: give --yes, or --dry-run to remove nothing.")
    if expired and not where.settings.expire_rules:
        raise click.UsageError("--expired: the setting `expire` is empty; `galerly-cdn config` shows it.")
    selection = where.selection(is_expired=expired, older_than_s=older_than)
    cleaned = asyncio.run(_clean(where, selection, dry_run=dry_run, yes=yes, as_json=as_json))
    if cleaned.failed:
        sys.exit(1)


async def _clean(
    where: AuditOptions, selection: Selection, *, dry_run: bool, yes: bool, as_json: bool
) -> Cleaned:
    from galerly_cdn.app.audit import open_audit
    from galerly_cdn.insight import audit_text

    def show(removed: Removed) -> None:
        line = audit_text.removed_line(removed, is_trial=dry_run)
        terminal.print_value(removed, line, as_json=as_json)

    invalidate = keys_invalidator(where.settings)
    with Counter() as counter:
        async with open_audit(
            where.settings, where.photographs, selection, inventory=where.inventory, report=counter.show
        ) as opened:
            made = await opened.run()
            counter.clear()
            if not (yes or dry_run or made.is_clean):
                click.confirm(audit_text.question(made), abort=True, err=True)
            if dry_run:
                cleaned = opened.preview(selection, show)
            else:
                cleaned = await opened.clean(selection, invalidate, show)
    terminal.print_value(cleaned, audit_text.cleaned_text(cleaned), as_json=as_json)
    return cleaned


def _run_audit(where: AuditOptions, selection: Selection) -> Audit:
    import asyncio

    from galerly_cdn.app.audit import open_audit

    async def run() -> Audit:
        with Counter() as counter:
            async with open_audit(
                where.settings, where.photographs, selection, inventory=where.inventory, report=counter.show
            ) as opened:
                return await opened.run()

    return asyncio.run(run())


def _can_ask() -> bool:
    return sys.stdin.isatty()


class Counter:
    """A line on stderr: what was listed, and the time that is left. `clock` is monotonic, in seconds.

    On a terminal the line changes five times a second, elsewhere there is a new one every 30 seconds.
    """

    def __init__(self, clock: Callable[[], float] = SYSTEM_CLOCK.monotonic) -> None:
        self._clock = clock
        self._is_terminal = sys.stderr.isatty()
        self._started_s = clock()
        self._next_s = self._started_s + (0.0 if self._is_terminal else INTERVAL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, progress: Progress) -> None:
        """Write the line, if it is time."""
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + (_INTERVAL_S if self._is_terminal else INTERVAL_S)
        start = "\r\x1b[K" if self._is_terminal else ""
        line = start + progress_line(progress, now_s - self._started_s)
        click.echo(line, err=True, nl=not self._is_terminal)

    def clear(self) -> None:
        """Remove the line of a terminal."""
        if self._is_terminal:
            click.echo("\r\x1b[K", err=True, nl=False)


def progress_line(progress: Progress, elapsed_s: float) -> str:
    """What was listed; the time that is left, if a part of the items was listed."""
    listed = f"{progress.originals:,} originals, {progress.items:,} other items"
    done = progress.part - 1
    if done < 1:
        return listed
    left_s = elapsed_s / done * (progress.parts - 1 - done)
    left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
    return f"{listed}, {100 * done // (progress.parts - 1)} %, about {left} left"
