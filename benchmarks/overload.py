"""Measures a server while four times as many new pictures are requested as it can render.

First the capacity is measured: new pictures per second while as many are requested at a time as there are
workers, and some more. Then new pictures are requested at four times that rate, whatever the answers are,
while another client requests a stored picture. After the end, single new pictures show when it is idle again.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from argparse import ArgumentParser
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from benchmarks import photographs, proc
from benchmarks.report import Report
from benchmarks.sampling import percentile
from benchmarks.servers import galerly, galerly_over, picture
from galerly_cdn.settings.table import Settings
from tests.support import s3_servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.servers import Running

OVERLOAD = 4
HIT_P99_MS = 25.0
REFUSAL_P99_MS = 50.0
RENDERED_SHARE = 0.9
NORMAL_AFTER_S = 5.0
MEMORY_RATIO = 1.2
_WAIT_S = Settings().queue_wait_s
_HIT = "640x640.jpeg"
_BOXES = [f"{side}x{side + more}" for more in (0, 100, 200) for side in range(1200, 700, -1)]
"""The sizes of new pictures: with the demo's photographs, enough for 60 s on two fast cores."""
_HIT_PAUSE_S = 0.005
_PROBE_PAUSE_S = 0.1
_SAMPLE_PAUSE_S = 0.5
_TIMEOUT_S = 120.0
_DURATION = re.compile(rb"(\w+);dur=([\d.]+)")


class Answer(NamedTuple):
    """A response: its status, its duration for the client, and how long its render took."""

    status: int
    duration_s: float
    render_s: float


class Load(NamedTuple):
    """The answers during the overload."""

    misses: list[asyncio.Task[Answer]]
    """Those that were not answered when it ended are answered later."""
    hits: list[Answer]
    rendered_per_s: float


async def get(address: str, path: str) -> Answer:
    """One request on a connection of its own."""
    parts = urlsplit(address)
    started_s = time.perf_counter()
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            head, _, _ = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    stages = {name: float(value) for name, value in _DURATION.findall(head)}
    return Answer(
        int(head.split(b" ", 2)[1]), time.perf_counter() - started_s, stages.get(b"render", 0.0) / 1000
    )


async def request_hits(address: str, hit: str, seconds: float) -> list[Answer]:
    """Request one stored picture again and again."""
    answers = []
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < seconds:
        answers.append(await get(address, hit))
        await asyncio.sleep(_HIT_PAUSE_S)
    return answers


async def capacity(
    address: str, hit: str, misses: Iterator[str], seconds: float
) -> tuple[float, list[Answer]]:
    """New pictures per second beside the same client of hits, and the answers."""
    answers: list[Answer] = []
    started_s = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - started_s < seconds:
            answers.append(await get(address, next(misses)))

    clients = [client() for _ in range((os.cpu_count() or 1) + 4)]
    await asyncio.gather(request_hits(address, hit, seconds), *clients)
    return len(answers) / (time.perf_counter() - started_s), answers


async def overload(address: str, hit: str, misses: Iterator[str], rate: float, seconds: float) -> Load:
    """Request new pictures at a rate, and one stored picture again and again."""
    tasks: list[asyncio.Task[Answer]] = []
    started_s = time.perf_counter()
    hits = asyncio.create_task(request_hits(address, hit, seconds))
    while (elapsed_s := time.perf_counter() - started_s) < seconds:
        while len(tasks) < elapsed_s * rate:
            tasks.append(asyncio.create_task(get(address, next(misses))))
        await asyncio.sleep(1 / rate)
    rendered = sum(task.done() and task.result().status == 200 for task in tasks)
    spent_s = time.perf_counter() - started_s
    return Load(tasks, await hits, rendered / spent_s)


async def watch(pid: int, samples: list[int]) -> None:
    """Sample the memory of the tree twice a second, until cancelled: reading it stops the processes."""
    while True:
        samples.append(proc.memory(pid).pss_bytes)
        await asyncio.sleep(_SAMPLE_PAUSE_S)


async def time_to_normal(address: str, misses: Iterator[str], normal_s: float) -> float:
    """Seconds until a single new picture takes no longer than `normal_s`."""
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < _TIMEOUT_S:
        asked_s = time.perf_counter() - started_s
        answer = await get(address, next(misses))
        if answer.status == 200 and answer.duration_s <= normal_s:
            return asked_s
        await asyncio.sleep(_PROBE_PAUSE_S)
    return _TIMEOUT_S


