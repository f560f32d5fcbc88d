"""Lists the keys of a folder's tree in the order of keys, in batches of bounded size.

A folder's name sorts with its slash: `a-b` comes before `a/x`, although `a` comes before `a-b`. Code
points sort as UTF-8 bytes do.
"""

from __future__ import annotations

import heapq
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import MalformedKey, NoSuchOriginal, StoreRefused
from galerly_cdn.model import Listed
from galerly_cdn.store.folder.paths import RESERVED, find_path, leads_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BATCH_NAMES = 50_000


class ListRequest(NamedTuple):
    """Selects keys that begin with `prefix`, sort after `after` and follow the grammar of keys."""

    prefix: str
    after: str
    checked_key: Callable[[str], str]
    private_folders: tuple[str, ...]
    """Into which no symlink leads from a public folder."""

    def includes(self, key: str) -> bool:
        """Whether to list a key; for a folder (a key and a slash), whether it may contain such keys."""
        if not key.endswith("/"):
            return key.startswith(self.prefix) and key > self.after and self._is_key(key)
        matches = key.startswith(self.prefix) or self.prefix.startswith(key)
        return matches and (key > self.after or self.after.startswith(key)) and self._is_key(key[:-1])

    def _is_key(self, key: str) -> bool:
        try:
            self.checked_key(key)
        except MalformedKey:
            return False
        return True


class FolderCursor:
    """A folder that is being listed: the entries read and not yet yielded, in reverse order.

    The key of a folder's entry ends with a slash.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder  # its key and a slash, or empty for the root
        self.identity: tuple[int, int] | None = None
        self.entries: list[Listed] = []
        self.is_read = False
        self.last = ""


def read_batch(root: str, levels: list[FolderCursor], request: ListRequest) -> None:
    """Read the next entries of the innermost level; a folder that cannot be read is skipped.

    Raises `NoSuchOriginal` or `StoreRefused` for an unreadable root.
    """
    level = levels[-1]
    try:
        names = heapq.nsmallest(_BATCH_NAMES, _names(root, levels, request))
    except (NoSuchOriginal, StoreRefused):
        if not level.folder:
            raise
        names = []
    level.is_read = len(names) < _BATCH_NAMES
    level.last = names[-1] if names else ""
    level.entries = [one for name in reversed(names) if (one := _entry(root, level.folder + name))]


def _entry(root: str, key: str) -> Listed | None:
    """The entry of a key; None if it was deleted meanwhile."""
    if key.endswith("/"):
        return Listed(key, 0, 0.0)
    try:
        status = os.stat(f"{root}/{key}")  # noqa: PTH116 - called for every file: strings are faster
    except OSError:
        return None
    return Listed(key, status.st_size, status.st_mtime)


def _names(root: str, levels: list[FolderCursor], request: ListRequest) -> Iterator[str]:
    level = levels[-1]
    with find_path(root, level.folder.rstrip("/"), _is_not_reserved) as found:
        level.identity = (found.status.st_dev, found.status.st_ino)
        if any(level.identity == parent.identity for parent in levels[:-1]):
            return  # a symlink to one of its own parent folders
        if leads_into(request.private_folders, root, level.folder, found.path):
            return
        for name in _entry_names(root, level.folder, found.folder_fd, request.private_folders):
            if name > level.last and request.includes(level.folder + name):
                yield name


def folder_names(root: str, folder: str, private_folders: tuple[str, ...]) -> frozenset[str]:
    """The names of the folders in a folder; hidden ones are left out.

    Raises `StoreRefused`, `StoreUnreachable`.
    """
    try:
        with find_path(root, folder, _is_not_reserved) as found:
            if not stat.S_ISDIR(found.status.st_mode):
                return frozenset()
            key = f"{folder}/" if folder else ""
            names = list(_entry_names(root, key, found.folder_fd, private_folders))
    except NoSuchOriginal:
        return frozenset()
    return frozenset(name[:-1] for name in names if name.endswith("/"))


def _is_not_reserved(_folder_fd: int, name: str) -> bool:
    return name != RESERVED  # a symlink's target may contain it


def _entry_names(root: str, folder: str, folder_fd: int, private_folders: tuple[str, ...]) -> Iterator[str]:
    """The names of regular files, and those of folders with a slash; symlinks as what they lead to."""
    with os.scandir(folder_fd) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                yield from _symlink_name(root, folder + entry.name, entry.name, private_folders)
            elif entry.is_dir(follow_symlinks=False):
                yield entry.name + "/"
            elif entry.is_file(follow_symlinks=False):
                yield entry.name


def _symlink_name(root: str, key: str, name: str, private_folders: tuple[str, ...]) -> Iterator[str]:
    """The name of a symlink, with a slash if it leads to a folder; nothing if it leads nowhere."""
    try:
        with find_path(root, key, _is_not_reserved) as found:
            if leads_into(private_folders, root, key, found.path):
                return
            yield name + "/" if stat.S_ISDIR(found.status.st_mode) else name
    except (NoSuchOriginal, StoreRefused):
        return
