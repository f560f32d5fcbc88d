"""Restricts a worker process after it has loaded its code and before it gets an original.

The kernel enforces every limit. A kernel or container that does not support one grants less: the worker
reports the limits in force (`Ready.limits`), so that operators see what macOS, an old kernel or a
container leaves out.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.render.pool.protocol import WorkerLimits

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_OPEN_FILES = 32
_NICENESS = 10
"""Above the server's: a tenth of its weight."""
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_PATH_BENEATH = 1
_LANDLOCK_READ = 0b1100
_LANDLOCK_VERSION = 1
_LANDLOCK_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""The number of file access rights of each Landlock ABI version; later versions have 16."""


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def apply_limits(limits: WorkerLimits) -> tuple[str, ...]:
    """Limit memory, files, core dumps, privileges, network access and priority; return those in force.

    Call it while the process has one thread: the kernel refuses a user namespace to a process with more.
    """
    rlimits = {
        "memory": (resource.RLIMIT_AS, limits.memory_bytes),
        "file-size": (resource.RLIMIT_FSIZE, 0),
        "open-files": (resource.RLIMIT_NOFILE, _OPEN_FILES),
        "core": (resource.RLIMIT_CORE, 0),
    }
    in_force = [name for name, (which, maximum) in rlimits.items() if _set_limit(which, maximum)]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        calls: dict[str, Callable[[], int]] = {
            "low-priority": _lower_priority,
            "parent-death": lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
            "no-new-privileges": lambda: libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            "no-network": lambda: _enter_empty_network(libc),
        }
        in_force += [name for name, call in calls.items() if call() == 0]
    return tuple(in_force)


def extend_cpu_limit(more_s: float) -> None:
    """Allow the process `more_s` seconds of CPU from now; the kernel kills it after that.

    It is a second limit: the server kills by wall-clock time, and this one works while the server is
    stopped.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + more_s) + 1, hard))


def drop_privileges() -> tuple[str, ...]:
    """Forbid opening files, except reading Python's standard library (Landlock); return its name if in force.

    A decoder that is taken over can then read the original it was given and no other. The standard
    library stays readable because Python loads codecs when a text first needs one.
    """
    if sys.platform != "linux":
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return ()
    rights = ctypes.c_uint64((1 << _LANDLOCK_RIGHTS.get(version, 16)) - 1)
    rules = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(rights), ctypes.c_size_t(8), 0)
    if rules < 0:
        return ()
    library = os.open(os.path.dirname(os.__file__), os.O_RDONLY)  # noqa: PTH120 - pathlib is not loaded here
    beneath = struct.pack("=Qi", _LANDLOCK_READ, library)
    failed = libc.syscall(_LANDLOCK_ADD_RULE, rules, _LANDLOCK_PATH_BENEATH, beneath, 0) or libc.syscall(
        _LANDLOCK_RESTRICT_SELF, rules, 0
    )
    os.close(library)
    os.close(rules)
    return () if failed else ("no-files",)


def memory_meter() -> Callable[[], int]:
    """Return a function that returns the process's resident memory in bytes (on macOS its maximum so far)."""
    if sys.platform != "linux":
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return lambda: int(os.pread(statm, 64, 0).split()[1]) * page_bytes


def _set_limit(which: int, maximum: int) -> bool:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        maximum = min(maximum, hard)
    try:
        resource.setrlimit(which, (maximum, maximum))
    except (ValueError, OSError):
        return False
    return True


def _lower_priority() -> int:
    """Let the server run first: a hit takes less than a millisecond, a render hundreds. 0 on success.

    A batch process does not preempt another one when it wakes up (sched(7), SCHED_BATCH). SCHED_IDLE would
    stop renders for as long as any other program is busy.
    """
    try:
        os.nice(_NICENESS)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        return -1
    return 0


def _enter_empty_network(libc: ctypes.CDLL) -> int:
    """Move into an empty network namespace; without root inside a user namespace of its own. 0 on success."""
    failed: int = libc.unshare(_CLONE_NEWNET) and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    return failed
