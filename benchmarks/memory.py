"""Measures peak memory: a worker with a large photograph, the idle server, and 64 concurrent renders.

RSS counts pages that processes share once per process; PSS counts them once in total.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyvips

from benchmarks import photographs, proc
from benchmarks.report import Report
from benchmarks.servers import ask_all, galerly, picture

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER_MB = {"baseline": 130.0, "progressive": 200.0}
IDLE_MB = 150.0
CONCURRENT_MB = 350.0
_SIZES = ("800x600", "400x400", "150x150")
_FORMATS = ("jpeg", "webp", "avif")


def mb(count: int) -> float:
    """Megabytes of a number of bytes."""
    return count / 1e6


def worker_peaks() -> Iterator[tuple[str, int]]:
    """Coding and peak RSS of a new worker that renders a 24 megapixel original (4:2:0) to 2000 px."""
    pixels = pyvips.Image.new_from_file(str(photographs.large()))
    for coding in WORKER_MB:
        with TemporaryDirectory() as scratch:
            root = Path(scratch, "photographs")
            root.mkdir()
            pixels.jpegsave(
                str(root / "large.jpg"), Q=90, interlace=coding == "progressive", subsample_mode="on", keep=0
            )
            with galerly(root, Path(scratch, "renditions"), workers=1) as ours:
                # The worker, and on Linux the process that it is a fork of, which never grows.
                children = proc.tree(ours.pid)[1:]
                ask_all(ours.address, [picture("large.jpg", "2000x2000.jpeg")], 1)
                yield coding, max(map(proc.peak_bytes, children))


def idle(root: Path) -> proc.Memory:
    """The memory of a server with two workers before the first request."""
    with TemporaryDirectory() as scratch, galerly(root, Path(scratch), workers=2) as ours:
        return proc.memory(ours.pid)


def concurrent(root: Path) -> tuple[int, proc.Memory]:
    """The number of renders, and the process tree's peak RSS and PSS with 64 concurrent requests."""
    segments = [f"{size}.{form}" for form in _FORMATS for size in _SIZES]
    paths = [picture(key, segment) for segment in segments for key in photographs.keys(root)]
    # A busy machine renders 64 in more than the default of 5 s, and would refuse some.
    with TemporaryDirectory() as scratch, galerly(root, Path(scratch), workers=2, queue_wait_s=600) as ours:
        with proc.watched(ours.pid) as samples:
            ask_all(ours.address, paths, 64)
        return len(paths), proc.Memory(
            max(sample.rss_bytes for sample in samples),
            max(sample.pss_bytes for sample in samples),
        )


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    photographs.add_option(parser)
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report("Memory")
    rows = []
    for coding, peak_bytes in worker_peaks():
        label = f"one worker, 24 MP {coding} JPEG → 2000 px, peak"
        verdict = report.at_most(label, mb(peak_bytes), WORKER_MB[coding], 0)
        rows.append([label, f"{mb(peak_bytes):.0f}", "", verdict])
    at_rest = idle(root)
    verdict = report.at_most("idle server", mb(at_rest.rss_bytes), IDLE_MB, 0)
    rows.append(
        [
            "server with 2 workers, idle",
            f"{mb(at_rest.rss_bytes):.0f}",
            f"{mb(at_rest.pss_bytes):.0f}",
            verdict,
        ]
    )
    renders, peak = concurrent(root)
    verdict = report.at_most("64 renders at once", mb(peak.rss_bytes), CONCURRENT_MB, 0)
    label = f"the same, 64 concurrent of {renders} distinct renders up to 800x600, peak"
    rows.append([label, f"{mb(peak.rss_bytes):.0f}", f"{mb(peak.pss_bytes):.0f}", verdict])
    report.table(["", "RSS, MB", "PSS, MB", "target (RSS)"], rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
