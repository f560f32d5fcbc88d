"""Stores uploads as originals in a folder, durably and atomically.

- An upload is received in the reserved folder of the root, in a file that its writer locks (`temp_files`).
  The files of a killed writer are removed at the next start.
- The file is fsynced, then linked to its name (which fails if the name is taken) or renamed over it. Then
  the folders are fsynced. The upload is acknowledged only after that.
- A key that the file system would store under another name is refused; no key is ever mapped
  (`upload_paths`).
- A put runs in a thread, on a descriptor of its own: a cancelled caller does not interrupt it.
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
from galerly_cdn.store.folder.originals import FolderOriginals, head_of
from galerly_cdn.store.folder.paths import FILE_FLAGS, FOLDER, RESERVED, lock_folder
from galerly_cdn.store.folder.upload_paths import open_upload_path
from galerly_cdn.store.temp_files import UPLOAD_PREFIX, UploadFile, remove_if_abandoned, store_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.model import Head
    from galerly_cdn.store.folder.upload_paths import UploadPath

    Publish = Callable[[UploadPath], Head | None]
    """Gives the upload its name; returns None, or the head of the file that already holds the same bytes."""

T = TypeVar("T")

# The key is the cause: the file system cannot hold the name, a file is where a folder is needed, or a folder
# is where the file is needed.
_KEY_ERRORS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EILSEQ, errno.EINVAL}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_ATTEMPTS = 20
"""How often a put is tried whose folder is deleted during each attempt."""


class WritableFolderOriginals(FolderOriginals):
    """Originals as plain files, which may be uploaded, replaced and deleted.

    Raises `SettingsError` also if the root cannot be written to, or is on a file system without hard links:
    only `link` takes a name in one step and fails if it is taken.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        root: Path,
        checked_key: Callable[[str], str],
        *,
        now: Callable[[], float],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,  # noqa: TID251 - it waits for the clock to tick
        private_folders: tuple[str, ...] = (),
        stale_s: float = 0.0,
    ) -> None:
        super().__init__(
            root, checked_key, now=now, wait=wait, private_folders=private_folders, stale_s=stale_s
        )
        self._upload_folder = Path(self._root, RESERVED)
        self._publish_lock = threading.Lock()
        try:
            _prepare(self._upload_folder, now())
        except OSError as error:
            why = "its file system has no hard links" if error.errno in _NO_HARD_LINKS else error.strerror
            raise SettingsError([f"originals: cannot store uploads in {root}: {why}"]) from error

    def upload_file(self) -> UploadFile:
        """A file in the reserved folder, with mode 600. Raises `StoreRefused`, `StoreUnreachable`."""
        with store_errors():
            self._upload_folder.mkdir(mode=0o700, exist_ok=True)
        return UploadFile(self._upload_folder)

    async def put(
        self,
        key: str,
        upload: UploadFile,
        *,
        media_type: str,  # noqa: ARG002 - a file has no media type
        md5: str,
        replaces: bool,
    ) -> tuple[Head, bool]:
        """Store an upload. Raises as the interface says."""
        publish = partial(_replace, upload.path) if replaces else partial(_create, upload.path, md5)
        with store_errors():
            fd = os.dup(upload.fd)
        return await _run_to_end(partial(self._put, key, fd, publish))

    async def delete(self, key: str) -> bool:
        """Remove an original and the folders it leaves empty; whether there was one. Raises as `put` does."""
        return await _run_to_end(partial(self._delete, key, None))

    async def delete_unchanged(self, key: str, version: str) -> bool:
        """Remove an original that still has this version. Raises as the interface says.

        A server that replaces it meanwhile waits: it locks the folder, too. Other programs do not.
        """
        return await _run_to_end(partial(self._delete, key, version))

    def _put(self, key: str, fd: int, publish: Publish) -> tuple[Head, bool]:
        try:
            with store_errors():
                for _ in range(_ATTEMPTS):
                    with suppress(FileNotFoundError):  # its folder, or the file of its name, was just deleted
                        return self._put_once(key, fd, publish)
        finally:
            os.close(fd)
        raise StoreUnreachable("the upload's file is gone, or its folder was deleted at every attempt")

    def _put_once(self, key: str, fd: int, publish: Publish) -> tuple[Head, bool]:
        """One attempt. Raises `OSError` too."""
        try:
            with open_upload_path(self._root, key, creates=True) as found:
                # Readable by those who may read its folder
                os.fchmod(fd, os.fstat(found.folder_fd).st_mode & 0o666)
                os.fsync(fd)
                with self._publish_lock:
                    existing = publish(found)
                found.fsync_folders()
                return existing or head_of(os.fstat(fd)), existing is None
        except (OSError, UnicodeEncodeError) as error:
            if isinstance(error, OSError) and error.errno not in _KEY_ERRORS:
                raise
            raise KeyNotHeld(str(error)) from error

    def _delete(self, key: str, version: str | None) -> bool:
        """Remove a file, of this version if it is not None."""
        try:
            with open_upload_path(self._root, key, creates=False) as found:
                if version is not None:
                    lock_folder(found.folder_fd)
                status = found.status()
                if status is None or version not in {None, head_of(status).version}:
                    return False
                os.unlink(found.name, dir_fd=found.folder_fd)
                os.fsync(found.folder_fd)
                found.remove_empty_folders()
                return True
        except (FileNotFoundError, UnicodeEncodeError):
            return False
        except OSError as error:
            if error.errno in _KEY_ERRORS:
                return False
            with store_errors():
                raise


