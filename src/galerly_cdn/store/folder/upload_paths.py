"""Opens the folders of a key for an upload or a deletion, without symlinks and with exact names.

Reading follows a symlink inside the root (`paths`). Writing does not: one file would have two keys.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from galerly_cdn.errors import KeyNotHeld
from galerly_cdn.store.folder.paths import FOLDER
from galerly_cdn.store.temp_files import store_errors

if TYPE_CHECKING:
    from collections.abc import Iterator


class UploadPath:
    """The name of a key's file, and its open folder with all above it. The methods raise `OSError`."""

    def __init__(self, root_fd: int, name: str, opened: ExitStack) -> None:
        self.name = name
        self._opened = opened
        self._folders = [root_fd]
        self._segments: list[str] = []
        self._created: list[tuple[int, str]] = []

    @property
    def folder_fd(self) -> int:
        """The folder of the key's file."""
        return self._folders[-1]

    def enter(self, segment: str, *, creates: bool) -> None:
        """Open a subfolder. Raises `KeyNotHeld` for a symlink, and if the entry has another name."""
        parent_fd = self.folder_fd
        try:
            if stat.S_ISLNK(os.stat(segment, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                raise KeyNotHeld(f"{segment} is a symlink")
        except FileNotFoundError:
            if not creates:
                raise
            with suppress(FileExistsError):  # another upload creates it too
                os.mkdir(segment, dir_fd=parent_fd)
                self._created.append((parent_fd, segment))
        fd = os.open(segment, FOLDER, dir_fd=parent_fd)
        self._opened.callback(os.close, fd)
        _check_name(parent_fd, segment, os.fstat(fd).st_ino)
        self._folders.append(fd)
        self._segments.append(segment)

    def status(self) -> os.stat_result | None:
        """The status of the key's file; None if there is none.

        Raises `KeyNotHeld` if the entry has another name or is not a regular file, `IsADirectoryError`.
        """
        try:
            status = os.stat(self.name, dir_fd=self.folder_fd, follow_symlinks=False)
            _check_name(self.folder_fd, self.name, status.st_ino)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", self.name)
        if not stat.S_ISREG(status.st_mode):
            raise KeyNotHeld(f"{self.name} is not a regular file")
        return status

    def verify(self) -> None:
        """Check that the file just stored is listed under its exact name; else remove it.

        Raises `KeyNotHeld`.
        """
        try:
            self.status()
        except KeyNotHeld:
            os.unlink(self.name, dir_fd=self.folder_fd)
            raise

    def fsync_folders(self) -> None:
        """fsync the key's parent directories, including those that another upload has just created."""
        for fd in reversed(self._folders):
            os.fsync(fd)

    def remove_empty_folders(self) -> None:
        """Remove the folders that are empty now, innermost first."""
        with suppress(OSError):
            for parent_fd, segment in zip(self._folders[-2::-1], reversed(self._segments), strict=True):
                os.rmdir(segment, dir_fd=parent_fd)

    def remove_created_folders(self) -> None:
        """Remove the folders created for an upload that failed, unless they hold something else by now."""
        with suppress(OSError):
            for parent_fd, segment in reversed(self._created):
                os.rmdir(segment, dir_fd=parent_fd)


def _check_name(folder_fd: int, name: str, inode: int) -> None:
    """Check that the folder lists an entry of exactly this name.

    The folder is listed because a look-up also finds a name that differs by case or normalisation on some
    file systems. Raises `KeyNotHeld` if the inode is listed under another name, `FileNotFoundError` if it is
    not listed.
    """
    other_name = ""
    with os.scandir(folder_fd) as entries:
        for entry in entries:
            if entry.name == name:
                return
            if entry.inode() == inode:
                other_name = entry.name
    if other_name:
        raise KeyNotHeld(f"the file system lists {name} as {other_name}")
    raise FileNotFoundError(errno.ENOENT, "it was deleted meanwhile", name)


@contextmanager
def open_upload_path(root: str, key: str, *, creates: bool) -> Iterator[UploadPath]:
    """The path of `key` under `root`. With `creates`, missing folders are created, and removed on an error.

    Raises `KeyNotHeld` for hidden names, which are never listed, and for keys that the folder cannot hold
    exactly; `StoreRefused` or `StoreUnreachable` for a root that cannot be opened; `OSError` otherwise.
    """
    *folders, name = key.split("/")
    if "/." in f"/{key}":
        raise KeyNotHeld("the key contains a hidden name")
    with ExitStack() as opened:
        with store_errors():
            root_fd = os.open(root, FOLDER)
        opened.callback(os.close, root_fd)
        found = UploadPath(root_fd, name, opened)
        try:
            for segment in folders:
                found.enter(segment, creates=creates)
            yield found
        except BaseException:
            found.remove_created_folders()
            raise
