"""Measures the CPU of one render: the pipeline against Pillow, optimised and naive, in one process.

Both read the file's bytes and write a progressive, optimised JPEG of quality 85, upright, in sRGB, without
metadata.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import time
from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image, ImageCms, ImageOps

from benchmarks import photographs
from benchmarks.report import Report
from benchmarks.sampling import interleave, ratios, spread
from galerly_cdn.model import Format, Size, Target
from galerly_cdn.recipes import recipes_of
from galerly_cdn.render.pool import fork_server_process, worker
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from galerly_cdn.model import Job

TARGETS = {
    "150x150": {"well": 0.9, "naive": 4.5},
    "400x400": {"well": 1.1, "naive": 3.5},
    "800x600": {"well": 1.45, "naive": 3.0},
    "2000x2000": {"well": 1.9, "naive": 1.9},
}
"""The minimum ratio of Pillow's CPU to ours."""
_ROTATED = {5, 6, 7, 8}
_ORIENTATION = 0x0112
_SRGB = ImageCms.createProfile("sRGB")


def pillow(original: bytes, size: Size, *, well: bool) -> bytes:
    """Render with Pillow. Optimised, `thumbnail` shrinks in the decoder and then by integer factors."""
    with Image.open(io.BytesIO(original)) as image:
        box = (size.width_px, size.height_px)
        if image.getexif().get(_ORIENTATION) in _ROTATED:
            box = (size.height_px, size.width_px)
        profile = image.info.get("icc_profile")
        if not well:
            image.load()
        image.thumbnail(box, Image.Resampling.LANCZOS, reducing_gap=2.0 if well else None)
        upright = ImageOps.exif_transpose(image)
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            upright, source, _SRGB, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
        )
        assert converted
        upright = converted
    upright.info.clear()
    body = io.BytesIO()
    upright.convert("RGB").save(body, "JPEG", quality=85, progressive=True, optimize=True)
    return body.getvalue()


def cpu_ms(render: Callable[[], object]) -> float:
    """CPU milliseconds of this process for one call."""
    before_s = time.process_time()
    render()
    return (time.process_time() - before_s) * 1000


def compare(originals: Sequence[bytes], job: Job, rounds: int) -> dict[str, list[list[float]]]:
    """CPU milliseconds by candidate, photograph and round."""
    from galerly_cdn.render import pipeline

    size = job.pictures[0].target.size
    spent_ms: dict[str, list[list[float]]] = {"ours": [], "well": [], "naive": []}
    for original in originals:
        candidates = {
            "ours": partial(cpu_ms, partial(pipeline.render, original, job)),
            "well": partial(cpu_ms, partial(pillow, original, size, well=True)),
            "naive": partial(cpu_ms, partial(pillow, original, size, well=False)),
        }
        for name, rounds_ms in interleave(candidates, rounds).items():
            spent_ms[name].append(rounds_ms)
    return spent_ms


def by_round(theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]) -> list[float]:
    """For each round, the geometric mean over the photographs of `theirs` divided by `ours`."""
    by_photograph = [ratios(a, b) for a, b in zip(theirs, ours, strict=True)]
    return [statistics.geometric_mean(of_round) for of_round in zip(*by_photograph, strict=True)]


def measure(root: Path, rounds: int, limit: int | None) -> int:
    """Measure every size and print the table; returns the exit code."""
    version, _ = worker.libvips().check()
    originals = [(root / key).read_bytes() for key in photographs.keys(root)[:limit]]
    report = Report(f"CPU of one render, {len(originals)} photographs, {rounds} rounds")
    jobs = {str(target): recipe.job for target, recipe in recipes_of(Settings(), version).items()}
    rows = []
    for size, targets in TARGETS.items():
        width, height = map(int, size.split("x"))
        job = jobs[str(Target(Size(width, height), Format.JPEG))]
        spent_ms = compare(originals, job, rounds)
        means = {
            name: statistics.fmean(map(statistics.median, rounds_ms)) for name, rounds_ms in spent_ms.items()
        }
        row = [size, f"{means['ours']:.1f}"]
        for name, minimum in targets.items():
            ratio = spread(by_round(spent_ms[name], spent_ms["ours"]))
            verdict = report.at_least(f"Pillow {name} at {size}", ratio.median, minimum)
            row += [f"{means[name]:.1f}", ratio.show(), verdict]
        rows.append(row)
    report.table(
        [
            "size",
            "ours, CPU ms",
            *("Pillow optimised", "ratio", "target"),
            *("Pillow naive", "ratio", "target"),
        ],
        rows,
    )
    return report.end()


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.render", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=7, help="renders of each photograph and size [7]")
    parser.add_argument("--limit", type=int, help="number of photographs to use [all]")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in fork_server_process.ENVIRONMENT.items()):
        # libvips and the allocator read the worker's environment variables only when the process starts
        command = [sys.executable, "-m", "benchmarks.render", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **fork_server_process.ENVIRONMENT})
    return measure(photographs.folder(options.photographs), options.rounds, options.limit)


if __name__ == "__main__":
    sys.exit(main())
