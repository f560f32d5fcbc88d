"""Tests the table of docs/store-faults.md: each fault of a store against each kind of request."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import re
import resource
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unittest import mock

import pytest

from galerly_cdn.app.processes import forgetting
from galerly_cdn.errors import GalerlyError
from galerly_cdn.http.urls import checked_key
from galerly_cdn.library import StoreLibrary
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from galerly_cdn.store.remote import connection, resilience
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from galerly_cdn.store.remote.renditions import RemoteRenditions
from tests.support import pictures
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.folder_library import stream
from tests.support.in_memory_cdn import InMemoryCdn
from tests.support.rendition_folders import open_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

    from galerly_cdn.store.interfaces import Renditions, WritableOriginals

PAGE = Path(__file__).parents[3] / "docs" / "store-faults.md"
COLUMNS = ("in memory", "stored", "new", "upload", "purge", "warm", "log", "events")
KEYS = ("g/memory.png", "g/stored.png", "g/new.png", "g/purge.png", "g/warm.png")
CONTENT = pictures.png(40, 30)
LARGE = pictures.jpeg(900, 700) + bytes(200_000)
"""An upload for which no room is made by removing renditions."""
SIZE = "tiny"
NOT_FAULTS = {"render", "original-changed", "fill-dropped", "rendition-evicted"}


class Opened(NamedTuple):
    """A store, and its faults by the names of the page."""

    originals: WritableOriginals
    renditions: Renditions
    faults: dict[str, Callable[[], AbstractContextManager[None]]]


def documented() -> dict[str, dict[str, str]]:
    """The rows of the page's table, by store and fault."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\| (folder|S3): ", line)
    ]
    return {name: dict(zip(COLUMNS, cells, strict=True)) for name, *cells in rows}


# ------------------------------------------------------------------------------------- the faults


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """The disk has not a byte left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    yield
    filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


@contextmanager
def no_descriptor() -> Iterator[None]:
    """No further file can be opened in this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextmanager
def disk_error() -> Iterator[None]:
    """The kernel returns EIO for every file that is looked at, opened or written."""
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    with contextlib.ExitStack() as patched:
        for name in ("lstat", "open", "write", "unlink", "fsync"):
            patched.enter_context(mock.patch.object(os, name, side_effect=error))
        yield


@contextmanager
def moved(folder: Path) -> Iterator[None]:
    """As a volume that was unmounted."""
    away = folder.rename(folder.with_name("away"))
    yield
    if folder.exists():
        subprocess.run(["rm", "-r", folder], check=True)
    away.rename(folder)


@contextmanager
def changed_bytes(folder: Path) -> Iterator[None]:
    """The last byte of each rendition is another one."""
    for path in folder.glob("??/*"):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    yield


@contextmanager
def mounted(disk: Path) -> Iterator[None]:
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", disk], check=True)


@asynccontextmanager
async def folder(tmp_path: Path, count: Callable[[str], None], *, on_disk: bool) -> AsyncIterator[Opened]:
    disk = tmp_path / "disk"
    with mounted(disk) if on_disk else contextlib.nullcontext():
        (disk / "originals" / "g").mkdir(parents=True)
        for key in KEYS:
            (disk / "originals" / key).write_bytes(CONTENT)
        originals = WritableFolderOriginals(disk / "originals", checked_key, now=time.time, stale_s=3600.0)
        async with open_folder(disk / "resized", now_s=1e12, count=count) as renditions:
            yield Opened(
                originals,
                renditions,
                {
                    "disk full": functools.partial(full, disk),
                    "read-only": functools.partial(read_only, disk),
                    "too many open files": no_descriptor,
                    "disk error": disk_error,
                    "not mounted": functools.partial(moved, disk / "originals"),
                    "wrong bytes": functools.partial(changed_bytes, disk / "resized"),
                },
            )


def altered(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1]) if content else content


REMOTE = {
    "connection refused": Fault(resets=True),
    "frozen": Fault(hangs=True),
    "internal error": Fault(status=500),
    "SlowDown": Fault(status=503, code="SlowDown"),
    "access denied": Fault(status=403, code="AccessDenied"),
    "wrong bytes": Fault(altered=altered),
}


@contextmanager
def failing(fake: FakeS3, fault: Fault) -> Iterator[None]:
    fake.fault = lambda request: None if fault.altered is altered and request.query else fault
    yield
    fake.fault = lambda _request: None


@asynccontextmanager
async def bucket(
    now_s: Callable[[], float], count: Callable[[str], None], deadline_s: float
) -> AsyncIterator[Opened]:
    async with fake_s3() as fake:
        for key in KEYS:
            fake.put(f"originals/{key}", CONTENT)
        settings = fake.settings(store_fresh_s=0, store_deadline_s=deadline_s)
        originals = RemoteOriginals(Bucket("s3://bucket/originals", settings, now_s, count), settings, now_s)
        renditions = RemoteRenditions(Bucket("s3://bucket/resized", settings, now_s, count), count)
        faults = {name: functools.partial(failing, fake, fault) for name, fault in REMOTE.items()}
        yield Opened(originals, renditions, cast("Any", {**faults, "too many open files": no_descriptor}))


