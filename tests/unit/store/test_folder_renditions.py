"""Tests the folder of renditions: durability, checksums, the limit in bytes, and restarts."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import (
    DiskError,
    DiskFull,
    DiskReadOnly,
    GalerlyError,
    SettingsError,
    StoreRefused,
    StoreUnreachable,
    TooManyFiles,
)
from galerly_cdn.model import Size, Target
from galerly_cdn.serialization import to_json
from galerly_cdn.store.folder import named_files, rendition_file
from galerly_cdn.store.folder import renditions as renditions_module
from galerly_cdn.store.folder.rendition_file import DamagedFile, decode_rendition, encode_rendition
from galerly_cdn.store.folder.renditions import _SLICE, FolderRenditions
from galerly_cdn.store.folder.renditions_index import (
    TEMP_PREFIX,
    RenditionsIndex,
    disk_bytes,
    file_name,
    scan_folder,
)
from galerly_cdn.store.interfaces import StoredObject, Usage, keeps_same
from galerly_cdn.store.temp_files import is_abandoned
from tests.support.descriptors import open_descriptors
from tests.support.rendition_folders import (
    MIB,
    TARGET,
    Counted,
    file_of,
    make_rendition,
    open_folder,
    rendition_files,
)
from tests.support.rendition_writer import KEYS, body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from galerly_cdn.model import Rendition
    from galerly_cdn.store.interfaces import Keeps

KIB = 1024
HOUR_S = 3600.0


def on_disk(root: Path) -> int:
    total = 0
    for folder, _folders, names in os.walk(root):
        if folder != str(root):
            total += sum(disk_bytes(os.lstat(f"{folder}/{name}").st_size) for name in names)
    return total


# ---------------------------------------------------------------------------------------- the file


@given(key=st.text("aé/ \0\n\u2028", min_size=1), content=st.binary(max_size=300))
def test_decode_is_the_inverse_of_encode(key: str, content: bytes) -> None:
    assert decode_rendition(encode_rendition(make_rendition(key, content))) == make_rendition(key, content)


ENCODED = encode_rendition(make_rendition("gallery/a photo.jpg", b"the picture"))
HEADER_AT = ENCODED.index(b"{")
BODY_AT = ENCODED.index(b"the picture")


@pytest.mark.parametrize(
    "region",
    [range(HEADER_AT), range(HEADER_AT, BODY_AT), range(BODY_AT, len(ENCODED))],
    ids=["first line", "header", "body"],
)
def test_decode_detects_any_changed_bit(region: range) -> None:
    for position in region:
        for bit in range(8):
            damaged = bytearray(ENCODED)
            damaged[position] ^= 1 << bit
            with pytest.raises(DamagedFile):
                decode_rendition(bytes(damaged))


@given(at=st.integers(0, len(ENCODED)), length=st.integers(0, 12), other=st.binary(max_size=12))
def test_decode_detects_a_removed_or_overwritten_range(at: int, length: int, other: bytes) -> None:
    damaged = ENCODED[:at] + other + ENCODED[at + length :]
    if damaged == ENCODED:
        return
    with pytest.raises(DamagedFile):
        decode_rendition(damaged)


def test_decode_detects_truncation_at_every_length() -> None:
    for length in range(len(ENCODED)):
        with pytest.raises(DamagedFile):
            decode_rendition(ENCODED[:length])


def test_header_of_another_package_version_is_a_miss() -> None:
    header = to_json({"key": "a", "unknown": 1})
    with pytest.raises(DamagedFile):
        decode_rendition(rendition_file._first_line(header) + header)


# ------------------------------------------------------------------------- files that are not renditions


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(encode_rendition(make_rendition("a")))
    path.symlink_to(outside)


def _other_key(path: Path) -> None:
    path.write_bytes(encode_rendition(make_rendition("b")))


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # reading it would take a terabyte


@pytest.mark.parametrize("make", [_directory, _fifo, _link, _other_key, _huge])
async def test_path_that_is_not_a_rendition_file_is_a_miss(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    counted = Counted()
    path = file_of(tmp_path, "a")
    async with open_folder(tmp_path, count=counted) as store:
        path.parent.mkdir()
        make(path)
        assert await store.get("a", TARGET) is None
    assert counted.events in (["rendition-corrupt"], ["rendition-unreadable"])


async def test_damaged_file_is_counted_and_deleted(tmp_path: Path) -> None:
    counted = Counted()
    async with open_folder(tmp_path, count=counted) as store:
        await store.put(make_rendition("a"))
        path = file_of(tmp_path, "a")
        path.write_bytes(path.read_bytes()[:-1])
        assert await store.get("a", TARGET) is None
        assert not path.exists()
        assert await store.get("a", TARGET) is None
        assert store._index.used_bytes == 0
    assert counted.events == ["rendition-corrupt"]


LATER_S = 9e9
"""A clock by which every file's times are old."""


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of what MD5 was computed of."""
    lengths: list[int] = []
    real = rendition_file._md5

    def counting(content: bytes) -> str:
        lengths.append(len(content))
        return real(content)

    monkeypatch.setattr(rendition_file, "_md5", counting)
    return lengths


async def test_version_of_a_file_is_verified_once(tmp_path: Path, digests: list[int]) -> None:
    body = b"x" * 10_000
    async with open_folder(tmp_path, now_s=LATER_S) as store:
        await store.put(make_rendition("a", body))
        digests.clear()
        assert store.known("a", TARGET) is None
        for _ in range(3):
            assert await store.get("a", TARGET) == make_rendition("a", body)
        assert store.known("a", TARGET) == make_rendition("a", body)
        assert digests.count(10_000) == 2  # the first read sets the time of the last use: a new version
        other = make_rendition("a", b"y" * 10_000)
        file_of(tmp_path, "a").write_bytes(encode_rendition(other))
        assert store.known("a", TARGET) == other
        assert digests.count(10_000) == 3


async def test_file_that_changed_just_now_is_verified_again(tmp_path: Path, digests: list[int]) -> None:
    async with open_folder(tmp_path, now_s=0) as store:
        await store.put(make_rendition("a", b"x" * 10_000))
        digests.clear()
        for _ in range(3):
            await store.get("a", TARGET)
        assert store.known("a", TARGET) is None
    assert digests.count(10_000) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[:-1] + b"!",
        lambda content: b"\0" * len(content),
        lambda content: content.replace(b"v1", b"v2"),
    ],
    ids=["torn", "last byte", "zeros", "record"],
)
@pytest.mark.parametrize("is_renamed", [False, True], ids=["in place", "renamed"])
async def test_verified_file_that_is_damaged_later_is_a_miss(
    tmp_path: Path, change: Callable[[bytes], bytes], *, is_renamed: bool
) -> None:
    counted = Counted()
    async with open_folder(tmp_path, count=counted, now_s=LATER_S) as store:
        await store.put(make_rendition("a"))
        for _ in range(2):
            await store.get("a", TARGET)
        assert store.known("a", TARGET) is not None
        path, times = file_of(tmp_path, "a"), file_of(tmp_path, "a").stat()
        damaged = tmp_path / "damaged" if is_renamed else path
        damaged.write_bytes(change(path.read_bytes()))
        os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` and a restored backup do
        damaged.rename(path)
        assert store.known("a", TARGET) is None
    assert counted.events == ["rendition-corrupt"]


async def test_unreadable_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()

    def fail(_fd: int, _length: int) -> bytes:
        raise OSError(errno.EIO, "damaged disk")

    async with open_folder(tmp_path, count=counted) as store:
        await store.put(make_rendition("a"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "read", fail)
            assert await store.get("a", TARGET) is None
        assert await store.get("a", TARGET) == make_rendition("a")
    assert counted.events == ["rendition-unreadable"]


# ---------------------------------------------------------------------------------------- durability


def test_writer_killed_at_any_step_leaves_valid_renditions_or_none(tmp_path: Path) -> None:
    """120 writers: each kills itself at a system call, or is killed at any time."""
    root = tmp_path / "renditions"
    rng = random.Random(3)
    steps = ["fdopen", "none", "rename", "none"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-m", "tests.support.rendition_writer", str(root)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[3],
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stderr is not None
        for seed in range(120):
            step = steps[seed % len(steps)]
            parent.stdin.write(f"{seed} {step}\n".encode())
            parent.stdin.flush()
            writer = int(parent.stdout.readline())
            if step == "none":
                os.read(parent.stderr.fileno(), rng.randrange(1, 5))
                os.kill(writer, signal.SIGKILL)
            assert parent.stdout.readline() == b"ended\n"
        parent.stdin.close()
        assert parent.wait() == 0
    asyncio.run(_check_leftovers(root))


async def _check_leftovers(root: Path) -> None:
    assert [path for path in rendition_files(root) if path.name.startswith(".put-")], (
        "no writer was killed during a write"
    )
    counted = Counted()
    found = 0
    async with open_folder(root, 64 * MIB, counted) as store:
        for key in KEYS:
            rendition = await store.get(key, TARGET)
            if rendition is not None:
                found += 1
                seed = int(rendition.body.split()[1])
                assert rendition == make_rendition(key, body(key, seed), version=f"{seed}")
    assert found > len(KEYS) // 2
    assert counted.events == []
    assert sorted(rendition_files(root)) == sorted(
        file_of(root, key) for key in KEYS if file_of(root, key).exists()
    )


async def test_only_temporary_files_of_dead_writers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "00").mkdir()
    dead, living, ancient = (tmp_path / "00" / f".put-{name}" for name in ("dead", "living", "ancient"))
    foreign = tmp_path / "00" / "a.jpg"
    for path in (dead, living, ancient, foreign):
        path.write_bytes(b"half a ren")
    os.utime(ancient, (0, 0))
    with living.open("rb") as one, ancient.open("rb") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_EX)
        async with open_folder(tmp_path, now_s=2 * HOUR_S):
            assert sorted(rendition_files(tmp_path)) == sorted([living, foreign])


async def test_temporary_file_is_locked_while_its_writer_waits_for_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clean-up, or the start of another server, would remove it, and the rendition would not be stored."""
    abandoned: list[bool] = []

    @contextmanager
    def wait(folder: Path) -> Iterator[None]:
        abandoned.extend(is_abandoned(path, 0.0) for path in folder.glob(f"{TEMP_PREFIX}*"))
        yield

    monkeypatch.setattr(named_files, "locked_folder", wait)
    async with open_folder(tmp_path) as store:
        await store.put(make_rendition("x"))
    assert abandoned == [False]


