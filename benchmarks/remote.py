"""Measures a server over a remote store: stages of a miss, and the effect of store failures on viewers.

The stages are measured with an S3 server (versitygw, from `script/s3`), the failures with the tests' fake S3
server, which fails on demand.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import threading
import time
from argparse import ArgumentParser
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import photographs
from benchmarks.hit import ask
from benchmarks.report import Report
from benchmarks.sampling import interleave, percentile, ratios, spread
from benchmarks.servers import Client, ask_all, galerly, galerly_over, picture
from tests.support import s3_servers
from tests.support.fake_s3 import FakeS3, Fault, fake_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.servers import Running

P99_RATIO = 1.2
LOAD_RATIO = 1.1
RECOVERY_S = 5.0
STAGES = ("queue", "open", "render", "put", "head", "total")
_SEGMENT = "800x600.jpeg"
_CLIENTS = 4
_PAUSE_S = 0.002
_WARM_PICTURES = 20
FAULTS: dict[str, Callable[[int], Fault | None]] = {
    "healthy": lambda _number: None,
    "2 s slow": lambda _number: Fault(delay_s=2.0),
    "503 for half": lambda number: Fault(status=503, code="SlowDown") if number % 2 else None,
    "503 for all": lambda _number: Fault(status=503, code="SlowDown"),
    "resetting connections": lambda _number: Fault(resets=True),
}


class Phase(NamedTuple):
    """The viewers' latencies and failures, and the requests to the store, during one fault."""

    durations_ms: list[float]
    failed: int
    requests: int


def stages(root: Path, report: Report) -> None:
    """Print the stages of a miss, and the latency of a hit in the store."""
    keys = photographs.keys(root)
    with (
        s3_servers.credentials(),
        TemporaryDirectory() as scratch,
        s3_servers.versitygw(Path(scratch)) as server,
    ):
        bucket = server.bucket()
        for key in keys:
            bucket.put(f"originals/{key}", (root / key).read_bytes())
        paths = [picture(key, _SEGMENT) for key in keys]
        with galerly_over(bucket.settings(), memory_cache_bytes=0) as ours:
            misses = ask_all(ours.address, paths, 1)
            hits = [answer.duration_s * 1000 for _ in range(20) for answer in ask_all(ours.address, paths, 1)]
    timings = [dict(re.findall(r"(\w+);dur=([\d.]+)", miss.timing)) for miss in misses]
    row = [spread([float(timing[stage]) for timing in timings]).show(1) for stage in STAGES]
    report.table(["miss, wall ms", *STAGES], [[_SEGMENT, *row]])
    row = [f"{percentile(hits, share):.1f}" for share in (0.5, 0.99)]
    report.table(["hit in the store, wall ms", "median", "p99"], [[_SEGMENT, *row]])


def cpu(root: Path, rounds: int, requests: int, report: Report) -> None:
    """Print the CPU of a hit in memory, over a folder and over S3."""
    with ExitStack() as running:
        scratch = Path(running.enter_context(TemporaryDirectory()))
        running.enter_context(s3_servers.credentials())
        (scratch / "s3").mkdir()
        bucket = running.enter_context(s3_servers.versitygw(scratch / "s3")).bucket()
        key = photographs.keys(root)[0]
        bucket.put(f"originals/{key}", (root / key).read_bytes())
        servers = {
            "folder": running.enter_context(galerly(root, scratch / "renditions")),
            "S3": running.enter_context(galerly_over(bucket.settings(), store_fresh_s=1)),
        }
        path = picture(key, _SEGMENT)
        cpu_us = interleave(
            {name: partial(ask, server, path, {}, requests) for name, server in servers.items()}, rounds
        )
    row = [spread(cpu_us[name]).show(1) for name in servers]
    report.table(["hit in memory, CPU µs", *servers], [[_SEGMENT, *row]])


