"""Where in a folder does an upload go, or a deleted original leave? Where no symlink leads, spelled exactly.

Reading follows a symlink inside the root (`confined`); writing does not: one file would have two keys.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from galerly_cdn.errors import KeyNotHeld
from galerly_cdn.store.folder.paths import FOLDER
from galerly_cdn.store.temp_files import write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator


class UploadPath:
    """A key's name in its opened folder, and the folders above it; its methods raise `OSError`."""

    def __init__(self, root_fd: int, name: str, opened: ExitStack) -> None:
        self.name = name
        self._opened = opened
        self._folders = [root_fd]
        self._spelled: list[str] = []
        self._made: list[tuple[int, str]] = []

    @property
    def folder_fd(self) -> int:
        """The folder the key's file lies in."""
        return self._folders[-1]

    def enter(self, segment: str, *, makes: bool) -> None:
        """Go down. Raises `KeyNotHeld` for a symlink and for another spelling."""
        above = self.folder_fd
        try:
            if stat.S_ISLNK(os.stat(segment, dir_fd=above, follow_symlinks=False).st_mode):
                raise KeyNotHeld(f"{segment} is a symlink")
        except FileNotFoundError:
            if not makes:
                raise
            with suppress(FileExistsError):  # somebody else makes it too
                os.mkdir(segment, dir_fd=above)
                self._made.append((above, segment))
        fd = os.open(segment, FOLDER, dir_fd=above)
        self._opened.callback(os.close, fd)
        _check_spelling(above, segment, os.fstat(fd).st_ino)
        self._folders.append(fd)
        self._spelled.append(segment)

    def status(self) -> os.stat_result | None:
        """The file that is here; None for nothing.

        Raises `KeyNotHeld` for what is spelled otherwise and what is no file, `IsADirectoryError`.
        """
        try:
            status = os.stat(self.name, dir_fd=self.folder_fd, follow_symlinks=False)
            _check_spelling(self.folder_fd, self.name, status.st_ino)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder", self.name)
        if not stat.S_ISREG(status.st_mode):
            raise KeyNotHeld(f"{self.name} is no regular file")
        return status

    def keep(self) -> None:
        """Check how what was just put here is listed. Raises `KeyNotHeld`, and has removed it then."""
        try:
            self.status()
        except KeyNotHeld:
            os.unlink(self.name, dir_fd=self.folder_fd)
            raise

    def settle(self) -> None:
        """Have the entries that lead here survive a power cut; also those that somebody else just made."""
        for fd in reversed(self._folders):
            os.fsync(fd)

    def prune(self) -> None:
        """Remove the folders that are empty now, from here upwards."""
        with suppress(OSError):
            for above, segment in zip(self._folders[-2::-1], reversed(self._spelled), strict=True):
                os.rmdir(segment, dir_fd=above)

    def unmake(self) -> None:
        """Remove the folders made for what then did not come, where nothing else came."""
        with suppress(OSError):
            for above, segment in reversed(self._made):
                os.rmdir(segment, dir_fd=above)


def _check_spelling(folder_fd: int, name: str, inode: int) -> None:
    """Listed, not looked up: a file system may take a twin by case or normalisation for it.

    Raises `KeyNotHeld` if what was found by `name` is listed by another one, `FileNotFoundError` if by none.
    """
    twin = ""
    with os.scandir(folder_fd) as entries:
        for entry in entries:
            if entry.name == name:
                return
            if entry.inode() == inode:
                twin = entry.name
    if twin:
        raise KeyNotHeld(f"{name} is {twin} there")
    raise FileNotFoundError(errno.ENOENT, "deleted meanwhile", name)


@contextmanager
def open_upload_path(root: str, key: str, *, makes: bool) -> Iterator[UploadPath]:
    """The place of `key` under `root`, its folders made if asked, and removed again if the context fails.

    Raises `KeyNotHeld` for hidden names, which are never listed, and what the folder cannot hold exactly;
    `StoreRefused` or `StoreUnreachable` for a root that cannot be opened; else `OSError`.
    """
    *above, name = key.split("/")
    if "/." in f"/{key}":
        raise KeyNotHeld("a hidden name")
    with ExitStack() as opened:
        with write_errors():
            root_fd = os.open(root, FOLDER)
        opened.callback(os.close, root_fd)
        found = UploadPath(root_fd, name, opened)
        try:
            for segment in above:
                found.enter(segment, makes=makes)
            yield found
        except BaseException:
            found.unmake()
            raise
