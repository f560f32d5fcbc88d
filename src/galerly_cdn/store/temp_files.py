"""Whose is a temporary file? Its writer's, while the writer lives: the lock on it dies with the process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

HOUR_S = 3600


def lock_temp_file(fd: int) -> None:
    """Lock a temporary file that was just made, so that nobody sweeps it away."""
    with suppress(OSError):  # a file system without locks: age decides, see `sweep`
        fcntl.flock(fd, fcntl.LOCK_EX)


def remove_if_abandoned(entry: os.DirEntry[str], now_s: float) -> None:
    """Remove a temporary file whose writer is gone, or that is an hour old.

    Age decides where the file system has no locks. A writer robbed of its file has stored nothing.
    """
    with suppress(OSError):
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_mtime > now_s - HOUR_S:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(entry.path).unlink()
        finally:
            os.close(fd)
