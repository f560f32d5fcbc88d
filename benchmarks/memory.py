"""Peak memory: one worker with one large photograph, the idle server, and 64 distinct renders at once.

RSS counts what processes share once for each of them; PSS, beside it, once in all.
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
HERD_MB = 350.0
_SIZES = ("800x600", "400x400", "150x150")
_FORMATS = ("jpeg", "webp", "avif")


def mb(count: int) -> float:
    """Millions of bytes."""
    return count / 1e6


def worker_peaks() -> Iterator[tuple[str, int]]:
    """Peak RSS of a fresh worker that renders 24 megapixels, 4:2:0, to 2000 px, by the original's coding."""
    pixels = pyvips.Image.new_from_file(str(photographs.large()))
    for coding in WORKER_MB:
        with TemporaryDirectory() as scratch:
            root = Path(scratch, "photographs")
            root.mkdir()
            pixels.jpegsave(
                str(root / "large.jpg"), Q=90, interlace=coding == "progressive", subsample_mode="on", keep=0
            )
            with galerly(root, Path(scratch, "renditions"), workers=1) as ours:
                (worker,) = proc.tree(ours.pid)[1:]
                ask_all(ours.address, [picture("large.jpg", "2000x2000.jpeg")], 1)
                yield coding, proc.peak_bytes(worker)


def idle(root: Path) -> proc.Memory:
    """The whole server with two workers, asked for nothing yet."""
    with TemporaryDirectory() as scratch, galerly(root, Path(scratch), workers=2) as ours:
        return proc.memory(ours.pid)


def herd(root: Path) -> tuple[int, proc.Memory]:
    """Renders, and the peak of the whole tree's RSS and PSS, while 64 distinct ones are always wanted."""
    segments = [f"{size}.{form}" for form in _FORMATS for size in _SIZES]
    paths = [picture(key, segment) for segment in segments for key in photographs.keys(root)]
    with TemporaryDirectory() as scratch, galerly(root, Path(scratch), workers=2) as ours:
        with proc.watched(ours.pid) as seen:
            ask_all(ours.address, paths, 64)
        return len(paths), proc.Memory(max(one.rss_bytes for one in seen), max(one.pss_bytes for one in seen))


def main() -> int:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    photographs.add_option(parser)
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report("Memory")
    rows = []
    for coding, peak_bytes in worker_peaks():
        what = f"one worker, 24 MP {coding} JPEG → 2000 px, peak"
        verdict = report.at_most(what, mb(peak_bytes), WORKER_MB[coding], 0)
        rows.append([what, f"{mb(peak_bytes):.0f}", "", verdict])
    now = idle(root)
    verdict = report.at_most("idle server", mb(now.rss_bytes), IDLE_MB, 0)
    rows.append(
        [
            "server with 2 workers, idle",
            f"{mb(now.rss_bytes):.0f}",
            f"{mb(now.pss_bytes):.0f}",
            verdict,
        ]
    )
    renders, peak = herd(root)
    verdict = report.at_most("64 renders at once", mb(peak.rss_bytes), HERD_MB, 0)
    what = f"the same, 64 at once of {renders} distinct renders up to 800x600, peak"
    rows.append([what, f"{mb(peak.rss_bytes):.0f}", f"{mb(peak.pss_bytes):.0f}", verdict])
    report.table(["", "RSS, MB", "PSS, MB", "target (RSS)"], rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
