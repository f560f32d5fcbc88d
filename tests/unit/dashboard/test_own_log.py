"""The server's own log: found by its descriptor, with its rotated siblings, whatever was renamed."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.dashboard import own_log

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a log `access.log` that is written to."""
    fd = os.open(tmp_path / "access.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"now")
    yield fd
    os.close(fd)


def names(fd: int) -> list[str]:
    return [Path(one).name for one in own_log.find(fd).files]


def test_log_alone_is_found(log: int, tmp_path: Path) -> None:
    path = str(tmp_path / "access.log")
    assert own_log.find(log) == own_log.OwnLog(path, (path,), 3)


def test_rotated_siblings_are_found_the_newest_first(log: int, tmp_path: Path) -> None:
    rotated = ("access.log.1", "access.log-20261130", "access.log.2.gz", "access.log-2026-11-29.zst")
    others = (
        "access.log.bak",
        "access.logs",
        "error.log.1",
        "my-access.log.1",
        "access.log.1.gz",
        ".access.log.1",
    )
    for age, name in enumerate((*rotated, *others)):
        (tmp_path / name).write_bytes(b"old")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert names(log) == ["access.log", *rotated]
    assert own_log.find(log).length_bytes == 3 * 5


@pytest.mark.parametrize("name", ["access.log.1", "access.log-20261130"])
def test_log_that_was_rotated_away_is_found_with_the_new_one(log: int, tmp_path: Path, name: str) -> None:
    (tmp_path / "access.log").rename(tmp_path / name)
    (tmp_path / "access.log").write_bytes(b"new")
    assert names(log) == [name, "access.log"]


def test_log_that_was_removed_is_still_read(log: int, tmp_path: Path) -> None:
    (tmp_path / "access.log").unlink()
    with own_log.opened(log) as files:
        assert [os.pread(one.fd, 10, 0) for one in files] == [b"now"]


def test_files_that_are_swapped_after_opening_are_read_as_they_were(log: int, tmp_path: Path) -> None:
    (tmp_path / "access.log.1").write_bytes(b"old")
    with own_log.opened(log) as files:
        for name in ("access.log", "access.log.1"):
            (tmp_path / name).unlink()
            (tmp_path / name).write_bytes(b"another")
        assert [os.pread(one.fd, 10, 0) for one in files] == [b"now", b"old"]


def test_links_and_what_is_no_file_are_left_out(log: int, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "access.log.1").symlink_to(tmp_path / "secret")
    (tmp_path / "access.log.2").mkdir()
    os.mkfifo(tmp_path / "access.log.3")
    assert names(log) == ["access.log"]


def test_log_that_may_not_be_read_is_named(log: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert own_log.find(log).absence.endswith("access.log: Permission denied.")


def test_other_outputs_are_named() -> None:
    reading, writing = os.pipe()
    ends = socket.socketpair()
    device = os.open(os.devnull, os.O_WRONLY)
    expected = {
        writing: "a pipe",
        ends[0].fileno(): "a socket, such as the journal’s",
        device: "a terminal or a device",
    }
    try:
        for fd, name in expected.items():
            assert own_log.find(fd).absence == f"The server’s standard output is {name}, not a file."
    finally:
        for fd in (reading, writing, device):
            os.close(fd)
        for end in ends:
            end.close()
