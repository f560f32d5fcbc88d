"""Measures the CPU per hit from memory, per hit from disk and per 304.

They are compared with a minimal ASGI application under uvicorn that answers the same bytes. The latency of
hits while the render queue is full is measured too, and the CPU of all processes of `serve --processes N`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from argparse import ArgumentParser
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import photographs, proc
from benchmarks.load import keep_busy
from benchmarks.report import Report
from benchmarks.sampling import interleave, percentile, ratios, spread
from benchmarks.servers import Client, application, ask_all, galerly, picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.servers import Answer, Running

OVER_BARE = 1.2
ABOVE_BARE_US = 20.0
DISK_OVER_MEMORY = 1.3
P99_MS = 25.0
BEFORE_OVER_BARE = 2.85
"""A hit ÷ a bare response before hits were answered while parsed, as decision 27 measured it."""
OVER_BEFORE = 3.0
_BODY_BYTES = 60_000
_QUEUE = 32
_FLOOD_CLIENTS = 64
_WIDEST_PX = 800
_SETTLED_S = 3.0
_BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
    "Accept-Language": "en-GB,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "http://localhost/",
    "Sec-Fetch-Dest": "image",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Site": "same-origin",
}
"""The headers that Firefox sends for a picture of a page."""


def nearest(root: Path, address: str) -> tuple[str, Answer]:
    """The path and the response of the 800x600 rendition whose length is closest to 60 kB."""
    paths = [picture(key, "800x600.jpeg") for key in photographs.keys(root)]
    answers = ask_all(address, paths, 2)
    return min(zip(paths, answers, strict=True), key=lambda pair: abs(len(pair[1].body) - _BODY_BYTES))


def ask(server: Running, path: str, headers: Mapping[str, str], requests: int) -> float:
    """The server's CPU per request with a browser's headers and these, in microseconds."""
    before_s = proc.cpu_s(server.pid)
    wanted = 304 if "If-None-Match" in headers else 200
    keep_busy(server.address, path, {**_BROWSER, **headers}, requests, wanted)
    return (proc.cpu_s(server.pid) - before_s) / requests * 1e6


def settle(server: Running, path: str, requests: int) -> None:
    """Request a path until its stored file is old enough for its verification to be remembered."""
    until_s = time.monotonic() + _SETTLED_S
    while time.monotonic() < until_s:
        ask(server, path, {}, requests)


def compare(root: Path, rounds: int, requests: int, report: Report) -> None:
    """Print the table of hits from memory, hits from disk and 304s."""
    with TemporaryDirectory() as scratch, ExitStack() as servers:
        memory = servers.enter_context(galerly(root, Path(scratch, "renditions")))
        disk = servers.enter_context(galerly(root, Path(scratch, "uncached"), memory_cache_bytes=0))
        path, answer = nearest(root, memory.address)
        body = Path(scratch, "body")
        body.write_bytes(answer.body)
        bare = servers.enter_context(application("benchmarks.bare", str(body)))
        for server in (memory, disk):
            settle(server, path, requests // 10)
        conditional = {"If-None-Match": answer.etag or ""}
        cpu_us = interleave(
            {
                "bare": partial(ask, bare, path, {}, requests),
                "hit from memory": partial(ask, memory, path, {}, requests),
                "hit from disk": partial(ask, disk, path, {}, requests),
                "bare 304": partial(ask, bare, path, conditional, requests),
                "304": partial(ask, memory, path, conditional, requests),
            },
            rounds,
        )
    floor = {"hit from memory": "bare", "hit from disk": "hit from memory", "304": "bare 304"}
    limits = {"hit from memory": OVER_BARE, "hit from disk": DISK_OVER_MEMORY}
    rows = []
    for name, base in floor.items():
        ratio = spread(ratios(cpu_us[name], cpu_us[base]))
        limit = limits.get(name)
        verdict = report.at_most(f"{name} ÷ {base}", ratio.median, limit) if limit else ""
        rows.append(
            [name, spread(cpu_us[name]).show(1), base, spread(cpu_us[base]).show(1), ratio.show(), verdict]
        )
    for name, base in (("hit from memory", "bare"), ("304", "bare 304")):
        above = spread([ours - theirs for ours, theirs in zip(cpu_us[name], cpu_us[base], strict=True)])
        verdict = report.at_most(f"{name}, µs above {base}", above.median, ABOVE_BARE_US, 1)
        rows.append([f"{name}, µs above {base}", "", "", "", above.show(1), verdict])
    header = [
        f"{len(answer.body) / 1000:.0f} kB",
        "ours, CPU µs",
        "compared with",
        "CPU µs",
        "ratio",
        "target",
    ]
    report.table(header, rows)


def several(root: Path, rounds: int, requests: int, report: Report) -> None:
    """Print the table of hits of one and of several serving processes."""
    cores = os.cpu_count() or 1
    with TemporaryDirectory() as scratch, ExitStack() as servers:
        running = {
            number: servers.enter_context(galerly(root, Path(scratch, str(number)), processes=number))
            for number in sorted({1, 2, cores})
        }
        path, answer = nearest(root, running[1].address)
        body = Path(scratch, "body")
        body.write_bytes(answer.body)
        bare = servers.enter_context(application("benchmarks.bare", str(body)))
        for server in running.values():
            settle(server, path, requests // 10)
        measured = {
            str(number): partial(ask, server, path, {}, requests) for number, server in running.items()
        }
        cpu_us = interleave({"bare": partial(ask, bare, path, {}, requests), **measured}, rounds)
    rows = []
    for number in running:
        spent = cpu_us[str(number)]
        used = min(number, cores)
        times = [used * one / own for one, own in zip(cpu_us["1"], spent, strict=True)]
        before = [
            used * BEFORE_OVER_BARE * floor / own for floor, own in zip(cpu_us["bare"], spent, strict=True)
        ]
        verdict = ""
        if number == cores > 1:
            verdict = report.at_least(f"{number} processes ÷ before", spread(before).median, OVER_BEFORE)
        per_s = [1e6 / own for own in spent]
        columns = (spread(spent).show(1), spread(per_s).show(0), spread(times).show(), spread(before).show())
        rows.append([str(number), *columns, verdict])
    report.table(
        ["processes", "CPU µs a hit", "hits per CPU-second", "× cores ÷ 1 process", "÷ before", "target"],
        rows,
    )


@contextmanager
def full_queue(address: str, keys: Sequence[str], sizes: Sequence[str]) -> Iterator[list[int]]:
    """Keep the render queue full: more clients than it holds request misses. Yields their statuses."""
    stop = threading.Event()
    statuses: list[int] = []
    misses = iter([picture(key, f"{size}.jpeg") for size in sizes for key in keys])

    def flood() -> None:
        client = Client(address)
        while not stop.is_set() and (path := next(misses, None)):
            while (status := client.get(path).status) == 503 and not stop.wait(0.05):
                statuses.append(status)
            statuses.append(status)
        client.close()

    threads = [threading.Thread(target=flood) for _ in range(_FLOOD_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def under_load(root: Path, hits: int, report: Report) -> None:
    """Print the latency of hits while more renders are requested than the queue holds."""
    sizes = ["800x600", *(f"{side}x{side}" for side in range(_WIDEST_PX, _WIDEST_PX - 200, -1))]
    allowed = ";".join(f"{size} jpeg=85" for size in sizes)
    with (
        TemporaryDirectory() as scratch,
        galerly(root, Path(scratch), queue_renders=_QUEUE, sizes=allowed) as ours,
    ):
        path, _ = nearest(root, ours.address)
        client = Client(ours.address)
        idle_ms = [client.get(path).duration_s * 1000 for _ in range(hits)]
        with full_queue(ours.address, photographs.keys(root), sizes[1:]) as statuses:
            while 503 not in statuses:  # until the queue is full
                client.get(path)
            statuses.clear()
            loaded_ms = [client.get(path).duration_s * 1000 for _ in range(hits)]
            flood_statuses = list(statuses)
        client.close()
    p99_ms = percentile(loaded_ms, 0.99)
    rows = [
        [label, *(f"{percentile(durations_ms, share):.1f}" for share in (0.5, 0.99, 1.0)), verdict]
        for label, durations_ms, verdict in (
            ("no other load", idle_ms, ""),
            ("queue full", loaded_ms, report.at_most("p99 of hits, ms", p99_ms, P99_MS, 1)),
        )
    ]
    report.table(["hits, wall ms", "median", "p99", "worst", "target (p99)"], rows)
    print(
        f"Meanwhile {flood_statuses.count(200)} renders were answered, {flood_statuses.count(503)} refused.\n"
    )


@contextmanager
def span_sink() -> Iterator[str]:
    """An address that takes OpenTelemetry spans and forgets them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def traced(root: Path, rounds: int, requests: int, report: Report) -> None:
    """Print the CPU per hit without traces, with every hundredth request traced, and with every one."""
    with TemporaryDirectory() as scratch, ExitStack() as servers:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = servers.enter_context(span_sink())
        os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
        running = {}
        for name, share in {"off": "", "1 %": "0.01", "100 %": "1"}.items():
            os.environ["OTEL_TRACES_SAMPLER_ARG"] = share
            server = galerly(root, Path(scratch, name), traces=bool(share))
            running[name] = servers.enter_context(server)
        path, *_ = [nearest(root, server.address)[0] for server in running.values()]
        cpu_us = interleave(
            {name: partial(ask, server, path, {}, requests) for name, server in running.items()}, rounds
        )
        above = {
            name: spread([a - b for a, b in zip(cpu_us[name], cpu_us["off"], strict=True)]).show(1)
            for name in running
        }
    rows = [[name, spread(cpu_us[name]).show(1), above[name]] for name in running]
    report.table(["traced hits", "CPU µs", "above off (quartiles)"], rows)


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.hit", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of all servers [9]")
    parser.add_argument("--requests", type=int, default=8000, help="requests per measurement [8000]")
    parser.add_argument("--processes", action="store_true", help="measure several processes only")
    parser.add_argument("--traces", action="store_true", help="measure what OpenTelemetry traces cost")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    report = Report(f"Hits: {options.rounds} rounds of {options.requests} requests, access log on")
    if options.traces:
        traced(root, options.rounds, options.requests, report)
        return report.end()
    if options.processes:
        several(root, options.rounds, options.requests, report)
        return report.end()
    compare(root, options.rounds, options.requests, report)
    several(root, options.rounds, options.requests, report)
    under_load(root, options.requests // 4, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