async def test_put_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    async with open_folder(tmp_path) as store:
        for name in ("fsync", "fdatasync", "sync"):
            monkeypatch.setattr(os, name, synced.append)
        await store.put(make_rendition("a"))
    assert synced == []


async def test_put_of_a_cancelled_caller_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, resume = threading.Event(), threading.Event()
    real_rename = os.rename

    def pause(old: Path, new: Path) -> None:
        reached.set()
        assert resume.wait(10)
        real_rename(old, new)

    async with open_folder(tmp_path) as store:
        monkeypatch.setattr(os, "rename", pause)
        put = asyncio.create_task(store.put(make_rendition("a")))
        await asyncio.to_thread(reached.wait, 10)
        queued = asyncio.create_task(store.put(make_rendition("b")))
        await asyncio.wait([queued], timeout=0)
        for cancelled in (put, queued):
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        resume.set()
    async with open_folder(tmp_path) as store:
        assert await store.get("a", TARGET) == make_rendition("a")
        assert await store.get("b", TARGET) == make_rendition("b")


# ------------------------------------------------------------------------------ puts that are begun


class HeldWrites:
    """Holds every write before it is renamed, until `resume` is set; then raises `error`, if there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resume = threading.Event()
        self.error: OSError | None = None
        self._rename = os.rename
        monkeypatch.setattr(os, "rename", self._wait)

    def _wait(self, old: Path, new: Path) -> None:
        assert self.resume.wait(10)
        if self.error is not None:
            raise self.error
        self._rename(old, new)


def begin(
    store: FolderRenditions, rendition: Rendition, keeps: Keeps | None = None
) -> Awaitable[Rendition] | None:
    return store.begin_put(rendition, keeps or keeps_same(rendition.record))


async def test_begun_put_is_read_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldWrites(monkeypatch)
    before, after = make_rendition("a", b"before"), make_rendition("a", b"after", version="v2")
    async with open_folder(tmp_path) as store:
        puts = [begin(store, one) for one in (before, after)]
        assert not file_of(tmp_path, "a").exists()
        assert await store.get("a", TARGET) == after
        assert await store.record("a", TARGET) == after.record
        assert await store.head("a", TARGET) == StoredObject("v2", 0)
        held.resume.set()
        assert [await one for one in puts if one] == [before, after]
        assert store._pending == {}
        assert store._pending_bytes == 0
        assert await store.get("a", TARGET) == after
    assert file_of(tmp_path, "a").read_bytes() == encode_rendition(after)


async def test_close_finishes_begun_puts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldWrites(monkeypatch)
    async with open_folder(tmp_path) as store:
        put = begin(store, make_rendition("a"))
        assert put is not None
        held.resume.set()
    assert await put == make_rendition("a")
    assert file_of(tmp_path, "a").exists()


async def test_delete_of_a_begun_put_hides_it_and_removes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldWrites(monkeypatch)
    async with open_folder(tmp_path) as store:
        put = begin(store, make_rendition("a"))
        assert put is not None
        deletion = asyncio.create_task(store.delete("a", TARGET))
        await asyncio.wait([deletion], timeout=0)
        assert await store.get("a", TARGET) is None
        held.resume.set()
        assert await put == make_rendition("a")
        assert await deletion
    assert not file_of(tmp_path, "a").exists()


async def test_put_is_not_begun_after_a_failed_write_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldWrites(monkeypatch)
    held.resume.set()
    async with open_folder(tmp_path) as store:
        held.error = OSError(errno.EIO, os.strerror(errno.EIO))
        put = begin(store, make_rendition("a"))
        assert put is not None
        with pytest.raises(StoreUnreachable):
            await put
        assert await store.get("a", TARGET) is None
        held.error = None
        assert not await store.delete("a", TARGET)
        assert begin(store, make_rendition("a")) is None
        await store.put(make_rendition("a"))
        put = begin(store, make_rendition("b"))
        assert put is not None
        assert await put == make_rendition("b")


async def test_put_is_not_begun_where_it_has_to_be_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another rendition is kept, the limit is smaller, or too many bytes are pending."""
    held = HeldWrites(monkeypatch)
    held.resume.set()
    async with open_folder(tmp_path, 40 * KIB) as store:
        await store.put(make_rendition("a"))
        assert begin(store, make_rendition("a", b"the same version and recipe")) is None
        assert begin(store, make_rendition("b", bytes(40 * KIB))) is None
        monkeypatch.setattr(renditions_module, "_MAX_PENDING_BYTES", 20 * KIB)
        held.resume.clear()
        put = begin(store, make_rendition("c", bytes(18 * KIB)))
        assert put is not None
        assert begin(store, make_rendition("d", bytes(4 * KIB))) is None
        held.resume.set()
        await put
        put = begin(store, make_rendition("d", bytes(4 * KIB)))
        assert put is not None
        await put


