"""Lists the keys of a folder's tree in the order of keys, in batches of bounded size.

A folder's name sorts with its slash: `a-b` comes before `a/x`, although `a` comes before `a-b`. Code
points sort as UTF-8 bytes do. The names of a folder are read once for a listing and for its next pages
(`FolderNames`); what each name is, and its size, is read a batch at a time.
"""

from __future__ import annotations

import heapq
import os
import stat
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import MalformedKey, NoSuchOriginal, StoreRefused
from galerly_cdn.model import Listed
from galerly_cdn.store.folder.paths import RESERVED, find_path, leads_into

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.store.folder.paths import FoundPath

_BATCH_ENTRIES = 1024
"""A page of the admin API, and a few more."""
_MAX_NAMES = 200_000
_SETTLED_S = 0.1
"""A folder that changed within some ticks of the file system's clock may change again without a trace."""


class Names:
    """The names in a folder, sorted when they are first needed in order."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._is_sorted = False

    def __len__(self) -> int:
        return len(self._names)

    def first(self, count: int) -> list[str]:
        """The first names in order, which costs less than sorting all."""
        return self._names[:count] if self._is_sorted else heapq.nsmallest(count, self._names)

    def all(self) -> list[str]:
        """All names in order; not to be changed."""
        if not self._is_sorted:
            self._names = sorted(self._names)
            self._is_sorted = True
        return self._names


class FolderNames:
    """Caches the names in folders until a folder changes, for the next page of a listing.

    `now` is the wall clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._names: OrderedDict[tuple[int, ...], Names] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, folder_fd: int) -> Names:
        """The names in an open folder. Raises `OSError`."""
        status = os.fstat(folder_fd)
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        with self._lock:
            if identity in self._names:
                self._names.move_to_end(identity)
                return self._names[identity]
        names = Names(os.listdir(folder_fd))
        if self._now() - status.st_ctime >= _SETTLED_S:
            with self._lock:
                self._names[identity] = names
                while sum(map(len, self._names.values())) > _MAX_NAMES and len(self._names) > 1:
                    self._names.popitem(last=False)
        return names


class ListRequest(NamedTuple):
    """Selects keys that begin with `prefix`, sort after `after` and follow the grammar of keys."""

    prefix: str
    after: str
    checked_key: Callable[[str], str]
    private_folders: tuple[str, ...]
    """Into which no symlink leads from a public folder."""

    def includes(self, key: str) -> bool:
        """Whether to list a key; for a folder (a key and a slash), whether it may contain such keys."""
        if key[-1] != "/":
            return key > self.after and key.startswith(self.prefix) and self._is_key(key)
        matches = key.startswith(self.prefix) or self.prefix.startswith(key)
        return matches and (key > self.after or self.after.startswith(key)) and self._is_key(key[:-1])

    def first_name(self, folder: str) -> str:
        """The beginning of the first name in a folder that may be included; empty if every name may be."""
        bounds = [one[len(folder) :] for one in (self.prefix, self.after) if one.startswith(folder)]
        return max((one.partition("/")[0] for one in bounds), default="")

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
        self._names: Names | None = None
        self._ordered: list[str] = []
        self._at = 0
        self._subfolders: list[str] = []
        """A heap of the folders, with their slashes, that sort after the last entry read."""

    def open(self, names: Names, request: ListRequest) -> None:
        """Take a folder's names. Only the first ones are put in order yet, if the listing begins here."""
        first = request.first_name(self.folder)
        if not first:
            self._names, self._ordered = names, names.first(_BATCH_ENTRIES)
            return
        ordered = names.all()
        # A folder sorts with its slash: of `a` and `a-b`, only the folder `a` may have keys after `a-b`
        shorter = [first[:length] for length in range(1, len(first))]
        found = [one for one in shorter if _contains(ordered, one)]
        self._ordered = [*found, *ordered[bisect_left(ordered, first) :]]

    @property
    def is_open(self) -> bool:
        return self.identity is not None

    def next_name(self) -> str | None:
        """The next name, with a slash if `add_subfolder` has added it; None at the end."""
        if self._at == len(self._ordered) and self._names is not None:
            last = self._ordered[-1] if self._ordered else ""
            self._ordered = self._names.all()
            self._at, self._names = bisect_right(self._ordered, last), None
        name = self._ordered[self._at] if self._at < len(self._ordered) else None
        if self._subfolders and (name is None or self._subfolders[0] < name):
            return heapq.heappop(self._subfolders)
        self._at += 1
        return name

    def add_subfolder(self, name: str) -> None:
        """Put a folder, which was found at its name without a slash, to its place in the order."""
        heapq.heappush(self._subfolders, f"{name}/")


