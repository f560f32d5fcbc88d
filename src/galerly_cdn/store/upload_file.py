"""Where is an upload until it is accepted? In a file that no key leads to."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from galerly_cdn.errors import StoreRefused, StoreUnreachable
from galerly_cdn.store.temp_files import lock_temp_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

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