def _prepare(folder: Path, now_s: float) -> None:
    """Create and sweep the reserved folder, and try a hard link in it. Raises `OSError`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder_fd = os.open(folder, FOLDER)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(UPLOAD_PREFIX):
                    remove_if_abandoned(entry.path, now_s)
        _try_hard_link(folder)
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def _create(upload: Path, md5: str, found: UploadPath) -> Head | None:
    """Take the name if it is free. Raises `OriginalExists`, `KeyNotHeld`, `OSError`."""
    try:
        os.link(upload, found.name, dst_dir_fd=found.folder_fd, follow_symlinks=False)
    except FileExistsError:
        return _head_of_same(md5, found)
    # Before the head is taken: removing a link changes the ctime, hence the version
    upload.unlink(missing_ok=True)
    found.verify()
    return None


def _replace(upload: Path, found: UploadPath) -> Head | None:
    """Take the name, over the file that has it. Raises `KeyNotHeld`, `OSError`."""
    lock_folder(found.folder_fd)  # `delete_unchanged` compares and deletes meanwhile
    found.status()
    os.rename(upload, found.name, dst_dir_fd=found.folder_fd)
    found.verify()
    return None


def _head_of_same(md5: str, found: UploadPath) -> Head:
    """The head of the file that has the name, if it holds the same bytes; it is fsynced first.

    Raises `OriginalExists` for other bytes.
    """
    found.status()
    with os.fdopen(os.open(found.name, FILE_FLAGS, dir_fd=found.folder_fd), "rb") as file:
        if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() != md5:
            raise OriginalExists
        os.fsync(file.fileno())
        return head_of(os.fstat(file.fileno()))


async def _run_to_end(work: Callable[[], T]) -> T:
    """Run `work` in a thread, to its end even if the caller is cancelled."""
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, work))


def _try_hard_link(folder: Path) -> None:
    """Raises `OSError` where the file system has none.

    Another process that starts now may take the file for abandoned, and remove it.
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            with tempfile.NamedTemporaryFile(prefix=UPLOAD_PREFIX, dir=folder) as trial:
                linked = Path(f"{trial.name}-linked")
                os.link(trial.name, linked)
                linked.unlink(missing_ok=True)
        except FileNotFoundError:
            if not left:
                raise
        else:
            return
