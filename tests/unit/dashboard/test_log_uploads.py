"""Log files in one body: every way to cut it in chunks gives the same files; others are refused."""

from __future__ import annotations

import asyncio
import errno
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.dashboard import log_uploads
from galerly_cdn.errors import MalformedBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


def body(files: Sequence[tuple[str, bytes]]) -> bytes:
    described = [{"name": name, "length_bytes": len(content)} for name, content in files]
    return json.dumps({"files": described}).encode() + b"\n" + b"".join(content for _, content in files)


async def chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def received(content: bytes, size: int = 7) -> list[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "logs")
        files = asyncio.run(log_uploads.receive(chunks(content, size), folder))
        return [(one.name, (folder / str(number)).read_bytes()) for number, one in enumerate(files)]


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=9), st.binary(max_size=50)), min_size=1, max_size=6),
    st.integers(1, 200),
)
def test_files_are_received_whatever_the_chunks(files: list[tuple[str, bytes]], size: int) -> None:
    assert received(body(files), size) == files


WHOLE = body([("a", b"12345"), ("b", b"678")])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"no json\n123",
        b'{"files": []}\n',
        b'{"files": [{"name": "", "length_bytes": 1}]}\n1',
        b'{"files": [{"name": "a", "length_bytes": -1}]}\n1',
        b'{"files": [{"name": "a", "length_bytes": 1, "path": "/etc/x"}]}\n1',
        body([("a", b"")] * (log_uploads.MAX_FILES + 1)),
        b" " * 40_000 + WHOLE,
        WHOLE[:-1],
        WHOLE + b"9",
        body([("a", b"")]) + b"1",
        body([("a", b"1"), ("b", b"2")])[:-1],
    ],
)
def test_body_that_is_not_its_files_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedBody):
        received(content)


def test_files_that_are_too_large_together_are_refused_before_they_are_received() -> None:
    half = log_uploads.MAX_BYTES // 2
    sizes = [{"name": "a", "length_bytes": half + 1}, {"name": "b", "length_bytes": half}]
    with pytest.raises(log_uploads.LogsTooLarge):
        received(json.dumps({"files": sizes}).encode() + b"\n")


def test_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path, _part: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_uploads, "_append", fail)
    with pytest.raises(log_uploads.LogsNotStored):
        received(WHOLE)


def test_name_of_a_file_is_never_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    asyncio.run(log_uploads.receive(chunks(body([("../../out", b"1")]), 9), folder))
    assert [one.name for one in tmp_path.rglob("*")] == ["inside", "0"]
