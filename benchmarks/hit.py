"""CPU per hit and per 304, above a bare ASGI application that answers the same bytes under our listener.

And how long hits take while the render queue is full.
"""

from __future__ import annotations

import sys
import threading
from argparse import ArgumentParser
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import photographs, proc
from benchmarks.load import keep_busy
from benchmarks.report import Report
from benchmarks.sampling import interleave, percentile, spread
from benchmarks.servers import Client, application, ask_all, galerly, picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.servers import Answer, Running

ABOVE_BARE_US = 20.0
P99_MS = 25.0
_BODY_BYTES = 60_000
_QUEUE = 32
_FLOODERS = 64
_WIDEST_PX = 800


def nearest(root: Path, address: str) -> tuple[str, Answer]:
    """Of the photographs at 800x600, the rendition nearest to 60 kB: its path and its answer."""
    paths = [picture(key, "800x600.jpeg") for key in photographs.keys(root)]
    answers = ask_all(address, paths, 2)
    return min(zip(paths, answers, strict=True), key=lambda one: abs(len(one[1].body) - _BODY_BYTES))


def ask(server: Running, path: str, headers: Mapping[str, str], requests: int) -> float:
    """Microseconds of the server's CPU per request."""
    before_s = proc.cpu_s(server.pid)
    keep_busy(server.address, path, headers, requests, 304 if headers else 200)
    return (proc.cpu_s(server.pid) - before_s) / requests * 1e6


def compare(root: Path, rounds: int, requests: int, report: Report) -> None:
    """The table of hits and 304s."""
    with TemporaryDirectory() as scratch, ExitStack() as servers:
        ours = servers.enter_context(galerly(root, Path(scratch, "renditions")))
        path, answer = nearest(root, ours.address)
        body = Path(scratch, "body")
        body.write_bytes(answer.body)
        bare = servers.enter_context(application("benchmarks.bare", str(body)))
        rows = []
        asked: dict[str, dict[str, str]] = {"hit": {}, "304": {"If-None-Match": answer.etag or ""}}
        for what, headers in asked.items():
            spent = interleave(
                {
                    "bare": partial(ask, bare, path, headers, requests),
                    "ours": partial(ask, ours, path, headers, requests),
                },
                rounds,
            )
            above = spread([a - b for a, b in zip(spent["ours"], spent["bare"], strict=True)])
            verdict = report.at_most(f"{what}, µs above bare", above.median, ABOVE_BARE_US, 1)
            each = [spread(spent[who]).show(1) for who in ("bare", "ours")]
            rows.append([f"{what}, {len(answer.body) / 1000:.0f} kB", *each, above.show(1), verdict])
    report.table(["", "bare, CPU µs", "ours, CPU µs", "above (quartiles)", "target"], rows)


@contextmanager
def flooded(address: str, keys: Sequence[str], sizes: Sequence[str]) -> Iterator[list[int]]:
    """Keeps the render queue full: more clients than it holds, each asking for one miss after the other."""
    done = threading.Event()
    statuses: list[int] = []
    misses = iter([picture(key, f"{size}.jpeg") for size in sizes for key in keys])

    def flood() -> None:
        client = Client(address)
        while not done.is_set() and (path := next(misses, None)):
            while (status := client.get(path).status) == 503 and not done.wait(0.05):
                statuses.append(status)
            statuses.append(status)
        client.close()

    threads = [threading.Thread(target=flood) for _ in range(_FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        done.set()
        for thread in threads:
            thread.join()


def under_load(root: Path, hits: int, report: Report) -> None:
    """The latency of hits while more renders are asked for than may wait."""
    sizes = ["800x600", *(f"{side}x{side}" for side in range(_WIDEST_PX, _WIDEST_PX - 200, -1))]
    allowed = ";".join(f"{size} jpeg=85" for size in sizes)
    with (
        TemporaryDirectory() as scratch,
        galerly(root, Path(scratch), queue_renders=_QUEUE, sizes=allowed) as ours,
    ):
        path, _ = nearest(root, ours.address)
        client = Client(ours.address)
        alone_ms = [client.get(path).took_s * 1000 for _ in range(hits)]
        with flooded(ours.address, photographs.keys(root), sizes[1:]) as statuses:
            while 503 not in statuses:  # full
                client.get(path)
            statuses.clear()
            loaded_ms = [client.get(path).took_s * 1000 for _ in range(hits)]
            seen = list(statuses)
        client.close()
    worst = percentile(loaded_ms, 0.99)
    rows = [
        [what, *(f"{percentile(took_ms, share):.1f}" for share in (0.5, 0.99, 1.0)), verdict]
        for what, took_ms, verdict in (
            ("nothing else to do", alone_ms, ""),
            ("queue full", loaded_ms, report.at_most("p99 of hits, ms", worst, P99_MS, 1)),
        )
    ]
    report.table(["hits, wall ms", "median", "p99", "worst", "target (p99)"], rows)
    print(f"Meanwhile {seen.count(200)} renders were answered and {seen.count(503)} refused.\n")


def main() -> int:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks.hit", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of bare and ours in turn [9]")
    parser.add_argument("--requests", type=int, default=8000, help="requests of one measurement [8000]")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report(f"Hits: {options.rounds} rounds of {options.requests} requests, access log on")
    compare(root, options.rounds, options.requests, report)
    under_load(root, options.requests // 4, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
