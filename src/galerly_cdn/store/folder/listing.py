"""What keys does a folder hold? Its tree in the order of keys, a bounded slab of names at a time.

A folder's name sorts with its slash: `a-b` comes before `a/x`, though `a` comes before `a-b`. Code
points sort as UTF-8 bytes do.
"""

from __future__ import annotations

import heapq
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import MalformedKey, NoSuchOriginal, StoreRefused
from galerly_cdn.model import Listed
from galerly_cdn.store.folder.paths import RESERVED, find_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SLAB = 50_000


class ListRequest(NamedTuple):
    """What is listed: keys with this prefix, after this one, that the grammar lets pass."""

    prefix: str
    after: str
    checked_key: Callable[[str], str]

    def may_hold(self, key: str) -> bool:
        """Whether to list a key, or a folder's key and a slash."""
        if not key.endswith("/"):
            return key.startswith(self.prefix) and key > self.after and self._is_key(key)
        fits = key.startswith(self.prefix) or self.prefix.startswith(key)
        return fits and (key > self.after or self.after.startswith(key)) and self._is_key(key[:-1])

    def _is_key(self, key: str) -> bool:
        try:
            self.checked_key(key)
        except MalformedKey:
            return False
        return True


class FolderCursor:
    """A folder being listed: the entries read and not yet handed out, last first; a folder's has a slash."""

    def __init__(self, folder: str) -> None:
        self.folder = folder  # its key and a slash; empty for the root
        self.identity: tuple[int, int] | None = None
        self.entries: list[Listed] = []
        self.is_read = False
        self.last = ""


def list_some(root: str, levels: list[FolderCursor], wanted: ListRequest) -> None:
    """Read the next entries of the innermost level. Raises `StoreRefused` for an unreadable root only."""
    level = levels[-1]
    try:
        names = heapq.nsmallest(_SLAB, _names(root, levels, wanted))
    except (NoSuchOriginal, StoreRefused):
        if not level.folder:
            raise
        names = []
    level.is_read = len(names) < _SLAB
    level.last = names[-1] if names else ""
    level.entries = [one for name in reversed(names) if (one := _entry(root, level.folder + name))]


def _entry(root: str, key: str) -> Listed | None:
    """None if it has gone meanwhile."""
    if key.endswith("/"):
        return Listed(key, 0, 0.0)
    try:
        status = os.stat(f"{root}/{key}")  # noqa: PTH116 - a string, a hundred thousand times
    except OSError:
        return None
    return Listed(key, status.st_size, status.st_mtime)


def _names(root: str, levels: list[FolderCursor], wanted: ListRequest) -> Iterator[str]:
    level = levels[-1]
    with find_path(root, level.folder.rstrip("/"), _from_listing) as place:
        level.identity = (place.status.st_dev, place.status.st_ino)
        if any(level.identity == above.identity for above in levels[:-1]):
            return  # a symlink to a folder it is in
        for name in _spellings(root, level.folder, place.folder_fd):
            if name > level.last and wanted.may_hold(level.folder + name):
                yield name


def _from_listing(_folder_fd: int, name: str) -> bool:
    return name != RESERVED  # a symlink may say it


def _spellings(root: str, folder: str, folder_fd: int) -> Iterator[str]:
    """The names of regular files, and those of folders with a slash."""
    with os.scandir(folder_fd) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                yield from _followed(root, folder + entry.name, entry.name)
            elif entry.is_dir(follow_symlinks=False):
                yield entry.name + "/"
            elif entry.is_file(follow_symlinks=False):
                yield entry.name


def _followed(root: str, key: str, name: str) -> Iterator[str]:
    try:
        with find_path(root, key, _from_listing) as place:
            yield name + "/" if stat.S_ISDIR(place.status.st_mode) else name
    except (NoSuchOriginal, StoreRefused):
        return
