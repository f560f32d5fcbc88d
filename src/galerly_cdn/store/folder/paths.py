"""Finds the file of a key under a root without leaving the root.

- Each component is looked up in the opened folder before it (`dir_fd`, `O_NOFOLLOW`): a component that is
  replaced by a symlink during the walk is refused, not followed.
- A symlink is resolved step by step, and refused as soon as a step leads out of the root.
- The reserved folder, which holds uploads until they are accepted, is never entered.
- The result includes a `PathCheck` for each folder and symlink on the path: while all of them are unchanged,
  the result is still valid.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import OrderedDict
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import NoSuchOriginal, disk_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RESERVED = ".galerly"
"""The folder in the root that holds uploads until they are accepted (`uploads`)."""
# The key is the cause: nothing is there, or the file system cannot hold such a name or path.
_ABSENT = {
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENXIO
}  # fmt: skip
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO in place of the file would block the server until somebody writes to it.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_SYMLINKS = 40  # the limit of Linux (path_resolution(7))
_MAX_NAMES = 200_000


class PathCheck(NamedTuple):
    """The state of a folder or symlink on a path. Its change time covers its name and its entries."""

    path: str
    device: int
    inode: int
    changed_ns: int

    def is_unchanged(self) -> bool:
        """Whether it is still there, unchanged. Raises `OSError`."""
        now = os.lstat(self.path)
        return now.st_ino == self.inode and now.st_ctime_ns == self.changed_ns and now.st_dev == self.device


class FoundPath(NamedTuple):
    """The end of a walk: `name` in the opened folder `folder_fd`, with all symlinks resolved."""

    folder_fd: int
    name: str
    path: str
    status: os.stat_result
    checks: tuple[PathCheck, ...]


def leads_into(folders: tuple[str, ...], root: str, key: str, path: str) -> bool:
    """Whether a key outside `folders` was resolved, by symlinks, to a path in one of them.

    The folders are relative to the root, each with its final slash (`access.authorizer.private_folders`).
    """
    resolved = path[len(root.rstrip("/")) + 1 :].removesuffix(".")
    return any(f"{resolved}/".startswith(one) and not f"{key}/".startswith(one) for one in folders)


class DirectoryEntries:
    """Caches the names of folders' entries, byte for byte.

    A look-up is not enough: on some file systems `A.JPG` also finds `a.jpg`. A listing is cached until the
    folder's inode, mtime or ctime changes.
    """

    def __init__(self) -> None:
        self._listings: OrderedDict[tuple[int, ...], frozenset[str]] = OrderedDict()
        self._cached_names = 0

    def contains(self, folder_fd: int, name: str) -> bool:
        """Whether the folder has an entry of exactly this name that is not reserved. Raises `OSError`."""
        if name == RESERVED:
            return False
        status = os.fstat(folder_fd)
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        if name in self._listings.get(identity, ()):
            self._listings.move_to_end(identity)
            return True
        # List again before answering no: a folder that changed twice in one clock tick looks unchanged.
        names = frozenset(os.listdir(folder_fd))
        self._cache(identity, names)
        return name in names

    def _cache(self, identity: tuple[int, ...], names: frozenset[str]) -> None:
        self._cached_names += len(names) - len(self._listings.pop(identity, ()))
        self._listings[identity] = names
        while self._cached_names > _MAX_NAMES and len(self._listings) > 1:
            self._cached_names -= len(self._listings.popitem(last=False)[1])


@contextmanager
def original_errors() -> Iterator[None]:
    """Raises `NoSuchOriginal`, `StoreRefused` or `StoreUnreachable` for an error of the file system."""
    try:
        yield
    except UnicodeEncodeError as error:  # the file system's encoding cannot represent the name
        raise NoSuchOriginal(str(error)) from error
    except OSError as error:
        raise (NoSuchOriginal(str(error)) if error.errno in _ABSENT else disk_fault(error)) from error


@contextmanager
def find_path(root: str, key: str, is_entry: Callable[[int, str], bool]) -> Iterator[FoundPath]:
    """The regular file or folder that `key` names under `root`; its folders are open during the context.

    `is_entry(folder_fd, name)` returns whether the folder has an entry of exactly this name. An empty key
    names the root. Raises `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`.
    """
    with ExitStack() as opened, original_errors():
        yield _Walk(root, is_entry, opened).run(key)


class _Walk:
    """One walk: its open folders, innermost last, and the checks of what it has passed."""

    def __init__(self, root: str, is_entry: Callable[[int, str], bool], opened: ExitStack) -> None:
        self._root = root
        self._is_entry = is_entry
        self._opened = opened
        self._folders: list[tuple[int, str]] = [(self._open_root(), root.rstrip("/"))]
        self._checks: list[PathCheck] = []
        self._symlinks = 0

    def run(self, key: str) -> FoundPath:
        pending = key.split("/")[::-1] if key else []
        if not {"", ".", ".."}.isdisjoint(pending):
            raise NoSuchOriginal
        status = os.fstat(self._folders[0][0])
        name = "."
        while pending:
            name = pending.pop()
            if name in {"", ".", ".."}:  # only a symlink's target contains these
                if name == "..":
                    self._leave()
                status, name = os.fstat(self._folders[-1][0]), "."
                continue
            folder_fd, path = self._folders[-1]
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if not self._is_entry(folder_fd, name):
                raise NoSuchOriginal
            if stat.S_ISLNK(status.st_mode):
                self._add_check(f"{path}/{name}", status)
                pending += self._follow(name)[::-1]
            elif stat.S_ISDIR(status.st_mode):
                status, name = self._enter(name), "."
            elif pending or not stat.S_ISREG(status.st_mode):
                raise NoSuchOriginal
        folder_fd, path = self._folders[-1]
        return FoundPath(folder_fd, name, f"{path}/{name}", status, tuple(self._checks))

    def _open_root(self) -> int:
        try:
            fd = os.open(self._root, FOLDER)
        except OSError as error:  # unmounted or moved: the originals are not deleted
            raise disk_fault(error) from error
        self._opened.callback(os.close, fd)
        return fd

    def _enter(self, name: str) -> os.stat_result:
        folder_fd, path = self._folders[-1]
        fd = os.open(name, FOLDER, dir_fd=folder_fd)
        self._opened.callback(os.close, fd)
        status = os.fstat(fd)
        self._add_check(f"{path}/{name}", status)
        self._folders.append((fd, f"{path}/{name}"))
        return status

    def _follow(self, name: str) -> list[str]:
        self._symlinks += 1
        if self._symlinks > _MAX_SYMLINKS:
            raise NoSuchOriginal("too many symlinks")
        target = os.readlink(name, dir_fd=self._folders[-1][0])
        if target.startswith("/"):
            root_prefix = self._folders[0][1] + "/"
            if not target.startswith(root_prefix):
                raise NoSuchOriginal("a symlink leads out of the root")
            del self._folders[1:]
            target = target[len(root_prefix) :]
        return target.split("/")

    def _leave(self) -> None:
        if len(self._folders) == 1:
            raise NoSuchOriginal("a symlink leads out of the root")
        self._folders.pop()

    def _add_check(self, path: str, status: os.stat_result) -> None:
        self._checks.append(PathCheck(path, status.st_dev, status.st_ino, status.st_ctime_ns))


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against the other processes of galerly-cdn that change what it holds.

    Between the look at a file and its replacement or removal, no other process writes. Raises `OSError`.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock_folder(fd)
        yield
    finally:
        os.close(fd)


def lock_folder(folder_fd: int) -> None:
    """Lock a folder until its descriptor is closed."""
    with suppress(OSError):  # a file system without locks: the next read puts a wrong order right
        fcntl.flock(folder_fd, fcntl.LOCK_EX)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `OSError`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
