"""Measures the cold start and the memory of the Lambda functions under AWS's runtime client.

The functions run as processes over an S3 server (versitygw, from `script/s3`); Lambda's machines differ. The
time to import pyvips is reported separately, because this project does not control it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyvips

from benchmarks import photographs
from benchmarks.report import Report
from benchmarks.sampling import spread
from tests.support import s3_servers
from tests.support.lambda_functions import MEMORY_MB, answer, change, function, request, running, variables

INIT_S = 0.8
OURS_S = 0.15
_LARGEST_MP = 100
_IMPORTS = """
import time
started_s = time.perf_counter()
import pyvips
pyvips_s = time.perf_counter() - started_s
import galerly_cdn.aws.functions.resizer_handler
print(pyvips_s, time.perf_counter() - started_s - pyvips_s)
"""


class Start(NamedTuple):
    """Seconds of one cold start, of its first picture, and of a second picture."""

    init_s: float
    first_s: float
    second_s: float


def imports(bucket: s3_servers.Objects) -> tuple[float, float]:
    """Seconds to import pyvips, and to import everything else that the handler needs."""
    completed = subprocess.run(
        [sys.executable, "-c", _IMPORTS],
        env=variables(bucket.settings()),
        capture_output=True,
        check=True,
        text=True,
    )
    pyvips_s, ours_s = map(float, completed.stdout.split())
    return pyvips_s, ours_s


async def cold_start(bucket: s3_servers.Objects) -> Start:
    """Measure a cold start and two pictures of 800x600."""
    async with running(function("resizer", bucket.settings())) as runtime:
        seconds = []
        for form in ("webp", "avif"):
            started_s = time.perf_counter()
            response = answer(await runtime.invoke(request(f"/resized/800x600.{form}/large.jpg")))
            seconds.append(time.perf_counter() - started_s)
            assert response.status == 200, response.body
            bucket.remove(f"resized/800x600.{form}/large.jpg")
        return Start(runtime.init_durations_s[0], *seconds)


async def peak_mb(name: str, bucket: s3_servers.Objects, event: dict[str, object]) -> float:
    """Peak memory of a new function process for one event."""
    async with running(function(name, bucket.settings())) as runtime:
        result = await runtime.invoke(event)
        assert result is None or result["statusCode"] == 200, result
        return runtime.peak_bytes / 1e6


def photograph(chosen: Path | None) -> Path:
    """The largest JPEG in a folder, or the sample picture of 24 megapixels."""
    if chosen is None:
        return photographs.large()
    return max((chosen / key for key in photographs.keys(chosen)), key=lambda path: path.stat().st_size)


def megapixels(path: Path) -> float:
    """Width × height in millions of pixels."""
    image = pyvips.Image.new_from_file(str(path))
    return float(image.width * image.height / 1e6)


def write_enlarged(path: Path, output: Path) -> None:
    """Write the picture as a baseline JPEG with the maximum number of pixels."""
    scale = (_LARGEST_MP / megapixels(path)) ** 0.5 * 0.9999
    image = pyvips.Image.new_from_file(str(path)).resize(scale)
    image.jpegsave(str(output), Q=90, subsample_mode="on", keep=0)


async def starts(bucket: s3_servers.Objects, rounds: int, size: str, report: Report) -> None:
    """Measure and print the durations of cold starts."""
    measured = [await cold_start(bucket) for _ in range(rounds)]
    pyvips_s, ours_s = zip(*(imports(bucket) for _ in range(rounds)), strict=True)
    rows = []
    for label, values, limit_s in (
        ("exec to the first event", [start.init_s for start in measured], INIT_S),
        ("of it, imports without the interpreter, awslambdaric and pyvips", ours_s, OURS_S),
        ("of it, importing pyvips", pyvips_s, None),
        (f"init and the first picture, {size} → 800x600.webp", [start.first_s for start in measured], None),
        (f"a second picture, {size} → 800x600.avif", [start.second_s for start in measured], None),
    ):
        wall = spread(values)
        rows.append([label, wall.show(3), report.at_most(label, wall.median, limit_s, 3) if limit_s else ""])
    report.table(["", "wall s (quartiles)", "target"], rows)


async def peaks(bucket: s3_servers.Objects, size: str, report: Report) -> None:
    """Measure and print the peak memory for one event."""
    rows = []
    for label, name, event in (
        (f"{size} → 2000x2000.jpeg", "resizer", request("/resized/2000x2000.jpeg/large.jpg")),
        (f"{size} → 2000x2000.avif", "resizer", request("/resized/2000x2000.avif/large.jpg")),
        (f"{_LARGEST_MP} MP → 2000x2000.jpeg", "resizer", request("/resized/2000x2000.jpeg/largest.jpg")),
        (f"{size} → all renditions that are warmed", "prewarm", change("originals/large.jpg")),
        (f"{_LARGEST_MP} MP → all renditions that are warmed", "prewarm", change("originals/largest.jpg")),
    ):
        peak = await peak_mb(name, bucket, event)
        rows.append([label, f"{peak:.0f}", report.at_most(label, peak, MEMORY_MB, 0)])
    report.table(["baseline JPEG", "peak RSS, MB", "target"], rows)


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=11, help="starts [11]")
    options = parser.parse_args()
    report = Report(f"Cold start, {options.rounds} times")
    path = photograph(options.photographs)
    size = f"{megapixels(path):.0f} MP"
    with (
        TemporaryDirectory() as scratch,
        s3_servers.credentials(),
        s3_servers.versitygw(Path(scratch)) as server,
    ):
        bucket = server.bucket()
        bucket.put("originals/large.jpg", path.read_bytes())
        largest = Path(scratch, "largest.jpg")
        write_enlarged(path, largest)
        bucket.put("originals/largest.jpg", largest.read_bytes())
        asyncio.run(starts(bucket, options.rounds, size, report))
        asyncio.run(peaks(bucket, size, report))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