# ------------------------------------------------------------------------------------ the requests


class Requests:
    """Sends each kind of request once, and tells its result as the page does."""

    def __init__(self, opened: Opened, counted: list[str]) -> None:
        self._counted = counted
        self.cdn = InMemoryCdn(
            settings=Settings(),
            originals=cast("Any", opened.originals),
            renditions=cast("Any", opened.renditions),
        )
        cdn = self.cdn
        self.targets = [one for one in cdn.listed.recipes if str(one).startswith("150x150")]
        self.library = StoreLibrary(
            originals=opened.originals,
            renditions=opened.renditions,
            inspector=cdn.inspector,
            facts=cdn.facts,
            listed=cdn.listed,
            max_bytes=1 << 20,
            warm=functools.partial(cdn.origin.warm, targets=self.targets),
            forget=forgetting(cdn.edge, None),
        )

    async def picture(self, key: str) -> str:
        answer = await self.cdn.ask(f"/resize/{SIZE}/{key}")
        if answer.status != 200:
            return f"{answer.status} `{answer.code}`, {answer.headers['retry-after']} s"
        assert answer.body.endswith(f"{key} at 150x150".encode()), "another picture, or half of one"
        stale = ", stale" if "store-unreachable" in answer.headers["cache-status"] else ""
        return f"200{stale}"

    async def upload(self) -> str:
        return await self._result(self.library.upload("g/upload.png", stream([LARGE])), "created")

    async def purge(self) -> str:
        return await self._result(self.library.purge("g/purge.png"), "removed")

    async def warm(self) -> str:
        async def warm() -> None:
            async for _ in self.library.warm("g/warm.png"):
                pass

        return await self._result(warm(), "stored")

    async def _result(self, work: Any, done: str) -> str:  # noqa: ANN401 - any coroutine
        try:
            await work
        except GalerlyError as error:
            return f"{error.status} `{error.code}`, {error.retry_after_s} s"
        return done

    async def all(self, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
        """A row of the page: what each request got, and the words in the log and the metrics."""
        before = self.cdn.counters.snapshot()
        self._counted.clear()
        caplog.clear()
        row = {
            "in memory": await self.picture("g/memory.png"),
            "stored": await self.picture("g/stored.png"),
            "new": await self.picture("g/new.png"),
            "upload": await self.upload(),
            "purge": await self.purge(),
            "warm": await self.warm(),
        }
        await self.cdn.origin.drain()
        lines = [one.getMessage() for one in caplog.records if one.name.endswith("fault_log")]
        row["log"] = _list(": ".join(line.split(": ")[:2]) for line in lines)
        counted = self.cdn.counters.snapshot()
        events = {name for name, count in counted.items() if count > before.get(name, 0)}
        row["events"] = _list((events | set(self._counted)) - NOT_FAULTS)
        return row

    async def prepare(self, opened: Opened) -> None:
        """Pictures in memory, and in the store alone."""
        assert await self.picture("g/memory.png") == "200"
        other = Requests(opened, self._counted)
        assert await other.picture("g/stored.png") == "200"
        async for _ in other.library.warm("g/purge.png"):
            pass
        await opened.originals.head("g/stored.png")
        await other.cdn.origin.drain()
        await self.cdn.origin.drain()


def _list(words: Any) -> str:  # noqa: ANN401 - an iterable of strings
    return ", ".join(f"`{one}`" for one in sorted(set(words))) or "–"


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(resilience, "_BACKOFF_S", 0.001)


FOLDER = ["disk full", "read-only", "too many open files", "disk error", "not mounted", "wrong bytes"]
NAMES = [*(f"folder: {one}" for one in FOLDER), *(f"S3: {one}" for one in (*REMOTE, "too many open files"))]


@pytest.mark.server("mount")
@pytest.mark.parametrize("name", NAMES)
async def test_store_with_a_fault_answers_as_documented_and_recovers(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, fault = name.split(": ")
    caplog.set_level(logging.WARNING)
    now_s, counted = 0.0, list[str]()
    is_mount = fault in {"disk full", "read-only"}
    opening = (
        folder(tmp_path, counted.append, on_disk=is_mount)
        if store == "folder"
        else bucket(lambda: now_s, counted.append, 0.2 if fault == "frozen" else 30.0)
    )
    async with opening as opened:
        requests = Requests(opened, counted)
        await requests.prepare(opened)
        now_s += 10.0
        with opened.faults[fault]():
            row = await requests.all(caplog)
        now_s += 100.0
        print(f"| {name} | " + " | ".join(row[one] for one in COLUMNS) + " |")
        recovered = {key: await requests.picture(key) for key in KEYS}
        assert recovered == dict.fromkeys(KEYS, "200")
    expected = documented()[name]
    assert {one: row[one] for one in COLUMNS if row[one] not in expected[one].split(" or ")} == {}, expected


def test_page_has_every_fault() -> None:
    assert list(documented()) == NAMES
