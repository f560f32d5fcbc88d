"""Measures sweeps of invalid addresses: sizes not allowed, missing keys, and a rate-limited client.

Each sweep runs twice with different addresses: memory that grows in the first must not grow in the second.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import photographs, proc
from benchmarks.load import statuses
from benchmarks.report import Report
from benchmarks.servers import ask_all, galerly, picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.servers import Running

PER_S = 2000.0
GROWTH_MB = 2.0
_LIMITED_CLIENT = {"X-Forwarded-For": "203.0.113.9"}
_KEY_LENGTH = 180
"""Characters of a missing key: long, so that caching it would show in the memory."""


class Sweep(NamedTuple):
    """One sweep: responses by status, requests per second, CPU per request, and the process tree's RSS."""

    statuses: Counter[int]
    per_s: float
    cpu_us: float
    rss_bytes: int


def sweep(server: Running, paths: Iterable[str], headers: Mapping[str, str]) -> Sweep:
    """Request every path at full speed."""
    started_s, cpu_s = time.perf_counter(), proc.cpu_s(server.pid)
    by_status = Counter(statuses(server.address, paths, headers))
    duration_s, spent_s = time.perf_counter() - started_s, proc.cpu_s(server.pid) - cpu_s
    count = by_status.total()
    return Sweep(by_status, count / duration_s, spent_s / count * 1e6, proc.memory(server.pid).rss_bytes)


def sizes(key: str, first: int, count: int) -> Iterable[str]:
    """Addresses of one photograph at sizes outside the allow-list."""
    return (picture(key, f"{number}x{number + 1}") for number in range(first, first + count))


def missing(first: int, count: int) -> Iterable[str]:
    """Addresses of photographs that do not exist."""
    return (picture(f"none/{number:0{_KEY_LENGTH}}.jpg", "small") for number in range(first, first + count))


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--requests", type=int, default=10_000, help="requests per sweep [10000]")
    options = parser.parse_args()
    root, count = photographs.folder(options.photographs), options.requests
    key = photographs.keys(root)[0]
    report = Report(f"Sweeps of {count} requests, access log on")
    rows = []
    with (
        TemporaryDirectory() as scratch,
        galerly(root, Path(scratch), trusted_proxies="127.0.0.0/8") as server,
    ):
        ask_all(server.address, [picture(key, "small.jpeg")], 1)
        for label, first, second, headers in (
            ("sizes that are not allowed", sizes(key, 10_000, count), sizes(key, 10_000 + count, count), {}),
            ("keys that are not there", missing(0, count), missing(count, count), {}),
            ("the same, rate-limited client", missing(0, count), missing(count, count), _LIMITED_CLIENT),
        ):
            before = sweep(server, first, headers)
            after = sweep(server, second, headers)
            growth_mb = (after.rss_bytes - before.rss_bytes) / 1e6
            rows.append(
                [
                    label,
                    ", ".join(f"{number} × {status}" for status, number in sorted(after.statuses.items())),
                    f"{after.cpu_us:.0f}",
                    f"{after.per_s:.0f}",
                    report.at_least(f"{label}, per s", after.per_s, PER_S, 0),
                    f"{after.rss_bytes / 1e6:.1f}",
                    f"{growth_mb:+.1f}",
                    report.at_most(f"{label}, MB more", growth_mb, GROWTH_MB, 1),
                ]
            )
        files = sum(path.is_file() for path in Path(scratch).glob("??/*"))
        print(f"Renditions stored: {files}.\n")
    header = ["", "responses", "CPU µs each", "per s", "target", "RSS, MB", "growth in the second", "target"]
    report.table(header, rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