def _contains(ordered: list[str], name: str) -> bool:
    at = bisect_left(ordered, name)
    return at < len(ordered) and ordered[at] == name


def read_batch(root: str, levels: list[FolderCursor], request: ListRequest, names: FolderNames) -> None:
    """Read the next entries of the innermost level; a folder that cannot be read is skipped.

    Raises `NoSuchOriginal` or `StoreRefused` for an unreadable root.
    """
    level = levels[-1]
    try:
        with find_path(root, level.folder.rstrip("/"), _is_not_reserved) as found:
            if not level.is_open:
                level.identity = (found.status.st_dev, found.status.st_ino)
                is_loop = any(level.identity == parent.identity for parent in levels[:-1])
                if is_loop or leads_into(request.private_folders, root, level.folder, found.path):
                    level.is_read = True
                    return
                level.open(names.read(found.folder_fd), request)
            _read_entries(root, level, request, found)
    except (NoSuchOriginal, StoreRefused):
        if not level.folder:
            raise
        level.is_read = True
    level.entries.reverse()


def _read_entries(root: str, level: FolderCursor, request: ListRequest, found: FoundPath) -> None:
    while len(level.entries) < _BATCH_ENTRIES:
        name = level.next_name()
        if name is None:
            level.is_read = True
            return
        key = level.folder + name
        if name.endswith("/"):
            level.entries.append(Listed(key, 0, 0.0))
            continue
        is_file = request.includes(key)
        if not is_file and not request.includes(f"{key}/"):
            continue
        status = _status(root, key, name, found.folder_fd, request.private_folders)
        if status is None:
            continue
        if stat.S_ISDIR(status.st_mode):
            if request.includes(f"{key}/"):
                level.add_subfolder(name)
        elif is_file and stat.S_ISREG(status.st_mode):
            level.entries.append(Listed(key, status.st_size, status.st_mtime))


def _status(
    root: str, key: str, name: str, folder_fd: int, private_folders: tuple[str, ...]
) -> os.stat_result | None:
    """The status of an entry, or of what a symlink leads to; None if there is nothing to list."""
    try:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError:  # it was deleted meanwhile
        return None
    if not stat.S_ISLNK(status.st_mode):
        return status
    try:
        with find_path(root, key, _is_not_reserved) as found:
            return None if leads_into(private_folders, root, key, found.path) else found.status
    except (NoSuchOriginal, StoreRefused):
        return None


def folder_names(root: str, folder: str, private_folders: tuple[str, ...]) -> frozenset[str]:
    """The names of the folders in a folder; hidden ones are left out.

    Raises `StoreRefused`, `StoreUnreachable`.
    """
    try:
        with find_path(root, folder, _is_not_reserved) as found:
            if not stat.S_ISDIR(found.status.st_mode):
                return frozenset()
            with os.scandir(found.folder_fd) as entries:
                names = [one.name for one in entries if one.is_symlink() or one.is_dir(follow_symlinks=False)]
            prefix = f"{folder}/" if folder else ""
            return frozenset(
                name
                for name in names
                if not name.startswith(".")
                and (status := _status(root, prefix + name, name, found.folder_fd, private_folders))
                and stat.S_ISDIR(status.st_mode)
            )
    except NoSuchOriginal:
        return frozenset()


def _is_not_reserved(_folder_fd: int, name: str) -> bool:
    return name != RESERVED  # a symlink's target may contain it
