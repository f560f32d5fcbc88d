"""The index of a folder of renditions: what it holds, what is evicted next, and the scan that fills it."""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from galerly_cdn.store.temp_files import HOUR_S, remove_if_abandoned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from galerly_cdn.model import Target


BLOCK_BYTES = 4096


def disk_bytes(length_bytes: int) -> int:
    """What a file of this length takes on disk, in bytes; an empty one takes a block."""
    return max(1, -(-length_bytes // BLOCK_BYTES)) * BLOCK_BYTES


class RenditionsIndex:
    """Names and weights, the least recently used first."""

    def __init__(self) -> None:
        self._weights: OrderedDict[bytes, int] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._weights)

    def use(self, name: bytes, weight_bytes: int) -> None:
        """It is there, has this weight, and is now the most recently used."""
        self.used_bytes += weight_bytes - self._weights.pop(name, 0)
        self._weights[name] = weight_bytes

    def forget(self, name: bytes) -> None:
        self.used_bytes -= self._weights.pop(name, 0)

    def evict(self, limit_bytes: int) -> list[bytes]:
        """Forget and name what must go, least recently used first, until the rest fits."""
        victims: list[bytes] = []
        while self.used_bytes > limit_bytes and self._weights:
            victim, weight_bytes = self._weights.popitem(last=False)
            self.used_bytes -= weight_bytes
            victims.append(victim)
        return victims

    def used_after(self, older: RenditionsIndex) -> RenditionsIndex:
        """`older`, overlaid by what this one has seen used since; `older` is given up."""
        for name, weight_bytes in self._weights.items():
            older.use(name, weight_bytes)
        return older


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
