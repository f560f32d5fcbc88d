"""Measures the time from exec to the first response, with a warm page cache, and of `galerly-cdn --help`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import photographs, proc
from benchmarks.report import Report
from benchmarks.sampling import spread
from benchmarks.servers import Client, ask_all, galerly, picture

if TYPE_CHECKING:
    from collections.abc import Callable

RESPONSE_S = 0.5
HELP_S = 0.15
_COMMAND = Path(sys.executable).parent / "galerly-cdn"


def first_response(root: Path, renditions: Path, path: str) -> tuple[float, float]:
    """Wall and CPU seconds from exec to a 200 for a stored rendition."""
    started_s = time.perf_counter()
    command = [str(_COMMAND), "serve", str(root), "--port", "0", "--renditions", str(renditions)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        client = Client(process.stdout.readline().decode().split()[-1])
        status = client.get(path).status
        wall_s, cpu_s = time.perf_counter() - started_s, proc.cpu_s(process.pid)
        client.close()
    finally:
        process.terminate()
        process.communicate()
    if status != 200:
        raise RuntimeError(f"the response to {path} has status {status}")
    return wall_s, cpu_s


def help_command() -> tuple[float, float]:
    """Wall and CPU seconds of `galerly-cdn --help`."""
    before, started_s = os.times(), time.perf_counter()
    subprocess.run([_COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - started_s, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, cpu_s


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=11, help="starts of each [11]")
    options = parser.parse_args()
    root = photographs.folder(options.photographs)
    path = picture(photographs.keys(root)[0], "800x600.jpeg")
    report = Report(f"Start, {options.rounds} times")
    rows = []

    def measure(label: str, run: Callable[[], tuple[float, float]], limit_s: float) -> None:
        wall_times, cpu_times = zip(*(run() for _ in range(options.rounds)), strict=True)
        wall = spread(wall_times)
        verdict = report.at_most(label, wall.median, limit_s)
        rows.append([label, wall.show(), f"{min(wall_times):.2f}", spread(cpu_times).show(), verdict])

    with TemporaryDirectory() as scratch:
        renditions = Path(scratch)
        with galerly(root, renditions) as ours:
            ask_all(ours.address, [path], 1)
        measure("exec to the first 200", lambda: first_response(root, renditions, path), RESPONSE_S)
    measure("`galerly-cdn --help`", help_command, HELP_S)
    report.table(["", "wall s (quartiles)", "fastest", "CPU s (quartiles)", "target (wall)"], rows)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