@contextmanager
def running_fake_s3(root: Path) -> Iterator[FakeS3]:
    """Run the tests' fake S3 server in a thread, with copies of a photograph."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    context = fake_s3()
    try:
        fake = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result()
        sample = (root / photographs.keys(root)[0]).read_bytes()
        for number in range(200):
            fake.put(f"originals/{number}.jpg", sample)
        yield fake
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def phase(server: Running, fake: FakeS3, fault: Callable[[int], Fault | None], duration_s: float) -> Phase:
    """Measure viewers of warm pictures while the store has a fault."""
    durations_ms: list[float] = []
    failed = 0
    first_request = len(fake.requests)
    fake.fault = lambda _request: fault(len(fake.requests))
    end_s = time.monotonic() + duration_s

    def viewer(first: int) -> None:
        nonlocal failed
        client = Client(server.address)
        number = first
        while time.monotonic() < end_s:
            answer = client.get(picture(f"{number % _WARM_PICTURES}.jpg", _SEGMENT))
            failed += answer.status != 200
            durations_ms.append(answer.duration_s * 1000)
            number += 1
            time.sleep(_PAUSE_S)
        client.close()

    threads = [threading.Thread(target=viewer, args=[first]) for first in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    requests = len(fake.requests) - first_request
    fake.fault = lambda _request: None
    return Phase(durations_ms, failed, requests)


def recovery_s(server: Running, path: str) -> float:
    """Seconds until a picture that is not stored is answered."""
    client = Client(server.address)
    started_s = time.monotonic()
    while client.get(path).status != 200:
        time.sleep(0.01)
    client.close()
    return time.monotonic() - started_s


def faults(root: Path, rounds: int, duration_s: float, report: Report) -> None:
    """Print the effect of each fault on viewers of warm pictures, and on the load of the store."""
    unstored = iter(range(_WARM_PICTURES, 200))
    recoveries_s: dict[str, list[float]] = {name: [] for name in FAULTS}

    def measure(server: Running, fake: FakeS3, name: str) -> Phase:
        result = phase(server, fake, FAULTS[name], duration_s)
        recoveries_s[name].append(recovery_s(server, picture(f"{next(unstored)}.jpg", "150x150.jpeg")))
        ask_all(server.address, [picture(f"{number}.jpg", _SEGMENT) for number in range(_WARM_PICTURES)], 2)
        return result

    with s3_servers.credentials(), running_fake_s3(root) as fake, galerly_over(fake.settings()) as server:
        ask_all(server.address, [picture(f"{number}.jpg", _SEGMENT) for number in range(_WARM_PICTURES)], 2)
        phases_by_fault = interleave({name: partial(measure, server, fake, name) for name in FAULTS}, rounds)
    p99_ms = {
        name: [percentile(one.durations_ms, 0.99) for one in phases]
        for name, phases in phases_by_fault.items()
    }
    load = {name: [float(one.requests) for one in phases] for name, phases in phases_by_fault.items()}
    rows = []
    for name, phases in phases_by_fault.items():
        p99_ratio = statistics.median(ratios(p99_ms[name], p99_ms["healthy"]))
        load_ratio = statistics.median(ratios(load[name], load["healthy"]))
        slowest_s = max(recoveries_s[name])
        load_target = report.at_most(f"load, {name}", load_ratio, LOAD_RATIO)
        rows.append(
            [
                name,
                str(sum(one.failed for one in phases)),
                spread(p99_ms[name]).show(2),
                f"{p99_ratio:.2f} {report.at_most(f'p99, {name}', p99_ratio, P99_RATIO)}",
                f"{statistics.median(load[name]) / duration_s:.0f}",
                f"{load_ratio:.2f} {load_target}",
                f"{slowest_s:.1f} {report.at_most(f'recovery, {name}', slowest_s, RECOVERY_S, 1)}",
            ]
        )
        report.at_most(f"failed, {name}", sum(one.failed for one in phases), 0, 0)
    header = [
        "the store is",
        "hits failed",
        "p99 of hits, ms",
        "ratio",
        "store requests, 1/s",
        "ratio",
        "recovery, s",
    ]
    report.table(header, rows)


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.remote", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all faults [5]")
    parser.add_argument("--seconds", type=float, default=10, help="duration of each fault [10]")
    parser.add_argument("--requests", type=int, default=8000, help="requests per CPU measurement [8000]")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report(f"Remote store: {options.rounds} rounds, {options.seconds:g} s of each fault")
    if s3_servers.versitygw_program():
        stages(root, report)
        cpu(root, options.rounds, options.requests, report)
    else:
        print("The stages of a miss need versitygw: run script/s3.\n")
    faults(root, options.rounds, options.seconds, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
