"""Locks temporary files so that a crashed writer's leftovers can be swept, and receives uploads in them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from galerly_cdn.errors import disk_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


HOUR_S = 3600


def lock_temp_file(fd: int) -> None:
    """Lock a new temporary file, so that `remove_if_abandoned` leaves it alone."""
    with suppress(OSError):  # a file system without locks: the file's age decides instead
        fcntl.flock(fd, fcntl.LOCK_EX)


def is_abandoned(path: str | Path, now_s: float) -> bool:
    """Whether a temporary file is no longer locked by its writer, or is more than an hour old.

    The age decides where the file system has no locks.
    """
    return _check_abandoned(path, now_s, removes=False)


def remove_if_abandoned(path: str | Path, now_s: float) -> bool:
    """Remove a temporary file that `is_abandoned`; whether it was removed.

    A writer that loses its file this way gets an error when it renames it, and stores nothing.
    """
    return _check_abandoned(path, now_s, removes=True)


def _check_abandoned(path: str | Path, now_s: float, *, removes: bool) -> bool:
    """Whether it is abandoned, and was removed if that is wanted. The lock is held during the removal."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_mtime > now_s - HOUR_S:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if removes:
                Path(path).unlink()
        finally:
            os.close(fd)
        return True
    return False


UPLOAD_PREFIX = "incoming-"
_SHARED_PREFIX = f"galerly-cdn-{UPLOAD_PREFIX}"
"""In the machine's folder for temporary files, which other programs use too."""


def sweep_shared_folder(now_s: float) -> None:
    """Remove the uploads that crashed servers left in this machine's folder for temporary files.

    Those of other users cannot be removed. Downloads leave none: their files have no names.
    """
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_SHARED_PREFIX):
                remove_if_abandoned(entry.path, now_s)


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Raises `StoreRefused` or `StoreUnreachable` for an `OSError` of the block."""
    try:
        yield
    except OSError as error:
        raise disk_fault(error) from error


def write_all(fd: int, content: bytes) -> None:
    """Write all bytes: a full disk may take a part of them first. Raises as `store_errors`."""
    rest = memoryview(content)
    with store_errors():
        while rest:
            rest = rest[os.write(fd, rest) :]


class UploadFile:
    """A temporary file that receives an upload; removed at the end of the context unless it was stored.

    It lies in `folder`, or in this machine's folder for temporary files if that is None. Creating, writing
    and reading it raise `StoreRefused`, `StoreUnreachable`.
    """

    def __init__(self, folder: Path | None) -> None:
        with store_errors():
            prefix = _SHARED_PREFIX if folder is None else UPLOAD_PREFIX
            self.fd, path = tempfile.mkstemp(prefix=prefix, dir=folder)
        lock_temp_file(self.fd)
        self.path = Path(path)
        self.length_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append a chunk."""
        write_all(self.fd, chunk)
        self.length_bytes += len(chunk)

    @contextlib.contextmanager
    def reader(self) -> Iterator[int]:
        """A read-only descriptor for a worker process.

        It is opened anew: a duplicate would share the lock, and a surviving worker would keep it.
        """
        with store_errors():
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)
        with contextlib.suppress(OSError):  # stored, or left for the sweep of the next start
            self.path.unlink()
