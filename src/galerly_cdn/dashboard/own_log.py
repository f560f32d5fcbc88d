"""Finds the server's own access log, where its standard output is a file, with its rotated siblings.

Linux tells the file's present name, also after a rotation. Descriptors of the files are handed on, not their
names, so that a rotation during a report changes nothing in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_OUTPUT = 1
_MAX_FILES = 200
_ROTATION = r"(?:[.-][0-9][0-9T_-]*)*(?:\.gz|\.zst)?"
"""What logrotate appends to a name: `.1`, `-20261130`, `.2.gz` (logrotate(8), dateext and compress)."""
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket, such as the journal’s"),
    (stat.S_ISCHR, "a terminal or a device"),
)


class OwnLog(Value, frozen=True):
    """The server's log: the name of its newest file, the names of all files, and their bytes together.

    `absence` says why there is none that can be read; else it is empty.
    """

    path: str = ""
    files: tuple[str, ...] = ()
    length_bytes: int = 0
    absence: str = ""


class OpenLog(Value, frozen=True):
    """An open file of the log: its descriptor and its name."""

    fd: int
    path: str


def find(fd: int = STANDARD_OUTPUT) -> OwnLog:
    """The log that descriptor `fd` writes to."""
    try:
        with opened(fd) as files:
            length_bytes = sum(os.fstat(one.fd).st_size for one in files)
            return OwnLog(files[0].path, tuple(one.path for one in files), length_bytes)
    except OSError as error:
        return OwnLog(absence=error.strerror or str(error))


@contextlib.contextmanager
def opened(fd: int = STANDARD_OUTPUT) -> Iterator[list[OpenLog]]:
    """The files of the log, open for reading, the newest first. Raises `OSError` with a sentence."""
    if sys.platform != "linux":
        raise OSError(0, "This system does not tell which file the server’s standard output is.")
    link = f"/proc/self/fd/{fd}"
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for matches, name in _KINDS if matches(status.st_mode)), "no file")
        raise OSError(0, f"The server’s standard output is {kind}, not a file.")
    path = Path(str(Path(link).readlink()).removesuffix(" (deleted)"))
    with contextlib.ExitStack() as files:
        found = [OpenLog(_open(link, path, files), str(path))]
        for sibling in _siblings(path, status):
            with contextlib.suppress(OSError):  # it was rotated away, or is not readable
                found.append(OpenLog(_open(str(sibling), sibling, files), str(sibling)))
        yield found


def _open(name: str, path: Path, files: contextlib.ExitStack) -> int:
    """Raises `OSError` with a sentence."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise OSError(error.errno, f"The server may not read its log {path}: {error.strerror}.") from error
    files.callback(os.close, fd)
    return fd


def _siblings(path: Path, log: os.stat_result) -> list[Path]:
    """The other files of a rotated set, the newest first: regular files of the log's owner.

    A compressed file beside the one that it is made of is left out. So are links, by which another user of
    the folder could have any file read.
    """
    base = re.sub(rf"{_ROTATION}\Z", "", path.name) or path.name
    pattern = re.compile(re.escape(base) + _ROTATION)
    found: dict[str, float] = {}
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if not pattern.fullmatch(entry.name):
                continue
            status = entry.stat(follow_symlinks=False)
            is_log = (status.st_dev, status.st_ino) == (log.st_dev, log.st_ino)
            if stat.S_ISREG(status.st_mode) and status.st_uid == log.st_uid and not is_log:
                found[entry.name] = status.st_mtime
    plain = {*found, path.name}
    stems = {name: re.sub(r"\.(gz|zst)\Z", "", name) for name in found}
    names = [name for name, stem in stems.items() if stem == name or stem not in plain]
    return [path.with_name(name) for name in sorted(names, key=lambda one: -found[one])[:_MAX_FILES]]
