"""What is in a folder of renditions? Names its files, and sweeps what a killed writer left behind.

    {root}/CACHEDIR.TAG
    {root}/{first 2 digits}/{64 hexadecimal digits}    a rendition
    {root}/{first 2 digits}/.put-{random}              one being written, locked by its writer

Anything else in the folder is somebody else's, and left alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from galerly_cdn.store.folder.renditions_index import RenditionsIndex, disk_bytes
from galerly_cdn.store.temp_files import HOUR_S, remove_if_abandoned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from galerly_cdn.model import Target

TEMPORARY = ".put-"
_NAME = re.compile(r"[0-9a-f]{64}")


def file_name(key: str, target: Target) -> bytes:
    """A rendition's name: the SHA-256 of its key in the store."""
    return hashlib.sha256(target.rendition_key(key).encode()).digest()


def file_path(root: Path, name: bytes) -> Path:
    """Where a rendition lies."""
    digits = name.hex()
    return root / digits[:2] / digits


def scan_folder(root: Path, now_s: float, is_closing: Callable[[], bool]) -> RenditionsIndex:
    """The renditions under `root`, the least recently used first, to the hour; for a thread.

    Hours are sorted rather than files, and nothing is made for each file that the garbage collector
    would have to visit: 200 000 of them would hold up the event loop.
    """
    hours: dict[int, tuple[list[bytes], list[int]]] = {}
    for number in range(256):
        if is_closing():
            break
        with suppress(OSError), os.scandir(root / f"{number:02x}") as entries:
            for entry in entries:
                if entry.name.startswith(TEMPORARY):
                    remove_if_abandoned(entry, now_s)
                elif _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    names, weights = hours.setdefault(int(status.st_mtime // HOUR_S), ([], []))
                    names.append(bytes.fromhex(entry.name))
                    weights.append(disk_bytes(status.st_size))
    ledger = RenditionsIndex()
    for hour in sorted(hours):
        for name, weight_bytes in zip(*hours.pop(hour), strict=True):
            ledger.use(name, weight_bytes)
    return ledger
