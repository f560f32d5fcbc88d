"""Indexes a folder of renditions: their sizes, their order of eviction, and the scan at the start."""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from galerly_cdn.store.recipe_entry import FOLDER
from galerly_cdn.store.temp_files import HOUR_S, remove_if_abandoned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


BLOCK_BYTES = 4096


def disk_bytes(length_bytes: int) -> int:
    """The disk space of a file of this length, in whole blocks; an empty file counts as one block."""
    return max(1, -(-length_bytes // BLOCK_BYTES)) * BLOCK_BYTES


class RenditionsIndex:
    """The names of files and their disk space in bytes, the least recently used first."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def use(self, name: bytes, size_bytes: int) -> None:
        """Add or update a file; it is now the most recently used."""
        self.used_bytes += size_bytes - self._sizes.pop(name, 0)
        self._sizes[name] = size_bytes

    def forget(self, name: bytes) -> None:
        """Remove a file from the index, if it is there."""
        self.used_bytes -= self._sizes.pop(name, 0)

    def evict(self, limit_bytes: int, at_most: int) -> list[bytes]:
        """Remove files from the index, least recently used first, until the rest fits; return their names.

        `at_most` so many files are removed.
        """
        evicted: list[bytes] = []
        while self.used_bytes > limit_bytes and self._sizes and len(evicted) < at_most:
            name, size_bytes = self._sizes.popitem(last=False)
            self.used_bytes -= size_bytes
            evicted.append(name)
        return evicted

    def merged_into(self, older: RenditionsIndex) -> RenditionsIndex:
        """`older`, updated with the later uses of this index. It changes `older`."""
        for name, size_bytes in self._sizes.items():
            older.use(name, size_bytes)
        return older


TEMP_PREFIX = ".put-"
_NAME = re.compile(r"[0-9a-f]{64}")


def file_name(stored_key: str) -> bytes:
    """The name of a file, in binary: the SHA-256 of the key of its rendition or record in the store."""
    return hashlib.sha256(stored_key.encode()).digest()


def file_path(root: Path, name: bytes) -> Path:
    """The path of a rendition's file: a folder for the first two hex digits of its name, then all of them."""
    digits = name.hex()
    return root / digits[:2] / digits


def scan_folder(root: Path, now_s: float, is_closing: Callable[[], bool]) -> RenditionsIndex:
    """The index of the renditions under `root`, ordered by the hour of their last use. Runs in a thread.

    Abandoned temporary files are removed, also those beside the list of recipes. The scan sorts hours instead
    of files, and creates no object for each file that the garbage collector tracks: with 200 000 files its
    runs would delay the event loop.
    """
    hours: dict[int, tuple[list[bytes], list[int]]] = {}
    for folder in (*(f"{number:02x}" for number in range(256)), FOLDER):
        if is_closing():
            break
        with suppress(OSError), os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith(TEMP_PREFIX):
                    remove_if_abandoned(entry.path, now_s)
                elif _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    names, sizes = hours.setdefault(int(status.st_mtime // HOUR_S), ([], []))
                    names.append(bytes.fromhex(entry.name))
                    sizes.append(disk_bytes(status.st_size))
    index = RenditionsIndex()
    for hour in sorted(hours):
        for name, size_bytes in zip(*hours.pop(hour), strict=True):
            index.use(name, size_bytes)
    return index
