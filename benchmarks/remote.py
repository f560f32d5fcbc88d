"""What does a remote store cost, stage by stage, and what does one that fails cost viewers and itself?

The stages on a real S3 server (versitygw, from `script/s3`); the faults on the tests' own, which obeys.
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
STAGES = ("open", "render", "put", "head", "total")
_SEGMENT = "800x600.jpeg"
_CLIENTS = 4
_PAUSE_S = 0.002
_WARM = 20
FAULTS: dict[str, Callable[[int], Fault | None]] = {
    "well": lambda _number: None,
    "2 s late": lambda _number: Fault(delay_s=2.0),
    "half are 503": lambda number: Fault(status=503, code="SlowDown") if number % 2 else None,
    "all are 503": lambda _number: Fault(status=503, code="SlowDown"),
    "resetting": lambda _number: Fault(resets=True),
}


class Phase(NamedTuple):
    """What viewers and the store saw while something was wrong."""

    took_ms: list[float]
    failed: int
    requests: int


def stages(root: Path, report: Report) -> None:
    """Where the time of a miss and of a hit goes."""
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
            hits = [one.took_s * 1000 for _ in range(20) for one in ask_all(ours.address, paths, 1)]
    spent = [dict(re.findall(r"(\w+);dur=([\d.]+)", one.timing)) for one in misses]
    row = [spread([float(one[stage]) for one in spent]).show(1) for stage in STAGES]
    report.table(["miss, wall ms", *STAGES], [[_SEGMENT, *row]])
    row = [f"{percentile(hits, share):.1f}" for share in (0.5, 0.99)]
    report.table(["hit in the store, wall ms", "median", "p99"], [[_SEGMENT, *row]])


def cpu(root: Path, rounds: int, requests: int, report: Report) -> None:
    """CPU of a hit in memory, over a folder and over S3."""
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
        spent = interleave(
            {name: partial(ask, one, path, {}, requests) for name, one in servers.items()}, rounds
        )
    row = [spread(spent[name]).show(1) for name in servers]
    report.table(["hit in memory, CPU µs", *servers], [[_SEGMENT, *row]])


@contextmanager
def obedient(root: Path) -> Iterator[FakeS3]:
    """The tests' S3 server in a thread of its own, with the photographs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = fake_s3()
    try:
        fake = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
        sample = (root / photographs.keys(root)[0]).read_bytes()
        for number in range(200):
            fake.put(f"originals/{number}.jpg", sample)
        yield fake
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def phase(server: Running, fake: FakeS3, fault: Callable[[int], Fault | None], lasts_s: float) -> Phase:
    """Viewers of warm pictures while the store has a fault."""
    took_ms: list[float] = []
    failed = 0
    began = len(fake.requests)
    fake.fault = lambda _request: fault(len(fake.requests))
    until_s = time.monotonic() + lasts_s

    def viewer(first: int) -> None:
        nonlocal failed
        client = Client(server.address)
        number = first
        while time.monotonic() < until_s:
            answer = client.get(picture(f"{number % _WARM}.jpg", _SEGMENT))
            failed += answer.status != 200
            took_ms.append(answer.took_s * 1000)
            number += 1
            time.sleep(_PAUSE_S)
        client.close()

    threads = [threading.Thread(target=viewer, args=[first]) for first in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    requests = len(fake.requests) - began
    fake.fault = lambda _request: None
    return Phase(took_ms, failed, requests)


def recovered_s(server: Running, path: str) -> float:
    """How long until a picture is answered that was not made before."""
    client = Client(server.address)
    began_s = time.monotonic()
    while client.get(path).status != 200:
        time.sleep(0.01)
    client.close()
    return time.monotonic() - began_s


def faults(root: Path, rounds: int, lasts_s: float, report: Report) -> None:
    """What each fault costs viewers of warm pictures, and the store."""
    cold = iter(range(_WARM, 200))
    back_s: dict[str, list[float]] = {name: [] for name in FAULTS}

    def measured(server: Running, fake: FakeS3, name: str) -> Phase:
        found = phase(server, fake, FAULTS[name], lasts_s)
        back_s[name].append(recovered_s(server, picture(f"{next(cold)}.jpg", "150x150.jpeg")))
        ask_all(server.address, [picture(f"{number}.jpg", _SEGMENT) for number in range(_WARM)], 2)
        return found

    with s3_servers.credentials(), obedient(root) as fake, galerly_over(fake.settings()) as server:
        ask_all(server.address, [picture(f"{number}.jpg", _SEGMENT) for number in range(_WARM)], 2)
        found = interleave({name: partial(measured, server, fake, name) for name in FAULTS}, rounds)
    p99_ms = {name: [percentile(one.took_ms, 0.99) for one in phases] for name, phases in found.items()}
    load = {name: [float(one.requests) for one in phases] for name, phases in found.items()}
    rows = []
    for name, phases in found.items():
        slower = statistics.median(ratios(p99_ms[name], p99_ms["well"]))
        more = statistics.median(ratios(load[name], load["well"]))
        back = max(back_s[name])
        bounded = report.at_most(f"load, {name}", more, LOAD_RATIO)
        rows.append(
            [
                name,
                str(sum(one.failed for one in phases)),
                spread(p99_ms[name]).show(2),
                f"{slower:.2f} {report.at_most(f'p99, {name}', slower, P99_RATIO)}",
                f"{statistics.median(load[name]) / lasts_s:.0f}",
                f"{more:.2f} {bounded}",
                f"{back:.1f} {report.at_most(f'back, {name}', back, RECOVERY_S, 1)}",
            ]
        )
        report.at_most(f"failed, {name}", sum(one.failed for one in phases), 0, 0)
    heads = [
        "the store is",
        "hits failed",
        "p99 of hits, ms",
        "ratio",
        "asked, 1/s",
        "ratio",
        "back, s",
    ]
    report.table(heads, rows)


def main() -> int:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks.remote", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all faults in turn [5]")
    parser.add_argument("--seconds", type=float, default=10, help="how long each fault lasts [10]")
    parser.add_argument("--requests", type=int, default=8000, help="requests of one CPU measurement [8000]")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report(f"Remote store: {options.rounds} rounds, {options.seconds:g} s of each fault")
    if s3_servers.versitygw_program():
        stages(root, report)
        cpu(root, options.rounds, options.requests, report)
    else:
        print("No S3 server here: run script/s3 for the stages of a miss.\n")
    faults(root, options.rounds, options.seconds, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
