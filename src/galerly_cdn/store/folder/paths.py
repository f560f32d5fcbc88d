"""Where in a folder is a key, and is it really there? The walk that never leaves its root.

- Every component is looked up in the opened folder before it (`dir_fd`, `O_NOFOLLOW`): a component
  swapped for a symlink in mid-walk is refused, not followed.
- A symlink is followed by hand, as long as each of its steps stays inside the root.
- The reserved folder, where uploads wait until they are accepted, is no part of any way.
- What the walk passed comes back as witnesses: while they are unchanged, so is its answer.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import NoSuchOriginal, StoreRefused, StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESERVED = ".galerly"
"""The folder in the root where uploads wait (`deposit`)."""
# The key is at fault: nothing there, or a name or path this file system cannot hold.
_ABSENT = {
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENXIO
}  # fmt: skip
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40  # Linux's own bound (path_resolution(7))
_MAX_NAMES = 200_000


class PathCheck(NamedTuple):
    """A folder or symlink passed on the way; its change time covers its name and its entries."""

    path: str
    device: int
    inode: int
    changed_ns: int

    def is_unchanged(self) -> bool:
        """Whether it is still there as it was. Raises `OSError`."""
        now = os.lstat(self.path)
        return now.st_ino == self.inode and now.st_ctime_ns == self.changed_ns and now.st_dev == self.device


class FoundPath(NamedTuple):
    """Where a walk ended: `name` in the opened `folder_fd`, neither of them reached by a symlink."""

    folder_fd: int
    name: str
    path: str
    status: os.stat_result
    witnesses: tuple[PathCheck, ...]


class DirectoryEntries:
    """The names in folders, byte for byte: on some file systems `a.jpg` also answers to `A.JPG`.

    A listing is remembered until the folder's inode, mtime or ctime changes.
    """

    def __init__(self) -> None:
        self._listings: OrderedDict[tuple[int, ...], frozenset[str]] = OrderedDict()
        self._held = 0

    def holds(self, folder_fd: int, name: str) -> bool:
        """Whether the folder has an entry spelled exactly like this, and not reserved. Raises `OSError`."""
        if name == RESERVED:
            return False
        status = os.fstat(folder_fd)
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        if name in self._listings.get(identity, ()):
            self._listings.move_to_end(identity)
            return True
        # Listed again before saying no: a folder changed twice in one clock tick looks unchanged.
        names = frozenset(os.listdir(folder_fd))
        self._remember(identity, names)
        return name in names

    def _remember(self, identity: tuple[int, ...], names: frozenset[str]) -> None:
        self._held += len(names) - len(self._listings.pop(identity, ()))
        self._listings[identity] = names
        while self._held > _MAX_NAMES and len(self._listings) > 1:
            self._held -= len(self._listings.popitem(last=False)[1])


@contextmanager
def read_errors() -> Iterator[None]:
    """A file system's errors as the store's: `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`."""
    try:
        yield
    except PermissionError as error:
        raise StoreRefused(str(error)) from error
    except UnicodeEncodeError as error:  # a name the file system's encoding has no bytes for
        raise NoSuchOriginal(str(error)) from error
    except OSError as error:
        kind = NoSuchOriginal if error.errno in _ABSENT else StoreUnreachable
        raise kind(str(error)) from error


@contextmanager
def find_path(root: str, key: str, is_entry: Callable[[int, str], bool]) -> Iterator[FoundPath]:
    """The regular file or folder that `key` names under `root`, open while in the context.

    `is_entry(folder_fd, name)` says whether a name is spelled as in its folder. An empty key is the
    root itself. Raises `NoSuchOriginal`, `StoreRefused`, `StoreUnreachable`.
    """
    with ExitStack() as opened, read_errors():
        yield _Walk(root, is_entry, opened).run(key)


class _Walk:
    """One walk: the folders it is in, innermost last, and what it passed."""

    def __init__(self, root: str, is_entry: Callable[[int, str], bool], opened: ExitStack) -> None:
        self._root = root
        self._is_entry = is_entry
        self._opened = opened
        self._folders: list[tuple[int, str]] = [(self._open_root(), root.rstrip("/"))]
        self._witnesses: list[PathCheck] = []
        self._links = 0

    def run(self, key: str) -> FoundPath:
        pending = key.split("/")[::-1] if key else []
        if not {"", ".", ".."}.isdisjoint(pending):
            raise NoSuchOriginal
        status = os.fstat(self._folders[0][0])
        name = "."
        while pending:
            name = pending.pop()
            if name in {"", ".", ".."}:  # only a symlink says these
                if name == "..":
                    self._leave()
                status, name = os.fstat(self._folders[-1][0]), "."
                continue
            folder_fd, path = self._folders[-1]
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if not self._is_entry(folder_fd, name):
                raise NoSuchOriginal
            if stat.S_ISLNK(status.st_mode):
                self._witness(f"{path}/{name}", status)
                pending += self._follow(name)[::-1]
            elif stat.S_ISDIR(status.st_mode):
                status, name = self._enter(name), "."
            elif pending or not stat.S_ISREG(status.st_mode):
                raise NoSuchOriginal
        folder_fd, path = self._folders[-1]
        return FoundPath(folder_fd, name, f"{path}/{name}", status, tuple(self._witnesses))

    def _open_root(self) -> int:
        try:
            fd = os.open(self._root, FOLDER)
        except PermissionError:
            raise
        except OSError as error:  # unmounted or moved: not the same as an original deleted
            raise StoreUnreachable(str(error)) from error
        self._opened.callback(os.close, fd)
        return fd

    def _enter(self, name: str) -> os.stat_result:
        folder_fd, path = self._folders[-1]
        fd = os.open(name, FOLDER, dir_fd=folder_fd)
        self._opened.callback(os.close, fd)
        status = os.fstat(fd)
        self._witness(f"{path}/{name}", status)
        self._folders.append((fd, f"{path}/{name}"))
        return status

    def _follow(self, name: str) -> list[str]:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise NoSuchOriginal("too many symlinks")
        target = os.readlink(name, dir_fd=self._folders[-1][0])
        if target.startswith("/"):
            below = self._folders[0][1] + "/"
            if not target.startswith(below):
                raise NoSuchOriginal("a symlink leads out of the root")
            del self._folders[1:]
            target = target[len(below) :]
        return target.split("/")

    def _leave(self) -> None:
        if len(self._folders) == 1:
            raise NoSuchOriginal("a symlink leads out of the root")
        self._folders.pop()

    def _witness(self, path: str, status: os.stat_result) -> None:
        self._witnesses.append(PathCheck(path, status.st_dev, status.st_ino, status.st_ctime_ns))
