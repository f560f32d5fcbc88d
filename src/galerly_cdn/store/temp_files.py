"""Temporary files: locked while their writer lives, and the one that an upload is written to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from galerly_cdn.errors import StoreRefused, StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


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


PREFIX = "incoming-"
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def write_errors() -> Iterator[None]:
    """A file system's errors while writing as the store's: `StoreRefused`, `StoreUnreachable`."""
    try:
        yield
    except OSError as error:
        kind = StoreRefused if error.errno in _REFUSED else StoreUnreachable
        raise kind(str(error)) from error


class UploadFile:
    """A file being filled. Use as a context manager: whatever was not accepted is gone afterwards.

    In `folder`, or where this machine keeps what is temporary. Making, writing and reading it raise
    `StoreRefused`, `StoreUnreachable`.
    """

    def __init__(self, folder: Path | None) -> None:
        with write_errors():
            self.fd, path = tempfile.mkstemp(prefix=PREFIX, dir=folder)
        lock_temp_file(self.fd)
        self.path = Path(path)
        self.length_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append."""
        left = memoryview(chunk)
        with write_errors():
            while left:
                left = left[os.write(self.fd, left) :]
        self.length_bytes += len(chunk)

    @contextlib.contextmanager
    def reader(self) -> Iterator[int]:
        """A descriptor to hand to a worker: it can only be read, and does not carry our claim on."""
        with write_errors():
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
        with contextlib.suppress(OSError):  # accepted, or left for the sweep
            self.path.unlink()
