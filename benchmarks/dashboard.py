"""Measures the dashboard's CPU: that of hits while nobody looks at it, and that of its page while one looks.

Two servers have an admin port. On one of them the dashboard was opened and closed again. Their CPU per hit is
compared, and that of a server without an admin port is shown beside them. The page's cost is that of a poll
with an hour of samples, as the browser requests it every 10 seconds, beside the sampling itself.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from argparse import ArgumentParser
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import photographs
from benchmarks.hit import ask, nearest
from benchmarks.report import Report
from benchmarks.sampling import interleave, ratios, spread
from benchmarks.servers import Client, galerly
from galerly_cdn.admin.auth import Authenticator
from galerly_cdn.admin.request import AdminRequest
from galerly_cdn.clock import Clock
from galerly_cdn.dashboard.composition import NAVIGATION
from galerly_cdn.dashboard.now import NowPage
from galerly_cdn.dashboard.sampler import Sampler
from galerly_cdn.dashboard.samples import HISTORY_S, INTERVAL_S
from galerly_cdn.dashboard.site import Site
from galerly_cdn.http.request import empty_scope
from galerly_cdn.settings.networks import NO_CLIENTS
from galerly_cdn.telemetry import AccessRecord, Counters, Telemetry, TrafficStatistics

if TYPE_CHECKING:
    from galerly_cdn.http.request import Message

HITS_RATIO = 1.01
CORE_SHARE = 0.01
_POLLS = 100
_KINDS = [
    (result, size, image_format)
    for result in ("hit", "stored", "miss")
    for size in ("150x150", "400x400", "800x600", "2000x2000")
    for image_format in ("avif", "webp", "jpeg")
]


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def look(port: int) -> None:
    """Open the page *Now* as a browser does, and poll it a few times."""
    client = Client(f"http://127.0.0.1:{port}")
    for path in ("/dashboard/now", *["/dashboard/now/figures"] * 10, "/dashboard/errors"):
        answer = client.get(path, {"Accept": "text/html"})
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status} for {path}")
    client.close()


def compare_hits(root: Path, rounds: int, requests: int, report: Report) -> None:
    """Print the CPU per hit of the three servers."""
    ports = {"never opened": free_port(), "opened once": free_port(), "no admin port": -1}
    with TemporaryDirectory() as scratch, ExitStack() as servers:
        running = {
            name: servers.enter_context(galerly(root, Path(scratch, name), admin_port=port))
            for name, port in ports.items()
        }
        path = {name: nearest(root, server.address)[0] for name, server in running.items()}
        look(ports["opened once"])
        cpu_us = interleave(
            {name: partial(ask, server, path[name], {}, requests) for name, server in running.items()}, rounds
        )
    rows = []
    for name, spent in cpu_us.items():
        ratio = spread(ratios(spent, cpu_us["never opened"]))
        is_target = name == "opened once"
        verdict = report.at_most(f"hits, {name}", ratio.median, HITS_RATIO, 3) if is_target else ""
        rows.append([name, spread(spent).show(1), ratio.show(3), verdict])
    report.table(["hits while nobody looks", "CPU µs", "ratio (quartiles)", "target"], rows)


class FullHour:
    """The page *Now* with an hour of samples, and requests for its figures."""

    def __init__(self) -> None:
        self.now_s = 0.0
        traffic = TrafficStatistics()
        telemetry = Telemetry(Counters(), None, traffic=traffic)
        clock = Clock(wall=lambda: 1e9 + self.now_s, monotonic=lambda: self.now_s)
        authenticator = Authenticator([], is_local=True, now_s=clock.monotonic)
        self.sampler = Sampler(telemetry, _GAUGES, list, clock)
        page = NowPage(self.sampler, list)
        for _ in range(int(HISTORY_S / INTERVAL_S) + 1):
            for result, size, image_format in _KINDS:
                telemetry.record(_record(size, image_format), result)
            self.sampler.sample()
            self.now_s += INTERVAL_S
        (self._route,) = (
            one for one in page.routes(Site(NAVIGATION, authenticator)) if one.path.endswith("/figures")
        )

    async def poll(self, times: int) -> int:
        """Request the figures; returns the length of a response."""
        length_bytes = 0
        for _ in range(times):
            scope = empty_scope("127.0.0.1")
            scope["method"], scope["raw_path"] = "GET", self._route.path.encode()
            scope["headers"] = [(b"hx-request", b"true")]
            response = await self._route.handler(AdminRequest(scope, _receive, "1-1", NO_CLIENTS))
            length_bytes = len(response.body)
        return length_bytes


async def _receive() -> Message:
    raise NotImplementedError


def _record(size: str, image_format: str) -> AccessRecord:
    return AccessRecord(
        time_s=0.0,
        request_id="1-1",
        client="192.0.2.1",
        method="GET",
        path="/",
        status=200,
        bytes=60_000,
        duration_ms=1.0,
        size=size,
        format=image_format,
    )


_GAUGES = {
    name: lambda: 1.0
    for name in (
        "galerly_workers",
        "galerly_renders_in_progress",
        "galerly_render_queue",
        "galerly_memory_cache_bytes",
    )
}


def measure_page(rounds: int, report: Report) -> None:
    """Print the CPU of sampling, and of sampling and polling, as shares of a core."""
    hour = FullHour()
    asyncio.run(hour.poll(1))  # the templates are compiled
    length_bytes = 0

    def sample_ms() -> float:
        started_s = time.process_time()
        for _ in range(_POLLS):
            hour.sampler.sample()
            hour.now_s += INTERVAL_S
        return (time.process_time() - started_s) / _POLLS * 1000

    def poll_ms() -> float:
        nonlocal length_bytes
        started_s = time.process_time()
        length_bytes = asyncio.run(hour.poll(_POLLS))
        return (time.process_time() - started_s) / _POLLS * 1000

    spent_ms = interleave({"sampling": sample_ms, "polling": poll_ms}, rounds)
    rows = []
    for name, parts in (("nobody looks", ["sampling"]), ("one looks", ["sampling", "polling"])):
        each = [sum(values) for values in zip(*(spent_ms[part] for part in parts), strict=True)]
        share = spread(each).median / 1000 / INTERVAL_S
        verdict = report.at_most(f"share of a core, {name}", share, CORE_SHARE, 4)
        rows.append([name, spread(each).show(2), f"{share:.3%}", verdict])
    report.table([f"every {INTERVAL_S:g} s", "CPU ms", "of a core", "target"], rows)
    print(f"A poll is {length_bytes / 1000:.0f} kB, uncompressed.\n")


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each measurement [15]")
    parser.add_argument("--requests", type=int, default=8000, help="hits per measurement [8000]")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report(f"Dashboard: {options.rounds} rounds of {options.requests} hits")
    compare_hits(root, options.rounds, options.requests, report)
    measure_page(options.rounds, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
