"""Measures a start, `galerly-cdn --help`, and what a miss in a folder waits for after its render."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import photographs, proc
from benchmarks.report import Report
from benchmarks.sampling import spread
from benchmarks.servers import Client, ask_all, galerly, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

READY_S = 0.3
RESPONSE_S = 0.5
RESPONSE_CPU_S = 0.35
HELP_S = 0.15
PUT_MS = 1.0
_COMMAND = Path(sys.executable).parent / "galerly-cdn"


class Start(NamedTuple):
    """Times from exec: until the server says that it is ready, and until the first 200 has arrived."""

    ready_s: float
    response_s: float
    response_cpu_s: float


def first_response(root: Path, renditions: Path, path: str) -> Start:
    """Start the server on a folder that holds the rendition. The CPU is that of the whole process tree."""
    started_s = time.perf_counter()
    command = [str(_COMMAND), "serve", str(root), "--port", "0", "--renditions", str(renditions)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        client = Client(process.stdout.readline().decode().split()[-1])
        ready_s = time.perf_counter() - started_s
        status = client.get(path).status
        start = Start(ready_s, time.perf_counter() - started_s, proc.cpu_s(process.pid))
        client.close()
    finally:
        process.terminate()
        process.communicate()
    if status != 200:
        raise RuntimeError(f"the response to {path} has status {status}")
    return start


def help_command() -> float:
    """Wall seconds of `galerly-cdn --help`."""
    started_s = time.perf_counter()
    subprocess.run([_COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started_s


def waits_ms(root: Path, keys: Sequence[str]) -> list[float]:
    """For each of some misses in an empty folder: from the end of the render to the response, in ms."""
    with TemporaryDirectory() as scratch, galerly(root, Path(scratch)) as ours:
        answers = ask_all(ours.address, [picture(key, "400x400.jpeg") for key in keys], 1)
    stages = [dict(re.findall(r"(\w+);dur=([\d.]+)", answer.timing)) for answer in answers]
    return [float(one["put"]) + float(one["head"]) for one in stages]


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=11, help="starts of each [11]")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    keys = photographs.keys(root)
    path = picture(keys[0], "800x600.jpeg")
    starts, helps, waits = [], [], []
    with TemporaryDirectory() as scratch:
        renditions = Path(scratch)
        with galerly(root, renditions) as ours:
            ask_all(ours.address, [path], 1)
        for _ in range(options.rounds):
            starts.append(first_response(root, renditions, path))
            helps.append(help_command())
            waits += waits_ms(root, keys[:8])
    report = Report(f"Start, {options.rounds} times")
    rows = []
    for label, values, limit in (
        ("exec to ready, s", [one.ready_s for one in starts], READY_S),
        ("exec to the first 200, s", [one.response_s for one in starts], RESPONSE_S),
        ("exec to the first 200, CPU s", [one.response_cpu_s for one in starts], RESPONSE_CPU_S),
        ("`galerly-cdn --help`, s", helps, HELP_S),
        ("a folder's miss, from its render to its response, ms", waits, PUT_MS),
    ):
        verdict = report.at_most(label, spread(values).median, limit)
        rows.append([label, spread(values).show(), f"{min(values):.2f}", verdict])
    report.table(["", "median (quartiles)", "fastest", "target"], rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