async def measure(
    name: str, server: Running, keys: Sequence[str], seconds: float, report: Report
) -> list[str]:
    """The row of one server."""
    address = server.address
    hit = picture(keys[0], _HIT)
    misses = (picture(key, f"{box}.jpeg") for box in _BOXES for key in keys)
    await get(address, hit)
    per_s, unloaded = await capacity(address, hit, misses, max(5.0, seconds / 6))
    alone = [await get(address, next(misses)) for _ in range(8)]
    before_bytes = proc.memory(server.pid).pss_bytes
    samples: list[int] = []
    watching = asyncio.create_task(watch(server.pid, samples))
    load = await overload(address, hit, misses, OVERLOAD * per_s, seconds)
    normal_s = await time_to_normal(address, misses, 2 * max(one.duration_s for one in alone))
    watching.cancel()
    answers = [await task for task in load.misses]
    late = samples[len(samples) // 2 :]
    accepted = [one for one in answers if one.status == 200]
    refused_ms = [one.duration_s * 1000 for one in answers if one.status == 503]
    others = sorted({one.status for one in [*answers, *load.hits]} - {200, 503})
    wait_s = max((one.duration_s for one in accepted), default=0.0)
    render_s = max(one.render_s for one in [*unloaded, *accepted])
    longest_s = round(_WAIT_S + render_s, 1)
    growth = max(late) / max(samples[: len(late)])
    hit_p99_ms = percentile([one.duration_s * 1000 for one in load.hits], 0.99)
    refusal_p99_ms = percentile(refused_ms or [0.0], 0.99)
    share = load.rendered_per_s / per_s
    report.at_most(f"{name}: answers other than 200 and 503", len(others), 0, 0)
    return [
        name,
        f"{per_s:.1f}",
        f"{hit_p99_ms:.1f} {report.at_most(f'{name}: p99 of hits, ms', hit_p99_ms, HIT_P99_MS, 1)}",
        f"{refusal_p99_ms:.1f} "
        + report.at_most(f"{name}: p99 of refusals, ms", refusal_p99_ms, REFUSAL_P99_MS, 1),
        f"{share:.2f} {report.at_least(f'{name}: share of the capacity', share, RENDERED_SHARE)}",
        f"{wait_s:.1f} {report.at_most(f'{name}: longest accepted miss, s', wait_s, longest_s, 1)}",
        f"{normal_s:.1f} {report.at_most(f'{name}: time to normal, s', normal_s, NORMAL_AFTER_S, 1)}",
        f"{before_bytes / 1e6:.0f}, {max(samples) / 1e6:.0f} "
        + report.at_most(f"{name}: growth of memory", growth, MEMORY_RATIO),
        f"{len(accepted)}, {len(refused_ms)}, {others or 'none'}",
    ]


@contextmanager
def servers(name: str, root: Path, scratch: Path, **settings: object) -> Iterator[Running]:
    """A server over a folder, or over S3 (versitygw)."""
    if name == "folder":
        with galerly(root, scratch / "renditions", **settings) as running:
            yield running
        return
    with s3_servers.credentials(), s3_servers.versitygw(scratch) as s3:
        bucket = s3.bucket()
        for key in photographs.keys(root):
            bucket.put(f"originals/{key}", (root / key).read_bytes())
        with galerly_over(bucket.settings(), **settings) as running:
            yield running


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--seconds", type=float, default=60, help="length of the overload [60]")
    parser.add_argument("--store", choices=["folder", "S3"], help="only one kind of store")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report(f"Overload: {OVERLOAD} times the capacity for {options.seconds:g} s")
    sizes = ";".join(["640x640 jpeg=85", *(f"{box} jpeg=85" for box in _BOXES)])
    rows = []
    for name in [options.store] if options.store else ["folder", "S3"]:
        with (
            TemporaryDirectory() as scratch,
            servers(name, root, Path(scratch), sizes=sizes, misses_per_minute=0) as server,
        ):
            keys = photographs.keys(root)
            rows.append(asyncio.run(measure(name, server, keys, options.seconds, report)))
    header = [
        "store",
        "capacity, pictures/s",
        "p99 of hits, ms",
        "p99 of refusals, ms",
        "share of the capacity rendered",
        "longest accepted miss, s",
        "normal after, s",
        "memory before and at most, MB",
        "rendered, refused, other statuses",
    ]
    report.table(header, rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
