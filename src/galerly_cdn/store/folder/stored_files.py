"""Lists, reads and removes the files in a folder of renditions, for a clean-up. Creates nothing.

A file's name is a digest, so that every file's header is read. A listing holds one batch in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from galerly_cdn.errors import NoSuchOriginal
from galerly_cdn.http.urls import is_key
from galerly_cdn.model import facts_key
from galerly_cdn.serialization import replaced
from galerly_cdn.store.folder.originals import head_of
from galerly_cdn.store.folder.paths import FILE_FLAGS, RESERVED, locked_folder
from galerly_cdn.store.folder.rendition_file import DamagedFile, decode_header, read_header
from galerly_cdn.store.folder.renditions_index import TEMP_PREFIX, file_name
from galerly_cdn.store.recipe_entry import FOLDER as RECIPES
from galerly_cdn.store.record_file import MAGIC as FACTS_MAGIC
from galerly_cdn.store.record_file import DamagedRecord, decode_record
from galerly_cdn.store.stored_items import Kind, OriginalItem, StoredItem
from galerly_cdn.store.temp_files import UPLOAD_PREFIX, is_abandoned, remove_if_abandoned, store_errors
from galerly_cdn.stored_keys import stored_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from galerly_cdn.store.interfaces import Originals

T = TypeVar("T")

_BATCH = 1000
_NAME = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(r"([0-9]{8})\.json")
_MAX_RECORD_BYTES = 1 << 20


class OriginalFiles:
    """The files under `root`, which is the root of the `originals`."""

    def __init__(self, root: Path, originals: Originals) -> None:
        self._root = root
        self._originals = originals

    async def list(self) -> AsyncIterator[OriginalItem]:
        """The originals, then the files whose paths are no keys. Raises as the interface says."""
        async for one in self._originals.list():
            yield OriginalItem(one.key, one.key, one.length_bytes, one.modified_s, "")
        async for item in _in_batches(_unservable(self._root, "")):
            yield item

    def version(self, key: str) -> str:
        """By one `lstat`: a head lists the folders of the key, and renditions come in no order of keys."""
        with suppress(NoSuchOriginal, OSError, ValueError):
            return head_of(os.lstat(f"{self._root}/{key}")).version
        return ""


class _Files:
    """The files in some folders under `root`. `now` is the wall clock in seconds."""

    parallel = 1
    temp_prefix: str

    def __init__(self, root: Path, now: Callable[[], float]) -> None:
        self._root = root
        self._now = now

    async def items(self, part: str) -> AsyncIterator[StoredItem]:
        """The files of a folder, with their records. Raises as the interface says."""
        async for item in _in_batches(self._items(part)):
            yield item

    async def read(self, item: StoredItem) -> StoredItem | None:
        """The file as it is now. Raises as the interface says."""
        with store_errors():
            return self._item(item.name)

    async def remove(self, item: StoredItem) -> bool:
        """Remove a file that was not written since. Servers that write in its folder wait meanwhile."""
        with store_errors():
            return await asyncio.to_thread(self._remove, item)

    def _items(self, part: str) -> Iterator[StoredItem]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._root / part) as entries:
            for entry in entries:
                item = self._item(f"{part}/{entry.name}")
                if item is not None:
                    yield item

    def _item(self, name: str) -> StoredItem | None:
        """The file of this name; None if it is gone."""
        path = self._root / name
        try:
            status = path.lstat()
            if not name.isprintable():
                return _item_of(ascii(name), Kind.FOREIGN, status)
            if path.name.startswith(self.temp_prefix) and stat.S_ISREG(status.st_mode):
                kind = Kind.TEMPORARY if is_abandoned(path, self._now()) else Kind.FOREIGN
                return _item_of(name, kind, status)
            return self._read(path, name, status)
        except FileNotFoundError:
            return None

    def _read(self, path: Path, name: str, status: os.stat_result) -> StoredItem | None:
        """A file that is not temporary; None if it is nothing to show. Raises `OSError`."""
        del path
        return _item_of(name, Kind.FOREIGN, status)

    def _remove(self, item: StoredItem) -> bool:
        path = self._root / item.name
        if item.kind is Kind.TEMPORARY:
            return remove_if_abandoned(path, self._now())
        with suppress(FileNotFoundError), locked_folder(path.parent):
            if _tag(path.lstat()) == item.tag:
                path.unlink()
                return True
        return False


class UploadFiles(_Files):
    """The unfinished uploads under the root of the originals."""

    temp_prefix = UPLOAD_PREFIX

    async def parts(self) -> tuple[str, ...]:
        """The folder of uploads."""
        return (RESERVED,)


class RenditionFiles(_Files):
    """The files under the root of the renditions, in the folders that galerly-cdn makes there."""

    temp_prefix = TEMP_PREFIX

    async def parts(self) -> tuple[str, ...]:
        """The folders of the first two digits, and that of the list of recipes."""
        folders = [*(f"{number:02x}" for number in range(256)), RECIPES]
        return tuple(one for one in folders if (self._root / one).is_dir())

    def _read(self, path: Path, name: str, status: os.stat_result) -> StoredItem | None:
        if path.parent.name == RECIPES and _ENTRY.fullmatch(path.name):
            return None
        is_ours = _NAME.fullmatch(path.name) and path.name.startswith(path.parent.name)
        if is_ours and stat.S_ISREG(status.st_mode):
            with suppress(PermissionError):
                return _read(path, name)
        return _item_of(name, Kind.FOREIGN, status)


async def _in_batches(found: Iterator[T]) -> AsyncIterator[T]:
    """What a generator finds, which reads files in a thread. Raises `StoreRefused`, `StoreUnreachable`."""
    with store_errors():
        while batch := await asyncio.to_thread(lambda: list(itertools.islice(found, _BATCH))):
            for item in batch:
                yield item


def _read(path: Path, name: str) -> StoredItem:
    """The file of a rendition or of a fact record, as far as its header. Raises `OSError`."""
    fd = os.open(path, FILE_FLAGS)
    try:
        status = os.fstat(fd)
        item = _item_of(name, Kind.DAMAGED, status)
        start = read_header(fd)
        with suppress(DamagedFile, DamagedRecord):
            if start.startswith(FACTS_MAGIC):
                return _facts(item, start + os.read(fd, _MAX_RECORD_BYTES), path.name)
            return _rendition(item, start, path.name)
    finally:
        os.close(fd)
    return item


def _rendition(item: StoredItem, start: bytes, digits: str) -> StoredItem:
    """Raises `DamagedFile`."""
    record = decode_header(start, item.length_bytes)
    is_named = file_name(record.target.rendition_key(record.key)).hex() == digits
    return replaced(
        item,
        kind=Kind.RENDITION if is_named else Kind.MISNAMED,
        key=record.key,
        stored=stored_key(record.key),
        target=record.target,
        record=record,
    )


def _facts(item: StoredItem, content: bytes, digits: str) -> StoredItem:
    """Raises `DamagedRecord`."""
    facts = decode_record(content)
    is_named = file_name(facts_key(facts.key)).hex() == digits
    return replaced(
        item,
        kind=Kind.FACTS if is_named else Kind.MISNAMED,
        key=facts.key,
        stored=stored_key(facts.key),
        facts=facts,
    )


def _item_of(name: str, kind: Kind, status: os.stat_result) -> StoredItem:
    return StoredItem(
        name=name,
        kind=kind,
        length_bytes=status.st_size,
        modified_s=status.st_mtime,
        tag=_tag(status),
        stored=name,
        is_read=True,
    )


def _tag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _unservable(root: Path, folder: str) -> Iterator[OriginalItem]:
    """The files whose paths are no keys; hidden ones are left out on purpose, and symlinks not followed.

    A folder that may not be read is left out, as the listing of the originals leaves it out.
    """
    with suppress(FileNotFoundError, PermissionError), os.scandir(root / folder) as entries:
        for entry in entries:
            name = folder + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _unservable(root, f"{name}/")
            elif not is_key(name):
                status = entry.stat(follow_symlinks=False)
                yield OriginalItem(ascii(name), "", status.st_size, status.st_mtime, "")
