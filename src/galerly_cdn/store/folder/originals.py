"""Where are the originals of a folder of photographs, and which version is each? Writes nothing.

- A key is served only if every name on its way is spelled, byte for byte, as in its folder, and
  nothing on its way leads out of the root (`confined`).
- A key seen once costs one `lstat` for each of its segments; only a change makes it walk again.
- What is opened has kept its version for a tick of the file system's clock: see `_TICK_S`.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import NoSuchOriginal, SettingsError, Unsettled
from galerly_cdn.model import Head
from galerly_cdn.store.folder.listing import FolderCursor, ListRequest, list_some
from galerly_cdn.store.folder.paths import DirectoryEntries, find_path, read_errors
from galerly_cdn.store.interfaces import Original

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from galerly_cdn.model import Listed
    from galerly_cdn.store.folder.paths import FoundPath, PathCheck

# O_NONBLOCK: a FIFO put in the file's place must not hold the server until somebody writes to it.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_SEEN = 20_000
_TICK_S = 0.012
"""Changes within one tick of the kernel's clock (10 ms at 100 Hz) leave equal times. A rendition made
between two of them would pass for current for ever, so a younger original is opened a tick later."""
_MAX_TICKS = 100
_CHUNK_BYTES = 256 * 1024


class FolderOriginals:
    """Originals as plain files whose name is the key.

    `checked_key` is the grammar of keys (`url.checked_key`): only what it lets pass is listed. `now`
    is the wall clock in seconds, `wait` sleeps. Raises `SettingsError` if `root` is no readable folder.
    """

    def __init__(
        self,
        root: Path,
        checked_key: Callable[[str], str],
        *,
        now: Callable[[], float],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,  # noqa: TID251 - a clock's tick passes
    ) -> None:
        self._now = now
        self._wait = wait
        self._root = os.path.realpath(root)
        self._checked_key = checked_key
        self._names = DirectoryEntries()
        self._seen: dict[str, _Seen] = {}
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise SettingsError([f"originals: cannot read the folder {root}: {error.strerror}"]) from error

    async def head(self, key: str, *, remembered: bool = True) -> Head:  # noqa: ARG002 - asked every time
        """Version (inode, mtime, ctime, size) and length. Raises as the interface says."""
        seen = self._seen.get(key)
        if seen is not None:
            if seen.is_unchanged():
                return seen.head
            del self._seen[key]
        with find_path(self._root, key, self._names.holds) as place:
            head = head_of(place.status)
        self._remember(key, place, head)
        return head

    async def open(self, key: str) -> Original:
        """The original's bytes; the head is that of the opened file. Raises as `head` does.

        Raises `Unsettled` for a file that is written to all the time.
        """
        for _ in range(_MAX_TICKS):
            with find_path(self._root, key, self._names.holds) as place:
                head_of(place.status)  # before opening: opening a device may already do something
                if not 0 <= self._now() - place.status.st_ctime < _TICK_S:
                    return _opened(place)
            await self._wait(_TICK_S)
        raise Unsettled("written to all the time")

    async def read(
        self, key: str, version: str, first: int, length_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of at most 256 KiB, each read by a thread: a cold disk holds up nobody else."""
        with await self.open(key) as original:
            if original.head.version != version:
                raise Unsettled("replaced before it was read")
            while length_bytes:
                wanted_bytes = min(length_bytes, _CHUNK_BYTES)
                chunk = await asyncio.to_thread(_chunk, original, first, wanted_bytes)
                first += len(chunk)
                length_bytes -= len(chunk)
                yield chunk

    async def list(self, prefix: str = "", after: str = "") -> AsyncIterator[Listed]:
        """The originals under `prefix`, in the order of their keys' UTF-8 bytes, read as they are asked for.

        Leaves out hidden files and folders, names that are no keys, and what cannot be read.
        """
        wanted = ListRequest(prefix, after, self._checked_key)
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
                await asyncio.to_thread(list_some, self._root, levels, wanted)

    def _remember(self, key: str, place: FoundPath, head: Head) -> None:
        if len(self._seen) >= _MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = _Seen(place.path, place.status, place.witnesses, head)


class _Seen(NamedTuple):
    """A key once walked to: what it was, and what says that it still is."""

    path: str
    status: os.stat_result
    witnesses: tuple[PathCheck, ...]
    head: Head

    def is_unchanged(self) -> bool:
        try:
            for witness in self.witnesses:
                if not witness.is_unchanged():
                    return False
            now = os.lstat(self.path)
        except OSError:
            return False
        was = self.status
        return (
            now.st_ctime_ns == was.st_ctime_ns
            and now.st_mtime_ns == was.st_mtime_ns
            and now.st_size == was.st_size
            and now.st_ino == was.st_ino
        )


def _opened(place: FoundPath) -> Original:
    fd = os.open(place.name, FILE, dir_fd=place.folder_fd)
    try:
        return Original(fd, head_of(os.fstat(fd)))
    except BaseException:
        os.close(fd)
        raise


def _chunk(original: Original, first: int, length_bytes: int) -> bytes:
    """What is there now; looked at after reading, because a writer dates the file before it changes it."""
    with read_errors():
        chunk = os.pread(original.fd, length_bytes, first)
        if not chunk or head_of(os.fstat(original.fd)) != original.head:
            raise Unsettled("changed while it was read")
    return chunk


def head_of(status: os.stat_result) -> Head:
    """Version and length of a regular file. Raises `NoSuchOriginal` for anything else."""
    if not stat.S_ISREG(status.st_mode):
        raise NoSuchOriginal("not a regular file")
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return Head(version, status.st_size)
