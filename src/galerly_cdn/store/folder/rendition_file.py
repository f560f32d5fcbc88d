"""Encodes and decodes the file of a rendition; a change of any bit is detected, once per version of the file.

The file is a line `galerly-rendition 1 {length of the header, 8 digits} {MD5 of the header}`, the header
(the record as JSON) and the body, whose length and MD5 are in the record.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.cache import MemoryCache
from galerly_cdn.model import Record, Rendition
from galerly_cdn.serialization import ValidationError, from_json, to_json
from galerly_cdn.store.folder.paths import FILE_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Target

_MAGIC = b"galerly-rendition 1 "
_LENGTH = slice(len(_MAGIC), len(_MAGIC) + 8)
LINE_BYTES = len(_MAGIC) + 8 + 1 + 32 + 1
_START_BYTES = 4096
"""Longer than the header of nearly every rendition."""
_MAX_HEADER_BYTES = 1 << 20
_MAX_VERIFIED = 20_000
"""Files whose verification is remembered, with their records: about 20 MB."""
_SETTLED_S = 2.0
"""The age of a change time from which it tells later changes: the coarsest clock of a file system (FAT)."""


class DamagedFile(Exception):
    """A file's bytes are not those that `encode_rendition` returned."""


def encode_rendition(rendition: Rendition) -> bytes:
    """The bytes of a rendition's file."""
    header = to_json(rendition.record)
    return _first_line(header) + header + rendition.body


def decode_rendition(content: bytes) -> Rendition:
    """The inverse of `encode_rendition`. Raises `DamagedFile` if any byte differs."""
    record = decode_header(content, len(content))
    body = content[len(content) - record.length_bytes :]
    if _md5(body) != record.md5:
        raise DamagedFile("body")
    return Rendition(record, body)


def read_header(fd: int) -> bytes:
    """The first bytes of an opened file: its line, its header, and perhaps more. Raises `OSError`."""
    start = os.read(fd, _START_BYTES)
    missing = min(_header_bytes(start) - len(start), _MAX_HEADER_BYTES)
    return start + os.read(fd, missing) if missing > 0 else start


def _header_bytes(start: bytes) -> int:
    """How many bytes the line and the header of a file have, by its first `LINE_BYTES` bytes or more."""
    digits = start[_LENGTH]
    return LINE_BYTES + (int(digits) if digits.isdigit() else 0)


def decode_header(start: bytes, file_bytes: int) -> Record:
    """The record of a file of `file_bytes` that begins with these bytes, the whole header among them.

    Raises `DamagedFile` for a damaged header, and for a body of another length; its bytes are not looked at.
    """
    header = start[LINE_BYTES : _header_bytes(start)]
    if not header or start[:LINE_BYTES] != _first_line(header):
        raise DamagedFile("header")
    try:
        record = from_json(Record, header)
    except ValidationError as error:  # written by another version of this package
        raise DamagedFile(str(error)) from error
    if file_bytes != LINE_BYTES + len(header) + record.length_bytes:
        raise DamagedFile("body")
    return record


def record_of(start: bytes, status: os.stat_result, key: str, target: Target) -> Record:
    """The record of this rendition by its file’s header. Raises `DamagedFile`, also for another’s file."""
    record = decode_header(start, status.st_size)
    if (record.key, record.target) != (key, target):
        raise DamagedFile("another rendition")
    return record


class VerifiedFile(NamedTuple):
    """A file whose digests were right, as it was then."""

    name: bytes
    path: str
    version: tuple[int, ...]
    record: Record
    body_offset: int

    def read(self) -> tuple[Rendition, os.stat_result] | None:
        """The rendition and the file's status; None for a changed file. Raises `OSError`.

        The digests are not computed again.
        """
        fd = os.open(self.path, FILE_FLAGS)
        try:
            status = os.fstat(fd)
            if _version(status) != self.version:
                return None
            body = os.pread(fd, self.record.length_bytes, self.body_offset)
        finally:
            os.close(fd)
        return (Rendition(self.record, body), status) if len(body) == self.record.length_bytes else None


class VerifiedFiles:
    """Remembers which files of renditions were verified. `now` is the wall clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._files: MemoryCache[tuple[str, Target], VerifiedFile] = MemoryCache(_MAX_VERIFIED, lambda _: 1)

    def find(self, key: str, target: Target) -> VerifiedFile | None:
        """The file of a rendition, if it was verified; it may have changed since."""
        return self._files.get((key, target))

    def decode(self, name: bytes, path: str, content: bytes, status: os.stat_result) -> Rendition:
        """As `decode_rendition`; the file is remembered. `status` was read before `content`."""
        rendition = decode_rendition(content)
        if self._now() - status.st_ctime > _SETTLED_S:
            record = rendition.record
            offset = len(content) - record.length_bytes
            self._files.put(
                (record.key, record.target), VerifiedFile(name, path, _version(status), record, offset)
            )
        return rendition


def _version(status: os.stat_result) -> tuple[int, ...]:
    """What differs between two versions of a file: the inode, the times and the size."""
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _first_line(header: bytes) -> bytes:
    return _MAGIC + b"%08d %s\n" % (len(header), _md5(header).encode())


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
