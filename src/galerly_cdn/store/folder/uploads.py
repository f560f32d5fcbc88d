"""How does an upload become an original in a folder? In one step, and for good.

- It waits in the reserved folder of the root, locked by its writer (`claim`); what a killed one left is
  swept at the next start.
- It is fsynced, then linked to its name, which refuses a name that is taken, or renamed over it; then the
  folders are fsynced. Only then is it acknowledged.
- What the file system would file under another name is refused: nothing is ever mapped (`berth`).
- All of it in a thread, on a descriptor of its own: a caller who is cancelled meanwhile disturbs nothing.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from galerly_cdn.errors import KeyNotHeld, OriginalExists, SettingsError, StoreUnreachable
from galerly_cdn.store.folder.originals import FILE, FolderOriginals, head_of
from galerly_cdn.store.folder.paths import FOLDER, RESERVED
from galerly_cdn.store.folder.upload_paths import open_upload_path
from galerly_cdn.store.temp_files import PREFIX, UploadFile, remove_if_abandoned, write_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.model import Head
    from galerly_cdn.store.folder.upload_paths import UploadPath

    Place = Callable[[UploadPath], Head | None]
    """Gives what was spooled its name; None, or the head of the same bytes if they have the name already."""

T = TypeVar("T")

# The key is at fault: a name this file system cannot hold, a file where a folder is, or the other way round.
_UNHELD = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EILSEQ, errno.EINVAL}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_ATTEMPTS = 20
"""Of a put whose gallery is deleted under it, again and again."""


class WritableFolderOriginals(FolderOriginals):
    """Originals as plain files, which may be uploaded, replaced and deleted.

    Raises `SettingsError` too if the root cannot be written to, or is on a file system without hard links:
    there no name can be taken only if it is free, in one step.
    """

    def __init__(
        self,
        root: Path,
        checked_key: Callable[[str], str],
        *,
        now: Callable[[], float],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,  # noqa: TID251 - a clock's tick passes
    ) -> None:
        super().__init__(root, checked_key, now=now, wait=wait)
        self._waiting = Path(self._root, RESERVED)
        self._turn = threading.Lock()
        try:
            _prepare(self._waiting, now())
        except OSError as error:
            why = "it has no hard links" if error.errno in _NO_LINKS else error.strerror
            raise SettingsError([f"originals: cannot take uploads into {root}: {why}"]) from error

    def upload_file(self) -> UploadFile:
        """A file in the reserved folder, readable by us alone. Raises as writing to it does."""
        with write_errors():
            self._waiting.mkdir(mode=0o700, exist_ok=True)
        return UploadFile(self._waiting)

    async def put(
        self,
        key: str,
        upload: UploadFile,
        *,
        media_type: str,  # noqa: ARG002 - a file's bytes say it
        md5: str,
        replaces: bool,
    ) -> tuple[Head, bool]:
        """Store what was spooled. Raises as the interface says."""
        place = partial(_replace, upload.path) if replaces else partial(_create, upload.path, md5)
        with write_errors():
            fd = os.dup(upload.fd)
        return await _finished(partial(self._put, key, fd, place))

    async def delete(self, key: str) -> bool:
        """Remove, and the folders that are empty then; whether there was one. Raises as `put` does."""
        return await _finished(partial(self._delete, key))

    def _put(self, key: str, fd: int, place: Place) -> tuple[Head, bool]:
        try:
            with write_errors():
                for _ in range(_ATTEMPTS):
                    with suppress(FileNotFoundError):  # its gallery, or what had its name, was just deleted
                        return self._placed(key, fd, place)
        finally:
            os.close(fd)
        raise StoreUnreachable("what was spooled is gone, or its gallery is deleted all the time")

    def _placed(self, key: str, fd: int, place: Place) -> tuple[Head, bool]:
        """One attempt. Raises `OSError` too."""
        try:
            with open_upload_path(self._root, key, makes=True) as found:
                os.fchmod(fd, os.fstat(found.folder_fd).st_mode & 0o666)  # open to whom its gallery is
                os.fsync(fd)
                with self._turn:
                    there = place(found)
                found.settle()
                return there or head_of(os.fstat(fd)), there is None
        except (OSError, UnicodeEncodeError) as error:
            if isinstance(error, OSError) and error.errno not in _UNHELD:
                raise
            raise KeyNotHeld(str(error)) from error

    def _delete(self, key: str) -> bool:
        try:
            with open_upload_path(self._root, key, makes=False) as found:
                if found.status() is None:
                    return False
                os.unlink(found.name, dir_fd=found.folder_fd)
                os.fsync(found.folder_fd)
                found.prune()
                return True
        except (FileNotFoundError, UnicodeEncodeError):
            return False
        except OSError as error:
            if error.errno in _UNHELD:
                return False
            with write_errors():
                raise


def _prepare(waiting: Path, now_s: float) -> None:
    """Sweep the reserved folder; try what every upload will need. Raises `OSError`."""
    waiting.mkdir(mode=0o700, exist_ok=True)
    folder_fd = os.open(waiting, FOLDER)
    try:
        with os.scandir(waiting) as entries:
            for entry in entries:
                if entry.name.startswith(PREFIX):
                    remove_if_abandoned(entry, now_s)
        with tempfile.NamedTemporaryFile(prefix=PREFIX, dir=waiting) as trial:
            linked = Path(f"{trial.name}-linked")
            os.link(trial.name, linked)
            linked.unlink()
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def _create(spooled: Path, md5: str, found: UploadPath) -> Head | None:
    """Take the name if it is free. Raises `OriginalExists`, `KeyNotHeld`, `OSError`."""
    try:
        os.link(spooled, found.name, dst_dir_fd=found.folder_fd, follow_symlinks=False)
    except FileExistsError:
        return _same(md5, found)
    spooled.unlink(missing_ok=True)  # now: a link less is a new change time, and so a new version
    found.keep()
    return None


def _replace(spooled: Path, found: UploadPath) -> Head | None:
    """Take the name, whoever has it. Raises `KeyNotHeld`, `OSError`."""
    found.status()
    os.rename(spooled, found.name, dst_dir_fd=found.folder_fd)
    found.keep()
    return None


def _same(md5: str, found: UploadPath) -> Head:
    """The head of what has the name, if it is the same bytes: durable too, before we say so."""
    found.status()
    with os.fdopen(os.open(found.name, FILE, dir_fd=found.folder_fd), "rb") as file:
        if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() != md5:
            raise OriginalExists
        os.fsync(file.fileno())
        return head_of(os.fstat(file.fileno()))


async def _finished(work: Callable[[], T]) -> T:
    """Run it in a thread, to its end, even if the caller is cancelled."""
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, work))
