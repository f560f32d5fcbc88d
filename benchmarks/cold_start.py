"""How long does the resizer take to start under AWS's runtime client, and how much memory does it take?

On a real S3 server (versitygw, from `script/s3`), in processes as Lambda runs them; Lambda's own machines are
others. What pyvips' import takes is told apart: it is not ours.
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
began_s = time.perf_counter()
import pyvips
pyvips_s = time.perf_counter() - began_s
import galerly_cdn.aws.functions.resizer_handler
print(pyvips_s, time.perf_counter() - began_s - pyvips_s)
"""


class Start(NamedTuple):
    """Seconds of one cold start and of its first picture, and of the same picture's neighbour when warm."""

    init_s: float
    cold_s: float
    warm_s: float


def imports(bucket: s3_servers.Objects) -> tuple[float, float]:
    """Seconds that importing pyvips takes, and everything else up to the handler."""
    told = subprocess.run(
        [sys.executable, "-c", _IMPORTS],
        env=variables(bucket.settings()),
        capture_output=True,
        check=True,
        text=True,
    )
    pyvips_s, ours_s = map(float, told.stdout.split())
    return pyvips_s, ours_s


async def start(bucket: s3_servers.Objects) -> Start:
    """A cold start and two pictures of 800x600."""
    async with running(function("resizer", bucket.settings())) as runtime:
        seconds = []
        for form in ("webp", "avif"):
            began_s = time.perf_counter()
            found = answer(await runtime.invoke(request(f"/resized/800x600.{form}/large.jpg")))
            seconds.append(time.perf_counter() - began_s)
            assert found.status == 200, found.body
            bucket.remove(f"resized/800x600.{form}/large.jpg")
        return Start(runtime.init_durations_s[0], *seconds)


async def peak_mb(name: str, bucket: s3_servers.Objects, event: dict[str, object]) -> float:
    """The most memory that a fresh function held for one event."""
    async with running(function(name, bucket.settings())) as runtime:
        result = await runtime.invoke(event)
        assert result is None or result["statusCode"] == 200, result
        return runtime.peak_bytes / 1e6


def photograph(chosen: Path | None) -> Path:
    """The JPEG of most bytes in a folder, or our sample of 24 megapixels."""
    if chosen is None:
        return photographs.large()
    return max((chosen / key for key in photographs.keys(chosen)), key=lambda one: one.stat().st_size)


def megapixels(path: Path) -> float:
    """Width x height, in millions."""
    image = pyvips.Image.new_from_file(str(path))
    return float(image.width * image.height / 1e6)


def enlarged(path: Path, made: Path) -> None:
    """Write it as a baseline JPEG of as many pixels as are allowed."""
    scale = (_LARGEST_MP / megapixels(path)) ** 0.5 * 0.9999
    image = pyvips.Image.new_from_file(str(path)).resize(scale)
    image.jpegsave(str(made), Q=90, subsample_mode="on", keep=0)


async def starts(bucket: s3_servers.Objects, rounds: int, size: str, report: Report) -> None:
    """How long until a picture is there."""
    began = [await start(bucket) for _ in range(rounds)]
    pyvips_s, ours_s = zip(*(imports(bucket) for _ in range(rounds)), strict=True)
    rows = []
    for what, values, limit_s in (
        ("exec to the first event", [one.init_s for one in began], INIT_S),
        ("of it, everything but the interpreter, awslambdaric and pyvips", ours_s, OURS_S),
        ("of it, importing pyvips", pyvips_s, None),
        (f"init and the first picture, {size} → 800x600.webp", [one.cold_s for one in began], None),
        (f"a further picture, {size} → 800x600.avif", [one.warm_s for one in began], None),
    ):
        wall = spread(values)
        rows.append([what, wall.show(3), report.at_most(what, wall.median, limit_s, 3) if limit_s else ""])
    report.table(["", "wall s (quartiles)", "target"], rows)


async def peaks(bucket: s3_servers.Objects, size: str, report: Report) -> None:
    """How much memory one event takes."""
    rows = []
    for what, name, event in (
        (f"{size} → 2000x2000.jpeg", "resizer", request("/resized/2000x2000.jpeg/large.jpg")),
        (f"{size} → 2000x2000.avif", "resizer", request("/resized/2000x2000.avif/large.jpg")),
        (f"{_LARGEST_MP} MP → 2000x2000.jpeg", "resizer", request("/resized/2000x2000.jpeg/largest.jpg")),
        (f"{size} → all that pages ask for", "prewarm", change("originals/large.jpg")),
        (f"{_LARGEST_MP} MP → all that pages ask for", "prewarm", change("originals/largest.jpg")),
    ):
        most = await peak_mb(name, bucket, event)
        rows.append([what, f"{most:.0f}", report.at_most(what, most, MEMORY_MB, 0)])
    report.table(["baseline JPEG", "peak RSS, MB", "target"], rows)


def main() -> int:
    """The command line."""
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
        made = Path(scratch, "largest.jpg")
        enlarged(path, made)
        bucket.put("originals/largest.jpg", made.read_bytes())
        asyncio.run(starts(bucket, options.rounds, size, report))
        asyncio.run(peaks(bucket, size, report))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
