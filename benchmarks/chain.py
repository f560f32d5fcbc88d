"""How long does a viewer wait for the first request of a picture, and where, through the stack AWS shape?

The local CloudFront runs our template over a real S3 server (versitygw, from `script/s3`), the resizer runs
under AWS's runtime client. All of it shares this machine; what travels between AWS's machines is not in it.
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

FIRST_S = 0.5
"""From the first byte of the request to the last of the picture, by a resizer that runs."""
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
    """An origin, and how long its last answer took."""

    inner: Responder
    took_s: float = 0.0

    async def respond(self, request: OriginRequest) -> OriginResponse:
        began_s = time.perf_counter()
        try:
            return await self.inner.respond(request)
        finally:
            self.took_s = time.perf_counter() - began_s


@dataclass
class Viewer:
    """Somebody who asks a chain, and what it is made of."""

    stack: S3FaultStack
    bucket: s3.Objects
    http: httpx.AsyncClient
    s3: Timed
    function: Timed
    seen: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds, by what took them."""

    async def ask(self, accept: str, wanted: str) -> float:
        """Milliseconds of a request, which has to be a `wanted`: Miss or Hit."""
        began_s = time.perf_counter()
        found = await self.http.get(f"/resize/{_SIZE}/{_KEY}", headers={"accept": accept})
        took_ms = (time.perf_counter() - began_s) * 1000
        assert (found.status_code, found.headers["x-cache"].split()[0]) == (200, wanted), found
        return took_ms

    async def forget(self, form: str, *, is_cold: bool = False) -> None:
        """Nothing is stored or cached of the picture; `is_cold`: and no function runs."""
        segment = _SIZE if form == "jpeg" else f"{_SIZE}.{form}"
        self.bucket.remove(f"resized/{segment}/{_KEY}")
        self.stack.running.cloudfront.cache.invalidate("/*")
        if is_cold:
            await self.stack.running.resizer.close()

    def note(self, what: str, took_ms: float) -> None:
        self.seen.setdefault(what, []).append(took_ms)

    async def measure(self, form: str) -> None:
        """A first request from cold, one by a resizer that runs, and a hit."""
        accept = _ACCEPTS[form]
        await self.forget(form, is_cold=True)
        self.note("cold", await self.ask(accept, "Miss"))
        await self.forget(form)
        first_ms = await self.ask(accept, "Miss")
        self.note("first", first_ms)
        s3_ms, function_ms = self.s3.took_s * 1000, self.function.took_s * 1000
        self.note("cloudfront", first_ms - s3_ms - function_ms)
        self.note("s3", s3_ms)
        record = next(
            json.loads(line) for line in reversed(self.stack.running.resizer.log_lines) if "stages_ms" in line
        )
        for stage in _STAGES:
            self.note(stage, record["stages_ms"][stage])
        self.note("other", record["duration_ms"] - sum(record["stages_ms"].values()))
        self.note("transfer", function_ms - record["duration_ms"])
        self.note("hit", await self.ask(accept, "Hit"))


@asynccontextmanager
async def viewing(bucket: s3.Objects) -> AsyncIterator[Viewer]:
    """A chain over a bucket, and its viewer at the other end of a connection."""
    async with (
        s3_fault_stack.start(bucket) as stack,
        viewer_server.listen(stack.running.cloudfront.edge, "127.0.0.1", 0, scheme="https") as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
    ):
        doors = {name: Timed(door._inner) for name, door in stack.running.cloudfront.faults.items()}
        for name, door in stack.running.cloudfront.faults.items():
            door._inner = doors[name]
        yield Viewer(stack, bucket, http, doors["s3"], doors["resizer"])


async def measured(bucket: s3.Objects, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds by format and by what took them; the first round is thrown away."""
    seen: dict[str, dict[str, list[float]]] = {form: {} for form in _ACCEPTS}
    async with viewing(bucket) as viewer:
        for turn in range(rounds + 1):
            for form in _ACCEPTS:
                viewer.seen = seen[form] if turn else {}
                await viewer.measure(form)
    return seen


def show(seen: dict[str, dict[str, list[float]]], size: str, report: Report) -> None:
    """A line for everything that takes time."""
    rows = [
        ("first", f"**first request, {size} → {_SIZE}**"),
        ("cloudfront", "of it, CloudFront with its viewer function, and HTTP"),
        ("s3", "of it, S3 asked in vain, signed"),
        *((stage, f"of it, resizer: {what}") for stage, what in _STAGES.items()),
        ("other", "of it, resizer: all else (heads, headers, logs)"),
        ("transfer", "of it, signature, event, base64, and the answer as JSON"),
        ("cold", "first request, the resizer not running"),
        ("hit", "hit"),
    ]
    limits = {"first": FIRST_S * 1000}
    told = []
    for name, what in rows:
        values = {form: spread(found[name]) for form, found in seen.items()}
        slowest = max(one.median for one in values.values())
        target = report.at_most(what, slowest, limits[name], 0) if name in limits else ""
        told.append([what, *(one.show(1) for one in values.values()), target])
    report.table(["ms (quartiles)", *seen, "target"], told)


def main() -> int:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks.chain", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=11, help="first requests of each format [11]")
    options = parser.parse_args()
    report = Report(f"The stack AWS shape, {options.rounds} times")
    path = photograph(options.photographs)
    with TemporaryDirectory() as scratch, s3.credentials(), s3.versitygw(Path(scratch)) as gateway:
        bucket = gateway.bucket()
        bucket.put(f"originals/{_KEY}", path.read_bytes())
        seen = asyncio.run(measured(bucket, options.rounds))
    show(seen, f"{megapixels(path):.0f} MP", report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
