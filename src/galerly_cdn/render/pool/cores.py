"""Counts the processor cores that this process may use, by its affinity and by its control groups' quota.

A container with `--cpus 2` and a service with `CPUQuota=200%` may run on every core of the machine, and get
the time of two (cgroups(7); the kernel's documents "Control Group v2", "CPU Interface Files", and "CFS
Bandwidth Control").
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_V2_FILES = ("cpu.max",)
_V1_FILES = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def quota_files(cgroups: str) -> Iterator[tuple[str, ...]]:
    """The files with the quotas that hold for a process: those of its groups and of all groups above them.

    `cgroups` is the text of its `/proc/PID/cgroup`. The texts of each tuple's files, joined, are a quota. A
    container sees its own group as the root, and often not the path that is written there.
    """
    for controllers, path in re.findall(r"^\d+:([^:]*):/+(.*)$", cgroups, re.MULTILINE):
        if controllers and "cpu" not in controllers.split(","):
            continue
        root, names = ("sys/fs/cgroup/cpu", _V1_FILES) if controllers else ("sys/fs/cgroup", _V2_FILES)
        group = PurePosixPath(path)
        for folder in (group, *group.parents):
            yield tuple(str(root / folder / name) for name in names)


def cores_within(cores: int, quotas: Iterable[str]) -> int:
    """The least of `cores` and of the quotas, each rounded up.

    A quota is the microseconds that may be used in each period, and those of the period: `200000 100000` is
    2 cores. `max`, -1 in version 1, and any other text are no quota.
    """
    return min([cores, *(_cores_of(one, cores) for one in quotas)])


def available_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use. `root` has the folders `proc` and `sys`."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    quotas = (
        " ".join(_text(root / one) for one in files)
        for files in quota_files(_text(root / "proc/self/cgroup"))
    )
    return cores_within(len(os.sched_getaffinity(0)), quotas)


def _cores_of(quota: str, otherwise: int) -> int:
    try:
        allowed_us, period_us = map(int, quota.split())
    except ValueError:
        return otherwise
    return -(-allowed_us // period_us) if allowed_us > 0 and period_us > 0 else otherwise


def _text(file: Path) -> str:
    """The text of a file of the kernel; empty if this machine does not have it."""
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""
