"""Where is an upload until it is accepted? In a file beside the originals that no key leads to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

PREFIX = "incoming-"


class Spool:
    """A file being filled. Use as a context manager: whatever was not accepted is gone afterwards."""

    def __init__(self, folder: str | None) -> None:
        """In `folder`, or where this machine keeps what is temporary. Raises `OSError`."""
        self.fd, path = tempfile.mkstemp(prefix=PREFIX, dir=folder)
        self.path = Path(path)
        self.length_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append. Raises `OSError`."""
        left = memoryview(chunk)
        while left:
            left = left[os.write(self.fd, left) :]
        self.length_bytes += len(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
