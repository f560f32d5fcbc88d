"""Measures the latency of a picture's first request through the whole AWS deployment, by stage.

The local CloudFront runs the generated template over an S3 server (versitygw, from `script/s3`), and the
resizer runs under AWS's runtime client. Everything runs on this machine, so AWS's network latency is not
included.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from argparse import ArgumentParser
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import httpx

from benchmarks import photographs
from benchmarks.cold_start import megapixels, photograph
from benchmarks.report import Report
from benchmarks.sampling import spread
from galerly_cdn.aws_local import viewer_server
from tests.support import s3_fault_stack
from tests.support import s3_servers as s3

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse, Responder
    from tests.support.s3_fault_stack import S3FaultStack

FIRST_REQUEST_S = 0.5
"""From the first byte of the request to the last of the picture, with a running resizer."""
_ACCEPTS = {"jpeg": "image/*", "webp": "image/webp", "avif": "image/avif"}
_SIZE = "800x600"
_KEY = "g/large.jpg"
_STAGES = {
    "open": "the original from S3",
    "render": "decode, resize, encode",
    "put": "the rendition to S3",
    "head": "the original again",
}


@dataclass
class Timed:
    """An origin that records the duration of its last response."""

    inner: Responder
    duration_s: float = 0.0

    async def respond(self, request: OriginRequest) -> OriginResponse:
        started_s = time.perf_counter()
        try:
            return await self.inner.respond(request)
        finally:
            self.duration_s = time.perf_counter() - started_s


@dataclass
class Viewer:
    """A viewer's connection to the deployment, and the parts that are measured."""

    stack: S3FaultStack
    bucket: s3.Objects
    http: httpx.AsyncClient
    s3: Timed
    function: Timed
    durations_ms: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds by stage."""

    async def request(self, accept: str, expected: str) -> float:
        """Milliseconds of a request. Asserts that `x-cache` starts with `expected`: Miss or Hit."""
        started_s = time.perf_counter()
        response = await self.http.get(f"/resize/{_SIZE}/{_KEY}", headers={"accept": accept})
        duration_ms = (time.perf_counter() - started_s) * 1000
        assert (response.status_code, response.headers["x-cache"].split()[0]) == (200, expected), response
        return duration_ms

    async def clear(self, form: str, *, is_cold: bool = False) -> None:
        """Delete the picture from the store and CloudFront's cache; with `is_cold`, stop the resizer too."""
        segment = _SIZE if form == "jpeg" else f"{_SIZE}.{form}"
        self.bucket.remove(f"resized/{segment}/{_KEY}")
        self.stack.running.cloudfront.cache.invalidate("/*")
        if is_cold:
            await self.stack.running.resizer.close()

    def add(self, stage: str, duration_ms: float) -> None:
        self.durations_ms.setdefault(stage, []).append(duration_ms)

    async def measure(self, form: str) -> None:
        """Measure a cold first request, one with a running resizer, and a hit."""
        accept = _ACCEPTS[form]
        await self.clear(form, is_cold=True)
        self.add("cold", await self.request(accept, "Miss"))
        await self.clear(form)
        first_ms = await self.request(accept, "Miss")
        self.add("first", first_ms)
        s3_ms, function_ms = self.s3.duration_s * 1000, self.function.duration_s * 1000
        self.add("cloudfront", first_ms - s3_ms - function_ms)
        self.add("s3", s3_ms)
        record = next(
            json.loads(line) for line in reversed(self.stack.running.resizer.log_lines) if "stages_ms" in line
        )
        for stage in _STAGES:
            self.add(stage, record["stages_ms"][stage])
        self.add("other", record["duration_ms"] - sum(record["stages_ms"].values()))
        self.add("transfer", function_ms - record["duration_ms"])
        self.add("hit", await self.request(accept, "Hit"))


@asynccontextmanager
async def open_viewer(bucket: s3.Objects) -> AsyncIterator[Viewer]:
    """The whole deployment over a bucket, with a viewer's connection."""
    async with (
        s3_fault_stack.start(bucket) as stack,
        viewer_server.listen(stack.running.cloudfront.edge, "127.0.0.1", 0, scheme="https") as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
    ):
        doors = {name: Timed(door._inner) for name, door in stack.running.cloudfront.faults.items()}
        for name, door in stack.running.cloudfront.faults.items():
            door._inner = doors[name]
        yield Viewer(stack, bucket, http, doors["s3"], doors["resizer"])


async def measure_all(bucket: s3.Objects, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds by format and stage; the first round is discarded."""
    durations_ms: dict[str, dict[str, list[float]]] = {form: {} for form in _ACCEPTS}
    async with open_viewer(bucket) as viewer:
        for number in range(rounds + 1):
            for form in _ACCEPTS:
                viewer.durations_ms = durations_ms[form] if number else {}
                await viewer.measure(form)
    return durations_ms


def print_table(durations_ms: dict[str, dict[str, list[float]]], size: str, report: Report) -> None:
    """Print one row per stage."""
    rows = [
        ("first", f"**first request, {size} → {_SIZE}**"),
        ("cloudfront", "of it, CloudFront with its viewer function, and HTTP"),
        ("s3", "of it, the signed S3 request that finds no rendition"),
        *((stage, f"of it, resizer: {label}") for stage, label in _STAGES.items()),
        ("other", "of it, resizer: the rest (head requests, headers, logs)"),
        ("transfer", "of it, signature, event, base64, and the response as JSON"),
        ("cold", "first request, cold start of the resizer"),
        ("hit", "hit"),
    ]
    limits = {"first": FIRST_REQUEST_S * 1000}
    table = []
    for name, label in rows:
        values = {form: spread(stages[name]) for form, stages in durations_ms.items()}
        slowest = max(one.median for one in values.values())
        target = report.at_most(label, slowest, limits[name], 0) if name in limits else ""
        table.append([label, *(one.show(1) for one in values.values()), target])
    report.table(["ms (quartiles)", *durations_ms, "target"], table)


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.chain", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=11, help="first requests of each format [11]")
    options = parser.parse_args()
    report = Report(f"The whole AWS deployment, {options.rounds} times")
    path = photograph(options.photographs)
    with TemporaryDirectory() as scratch, s3.credentials(), s3.versitygw(Path(scratch)) as gateway:
        bucket = gateway.bucket()
        bucket.put(f"originals/{_KEY}", path.read_bytes())
        durations_ms = asyncio.run(measure_all(bucket, options.rounds))
    print_table(durations_ms, f"{megapixels(path):.0f} MP", report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
