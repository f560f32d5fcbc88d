"""Reads the facts of this machine, and starts one render worker."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.errors import SettingsError
from galerly_cdn.insight.doctor.machine import Disk, MachineFacts
from galerly_cdn.render.libvips_version import packaged_version
from galerly_cdn.render.pool.cores import available_cores
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.locations import is_remote, renditions_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.render.pool.protocol import Ready
    from galerly_cdn.settings.table import Settings

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""The memory limit of a container, by the cgroup versions 2 and 1 (cgroups(7))."""


def read(
    settings: Settings, open_files_needed: int, describe_worker: Callable[[Settings], Ready]
) -> MachineFacts:
    """The facts. `describe_worker` starts a worker and raises `SettingsError` if none starts.

    Raises `SettingsError` for roots that cannot be used.
    """
    renditions = renditions_root(settings)
    worker, problem = None, ""
    try:
        worker = describe_worker(replaced(settings, workers=1))
    except SettingsError as error:
        problem = " ".join(error.problems)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MachineFacts(
        settings=settings,
        open_files=sys.maxsize if hard_limit == resource.RLIM_INFINITY else hard_limit,
        open_files_needed=open_files_needed,
        cores=available_cores(),
        memory_bytes=_memory_bytes(),
        renditions=None if is_remote(renditions) else _disk(Path(renditions)),
        temporary=_disk(Path(tempfile.gettempdir())),
        worker=worker,
        worker_problem=problem,
        packaged_libvips=packaged_version(),
    )


def existing_folder(path: Path) -> Path:
    """The path, or the innermost of its parents that exists."""
    return next(one for one in (path, *path.parents) if one.exists())


def _memory_bytes() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *filter(None, map(_limit, _CGROUP_LIMITS))])


def _limit(file: Path) -> int:
    """The number in a file of the kernel; 0 for none, which is also the word `max`."""
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return 0


def _disk(folder: Path) -> Disk:
    usage = shutil.disk_usage(existing_folder(folder))
    return Disk(str(folder), usage.total, usage.free)