async def test_begun_put_ends_with_the_rendition_that_another_server_has_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldWrites(monkeypatch)
    theirs = make_rendition("a", b"the other's")
    async with open_folder(tmp_path) as store:
        blocking = begin(store, make_rendition("b"))
        put = begin(store, make_rendition("a"))
        assert blocking is not None
        assert put is not None
        path = file_of(tmp_path, "a")
        path.parent.mkdir()
        path.write_bytes(encode_rendition(theirs))
        assert await store.get("a", TARGET) == make_rendition("a")
        held.resume.set()
        await blocking
        assert await put == theirs
        assert await store.get("a", TARGET) == theirs


@pytest.mark.parametrize("call", ["mkstemp", "rename", "unlink"])
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EIO, DiskError),
        (errno.EROFS, DiskReadOnly),
        (errno.EMFILE, TooManyFiles),
        (errno.EACCES, StoreRefused),
        (errno.ESTALE, StoreUnreachable),
    ],
)
async def test_failed_put_leaves_no_file_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[GalerlyError]
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    target: object = {"mkstemp": tempfile}.get(call, Path)
    async with open_folder(tmp_path, 40 * KIB) as store:
        for key in "abcdefghij":
            await store.put(make_rendition(key, b"before"))
        with monkeypatch.context() as patched:
            patched.setattr(target, call, fail)
            if call == "unlink":  # only called for the rendition that a new key evicts, after its write
                await store.put(make_rendition("l", b"before"))
            else:
                with pytest.raises(kind):
                    await store.put(make_rendition("j", b"after", version="2"))
            with pytest.raises(kind):
                await store.put(make_rendition("k", b"after"))
        assert not [path for path in rendition_files(tmp_path) if path.name.startswith(".put-")]
        kept = await store.get("j", TARGET)
        assert kept is not None
        assert kept.body in {b"before", b"after"}
        await store.put(make_rendition("k", b"after"))
        assert await store.get("k", TARGET) == make_rendition("k", b"after")
        assert on_disk(tmp_path) <= 44 * KIB


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mounts a file system in memory; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", *options, str(folder)], check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield
    finally:
        _run("umount", str(folder))


