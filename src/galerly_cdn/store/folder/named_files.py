"""Reads, writes and deletes the files of a folder of renditions by their names.

A file is complete or absent: it is written to a temporary file and renamed. It is not fsynced: a power
failure may damage it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.store.folder.paths import FILE_FLAGS, locked_folder
from galerly_cdn.store.folder.rendition_file import read_header
from galerly_cdn.store.folder.renditions_index import TEMP_PREFIX, file_path
from galerly_cdn.store.temp_files import HOUR_S, lock_temp_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Rendition

_CACHEDIR_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# The renditions of galerly-cdn: every one can be made again. See https://bford.info/cachedir/
"""


class NamedFiles:
    """The files under `root`, each at most `limit_bytes` long."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Create the folder, if it is missing. Raises `OSError`."""
        self._root = root
        self._root_path = str(root)
        self._limit_bytes = limit_bytes
        _prepare(root)

    def path(self, name: bytes) -> str:
        """The path of a file, as `file_path` at a tenth of its cost."""
        digits = name.hex()
        return f"{self._root_path}/{digits[:2]}/{digits}"

    def read(self, name: bytes, *, header: bool = False) -> tuple[bytes, os.stat_result]:
        """A file's bytes, or its `header`, and its status; no bytes for what cannot be a rendition's file.

        Raises `OSError`.
        """
        fd = os.open(self.path(name), FILE_FLAGS)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self._limit_bytes:
                return b"", status
            return read_header(fd) if header else os.read(fd, status.st_size), status
        finally:
            os.close(fd)

    def touch(self, name: bytes, status: os.stat_result, now_s: float) -> None:
        """Set the file's mtime, at most once an hour: the next start takes the order of use from it."""
        if now_s - status.st_mtime > HOUR_S:
            with suppress(OSError):
                os.utime(self.path(name), (now_s, now_s), follow_symlinks=False)

    def write(
        self, name: bytes, content: bytes, find_kept: Callable[[], Rendition | None]
    ) -> Rendition | None:
        """Write a file and rename it to its name, unless another rendition is kept, which is returned.

        Raises `OSError`.
        """
        path = file_path(self._root, name)
        if not path.parent.is_dir():
            for folder in (self._root, path.parent):  # the root as well: it may have been deleted meanwhile
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temp_path = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                lock_temp_file(fd)  # first: while the folder's lock is waited for, the file looks abandoned
                with locked_folder(path.parent):
                    if (kept := find_kept()) is not None:
                        Path(temp_path).unlink()
                        return kept
                    file.write(content)
                    file.flush()
                    Path(temp_path).rename(path)
        except BaseException:
            Path(temp_path).unlink(missing_ok=True)
            raise
        return None

    def delete(self, name: bytes) -> bool:
        """Remove a file; whether there was one. Raises `OSError`."""
        try:
            Path(self.path(name)).unlink()
        except FileNotFoundError:
            return False
        return True


def _prepare(root: Path) -> None:
    """Create the folder with mode 700, tagged as a cache for backup programs. Raises `OSError`."""
    with suppress(FileExistsError):
        root.mkdir(mode=0o700, parents=True)
    with tempfile.TemporaryFile(dir=root):  # raises if it is not a folder or cannot be written to
        tag = root / "CACHEDIR.TAG"
    if not tag.is_file() or tag.read_bytes() != _CACHEDIR_TAG:
        tag.write_bytes(_CACHEDIR_TAG)
