"""CPU of warming a photograph, from one decode, over a render of its own for every picture.

Every size of the allow-list, through a worker; the CPU is that of server and worker together. A
viewer who takes the worker between two pictures costs a decode: the worst case has one each time.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import photographs, proc
from benchmarks.render import by_round
from benchmarks.report import Report
from benchmarks.sampling import interleave, spread
from galerly_cdn.fill import recipes
from galerly_cdn.model import Format, Target
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path
    from typing import Any

    from galerly_cdn.model import Job

    Warm = Callable[["Bench", Path, Sequence[Job]], Coroutine[Any, Any, None]]

FORMATS: dict[str, tuple[tuple[Format | None, ...], float]] = {
    "JPEG": ((None,), 0.6),
    "JPEG, WebP": ((None, Format.WEBP), 0.6),
    "JPEG, WebP, AVIF": ((None, Format.WEBP, Format.AVIF), 0.7),
}
"""What is made of every size, and the CPU of warming over that of separate renders, at most."""


class Bench:
    """One worker, and an event loop to ask it in."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.workers = WorkerPool(Settings(workers=1), lambda _: None)
        self.libvips = runner.run(self.workers.start()).libvips

    def cpu_ms(self, warm: Warm, original: Path, jobs: Sequence[Job]) -> float:
        """CPU of this process and its worker for one call."""
        before_s = proc.cpu_s(os.getpid())
        self._runner.run(warm(self, original, jobs))
        return (proc.cpu_s(os.getpid()) - before_s) * 1000


async def separately(bench: Bench, original: Path, jobs: Sequence[Job]) -> None:
    """As viewers have it: every picture is a job of its own."""
    with original.open("rb") as file:
        length_bytes = os.fstat(file.fileno()).st_size
        for job in jobs:
            await bench.workers.render(file.fileno(), length_bytes, job, "")


async def at_once(bench: Bench, original: Path, jobs: Sequence[Job], *, disturbed: bool = False) -> None:
    """All pictures are one job."""
    job = jobs[0].of(picture for one in jobs for picture in one.pictures)
    with original.open("rb") as file:
        length_bytes = os.fstat(file.fileno()).st_size
        async for _ in bench.workers.warm(file.fileno(), length_bytes, job, ""):
            if disturbed:
                await bench.workers.inspect(file.fileno(), length_bytes, "")


CONTESTANTS: dict[str, Warm] = {
    "separate": separately,
    "warm": at_once,
    "disturbed": partial(at_once, disturbed=True),
}


def measure(originals: Sequence[Path], rounds: int, runner: asyncio.Runner) -> int:
    """Measure every set of formats and print the table; the exit code."""
    bench = Bench(runner)
    made = recipes(Settings(), bench.libvips)
    sizes = [rule.size for rule in Settings().size_rules]
    report = Report(f"CPU of warming, {len(sizes)} sizes of {len(originals)} photograph(s), {rounds} rounds")
    rows = []
    for name, (formats, most) in FORMATS.items():
        jobs = [made[Target(size, form)].job for size in sizes for form in formats]
        seen: dict[str, list[list[float]]] = {who: [] for who in CONTESTANTS}
        for original in originals:
            runs = {who: partial(bench.cpu_ms, warm, original, jobs) for who, warm in CONTESTANTS.items()}
            for who, spent in interleave(runs, rounds).items():
                seen[who].append(spent)
        means = {who: statistics.fmean(map(statistics.median, spent)) for who, spent in seen.items()}
        ratio, worst = (spread(by_round(seen[who], seen["separate"])) for who in ("warm", "disturbed"))
        verdict = report.at_most(f"warming {name}", ratio.median, most)
        row = [name, f"{means['separate']:.0f}", f"{means['warm']:.0f}", ratio.show(), verdict, worst.show()]
        rows.append(row)
    heads = ["formats", "separately, CPU ms", "warming", "ratio", "target", "disturbed after every picture"]
    report.table(heads, rows)
    runner.run(bench.workers.close(5))
    return report.end()


def main() -> int:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks.warm", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=7, help="warms of each photograph and set of formats [7]"
    )
    photographs.add_option(parser)
    options = parser.parse_args()
    root = options.photographs
    originals = [root / key for key in photographs.keys(root)] if root else [photographs.large()]
    with asyncio.Runner() as runner:
        return measure(originals, options.rounds, runner)


if __name__ == "__main__":
    sys.exit(main())
