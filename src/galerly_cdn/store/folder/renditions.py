"""Stores renditions as checksummed files in a folder, bounded in bytes.

- A file is complete or absent (`named_files`).
- The first read of each version of a file verifies it (`rendition_file`). A damaged file is a miss; it is
  deleted and counted.
- A put that is begun and not yet written is pending: reads return its rendition from memory (decision 0028).
- One thread writes, in the order in which the index reserved the space, and removes the evicted files after
  each write: the folder exceeds the limit by no more than one rendition. A read in progress keeps the file it
  opened.
- Where far more is to be evicted, after a lower limit or a restart, it is done in slices beside the writes.
- Several servers may share the folder. Each bounds the files that it found at its start, put or read. An
  answer is never wrong, because each file contains its own record and checksums.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from galerly_cdn.errors import SettingsError, StoreUnreachable, disk_fault
from galerly_cdn.model import Target, facts_key, parse_target
from galerly_cdn.store.fault_log import FaultLog
from galerly_cdn.store.folder.named_files import NamedFiles
from galerly_cdn.store.folder.recipes import FolderRecipes
from galerly_cdn.store.folder.rendition_file import (
    DamagedFile,
    VerifiedFile,
    VerifiedFiles,
    decode_rendition,
    encode_rendition,
    record_of,
)
from galerly_cdn.store.folder.renditions_index import (
    RenditionsIndex,
    disk_bytes,
    file_name,
    scan_folder,
)
from galerly_cdn.store.interfaces import StoredObject, Usage, keeps_same
from galerly_cdn.store.record_file import DamagedRecord, decode_record, encode_record
from galerly_cdn.store.temp_files import store_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from galerly_cdn.model import FactRecord, Record, Rendition
    from galerly_cdn.store.interfaces import Keeps

T = TypeVar("T")

_SLICE = 32
"""Files that are removed at a time; a write may wait for as many, which takes some milliseconds."""
_MAX_PENDING_BYTES = 32 * 1024 * 1024
"""Bytes of renditions whose writes are begun; beyond it, fills wait for their puts, at the disk's pace."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class FolderRenditions:
    """At most `limit_bytes` of renditions under `root`; the least recently used are deleted first.

    Fact records are files beside the renditions, and count as they do; the list of recipes does not. `count`
    receives the events `rendition-corrupt`, `rendition-unreadable`, `rendition-evicted`, `facts-corrupt` and
    `facts-unreadable`.
    `now` is the wall clock in seconds. Raises `SettingsError` if `root` cannot be written to.
    """

    def __init__(
        self, root: Path, limit_bytes: int, count: Callable[[str], None], now: Callable[[], float]
    ) -> None:
        self._root = root.absolute()
        self._limit_bytes = limit_bytes
        self._count = count
        self._now = now
        self._faults = FaultLog(count)
        self._index = RenditionsIndex()
        self._verified = VerifiedFiles(now)
        self._recipes = FolderRecipes(self._root)
        self.entries = self._recipes.entries
        self.append = self._recipes.append
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="renditions")
        self._closing = threading.Event()
        self._index_task: asyncio.Task[None] | None = None
        self._eviction_task: asyncio.Task[None] | None = None
        self._stops_evicting = asyncio.Event()
        self._unremoved: dict[bytes, None] = {}
        """Evicted files that are still there. Only the writing thread uses it."""
        self._pending: dict[bytes, Rendition] = {}
        """The last rendition for each file whose write is begun and not finished."""
        self._pending_bytes = 0
        self._is_failing = False
        """Whether the last write of a rendition failed."""
        try:
            self._files = NamedFiles(self._root, limit_bytes)
        except OSError as error:
            raise SettingsError([f"renditions: cannot write to {root}: {error.strerror}"]) from error

    def start(self, after_s: float = 0.0) -> None:
        """Index the folder `after_s` later; until that is done the limit applies to new files only."""
        self._index_task = asyncio.create_task(self._load_index(after_s))

    async def close(self) -> None:
        """Stop indexing and evicting, and finish the writes in progress."""
        self._closing.set()
        if self._index_task is not None:
            await self._index_task
        self._stops_evicting.set()
        if self._eviction_task is not None:
            await self._eviction_task
        await asyncio.to_thread(self._writer.shutdown)

    async def get(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, verified, or a pending one. A damaged file is deleted, and None returned."""
        return self.find(key, target)

    def find(self, key: str, target: Target) -> Rendition | None:
        """As `get`, which never waits."""
        return self._get(key, target, self._verified.find(key, target))

    def known(self, key: str, target: Target) -> Rendition | None:
        """The stored rendition, if its file was verified before; a file is read without waiting."""
        verified = self._verified.find(key, target)
        return None if verified is None else self._get(key, target, verified)

    def _get(self, key: str, target: Target, verified: VerifiedFile | None) -> Rendition | None:
        name = verified.name if verified else file_name(target.rendition_key(key))

        def read() -> tuple[Rendition, os.stat_result]:
            if verified is not None and (unchanged := verified.read()) is not None:
                return unchanged
            content, status = self._files.read(name)
            rendition = self._verified.decode(name, self._files.path(name), content, status)
            if (rendition.record.key, rendition.record.target) != (key, target):
                raise DamagedFile("another rendition")
            return rendition, status

        return self._pending.get(name) or self._find(name, read, "rendition")

    async def facts(self, key: str) -> FactRecord | None:
        """The stored record, verified. A damaged file is deleted, and None returned."""
        name = file_name(facts_key(key))

        def read() -> tuple[FactRecord, os.stat_result]:
            content, status = self._files.read(name)
            return decode_record(content, key), status

        return self._find(name, read, "facts")

    async def put_facts(self, record: FactRecord) -> None:
        """Store a record, over an earlier one, within the limit. Raises `StoreUnreachable`."""
        name = file_name(facts_key(record.key))
        await self._await_write(name, self._begin_write(name, encode_record(record), lambda: None))

    async def delete_facts(self, key: str) -> None:
        """Remove a record, if there is one. Raises `StoreUnreachable`."""
        await self._remove(file_name(facts_key(key)))

    async def head(self, key: str, target: Target) -> StoredObject | None:
        """Version and time of the stored file. Not a use: it does not delay its eviction."""
        name = file_name(target.rendition_key(key))
        if (pending := self._pending.get(name)) is not None:
            return StoredObject(pending.record.version, self._now())
        with store_errors():
            try:
                start, status = self._files.read(name, header=True)
            except FileNotFoundError:
                return None
        version = ""
        with suppress(DamagedFile):
            version = record_of(start, status, key, target).version
        return StoredObject(version, status.st_mtime)

    async def record(self, key: str, target: Target) -> Record | None:
        """The record of the stored rendition; the body of its file is not read."""
        name = file_name(target.rendition_key(key))
        if (pending := self._pending.get(name)) is not None:
            return pending.record

        def read() -> tuple[Record, os.stat_result]:
            start, status = self._files.read(name, header=True)
            return record_of(start, status, key, target), status

        return self._find(name, read, "rendition")

    async def put(self, rendition: Rendition, keeps: Keeps | None = None) -> Rendition:
        """Store atomically, unless `keeps` the stored one. Raises `StoreUnreachable`.

        The write is finished even if the caller is cancelled.
        """
        name, find_kept = self._put_of(rendition, keeps)
        written = self._begin_write(name, encode_rendition(rendition), find_kept)
        written.add_done_callback(self._end_put)
        return await self._await_write(name, written) or rendition

    def begin_put(self, rendition: Rendition, keeps: Keeps) -> Awaitable[Rendition] | None:
        """Begin to store; reads of this object return the rendition from now on.

        None, and nothing is begun, if the put has to be waited for: the stored rendition is kept, the last
        write failed, or `_MAX_PENDING_BYTES` are pending.
        """
        name, find_kept = self._put_of(rendition, keeps)
        content = encode_rendition(rendition)
        if self._is_failing or self._pending_bytes + len(content) > _MAX_PENDING_BYTES:
            return None
        try:
            if find_kept() is not None:
                return None
            written = self._begin_write(name, content, find_kept)
        except (OSError, StoreUnreachable):
            return None
        self._pending[name] = rendition
        self._pending_bytes += len(content)
        written.add_done_callback(self._end_put)
        written.add_done_callback(lambda _: self._end_pending(name, rendition, len(content)))

        async def finish() -> Rendition:
            kept = await self._await_write(name, written)
            if self._pending.get(name) is rendition:  # the callbacks of `written` may come later
                del self._pending[name]
            return kept or rendition

        return finish()

    def usage(self) -> Usage | None:
        """The files that this server has found, put or read, in whole blocks; None until it has looked."""
        if self._index_task is None or not self._index_task.done():
            return None
        return Usage(len(self._index), self._index.used_bytes)

    async def targets(self) -> frozenset[Target]:
        """The targets of all recipes that were ever listed: a file's name does not tell its target.

        Raises `StoreRefused`, `StoreUnreachable`.
        """
        names = {name for entry in await self.entries() for name in entry.recipes}
        listed = [target for name in names if (target := parse_target(name))]
        return frozenset([*listed, *(Target(target.size) for target in listed)])

    async def delete(self, key: str, target: Target) -> bool:
        """Remove a rendition; whether there was one. Raises `StoreUnreachable`."""
        name = file_name(target.rendition_key(key))
        self._pending.pop(name, None)  # its write goes before the removal
        return await self._remove(name)

    def _find(self, name: bytes, read: Callable[[], tuple[T, os.stat_result]], what: str) -> T | None:
        """A file's decoded content; `what` begins the name of the event that is counted if it is unusable."""
        try:
            found, status = read()
        except FileNotFoundError:
            self._index.forget(name)
        except OSError as error:
            self._faults.add(f"{what}-unreadable", disk_fault(error))
        except (DamagedFile, DamagedRecord):
            self._discard(name, what)
        else:
            self._index.use(name, disk_bytes(status.st_size))
            self._files.touch(name, status, self._now())
            return found
        return None

    def _put_of(
        self, rendition: Rendition, keeps: Keeps | None
    ) -> tuple[bytes, Callable[[], Rendition | None]]:
        """The name of a rendition's file, and a function that finds the stored rendition that is kept."""
        record = rendition.record
        name = file_name(record.target.rendition_key(record.key))
        return name, partial(self._find_kept, name, record, keeps or keeps_same(record))

    def _find_kept(self, name: bytes, made: Record, keeps: Keeps) -> Rendition | None:
        """The stored rendition, if it is kept. Raises `OSError`."""
        with suppress(FileNotFoundError, DamagedFile):
            stored = decode_rendition(self._files.read(name)[0])
            is_same = (stored.record.key, stored.record.target) == (made.key, made.target)
            return stored if is_same and keeps(stored.record) else None
        return None

    def _begin_write(
        self, name: bytes, content: bytes, find_kept: Callable[[], Rendition | None]
    ) -> asyncio.Future[Rendition | None]:
        """Begin to store a file, unless another one is kept; the future of that one.

        Raises `StoreUnreachable` for what is larger than the limit.
        """
        if disk_bytes(len(content)) > self._limit_bytes:
            raise StoreUnreachable(
                "the rendition is larger than renditions_bytes, the limit of all renditions"
            )
        self._index.use(name, disk_bytes(len(content)))
        written = self._write(name, partial(self._store, name, content, find_kept))
        self._evict(self._limit_bytes)
        return written

    async def _await_write(self, name: bytes, written: asyncio.Future[Rendition | None]) -> Rendition | None:
        """The rendition that was kept. Raises `StoreUnreachable`."""
        try:
            kept = await asyncio.shield(written)
        except OSError as error:
            raise disk_fault(error) from error
        if kept is not None:
            self._index.use(name, disk_bytes(len(encode_rendition(kept))))
        return kept

    def _end_put(self, written: asyncio.Future[Rendition | None]) -> None:
        self._is_failing = written.exception() is not None

    def _end_pending(self, name: bytes, rendition: Rendition, length_bytes: int) -> None:
        self._pending_bytes -= length_bytes
        if self._pending.get(name) is rendition:  # not one whose write was begun later
            del self._pending[name]

    async def _remove(self, name: bytes) -> bool:
        try:
            return await asyncio.shield(self._write(name, partial(self._files.delete, name)))
        except OSError as error:
            raise disk_fault(error) from error

    def _discard(self, name: bytes, what: str) -> None:
        self._count(f"{what}-corrupt")
        with suppress(OSError):
            self._files.delete(name)
        self._index.forget(name)

    def _write(self, name: bytes, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in the writing thread, then update the index with its result."""
        done = asyncio.get_running_loop().run_in_executor(self._writer, work)
        done.add_done_callback(partial(self._update_index, name))
        return done

    def _update_index(self, name: bytes, done: asyncio.Future[T]) -> None:
        try:
            length_bytes = os.lstat(self._files.path(name)).st_size
        except OSError:
            self._index.forget(name)
        else:
            self._index.use(name, disk_bytes(length_bytes))
        error = done.exception()
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            # The disk is smaller than the limit: without room, new renditions could never replace old ones.
            self._evict(self._index.used_bytes * 31 // 32)

    def _evict(self, limit_bytes: int) -> None:
        """Evict the first slice after the writes so far, and start a task for the rest, if there is one."""
        first = self._evict_slice(limit_bytes)
        if self._index.used_bytes > limit_bytes and (
            self._eviction_task is None or self._eviction_task.done()
        ):
            self._eviction_task = asyncio.create_task(self._evict_rest(first, limit_bytes))

    async def _evict_rest(self, evicted: asyncio.Future[bool], limit_bytes: int) -> None:
        """Evict slice by slice, half of the time: the disk serves the requests meanwhile."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        while await evicted and self._index.used_bytes > limit_bytes:
            with suppress(TimeoutError):
                async with asyncio.timeout(loop.time() - started_s):
                    await self._stops_evicting.wait()
            if self._stops_evicting.is_set():
                return
            started_s = loop.time()
            evicted = self._evict_slice(limit_bytes)

    def _evict_slice(self, limit_bytes: int) -> asyncio.Future[bool]:
        evicted = self._index.evict(limit_bytes, _SLICE)
        for _ in evicted:
            self._count("rendition-evicted")
        return asyncio.get_running_loop().run_in_executor(self._writer, self._remove_evicted, evicted)

    def _remove_evicted(self, names: Iterable[bytes]) -> bool:
        """Remove files; whether it was possible. Those that are left are removed before the next write."""
        self._unremoved.update(dict.fromkeys(names))
        with suppress(OSError):
            self._remove_all()
        return not self._unremoved

    def _remove_all(self) -> None:
        for name in list(self._unremoved):
            self._files.delete(name)
            del self._unremoved[name]

    def _store(
        self, name: bytes, content: bytes, find_kept: Callable[[], Rendition | None]
    ) -> Rendition | None:
        self._unremoved.pop(name, None)
        self._remove_all()  # without room, the folder would grow with each write
        return self._files.write(name, content, find_kept)

    async def _load_index(self, after_s: float) -> None:
        await asyncio.to_thread(self._closing.wait, after_s)
        found = await asyncio.to_thread(scan_folder, self._root, self._now(), self._closing.is_set)
        self._index = self._index.merged_into(found)
        self._evict(self._limit_bytes)
