"""The command `report`: what access logs say."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.library_options import LibraryOptions, library_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galerly_cdn.insight.report import Report
    from galerly_cdn.library import Listing
    from galerly_cdn.settings.table import Settings


@click.command(epilog="Example: galerly-cdn report /var/log/galerly-cdn/ --since 7d")
@click.argument("files", nargs=-1)
@click.option("--since", help="Leave out older requests: 24h, 7d, 2026-11-30, 2026-11-30T12:00 (UTC).")
@click.option("--gallery", type=terminal.GalleryParameter(), help="Only this gallery's photographs.")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with charts to this file.",
)
@library_options
@terminal.JSON
def report(  # noqa: PLR0913 - its options
    files: tuple[str, ...],
    since: str | None,
    gallery: str | None,
    page: Path | None,
    *,
    where: LibraryOptions,
    as_json: bool,
) -> None:
    """Report hits, times, errors and growth from access logs in FILES, folders or s3://BUCKET/PREFIX.

    Reads the access log of `serve`, of nginx (as `galerly-cdn nginx` configures it), the resizer's log, and
    CloudFront's standard logs (version 2, JSON or Parquet), also compressed. `-` is the standard input, and
    so is no FILE. Lines of several tiers may be given together: requests are counted where they arrived
    first.

    With --store or --admin, the bytes that were saved against the originals are reported too.

    It needs DuckDB: pip install 'galerly-cdn[insight]'.
    """
    from galerly_cdn.insight import text

    made = _make_report(files, since, gallery or "", where)
    if page is not None:
        from galerly_cdn.insight import html

        page.write_text(html.page(made), "utf-8")
    if as_json or page is None:
        terminal.print_value(made, text.terminal_report(made), as_json=as_json)


def _make_report(files: Sequence[str], since: str | None, gallery: str, where: LibraryOptions) -> Report:
    """Raises `UsageError`, `InsightMissing`, `UnreadableLog`, `OSError`, and as a store does."""
    import tempfile

    from galerly_cdn.http.urls import AllowList
    from galerly_cdn.insight import figures, log_files
    from galerly_cdn.insight.database import LogDatabase, Selection

    settings = where.settings()
    now_s = time.time()  # noqa: TID251 - a command reads the clock
    selection = Selection(None if since is None else _since_s(since, now_s), gallery)
    if not files and sys.stdin.isatty():
        raise click.UsageError("say which FILES to read, or pipe a log into the command.")
    with tempfile.TemporaryDirectory(prefix="galerly-report-") as scratch:
        folder = Path(scratch)
        with LogDatabase(folder, AllowList(settings.size_rules).segments()) as database:
            paths = [_local(name, folder / str(number), settings) for number, name in enumerate(files or "-")]
            tier = database.load(log_files.find(paths), selection)
            if where.is_given:
                database.insert_originals(where.run_listing(_lengths))
            return figures.read_report(database, tier, with_originals=where.is_given)


def _local(name: str, scratch: Path, settings: Settings) -> Path:
    """The file or folder of this name; for the standard input, a pipe and a remote store, a copy."""
    import asyncio

    from galerly_cdn.app import stores
    from galerly_cdn.insight import log_files
    from galerly_cdn.settings.locations import is_remote

    async def download() -> None:
        await log_files.download(await stores.open_bucket(settings, name.rstrip("/")), scratch)

    if name == "-":
        log_files.save(sys.stdin.buffer, scratch)
        return scratch
    if is_remote(name):
        scratch.mkdir()
        asyncio.run(download())
        return scratch
    path = Path(name)
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("rb") as pipe:  # it can be read only once
            log_files.save(pipe, scratch)
        return scratch
    return path


async def _lengths(listing: Listing) -> list[tuple[str, int]]:
    """Every original's key, and its length in bytes."""
    from galerly_cdn.cli.originals import pages

    return [(one.key, one.length_bytes) async for page in pages(listing, "") for one in page.originals]


def _since_s(text: str, now_s: float) -> float:
    """Seconds of the epoch, from an age (`7d`) or a time in UTC. Raises `UsageError`."""
    import datetime as dt
    import re

    if age := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
        return now_s - int(age[1]) * {"m": 60, "h": 3600, "d": 86_400}[age[2]]
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--since: {text!r} is no time: use 24h, 7d or 2026-11-30.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
