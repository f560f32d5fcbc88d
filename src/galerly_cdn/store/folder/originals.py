"""Reads originals from a folder of photographs. Writes nothing.

- A key is served only if each of its segments is, byte for byte, the name of an entry of its folder, and no
  symlink leads out of the root (`paths`).
- The head of a key is cached: later requests cost one `lstat` for each segment, and only a change repeats
  the walk.
- An original is opened only when its version is at least one tick of the file system's clock old (`_TICK_S`).
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import NoSuchOriginal, SettingsError, StoreUnreachable, Unsettled
from galerly_cdn.model import Head
from galerly_cdn.serialization import replaced
from galerly_cdn.store.folder.listing import FolderCursor, FolderNames, ListRequest, folder_names, read_batch
from galerly_cdn.store.folder.paths import (
    FILE_FLAGS,
    DirectoryEntries,
    find_path,
    leads_into,
    original_errors,
)
from galerly_cdn.store.interfaces import Original

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from galerly_cdn.model import Listed
    from galerly_cdn.store.folder.paths import FoundPath, PathCheck

_MAX_CACHED_HEADS = 20_000
_TICK_S = 0.012
"""Two changes within one tick of the kernel's clock (10 ms at 100 Hz) leave equal times. A rendition made
between them would look current for ever, so an original that changed just now is opened a tick later."""
_MAX_TICKS = 100
_CHUNK_BYTES = 256 * 1024


class FolderOriginals:
    """Originals as plain files whose name is the key.

    `checked_key` checks the grammar of keys (`http.urls.checked_key`): files whose paths it refuses are not
    listed. `now` is the wall clock in seconds, `wait` sleeps. No symlink leads from a public folder into one
    of `private_folders` (`paths.leads_into`). Raises `SettingsError` if `root` is not
    a readable folder. A known head is returned for `stale_s` seconds while it cannot be checked.
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
        self._now = now
        self._stale_s = stale_s
        self._private_folders = private_folders
        self._wait = wait
        self._root = os.path.realpath(root)
        self._checked_key = checked_key
        self._entries = DirectoryEntries()
        self._names = FolderNames(now)
        self._heads: dict[str, _CachedHead] = {}
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise SettingsError([f"originals: cannot read the folder {root}: {error.strerror}"]) from error

    async def head(self, key: str, *, remembered: bool = True) -> Head:
        """Version (inode, mtime, ctime, size) and length. Raises as the interface says.

        While the folder cannot be read, the last known head, as a remote store's; with `remembered=False`
        an error.
        """
        try:
            return self.find_head(key)
        except StoreUnreachable:
            stale = self._stale_head(key) if remembered else None
            if stale is None:
                raise
            return stale

    def find_head(self, key: str) -> Head:
        """The head as it is now, without waiting. Raises as `head` does with `remembered=False`."""
        known = self.known_head(key)
        if known is not None:
            return known
        try:
            with self._find(key) as found:
                head = head_of(found.status)
        except NoSuchOriginal:
            self._heads.pop(key, None)
            raise
        self._cache(key, found, head)
        return head

    def known_head(self, key: str) -> Head | None:
        """The cached head, if the file and its folders are unchanged; an `lstat` for each of them."""
        cached = self._heads.get(key)
        if cached is None:
            return None
        if not cached.is_unchanged():
            return None
        if cached.failed_s is not None:
            self._heads[key] = cached._replace(failed_s=None)
        return cached.head

    def _stale_head(self, key: str) -> Head | None:
        """The last known head; its age is since it could first not be checked. None if it is too old."""
        cached = self._heads.get(key)
        if cached is None:
            return None
        failed_s = self._now() if cached.failed_s is None else cached.failed_s
        self._heads[key] = cached._replace(failed_s=failed_s)
        age_s = max(self._now() - failed_s, _TICK_S)
        return replaced(cached.head, stale_s=age_s) if age_s <= self._stale_s else None

    async def open(self, key: str) -> Original:
        """The original's bytes, with the head of the opened file.

        Raises as `head` does, and `Unsettled` for a file that changes all the time.
        """
        for _ in range(_MAX_TICKS):
            with self._find(key) as found:
                head_of(found.status)  # refuses a device before it is opened: opening may have effects
                if not 0 <= self._now() - found.status.st_ctime < _TICK_S:
                    return _open(found)
            await self._wait(_TICK_S)
        raise Unsettled("the file changes all the time")

    async def read(
        self, key: str, version: str, first: int, length_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of at most 256 KiB, each read in a thread: a slow disk does not delay other requests."""
        with await self.open(key) as original:
            if original.head.version != version:
                raise Unsettled("the file was replaced before it was read")
            while length_bytes:
                chunk_bytes = min(length_bytes, _CHUNK_BYTES)
                chunk = await asyncio.to_thread(_read_chunk, original, first, chunk_bytes)
                first += len(chunk)
                length_bytes -= len(chunk)
                yield chunk

    async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        """The originals under `prefix`, in the order of their keys' UTF-8 bytes, read as they are consumed.

        Leaves out hidden files and folders, names that are not keys, and folders that cannot be read.
        """
        request = ListRequest(prefix, after, self._checked_key, self._private_folders)
        levels = [FolderCursor("")]
        while levels:
            level = levels[-1]
            if level.entries:
                entry = level.entries.pop()
                if entry.key.endswith("/"):
                    levels.append(FolderCursor(entry.key))
                else:
                    yield entry
            elif level.is_read:
                levels.pop()
            else:
                await asyncio.to_thread(read_batch, self._root, levels, request, self._names)

    async def folders(self, folder: str) -> frozenset[str]:
        """The names of the folders in a folder. Raises as the interface says."""
        return await asyncio.to_thread(folder_names, self._root, folder, self._private_folders)

    @contextmanager
    def _find(self, key: str) -> Iterator[FoundPath]:
        """The file of a key. Raises as `find_path`."""
        with find_path(self._root, key, self._entries.contains) as found:
            if leads_into(self._private_folders, self._root, key, found.path):
                raise NoSuchOriginal("a symlink leads into a private folder")
            yield found

    def _cache(self, key: str, found: FoundPath, head: Head) -> None:
        self._heads.pop(key, None)
        if len(self._heads) >= _MAX_CACHED_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[key] = _CachedHead(found.path, found.status, found.checks, head)


class _CachedHead(NamedTuple):
    """The head of a key, and the checks that tell whether it is still valid."""

    path: str
    status: os.stat_result
    checks: tuple[PathCheck, ...]
    head: Head
    failed_s: float | None = None
    """When it could first not be checked, by the wall clock."""

    def is_unchanged(self) -> bool:
        try:
            for check in self.checks:
                if not check.is_unchanged():
                    return False
            now = os.lstat(self.path)
        except OSError:
            return False
        before = self.status
        return (
            now.st_ctime_ns == before.st_ctime_ns
            and now.st_mtime_ns == before.st_mtime_ns
            and now.st_size == before.st_size
            and now.st_ino == before.st_ino
        )


def _open(found: FoundPath) -> Original:
    fd = os.open(found.name, FILE_FLAGS, dir_fd=found.folder_fd)
    try:
        return Original(fd, head_of(os.fstat(fd)))
    except BaseException:
        os.close(fd)
        raise


def _read_chunk(original: Original, first: int, length_bytes: int) -> bytes:
    """A chunk of the file. Raises `Unsettled` if the file has changed.

    The head is compared after reading: the kernel updates the file's times before a write changes its bytes.
    """
    with original_errors():
        chunk = os.pread(original.fd, length_bytes, first)
        if not chunk or head_of(os.fstat(original.fd)) != original.head:
            raise Unsettled("the file changed while it was read")
    return chunk


def head_of(status: os.stat_result) -> Head:
    """Version and length of a regular file. Raises `NoSuchOriginal` for anything else."""
    if not stat.S_ISREG(status.st_mode):
        raise NoSuchOriginal("the path is not a regular file")
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return Head(version, status.st_size)
