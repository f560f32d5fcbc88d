"""Worker processes on a machine that lacks something: a kernel's limit, Landlock, a loader of libvips.

Only tests start these functions in place of a worker's `main`.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from typing import TYPE_CHECKING

from galerly_cdn.render.pool import worker

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE_RULESET = 444
_PRLIMIT64 = {"x86_64": 302, "aarch64": 261}
# struct seccomp_data (seccomp(2)): the number at offset 0, the third argument at offset 32
_NUMBER, _THIRD_ARGUMENT = (0x20, 0, 0, 0), (0x20, 0, 0, 32)
_ALLOW, _REFUSE = (0x06, 0, 0, 0x7FFF_0000), (0x06, 0, 0, 0x0005_0001)
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with EPERM."""


def main_without_landlock() -> None:
    """Run a worker as on a kernel before Linux 5.13."""
    _filter_system_calls([_NUMBER, _unless_equal(_LANDLOCK_CREATE_RULESET, 1), _REFUSE, _ALLOW])
    worker.main()


def main_without_limits() -> None:
    """Run a worker as in a container whose profile refuses to set limits; reading them is allowed."""
    number = _PRLIMIT64[platform.machine()]
    reads = [_THIRD_ARGUMENT, _unless_equal(0, 1), _ALLOW, _REFUSE]
    _filter_system_calls([_NUMBER, _unless_equal(number, len(reads)), *reads, _ALLOW])
    worker.main()


def main_without_avif() -> None:
    """Run a worker as with a libvips that has no loader for AVIF."""
    from galerly_cdn.render import decoders

    classes = tuple(one for one in decoders.ALLOWED_CLASSES if one != "Heif")
    decoders.__dict__["ALLOWED_CLASSES"] = classes
    worker.main()


def main_without_pyvips() -> None:
    """Run a worker as in an installation without pyvips."""
    sys.__dict__["modules"]["pyvips"] = None  # importing it raises then
    worker.main()


def _unless_equal(value: int, skipped: int) -> tuple[int, int, int, int]:
    """The step that skips the next `skipped` steps unless the loaded word is `value`."""
    return 0x15, 0, skipped, value


def _filter_system_calls(steps: Sequence[tuple[int, int, int, int]]) -> None:
    """Install a seccomp filter in this process."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0
