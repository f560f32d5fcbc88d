"""What do a process and its descendants cost? CPU and memory, read from Linux' /proc.

Children that have ended count: whoever waited for them inherits their CPU time.
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
_QUIET_S = 0.1
_POLL_S = 0.01


class Memory(NamedTuple):
    """Of a whole tree: RSS counts a page once for each process that shares it, PSS once in all."""

    rss_bytes: int
    pss_bytes: int


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for one in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """User and system time of the tree so far, of children that have ended too."""
    spent_s = 0.0
    for one in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()
            spent_s += time.clock_gettime(_clock_of(one))
            spent_s += sum(map(int, fields[_CHILDREN_UTIME : _CHILDREN_UTIME + 2])) / _TICKS_PER_S
    return spent_s


def _clock_of(pid: int) -> int:
    """The CPU clock of a process, in nanoseconds: clock_getcpuclockid(3); /proc/PID/stat has 10 ms."""
    return (~pid << 3) | 2


def settle(pid: int) -> None:
    """Wait until the tree has stopped working: late workers have started, freed memory is given back."""
    before_s, spent_s = -1.0, cpu_s(pid)
    while spent_s - before_s > _QUIET_S / 20:
        time.sleep(_QUIET_S)
        before_s, spent_s = spent_s, cpu_s(pid)


def memory(pid: int) -> Memory:
    """RSS and PSS of the tree, now."""
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
    """The largest RSS one process has had so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def watched(pid: int) -> Iterator[list[Memory]]:
    """The tree's memory every 10 ms, until the block ends."""
    seen = [memory(pid)]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_S):
            seen.append(memory(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