@pytest.mark.server("mount")
async def test_full_disk_fails_the_put_and_evicts_old_renditions(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        async with open_folder(disk / "renditions", 100 * MIB) as store:
            stored_keys, refused = [], 0
            for number in range(200):
                rendition = make_rendition(f"{number}", bytes([number]) * 20_000)
                try:
                    await store.put(rendition)
                    stored_keys.append(f"{number}")
                except StoreUnreachable:
                    refused += 1
                assert not [
                    path for path in rendition_files(disk / "renditions") if path.name.startswith(".put-")
                ]
                if stored_keys:
                    assert await store.get(stored_keys[-1], TARGET) is not None
            assert refused > 10
            assert len(stored_keys) > 60
            assert store._index.used_bytes == on_disk(disk / "renditions")


@pytest.mark.server("mount")
async def test_folder_that_becomes_read_only_is_still_served(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "tmpfs"):
        async with open_folder(disk, now_s=1e12) as store:
            await store.put(make_rendition("a"))
            _run("mount", "-o", "remount,ro", str(disk))
            with pytest.raises(DiskReadOnly):
                await store.put(make_rendition("b"))
            with pytest.raises(DiskReadOnly):
                await store.delete("a", TARGET)
            assert await store.get("a", TARGET) == make_rendition("a")
        with pytest.raises(SettingsError, match="Read-only file system"):
            FolderRenditions(disk, MIB, Counted(), lambda: 0)


# ------------------------------------------------------------------------------------------ the limit


def _zipf(count: int, keys: int) -> list[str]:
    rng = random.Random(7)
    weights = [1 / rank for rank in range(1, keys + 1)]
    return [f"{number}" for number in rng.choices(range(keys), weights, k=count)]


def _length(key: str) -> int:
    return 100 + int(key) * 7919 % 24_000


async def test_folder_never_exceeds_its_limit_and_keeps_most_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compares the hits of a Zipf load over three times the limit with those of an LRU cache in memory."""
    limit_bytes = 800 * KIB
    requests = _zipf(2000, 200)
    heaviest = max(
        disk_bytes(len(encode_rendition(make_rendition(key, bytes(_length(key)))))) for key in set(requests)
    )
    seen_bytes: list[int] = []
    written = itertools.count()
    real_rename = os.rename

    def sample(old: Path, new: Path) -> None:  # the rendition is on disk, but not renamed yet
        if next(written) % 5 == 0:
            seen_bytes.append(on_disk(tmp_path))
        real_rename(old, new)

    monkeypatch.setattr(os, "rename", sample)
    reference: OrderedDict[str, int] = OrderedDict()
    hits = reference_hits = 0
    async with open_folder(tmp_path, limit_bytes) as store:
        for key in requests:
            rendition = make_rendition(key, bytes(_length(key)))
            if await store.get(key, TARGET) is None:
                await store.put(rendition)
            else:
                hits += 1
            reference_hits += key in reference
            reference[key] = disk_bytes(len(encode_rendition(rendition)))
            reference.move_to_end(key)
            while sum(reference.values()) > limit_bytes:
                reference.popitem(last=False)
        assert store._index.used_bytes == on_disk(tmp_path)
    assert len(seen_bytes) > 100
    assert limit_bytes * 0.9 < max(seen_bytes) <= limit_bytes + heaviest
    assert on_disk(tmp_path) <= limit_bytes
    assert abs(hits - reference_hits) <= 0.03 * len(requests)


async def test_kept_rendition_counts_with_its_own_length(tmp_path: Path) -> None:
    async with open_folder(tmp_path, MIB) as store:
        await store.put(make_rendition("a", bytes(50_000)))
        kept = await store.put(make_rendition("a", b"the same version and recipe"))
        assert len(kept.body) == 50_000
        assert store._index.used_bytes == on_disk(tmp_path)


async def test_concurrent_puts_keep_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_bytes: list[int] = []
    real_rename = os.rename

    def sample(old: Path, new: Path) -> None:
        seen_bytes.append(on_disk(tmp_path))
        real_rename(old, new)

    monkeypatch.setattr(os, "rename", sample)
    counted = Counted()
    async with open_folder(tmp_path, 64 * KIB, counted) as store:
        await asyncio.gather(*(store.put(make_rendition(f"{number}", bytes(9000))) for number in range(60)))
    assert max(seen_bytes) <= 64 * KIB + 12 * KIB
    assert counted.events == ["rendition-evicted"] * 55


async def test_empty_files_count_as_one_block(tmp_path: Path) -> None:
    async with open_folder(tmp_path, 40 * KIB) as store:
        for number in range(30):
            await store.put(make_rendition(f"{number}", b""))
    assert len(rendition_files(tmp_path)) == 10


async def test_rendition_above_the_limit_evicts_nothing(tmp_path: Path) -> None:
    async with open_folder(tmp_path, 40 * KIB) as store:
        await store.put(make_rendition("a"))
        with pytest.raises(StoreUnreachable):
            await store.put(make_rendition("b", bytes(40 * KIB)))
        assert await store.get("a", TARGET) == make_rendition("a")


async def test_eviction_does_not_break_a_read_in_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read = os.read
    path = file_of(tmp_path, "a")

    def evict_before(fd: int, length: int) -> bytes:
        path.unlink()
        return real_read(fd, length)

    async with open_folder(tmp_path) as store:
        await store.put(make_rendition("a"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "read", evict_before)
            assert await store.get("a", TARGET) == make_rendition("a")
        assert await store.get("a", TARGET) is None
        assert store._index.used_bytes == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 9)), max_size=40), st.integers(0, 30))
def test_index_adds_up(steps: list[tuple[str, int]], limit: int) -> None:
    index, expected = RenditionsIndex(), dict[bytes, int]()
    for letter, size_bytes in steps:
        name = letter.encode()
        expected.pop(name, None)
        if size_bytes < 0:
            index.forget(name)
        else:
            index.use(name, size_bytes)
            expected[name] = size_bytes
        assert (index.used_bytes, len(index)) == (sum(expected.values()), len(expected))
    evicted = index.evict(limit, len(index))
    assert evicted == list(expected)[: len(evicted)]
    assert index.used_bytes == sum(expected[name] for name in list(expected)[len(evicted) :])
    assert index.used_bytes <= limit


# ------------------------------------------------------------------------------------------- restarts


async def test_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    async with open_folder(tmp_path, 40 * KIB) as store:
        for number in range(10):
            await store.put(make_rendition(f"{number}"))
    for number in range(10):
        hour = (number * 7) % 10
        os.utime(file_of(tmp_path, f"{number}"), (hour * HOUR_S, hour * HOUR_S))
    async with open_folder(tmp_path, 40 * KIB, now_s=9 * HOUR_S + 1800) as store:
        assert await store.get("0", TARGET) is not None  # the oldest one is used again
    async with open_folder(tmp_path, 40 * KIB, now_s=10 * HOUR_S) as store:
        for number in range(4):
            await store.put(make_rendition(f"new {number}"))
    gone = [number for number in range(10) if not file_of(tmp_path, f"{number}").exists()]
    assert sorted((number * 7) % 10 for number in gone) == [1, 2, 3, 4]


async def test_use_is_written_to_the_file_at_most_once_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    real_utime = os.utime

    def record(path: Path, stamps: tuple[float, float], *, follow_symlinks: bool) -> None:
        times.append(stamps[1])
        real_utime(path, stamps, follow_symlinks=follow_symlinks)

    now = [1e9]
    store = FolderRenditions(tmp_path, MIB, Counted(), lambda: now[0])
    await store.put(make_rendition("a"))
    os.utime(file_of(tmp_path, "a"), (1e9, 1e9))
    monkeypatch.setattr(os, "utime", record)
    for minute in range(150):
        now[0] = 1e9 + 60 * minute
        assert await store.get("a", TARGET) is not None
    await store.close()
    assert times == [1e9 + 61 * 60, 1e9 + 122 * 60]


async def test_head_does_not_delay_the_eviction(tmp_path: Path) -> None:
    async with open_folder(tmp_path, 2 * KIB * 4, now_s=1e12) as store:
        await store.put(make_rendition("a"))
        await store.put(make_rendition("b"))
        os.utime(file_of(tmp_path, "a"), (5, 5))
        for _ in range(2):
            assert await store.head("a", TARGET) == StoredObject("v1", 5.0)
        await store.put(make_rendition("c"))
    async with open_folder(tmp_path, 2 * KIB * 4, now_s=1e12) as store:
        assert await store.head("a", TARGET) is None
        assert await store.head("b", TARGET) is not None


async def test_head_of_a_file_under_another_name_returns_an_empty_version(tmp_path: Path) -> None:
    async with open_folder(tmp_path) as store:
        await store.put(make_rendition("a"))
        file_of(tmp_path, "b").parent.mkdir(exist_ok=True)
        file_of(tmp_path, "a").rename(file_of(tmp_path, "b"))
        found = await store.head("b", TARGET)
        assert found is not None
        assert found.version == ""


async def test_head_of_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    async with open_folder(tmp_path) as store:
        await store.put(make_rendition("a"))
        file_of(tmp_path, "a").unlink()
        file_of(tmp_path, "a").symlink_to(tmp_path)
        with pytest.raises(StoreUnreachable):
            await store.head("a", TARGET)


async def test_lower_limit_is_applied_after_a_restart(tmp_path: Path) -> None:
    async with open_folder(tmp_path) as store:
        for number in range(30):
            await store.put(make_rendition(f"{number}"))
    async with open_folder(tmp_path, 40 * KIB):
        pass
    assert on_disk(tmp_path) == 40 * KIB


async def test_put_answers_before_anything_is_evicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times the limit is in the folder. The writing thread waits before it removes the first file."""
    async with open_folder(tmp_path) as store:
        for number in range(200):
            await store.put(make_rendition(f"{number}"))
    removals, real_unlink = threading.Semaphore(0), Path.unlink

    def wait_and_unlink(path: Path, *, missing_ok: bool = False) -> None:
        if not path.name.startswith(".put-"):
            assert removals.acquire(timeout=30)
        real_unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(renditions_module, "scan_folder", lambda *_: RenditionsIndex())
    store = FolderRenditions(tmp_path, 80 * KIB, Counted(), lambda: 0)
    for number in range(200):
        store._index.use(file_name(TARGET.rendition_key(f"{number}")), 4 * KIB)
    monkeypatch.setattr(Path, "unlink", wait_and_unlink)
    await asyncio.wait_for(store.put(make_rendition("new")), 10)
    assert len(rendition_files(tmp_path)) == 201
    assert await store.get("new", TARGET) == make_rendition("new")
    second = asyncio.create_task(store.put(make_rendition("newer")))
    removals.release(_SLICE)
    await asyncio.wait_for(second, 10)
    assert len(rendition_files(tmp_path)) == 202 - _SLICE, "a put waits for no more than a slice"
    removals.release(1000)
    assert store._eviction_task
    await store._eviction_task
    await store.close()
    assert on_disk(tmp_path) <= 80 * KIB


async def test_close_ends_the_eviction_after_its_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_folder(tmp_path) as store:
        for number in range(200):
            await store.put(make_rendition(f"{number}"))
    is_closing = threading.Event()

    def remove_late(store: FolderRenditions, names: list[bytes]) -> bool:
        assert is_closing.wait(30)
        return remove(store, names)

    with monkeypatch.context() as patched:
        remove = FolderRenditions._remove_evicted
        patched.setattr(FolderRenditions, "_remove_evicted", remove_late)
        async with open_folder(tmp_path, 40 * KIB) as store:
            closing = asyncio.create_task(store.close())
            await store._stops_evicting.wait()
            is_closing.set()
            await closing
    assert len(rendition_files(tmp_path)) == 200 - _SLICE
    async with open_folder(tmp_path, 40 * KIB) as store:
        assert store._eviction_task
        await store._eviction_task
    assert on_disk(tmp_path) == 40 * KIB


async def test_usage_is_that_of_the_files_once_the_folder_is_indexed(tmp_path: Path) -> None:
    async with open_folder(tmp_path) as renditions:
        await renditions.put(make_rendition("a", b"x" * 9 * KIB))
    async with open_folder(tmp_path) as renditions:
        await renditions.put(make_rendition("b"))
        assert renditions._index_task is not None
        await renditions._index_task
        assert renditions.usage() == Usage(2, on_disk(tmp_path))
        await renditions.delete("a", TARGET)
        assert renditions.usage() == Usage(1, on_disk(tmp_path))
    not_started = FolderRenditions(tmp_path, MIB, print, lambda: 0.0)
    assert not_started.usage() is None
    await not_started.close()


async def test_get_does_not_wait_for_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_folder(tmp_path, 40 * KIB) as store:
        for number in range(10):
            await store.put(make_rendition(f"{number}"))
    resume = threading.Event()

    def scan_late(root: Path, now_s: float, is_closing: Callable[[], bool]) -> RenditionsIndex:
        found = scan_folder(root, now_s, is_closing)
        assert resume.wait(10)
        return found

    monkeypatch.setattr("galerly_cdn.store.folder.renditions.scan_folder", scan_late)
    store = FolderRenditions(tmp_path, 40 * KIB, Counted(), lambda: 0)
    store.start()
    assert await store.get("3", TARGET) == make_rendition("3")
    await store.put(make_rendition("new"))
    assert await store.delete("4", TARGET)
    resume.set()
    await store.close()
    assert store._index.used_bytes <= 40 * KIB
    assert on_disk(tmp_path) <= 40 * KIB
    assert file_of(tmp_path, "3").exists()
    assert file_of(tmp_path, "new").exists()


async def test_close_stops_indexing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, resume = threading.Event(), threading.Event()
    folders: list[str] = []
    real_scandir = os.scandir

    def pause(path: Path) -> object:
        folders.append(path.name)
        reached.set()
        assert resume.wait(10)
        return real_scandir(path)

    store = FolderRenditions(tmp_path, MIB, Counted(), lambda: 0)
    monkeypatch.setattr(os, "scandir", pause)
    store.start()
    await asyncio.to_thread(reached.wait, 10)
    closing = asyncio.create_task(store.close())
    while not store._closing.is_set():
        await asyncio.wait([closing], timeout=0)
    resume.set()
    await closing
    assert folders == ["00"]


# ----------------------------------------------------------------------------------- the folder itself


async def test_two_servers_on_one_folder_never_return_wrong_bytes(tmp_path: Path) -> None:
    async with open_folder(tmp_path, 64 * KIB) as one, open_folder(tmp_path, 64 * KIB) as two:
        keys = _zipf(300, 40)
        for key in keys:
            for store, writer in ((one, b"one"), (two, b"two")):
                found = await store.get(key, TARGET)
                if found is None:
                    await store.put(make_rendition(key, writer + key.encode()))
                else:
                    assert found.body in {b"one" + key.encode(), b"two" + key.encode()}
        assert await one.delete(keys[-1], TARGET)
        assert await two.get(keys[-1], TARGET) is None


async def test_deleted_folder_is_created_again(tmp_path: Path) -> None:
    root = tmp_path / "renditions"
    async with open_folder(root) as store:
        await store.put(make_rendition("a"))
        shutil.rmtree(root)
        assert await store.get("a", TARGET) is None
        await store.put(make_rendition("a"))
        assert await store.get("a", TARGET) == make_rendition("a")


async def test_folder_is_private_and_tagged_as_a_cache(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "renditions"
    async with open_folder(root) as store:
        await store.put(make_rendition("a"))
    path = file_of(root, "a")
    assert [stat.S_IMODE(one.stat().st_mode) for one in (root, path.parent, path)] == [0o700, 0o700, 0o600]
    # The signature that the specification requires: https://bford.info/cachedir/
    tag = (root / "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    (root / "CACHEDIR.TAG").write_bytes(b"")
    async with open_folder(root):
        assert (root / "CACHEDIR.TAG").read_bytes() == tag


async def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    foreign_files = [
        tmp_path / "00" / "a.jpg",
        tmp_path / ".put-x",
        tmp_path / "b.jpg",
        tmp_path / "00" / ("0" * 63),
    ]
    (tmp_path / "00").mkdir()
    for path in foreign_files:
        path.write_bytes(bytes(9000))
    async with open_folder(tmp_path, 8 * KIB) as store:
        for number in range(10):
            await store.put(make_rendition(f"{number}"))
        assert all(path.exists() for path in foreign_files)


def test_file_in_place_of_the_folder_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "renditions"):
        with pytest.raises(SettingsError) as caught:
            FolderRenditions(root, MIB, Counted(), lambda: 0)
        assert caught.value.problems == [f"renditions: cannot write to {root}: Not a directory"]


async def test_renditions_leave_no_descriptor_open(tmp_path: Path) -> None:
    async with open_folder(tmp_path, 64 * KIB) as store:
        await store.put(make_rendition("first"))
        before = open_descriptors()
        for number in range(500):
            key = f"{number % 30}"
            rendition = await store.get(key, TARGET)
            if rendition is None:
                await store.put(make_rendition(key))
            elif number % 3 == 0:
                await store.delete(key, Target(Size(1, 1)))
        assert open_descriptors() <= before
