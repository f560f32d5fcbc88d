"""Measures the listing of one folder: the first page, all pages of a gallery, and the whole command `ls`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import photographs
from benchmarks.report import Report
from benchmarks.sampling import spread
from galerly_cdn.app.stores import open_listing
from galerly_cdn.settings.table import Settings
from tests.support import s3_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTS = (1_000, 10_000, 100_000)
FIRST_PAGE_MS = 50.0
COMMAND_CPU_S = 1.5
_LONG = 100_000
"""The number of keys that the targets are for."""
_PAGE = 999
"""As the commands ask for."""
_COMMAND = Path(sys.executable).parent / "galerly-cdn"
_GALLERY = "wedding"


class Pages(NamedTuple):
    """The first page of a gallery's listing, and all of them: wall and CPU time."""

    first_ms: float
    first_cpu_ms: float
    all_cpu_s: float


class Ended(NamedTuple):
    """What a command has taken."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def fill(folder: Path, count: int) -> None:
    """Make `count` files of one byte; a listing does not open them."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"IMG {number:06d}.jpg").write_bytes(b".")


def pages(settings: Settings) -> Pages:
    """List a gallery page by page, as `warm` and `purge` do, with a store that was just opened."""

    async def listed() -> Pages:
        async with open_listing(settings) as listing:
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            page = await listing.list(f"{_GALLERY}/", limit=_PAGE)
            first_ms = (time.perf_counter() - began_s) * 1000
            first_cpu_ms = (time.process_time() - began_cpu_s) * 1000
            while page.next:
                page = await listing.list(f"{_GALLERY}/", page.next, limit=_PAGE)
            return Pages(first_ms, first_cpu_ms, time.process_time() - began_cpu_s)

    return asyncio.run(listed())


def command(settings: Settings, count: int) -> Ended:
    """Run `galerly-cdn ls`."""
    variables = {"GALERLY_STORE_ENDPOINT": settings.store_endpoint} if settings.store_endpoint else {}
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [_COMMAND, "ls", "--store", settings.store],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    lines = sum(1 for _ in process.stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or lines != count:
        raise RuntimeError(f"ls ended with {process.returncode} after {lines} lines")
    return Ended(time.perf_counter() - began_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def stores(count: int) -> Iterator[tuple[str, Settings]]:
    """The settings of a folder, and of an S3 server, with one gallery of `count` keys."""
    with TemporaryDirectory() as scratch:
        fill(Path(scratch, "originals", _GALLERY), count)
        yield "folder", Settings(store=scratch)
    with ExitStack() as running:
        scratch = running.enter_context(TemporaryDirectory())
        running.enter_context(s3_servers.credentials())
        Path(scratch, "s3").mkdir()
        bucket = running.enter_context(s3_servers.versitygw(Path(scratch, "s3"))).bucket()
        fill(Path(scratch, "s3", bucket.name, "originals", _GALLERY), count)
        yield "S3 server", bucket.settings()


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.listing", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="listings of each [5]")
    parser.add_argument("--counts", type=int, nargs="*", help="numbers of keys [1000 10000 100000]")
    options = parser.parse_args()
    report = Report(f"Listing one folder, {options.rounds} times")
    rows = []
    for count in options.counts or COUNTS:
        for name, settings in stores(count):
            listed = [pages(settings) for _ in range(options.rounds)]
            ended = [command(settings, count) for _ in range(options.rounds)]
            row = [f"{name}, {count:,}"]
            row += [spread([getattr(one, field) for one in listed]).show(1) for field in Pages._fields[:2]]
            row.append(spread([one.all_cpu_s for one in listed]).show())
            row += [spread([getattr(one, field) for one in ended]).show() for field in Ended._fields[:2]]
            row.append(f"{max(one.peak_mb for one in ended):.0f}")
            row.append(_verdict(report, name, count, listed, ended))
            rows.append(row)
    header = ["", "first page, ms", "CPU ms", "all pages, CPU s", "`ls`, s", "CPU s", "peak RSS MB", "target"]
    report.table(header, rows)
    return report.end()


def _verdict(report: Report, name: str, count: int, listed: list[Pages], ended: list[Ended]) -> str:
    """The targets: they are for the largest folder."""
    if count < _LONG:
        return ""
    first_ms = spread([one.first_ms for one in listed]).median
    cpu_s = spread([one.cpu_s for one in ended]).median
    first = report.at_most(f"{name}: first page, ms", first_ms, FIRST_PAGE_MS)
    return f"{first}, {report.at_most(f'{name}: ls, CPU s', cpu_s, COMMAND_CPU_S)}"


if __name__ == "__main__":
    sys.exit(main())
