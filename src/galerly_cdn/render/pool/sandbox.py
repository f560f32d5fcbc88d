"""What may a worker process no longer do, once it has loaded its code and before it sees an original?

Every limit is the kernel's, and holds where the kernel grants it: the worker says which ones do
(`Hello.confined`), so that an operator sees what macOS, an old kernel or a container leaves out.
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
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_PATH_BENEATH = 1
_LANDLOCK_READ = 0b1100
_LANDLOCK_VERSION = 1
_LANDLOCK_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights over files a kernel's Landlock knows, by its version; later ones know 16."""


def apply_limits(bounds: WorkerLimits) -> tuple[str, ...]:
    """Give up memory, files, core dumps, privileges and the network; the names of what held.

    Call it while the process has one thread: a user namespace is refused to more.
    """
    limits = {
        "memory": (resource.RLIMIT_AS, bounds.memory_bytes),
        "file-size": (resource.RLIMIT_FSIZE, 0),
        "open-files": (resource.RLIMIT_NOFILE, _OPEN_FILES),
        "core": (resource.RLIMIT_CORE, 0),
    }
    held = [name for name, (which, most) in limits.items() if _limit(which, most)]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        steps: dict[str, Callable[[], int]] = {
            "parent-death": lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
            "no-new-privileges": lambda: libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            "no-network": lambda: _leave_network(libc),
        }
        held += [name for name, step in steps.items() if step() == 0]
    return tuple(held)


def extend_cpu_limit(more_s: float) -> None:
    """Let the process use `more_s` of CPU from now; the kernel ends it beyond.

    The second line: the server kills by the wall clock, and this holds when the server is stopped.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + more_s) + 1, hard))


def drop_privileges() -> tuple[str, ...]:
    """Give up opening files, for good, but for reading Python's own library (Landlock).

    A decoder that is taken over then has the original it was given, and no other. The library stays,
    because Python loads codecs when a text first asks for one.
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
    library = os.open(os.path.dirname(os.__file__), os.O_RDONLY)  # noqa: PTH120 - nothing imported for it
    beneath = struct.pack("=Qi", _LANDLOCK_READ, library)
    failed = libc.syscall(_LANDLOCK_ADD_RULE, rules, _LANDLOCK_PATH_BENEATH, beneath, 0) or libc.syscall(
        _LANDLOCK_RESTRICT_SELF, rules, 0
    )
    os.close(library)
    os.close(rules)
    return () if failed else ("no-files",)


def memory_meter() -> Callable[[], int]:
    """What tells the memory the process holds, in bytes; on macOS the most it ever held."""
    if sys.platform != "linux":
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return lambda: int(os.pread(statm, 64, 0).split()[1]) * page_bytes


def _limit(which: int, most: int) -> bool:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    try:
        resource.setrlimit(which, (most, most))
    except (ValueError, OSError):
        return False
    return True


def _leave_network(libc: ctypes.CDLL) -> int:
    """An empty network namespace: root may take one, others within a user namespace of their own."""
    failed: int = libc.unshare(_CLONE_NEWNET) and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    return failed
