"""Measures a store of 1,000,000 renditions, and one of 1,000,000 originals, beside those of 1,000.

The renditions are files in a folder; they take 4 GB, in a folder in memory if TMPDIR names one. The originals
are those of a made-up S3 server, `benchmarks.listing_server`, which answers at once.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
import time
import urllib.request
from argparse import ArgumentParser
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from benchmarks import proc
from benchmarks.hit import ask
from benchmarks.listing_server import name_of
from benchmarks.report import Report
from benchmarks.sampling import interleave, ratios, spread
from benchmarks.servers import Client, Running, picture
from galerly_cdn.model import Format, Head, Record, Rendition
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.originals import head_of
from galerly_cdn.store.folder.recipes import FolderRecipes
from galerly_cdn.store.folder.rendition_file import encode_rendition
from galerly_cdn.store.folder.renditions_index import file_name, file_path
from tests.support import pictures, s3_servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from galerly_cdn.model import Target

FEW, MANY = 1_000, 1_000_000
OVER_FEW = 1.1
"""Of a million renditions, divided by a thousand; also of the memory for a million originals."""
FIRST_PAGE_MS = 300.0
_TARGETS = Settings().warm_targets
_GALLERY = 1000
"""Photographs of a gallery."""
_COMMAND = Path(sys.executable).parent / "galerly-cdn"
_SEGMENT = "800x600.jpeg"
_LARGE = 1 << 40
_EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_SETTLED_FILES = 50
_POLL_S = 0.2


class Started(NamedTuple):
    """A running server, the address of its admin API, and the time from exec to the two addresses."""

    server: Running
    admin: str
    ready_s: float


@contextmanager
def serving(store: str, **settings: object) -> Iterator[Started]:
    """Run `galerly-cdn serve --store` with the admin API and without an access log."""
    values = {"access_log": "false", "renditions_bytes": _LARGE, **settings}
    variables = {**os.environ, **{f"GALERLY_{name.upper()}": str(value) for name, value in values.items()}}
    command = [str(_COMMAND), "serve", "--store", store, "--port", "0", "--admin-port", "0"]
    began_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, text=True) as process:
        assert process.stdout
        try:
            addresses = [process.stdout.readline().split()[-1] for _ in range(2)]
            ready_s = time.perf_counter() - began_s
            yield Started(Running(addresses[0], process.pid), addresses[1], ready_s)
        finally:
            process.terminate()


def request_ms(address: str, path: str, method: str = "GET") -> float:
    """Milliseconds of one request over a new connection. Raises `RuntimeError` unless it succeeds."""
    began_s = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"{method} {path}: {response.status} {body[:200]!r}")
    return (time.perf_counter() - began_s) * 1000


# ------------------------------------------------------------------------------------- renditions


def key_of(number: int) -> str:
    """The key of a photograph in the folder."""
    return f"gallery {number // _GALLERY:05d}/IMG_{number % _GALLERY:04d}.jpg"


def fill(root: Path, renditions: int) -> None:
    """Make originals of one byte, and renditions without bodies, by a server's recipes."""
    first = root / "originals" / key_of(0)
    first.parent.mkdir(parents=True)
    first.write_bytes(pictures.jpeg(1600, 1200))
    with serving(str(root), workers=1) as started:
        request_ms(started.server.address, picture(key_of(0), _SEGMENT))
    (entry,) = asyncio.run(FolderRecipes(root / "resized").entries())
    for number in range(1, renditions // len(_TARGETS)):
        path = root / "originals" / key_of(number)
        if number % _GALLERY == 0:
            path.parent.mkdir()
        path.write_bytes(b".")
        head = head_of(path.stat())
        for target in _TARGETS:
            _store(root / "resized", key_of(number), target, head, entry.recipes)


def _store(root: Path, key: str, target: Target, head: Head, recipes: Mapping[str, str]) -> None:
    form = target.format or Format.JPEG
    recipe = recipes[f"{target.size}.{form}"]
    record = Record(key, target, head.version, recipe, form, 1, 1, 0, _EMPTY_MD5)
    path = file_path(root, file_name(target.rendition_key(key)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_rendition(Rendition(record, b"")))


def first_200_s(root: Path) -> float:
    """From exec to the first response with a stored rendition."""
    began_s = time.perf_counter()
    with serving(str(root)) as started:
        request_ms(started.server.address, picture(key_of(0), _SEGMENT))
        return time.perf_counter() - began_s


def settle(started: Started) -> float:
    """Wait until the server has read the folder and is idle; its peak memory in MB."""
    while _files(started.admin) == "NaN":
        time.sleep(_POLL_S)
    proc.settle(started.server.pid)
    client = Client(started.server.address)
    for number in range(1, _SETTLED_FILES):
        client.get(picture(key_of(number), _SEGMENT))
    client.close()
    return proc.peak_bytes(started.server.pid) / 1e6


def _files(admin: str) -> str:
    """The number of stored renditions that the server knows."""
    with urllib.request.urlopen(f"{admin.rstrip('/')}/metrics") as response:
        lines = response.read().decode().splitlines()
    (line,) = [one for one in lines if one.startswith("galerly_renditions_files ")]
    return str(line.split()[1])


def hit_us(started: Started, requests: int) -> float:
    """The server's CPU for a hit, in microseconds."""
    return ask(started.server, picture(key_of(0), _SEGMENT), {}, requests)


def purge_ms(started: Started, numbers: Iterator[int]) -> float:
    """A purge of one photograph, whose twelve renditions are stored."""
    return request_ms(started.admin, f"/purge/{quote(key_of(next(numbers)))}", "POST")


def renditions(few: int, many: int, rounds: int, requests: int, report: Report) -> None:
    """Print the table of a folder of many renditions beside one of few."""
    names = {few: "few", many: "many"}
    with ExitStack() as stack:
        roots = {name: Path(stack.enter_context(TemporaryDirectory())) for name in names.values()}
        for count, name in names.items():
            fill(roots[name], count)
        starts = interleave({name: partial(first_200_s, root) for name, root in roots.items()}, rounds)
        memory = {name: stack.enter_context(serving(str(root))) for name, root in roots.items()}
        disk = {
            name: stack.enter_context(serving(str(root), memory_cache_bytes=0))
            for name, root in roots.items()
        }
        peaks_mb = [settle(started) for started in (*memory.values(), *disk.values())]
        of_memory, of_disk = (
            interleave({name: partial(hit_us, one, requests) for name, one in servers.items()}, rounds)
            for servers in (memory, disk)
        )
        numbers = {name: iter(range(_SETTLED_FILES, few // len(_TARGETS))) for name in roots}
        purges = interleave(
            {name: partial(purge_ms, one, numbers[name]) for name, one in memory.items()}, rounds
        )
    rows = []
    for label, measured in (
        ("exec to the first 200, s", starts),
        ("hit in memory, CPU µs", of_memory),
        ("hit from disk, CPU µs", of_disk),
        ("purge of one photograph, ms", purges),
    ):
        ratio = spread(ratios(measured["many"], measured["few"]))
        verdict = report.at_most(f"{label}, ratio", ratio.median, OVER_FEW)
        shown = [spread(measured[name]).show() for name in ("few", "many")]
        rows.append([label, *shown, ratio.show(), verdict])
    rows.append(["peak RSS of the server, MB", *(f"{one:.0f}" for one in peaks_mb[:2]), "", ""])
    report.table(["renditions in a folder", f"{few:,}", f"{many:,}", "ratio", "target"], rows)


# ------------------------------------------------------------------------------------- originals


@contextmanager
def made_up_bucket(count: int) -> Iterator[dict[str, str]]:
    """Run the made-up S3 server; yields the settings of its store."""
    command = [sys.executable, "-m", "benchmarks.listing_server", f"{count}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield {"store_endpoint": process.stdout.readline().strip()}
        finally:
            process.terminate()


class Originals(NamedTuple):
    """First pages of a store of originals, in milliseconds, and peak memory."""

    ls_ms: float
    page_ms: float
    originals_ms: float
    purge_ms: float
    ls_cpu_ms: float
    page_cpu_ms: float
    server_mb: float


def first_line_ms(settings: Mapping[str, str]) -> tuple[float, float]:
    """From exec of `galerly-cdn ls` to its first line, and its CPU until then; the rest is not read."""
    variables = {**os.environ, "GALERLY_STORE_ENDPOINT": settings["store_endpoint"]}
    command = [str(_COMMAND), "ls", "--store", "s3://bucket"]
    began_s = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables
    ) as process:
        assert process.stdout
        process.stdout.readline()
        elapsed_ms, cpu_ms = (time.perf_counter() - began_s) * 1000, proc.cpu_s(process.pid) * 1000
        process.kill()
    return elapsed_ms, cpu_ms


def originals_of(settings: Mapping[str, str]) -> Originals:
    """Measure a server that was just started, whose fact records are in the store."""
    with serving("s3://bucket", **settings) as started:
        before_s = proc.cpu_s(started.server.pid)
        page_ms = request_ms(started.server.address, "/")
        page_cpu_ms = (proc.cpu_s(started.server.pid) - before_s) * 1000
        listed_ms = request_ms(started.admin, "/originals?limit=1000")
        purged_ms = request_ms(started.admin, f"/purge/{quote(name_of(500))}", "POST")
        peak_mb = proc.peak_bytes(started.server.pid) / 1e6
    ls_ms, ls_cpu_ms = first_line_ms(settings)
    return Originals(ls_ms, page_ms, listed_ms, purged_ms, ls_cpu_ms, page_cpu_ms, peak_mb)


def originals(few: int, many: int, rounds: int, report: Report) -> None:
    """Print the table of first pages."""
    with ExitStack() as stack:
        stack.enter_context(s3_servers.credentials())
        counts = {"few": few, "many": many}
        buckets = {name: stack.enter_context(made_up_bucket(count)) for name, count in counts.items()}
        for settings in buckets.values():
            originals_of(settings)  # makes the fact records of the first page
        measured = interleave(
            {name: partial(originals_of, settings) for name, settings in buckets.items()}, rounds
        )
    of = {
        field: {name: spread([getattr(one, field) for one in measured[name]]) for name in counts}
        for field in Originals._fields
    }
    labels = ("`ls`, to its first line", "gallery page", "`/originals`", "purge of one photograph")
    rows = []
    for label, field in zip(labels, Originals._fields[:4], strict=True):
        verdict = report.at_most(f"{label}, ms", of[field]["many"].median, FIRST_PAGE_MS, 0)
        rows.append([f"{label}, ms", of[field]["few"].show(0), of[field]["many"].show(0), verdict])
    for label, field in (("`ls`, CPU ms", "ls_cpu_ms"), ("gallery page, CPU ms", "page_cpu_ms")):
        rows.append([label, of[field]["few"].show(0), of[field]["many"].show(0), ""])
    few_mb, many_mb = (of["server_mb"][name].median for name in counts)
    verdict = report.at_most("peak RSS of the server, ratio", many_mb / few_mb, OVER_FEW)
    rows.append(["peak RSS of the server, MB", f"{few_mb:.0f}", f"{many_mb:.0f}", f"ratio {verdict}"])
    report.table(["originals on S3", f"{few:,}", f"{many:,}", "target"], rows)


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument(
        "--counts", type=int, nargs=2, default=(FEW, MANY), help="few and many [1000 1000000]"
    )
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each [7]")
    parser.add_argument("--requests", type=int, default=4000, help="requests per CPU measurement [4000]")
    parser.add_argument("--only", choices=("renditions", "originals"), help="one of the two tables")
    options = parser.parse_args()
    few, many = options.counts
    report = Report(f"{many:,} renditions, {many:,} originals: {options.rounds} rounds")
    if options.only != "originals":
        renditions(few, many, options.rounds, options.requests, report)
    if options.only != "renditions":
        originals(few, many, options.rounds, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
