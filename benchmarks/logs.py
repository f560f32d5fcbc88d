"""Measures `galerly-cdn report` on a large access log: wall time, CPU and peak memory.

The log has a month of one machine: 20,000 photographs of 200 galleries, a few of which have most requests.
"""

from __future__ import annotations

import os
import random
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.report import Report
from galerly_cdn.serialization import from_json, to_json
from galerly_cdn.telemetry import AccessRecord

if TYPE_CHECKING:
    from typing import Any

LINES = 10_000_000
WALL_S = 30.0
RSS_MB = 1000.0
"""Targets for 10 million lines on two cores; the time is in proportion for fewer lines."""
_FIRST_S = 1_795_996_800
_PERIOD_S = 30 * 86_400
_VARIETY = 50_000
"""Different requests, each of which is repeated at other times."""


def records(rng: random.Random) -> list[tuple[bytes, bytes]]:
    """Lines, each in two parts: between them belongs the time."""
    made = []
    for number in range(_VARIETY):
        photograph = int(rng.paretovariate(0.6)) % 20_000
        key = f"gallery-{photograph % 200:03}/IMG_{photograph:05}.jpg"
        size = rng.choice(("150x150", "400x400", "800x600", "2000x2000"))
        chance = rng.random()
        cache, stages = "hit", None
        if chance > 0.96:
            cache = "hit; detail=store"
        if chance > 0.98:
            cache, stages = (
                "fwd=uri-miss; stored",
                {"open": 1.2, "render": rng.uniform(50, 900), "store": 4.0},
            )
        record = AccessRecord(
            time_s=0.125,
            request_id=f"3f2a91c0-{number:x}",
            client=f"203.0.113.{rng.randrange(256)}",
            method="GET",
            path=f"/resize/{size}/{key}",
            status=200 if chance < 0.999 else 404,
            bytes=rng.randrange(4_000, 400_000),
            duration_ms=round(rng.lognormvariate(-0.5, 0.8), 3),
            key=key,
            size=size,
            format=rng.choice(("avif", "avif", "webp", "own")),
            cache=cache if chance < 0.999 else "",
            stages_ms=stages,
            reason="" if chance < 0.999 else "no-such-original",
        )
        before, _, after = to_json(record).partition(b"0.125")
        made.append((before, after + b"\n"))
    return made


def write_log(path: Path, lines: int) -> None:
    """Write so many lines, in order of time."""
    kinds = records(random.Random(1))
    with path.open("wb", buffering=1 << 20) as file:
        for number in range(lines):
            before, after = kinds[number * 7919 % _VARIETY]
            file.write(b"%b%.3f%b" % (before, _FIRST_S + number * _PERIOD_S / lines, after))


def run_report(log: Path, out: Path) -> tuple[float, float, float]:
    """Run the command; wall seconds, CPU seconds and peak RSS in MB."""
    command = [sys.executable, "-m", "galerly_cdn", "report", str(log), "--json"]
    started_s = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)],
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"the report ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.logs", description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES, help="lines of the log [10000000: 3 GB of disk]")
    options = parser.parse_args()
    report = Report(f"A report on {options.lines} lines")
    with TemporaryDirectory() as scratch:
        log, out = Path(scratch, "access.log"), Path(scratch, "report.json")
        write_log(log, options.lines)
        wall_s, cpu_s, rss_mb = run_report(log, out)
        answer: dict[str, Any] = from_json(dict, out.read_bytes())
        if answer["requests"] != options.lines:
            raise RuntimeError(f"{answer['requests']} requests of {options.lines} were counted")
        limit_s = max(3.0, WALL_S * options.lines / LINES)
        row = [
            f"{log.stat().st_size / 1e6:.0f} MB",
            f"{wall_s:.1f}",
            report.at_most("wall, s", wall_s, limit_s, 1),
            f"{cpu_s:.1f}",
            f"{rss_mb:.0f}",
            report.at_most("peak RSS, MB", rss_mb, RSS_MB, 0),
        ]
    report.table(["log", "wall, s", "target", "CPU, s", "peak RSS, MB", "target"], [row])
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
