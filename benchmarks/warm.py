"""Measures the CPU of warming a photograph with one decode, relative to one render job per picture.

Every size of the allow-list is rendered by a worker; the CPU is that of the server and the worker. When a
viewer's job interrupts warming, the original is decoded again: the worst case interrupts after every picture.
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
from galerly_cdn.model import Format, Target
from galerly_cdn.recipes import recipes_of
from galerly_cdn.render.pool.pool import WorkerPool
from galerly_cdn.settings.sizes import named
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
"""The formats to render, and the maximum ratio of warming's CPU to that of separate renders."""


class Bench:
    """One worker, and an event loop to call it from."""

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
    """Render every picture in its own job, as for viewers."""
    with original.open("rb") as file:
        length_bytes = os.fstat(file.fileno()).st_size
        for job in jobs:
            await bench.workers.render(file.fileno(), length_bytes, job, "")


async def together(bench: Bench, original: Path, jobs: Sequence[Job], *, interrupted: bool = False) -> None:
    """Render all pictures in one job; with `interrupted`, another job runs after each picture."""
    job = jobs[0].of(picture for one in jobs for picture in one.pictures)
    with original.open("rb") as file:
        length_bytes = os.fstat(file.fileno()).st_size
        async for _ in bench.workers.warm(file.fileno(), length_bytes, job, ""):
            if interrupted:
                await bench.workers.inspect(file.fileno(), length_bytes, "")


CANDIDATES: dict[str, Warm] = {
    "separate": separately,
    "warm": together,
    "interrupted": partial(together, interrupted=True),
}


def measure(originals: Sequence[Path], rounds: int, runner: asyncio.Runner) -> int:
    """Measure every set of formats and print the table; returns the exit code."""
    bench = Bench(runner)
    recipes_by_target = recipes_of(Settings(), bench.libvips)
    sizes = [rule.size for rule in named(Settings().size_rules)]
    report = Report(f"CPU of warming, {len(sizes)} sizes of {len(originals)} photograph(s), {rounds} rounds")
    rows = []
    for name, (formats, maximum) in FORMATS.items():
        jobs = [recipes_by_target[Target(size, form)].job for size in sizes for form in formats]
        spent_ms: dict[str, list[list[float]]] = {candidate: [] for candidate in CANDIDATES}
        for original in originals:
            runs = {
                candidate: partial(bench.cpu_ms, warm, original, jobs)
                for candidate, warm in CANDIDATES.items()
            }
            for candidate, rounds_ms in interleave(runs, rounds).items():
                spent_ms[candidate].append(rounds_ms)
        means = {
            candidate: statistics.fmean(map(statistics.median, rounds_ms))
            for candidate, rounds_ms in spent_ms.items()
        }
        ratio, worst = (
            spread(by_round(spent_ms[candidate], spent_ms["separate"]))
            for candidate in ("warm", "interrupted")
        )
        verdict = report.at_most(f"warming {name}", ratio.median, maximum)
        row = [name, f"{means['separate']:.0f}", f"{means['warm']:.0f}", ratio.show(), verdict, worst.show()]
        rows.append(row)
    header = [
        "formats",
        "separate renders, CPU ms",
        "warming",
        "ratio",
        "target",
        "interrupted after every picture",
    ]
    report.table(header, rows)
    runner.run(bench.workers.close(5))
    return report.end()


def main() -> int:
    """Run the command line."""
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
