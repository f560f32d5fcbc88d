"""Reads the CPU and memory of a process and its descendants from Linux' /proc.

The CPU time of ended children is included: a process inherits it when it waits for them.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CHILDREN_UTIME = 13
"""The field of `/proc/PID/stat` after the command's name (proc(5): field 16); CSTIME is the next."""
_SETTLE_S = 0.1
_POLL_S = 0.01


class Memory(NamedTuple):
    """The memory of a process tree: RSS counts shared pages once per process, PSS once in total."""

    rss_bytes: int
    pss_bytes: int


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    pids = [pid]
    for one in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
    return pids


def cpu_s(pid: int) -> float:
    """User and system time of the tree so far, including ended children."""
    spent_s = 0.0
    for one in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()
            spent_s += time.clock_gettime(_clock_of(one))
            spent_s += sum(map(int, fields[_CHILDREN_UTIME : _CHILDREN_UTIME + 2])) / _TICKS_PER_S
    return spent_s


def _clock_of(pid: int) -> int:
    """The id of a process's CPU clock (clock_getcpuclockid(3)), which is finer than the ticks of /proc."""
    return (~pid << 3) | 2


def settle(pid: int) -> None:
    """Wait until the tree is idle: all workers have started, and freed memory is returned."""
    before_s, spent_s = -1.0, cpu_s(pid)
    while spent_s - before_s > _SETTLE_S / 20:
        time.sleep(_SETTLE_S)
        before_s, spent_s = spent_s, cpu_s(pid)


def memory(pid: int) -> Memory:
    """The current RSS and PSS of the tree."""
    rss_bytes = pss_bytes = 0
    for one in tree(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            kib = {
                name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines[1:])
            }
            rss_bytes += kib["Rss"] * 1024
            pss_bytes += kib["Pss"] * 1024
    return Memory(rss_bytes, pss_bytes)


def peak_bytes(pid: int) -> int:
    """The peak RSS of one process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def watched(pid: int) -> Iterator[list[Memory]]:
    """Sample the tree's memory every 10 ms until the block ends. Yields the list of samples."""
    samples = [memory(pid)]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_POLL_S):
            samples.append(memory(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
