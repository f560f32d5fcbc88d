"""CPU of one warm, from one decode, against a render of its own for every picture; through a worker.

One photograph of 24 megapixels, every size of the allow-list, the CPU of server and worker together.
"""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import photographs, proc
from benchmarks.report import Report
from benchmarks.sampling import interleave, ratios, spread
from galerly_cdn.app import recipes
from galerly_cdn.config import Settings
from galerly_cdn.model import Format, Target
from galerly_cdn.render.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from galerly_cdn.model import Job

FORMATS: dict[str, tuple[tuple[Format | None, ...], float]] = {
    "JPEG": ((None,), 0.6),
    "JPEG, WebP": ((None, Format.WEBP), 0.6),
    "JPEG, WebP, AVIF": ((None, Format.WEBP, Format.AVIF), 0.7),
}
"""What is made of every size, and the warm's CPU over that of separate renders, at most."""


class Bench:
    """A worker, an original, and an event loop to ask them in."""

    def __init__(self, original: Path, runner: asyncio.Runner) -> None:
        self._file = original.open("rb")
        self._length_bytes = original.stat().st_size
        self._runner = runner
        self._workers = Workers(Settings(workers=1), lambda _: None)
        self.libvips = runner.run(self._workers.start()).libvips

    def close(self) -> None:
        """End the worker."""
        self._runner.run(self._workers.close(5))
        self._file.close()

    def cpu_ms(self, work: Callable[[], Awaitable[None]]) -> float:
        """CPU of this process and its worker for one call."""

        async def main() -> float:
            before_s = proc.cpu_s(os.getpid())
            await work()
            return (proc.cpu_s(os.getpid()) - before_s) * 1000

        return self._runner.run(main())

    async def separate(self, jobs: Sequence[Job]) -> None:
        """As viewers would have it: every picture is a job."""
        for job in jobs:
            await self._workers.render(self._file.fileno(), self._length_bytes, job, "")

    async def warm(self, jobs: Sequence[Job]) -> None:
        """All pictures are one job."""
        job = jobs[0].of(picture for one in jobs for picture in one.pictures)
        async for _ in self._workers.warm(self._file.fileno(), self._length_bytes, job, ""):
            pass

    async def interrupted(self, jobs: Sequence[Job]) -> None:
        """The worst case: a viewer takes the worker after every picture."""
        ...


def measure(original: Path, rounds: int, runner: asyncio.Runner) -> int:
    """Measure every set of formats and print the table; the exit code."""
    bench = Bench(original, runner)
    made = recipes(Settings(), bench.libvips)
    sizes = [rule.size for rule in Settings().size_rules]
    report = Report(f"CPU of one warm, {len(sizes)} sizes, {rounds} rounds")
    rows = []
    for name, (formats, most) in FORMATS.items():
        jobs = [made[Target(size, form)].job for size in sizes for form in formats]
        contestants = {
            "separate": partial(bench.cpu_ms, partial(bench.separate, jobs)),
            "warm": partial(bench.cpu_ms, partial(bench.warm, jobs)),
        }
        for contestant in contestants.values():
            contestant()
        spent = interleave(contestants, rounds)
        ratio = spread(ratios(spent["warm"], spent["separate"]))
        verdict = report.at_most(f"warm of {name}", ratio.median, most)
        rows.append(
            [name, spread(spent["separate"]).show(0), spread(spent["warm"]).show(0), ratio.show(), verdict]
        )
    report.table(["formats", "separate renders, CPU ms", "warm, CPU ms", "ratio", "target"], rows)
    bench.close()
    return report.end()


def main() -> int:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks.warm", description=__doc__)
    parser.add_argument("--photographs", help="")
    parser.add_argument("--rounds", type=int, default=7, help="warms of each set of formats [7]")
    options = parser.parse_args()
    with asyncio.Runner() as runner:
        return measure(photographs.large(), options.rounds, runner)


if __name__ == "__main__":
    sys.exit(main())
