"""Runs inside the process that has loaded libvips, and forks a worker for each `Start` of the server.

A fork of a loaded process takes a few milliseconds, and shares its memory; loading takes some 80 ms of CPU.
The fork server never gets an original, and runs no operation of libvips. Every worker restricts itself
after its fork, as if it had been started alone.

A worker is a child of the server, not of the fork server (clone(2), CLONE_PARENT): the server waits for its
exit, the parent-death signal follows the server, and a fork server that ends takes no worker with it. Where
that is not possible, the process becomes the one worker itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import signal
import sys
from typing import TYPE_CHECKING

from galerly_cdn.render.pool import protocol

if TYPE_CHECKING:
    import socket

_CLONE = {"x86_64": 56, "aarch64": 220}
"""The number of the system call clone(2) on each machine."""
_CLONE_PARENT = 0x8000
_REFUSED = -1


def wait_for_start(control: socket.socket, *, is_loaded: bool) -> tuple[protocol.Start, int] | None:
    """Fork workers until the server closes `control`.

    Returns in each worker, with its start message and its socket's descriptor; and in the fork server at the
    end, with None. A process that is not loaded becomes the first worker, to report why.
    """
    gc.freeze()  # a collection would write to every object, and copy the memory that is shared
    while True:
        try:
            message, fds = protocol.receive_message(control, 2)
        except (EOFError, ConnectionResetError):
            return None
        if not isinstance(message, protocol.Start) or len(fds) != 2:
            raise protocol.ProtocolError(f"expected Start with two file descriptors, received {message!r}")
        pid = _fork() if is_loaded else _REFUSED
        if pid > 0:
            for fd in fds:
                os.close(fd)
        elif pid == _REFUSED:
            pid = os.getpid()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server has gone meanwhile
            if pid:
                protocol.send_message(control, protocol.Started(pid))
        if pid in {0, os.getpid()}:
            control.close()
            return message, _become_worker(*fds)


def _become_worker(server: int, stderr: int) -> int:
    """Use a stderr and a process group of its own; the descriptor of the worker's socket."""
    os.dup2(stderr, 2)
    os.close(stderr)
    with contextlib.suppress(OSError):  # it leads its group already
        os.setpgid(0, 0)
    return server


def _fork() -> int:
    """Fork a sibling: its process id, 0 inside it, or `_REFUSED`.

    `os.fork` would make it a child of this process. Like `os.fork`, this calls Python's functions around a
    fork. It does not run those of the C library, which keep locks consistent between threads: there is one.
    """
    number = _CLONE.get(platform.machine()) if sys.platform == "linux" else None
    if number is None or not _has_one_thread():
        return _REFUSED
    syscall = ctypes.PyDLL(None).syscall  # keeps the interpreter's lock, as `os.fork` does
    syscall.argtypes = [ctypes.c_long] * 6
    syscall.restype = ctypes.c_long
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = syscall(number, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid


def _has_one_thread() -> bool:
    """Whether this thread is the only one; False also if the kernel does not say."""
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - pathlib is not loaded here
    except OSError:
        return False
