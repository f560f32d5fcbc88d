"""The folder of renditions: whole files or none, bounded, and healed where it rotted."""

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

from galerly_cdn.errors import SettingsError, StoreUnreachable
from galerly_cdn.model import Size, Target
from galerly_cdn.serialization import to_json
from galerly_cdn.store.folder import rendition_file as seal_module
from galerly_cdn.store.folder import renditions as shelf_module
from galerly_cdn.store.folder.rendition_file import DamagedFile, decode_rendition, encode_rendition
from galerly_cdn.store.folder.renditions import FolderRenditions
from galerly_cdn.store.folder.renditions_index import RenditionsIndex, disk_bytes, scan_folder
from galerly_cdn.store.interfaces import StoredObject
from tests.support.rendition_folders import (
    MIB,
    TARGET,
    Counted,
    file_of,
    made,
    open_descriptors,
    opened,
    stored,
)
from tests.support.rendition_writer import KEYS, body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB = 1024
HOUR_S = 3600.0


def on_disk(root: Path) -> int:
    total = 0
    for folder, _folders, names in os.walk(root):
        if folder != str(root):
            total += sum(disk_bytes(os.lstat(f"{folder}/{name}").st_size) for name in names)
    return total


# --------------------------------------------------------------------------------------- the seal


@given(key=st.text("aé/ \0\n\u2028", min_size=1), content=st.binary(max_size=300))
def test_unseal_is_the_inverse_of_seal(key: str, content: bytes) -> None:
    assert decode_rendition(encode_rendition(made(key, content))) == made(key, content)


SEALED = encode_rendition(made("gallery/a photo.jpg", b"the picture"))
HEADER_AT = SEALED.index(b"{")
BODY_AT = SEALED.index(b"the picture")


@pytest.mark.parametrize(
    "region",
    [range(HEADER_AT), range(HEADER_AT, BODY_AT), range(BODY_AT, len(SEALED))],
    ids=["seal", "header", "body"],
)
def test_one_wrong_bit_anywhere_is_seen(region: range) -> None:
    for position in region:
        for bit in range(8):
            damaged = bytearray(SEALED)
            damaged[position] ^= 1 << bit
            with pytest.raises(DamagedFile):
                decode_rendition(bytes(damaged))


@given(at=st.integers(0, len(SEALED)), length=st.integers(0, 12), other=st.binary(max_size=12))
def test_a_stretch_cut_or_overwritten_is_seen(at: int, length: int, other: bytes) -> None:
    damaged = SEALED[:at] + other + SEALED[at + length :]
    if damaged == SEALED:
        return
    with pytest.raises(DamagedFile):
        decode_rendition(damaged)


def test_a_truncated_file_is_seen_at_every_length() -> None:
    for length in range(len(SEALED)):
        with pytest.raises(DamagedFile):
            decode_rendition(SEALED[:length])


def test_a_header_of_another_version_of_this_package_is_a_miss() -> None:
    header = to_json({"key": "a", "unknown": 1})
    with pytest.raises(DamagedFile):
        decode_rendition(seal_module._seal(header) + header)


# ---------------------------------------------------------------------------------- what is refused


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(encode_rendition(made("a")))
    path.symlink_to(outside)


def _others(path: Path) -> None:
    path.write_bytes(encode_rendition(made("b")))


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # reading it would take a terabyte


@pytest.mark.parametrize("make", [_directory, _fifo, _link, _others, _huge])
async def test_what_is_no_rendition_is_a_miss(tmp_path: Path, make: Callable[[Path], None]) -> None:
    counted = Counted()
    path = file_of(tmp_path, "a")
    async with opened(tmp_path, count=counted) as shelf:
        path.parent.mkdir()
        make(path)
        assert await shelf.get("a", TARGET) is None
    assert counted.events in (["rendition-corrupt"], ["rendition-unreadable"])


async def test_a_rotten_file_is_counted_and_deleted(tmp_path: Path) -> None:
    counted = Counted()
    async with opened(tmp_path, count=counted) as shelf:
        await shelf.put(made("a"))
        path = file_of(tmp_path, "a")
        path.write_bytes(path.read_bytes()[:-1])
        assert await shelf.get("a", TARGET) is None
        assert not path.exists()
        assert await shelf.get("a", TARGET) is None
        assert shelf._ledger.used_bytes == 0
    assert counted.events == ["rendition-corrupt"]


async def test_a_file_that_cannot_be_read_now_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()

    def failing(_fd: int, _length: int) -> bytes:
        raise OSError(errno.EIO, "damaged disk")

    async with opened(tmp_path, count=counted) as shelf:
        await shelf.put(made("a"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "read", failing)
            assert await shelf.get("a", TARGET) is None
        assert await shelf.get("a", TARGET) == made("a")
    assert counted.events == ["rendition-unreadable"]


# ---------------------------------------------------------------------------------------- durability


def test_a_writer_killed_anywhere_leaves_right_renditions_or_none(tmp_path: Path) -> None:
    """120 writers, killed by themselves at each system call or from outside at any time."""
    root = tmp_path / "renditions"
    rng = random.Random(3)
    steps = ["fsync", "none", "fdopen", "none", "rename", "none"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-m", "tests.support.rendition_writer", str(root)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[3],
    ) as zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        assert zygote.stderr is not None
        for seed in range(120):
            step = steps[seed % len(steps)]
            zygote.stdin.write(f"{seed} {step}\n".encode())
            zygote.stdin.flush()
            writer = int(zygote.stdout.readline())
            if step == "none":
                os.read(zygote.stderr.fileno(), rng.randrange(1, 5))
                os.kill(writer, signal.SIGKILL)
            assert zygote.stdout.readline() == b"ended\n"
        zygote.stdin.close()
        assert zygote.wait() == 0
    asyncio.run(_check_what_was_left(root))


async def _check_what_was_left(root: Path) -> None:
    assert [path for path in stored(root) if path.name.startswith(".put-")], "nobody died in mid-write"
    counted = Counted()
    found = 0
    async with opened(root, 64 * MIB, counted) as shelf:
        for key in KEYS:
            rendition = await shelf.get(key, TARGET)
            if rendition is not None:
                found += 1
                seed = int(rendition.body.split()[1])
                assert rendition == made(key, body(key, seed))
    assert found > len(KEYS) // 2
    assert counted.events == []
    assert sorted(stored(root)) == sorted(file_of(root, key) for key in KEYS if file_of(root, key).exists())


async def test_only_a_dead_writers_temporary_file_is_swept(tmp_path: Path) -> None:
    (tmp_path / "00").mkdir()
    dead, living, ancient = (tmp_path / "00" / f".put-{name}" for name in ("dead", "living", "ancient"))
    stranger = tmp_path / "00" / "a.jpg"
    for path in (dead, living, ancient, stranger):
        path.write_bytes(b"half a ren")
    os.utime(ancient, (0, 0))
    with living.open("rb") as one, ancient.open("rb") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_EX)
        async with opened(tmp_path, now_s=2 * HOUR_S):
            assert sorted(stored(tmp_path)) == sorted([living, stranger])


async def test_a_rendition_is_fsynced_then_renamed_then_its_folder_fsynced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    real_fsync = os.fsync
    path = file_of(tmp_path, "a")

    def watched(fd: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"{os.fstat(fd).st_size} bytes"
        happened.append(f"{kind}, {'in place' if path.exists() else 'not yet'}")
        real_fsync(fd)

    async with opened(tmp_path) as shelf:
        path.parent.mkdir()
        monkeypatch.setattr(os, "fsync", watched)
        await shelf.put(made("a"))
    assert happened == [f"{len(encode_rendition(made('a')))} bytes, not yet", "folder, in place"]


async def test_a_put_whose_caller_is_cancelled_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    real_fsync = os.fsync

    def paused(fd: int) -> None:
        reached.set()
        assert go_on.wait(10)
        real_fsync(fd)

    async with opened(tmp_path) as shelf:
        monkeypatch.setattr(os, "fsync", paused)
        put = asyncio.create_task(shelf.put(made("a")))
        await asyncio.to_thread(reached.wait, 10)
        queued = asyncio.create_task(shelf.put(made("b")))
        await asyncio.wait([queued], timeout=0)
        for cancelled in (put, queued):
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        go_on.set()
    async with opened(tmp_path) as shelf:
        assert await shelf.get("a", TARGET) == made("a")
        assert await shelf.get("b", TARGET) == made("b")


@pytest.mark.parametrize("call", ["fsync", "mkstemp", "rename", "unlink"])
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.EACCES]
)
async def test_a_put_that_fails_leaves_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def failing(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    target: object = {"fsync": os, "mkstemp": tempfile}.get(call, Path)
    async with opened(tmp_path, 40 * KIB) as shelf:
        for key in "abcdefghij":
            await shelf.put(made(key, b"before"))
        with monkeypatch.context() as patched:
            patched.setattr(target, call, failing)
            if call != "unlink":  # which fails for the victim of a new rendition only
                with pytest.raises(StoreUnreachable):
                    await shelf.put(made("j", b"after"))
            with pytest.raises(StoreUnreachable):
                await shelf.put(made("k", b"after"))
        assert not [path for path in stored(tmp_path) if path.name.startswith(".put-")]
        kept = await shelf.get("j", TARGET)
        assert kept is not None
        assert kept.body in {b"before", b"after"}
        await shelf.put(made("k", b"after"))
        assert await shelf.get("k", TARGET) == made("k", b"after")
        assert on_disk(tmp_path) <= 44 * KIB


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system in memory, mounted here; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", *options, str(folder)], check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield
    finally:
        _run("umount", str(folder))


@pytest.mark.server("mount")
async def test_a_full_disk_costs_the_new_rendition_and_makes_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        async with opened(disk / "renditions", 100 * MIB) as shelf:
            stored_keys, refused = [], 0
            for number in range(200):
                rendition = made(f"{number}", bytes([number]) * 20_000)
                try:
                    await shelf.put(rendition)
                    stored_keys.append(f"{number}")
                except StoreUnreachable:
                    refused += 1
                assert not [path for path in stored(disk / "renditions") if path.name.startswith(".put-")]
                if stored_keys:
                    assert await shelf.get(stored_keys[-1], TARGET) is not None
            assert refused > 10
            assert len(stored_keys) > 60
            assert shelf._ledger.used_bytes == on_disk(disk / "renditions")


@pytest.mark.server("mount")
async def test_a_folder_that_turns_read_only_still_serves(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "tmpfs"):
        async with opened(disk, now_s=1e12) as shelf:
            await shelf.put(made("a"))
            _run("mount", "-o", "remount,ro", str(disk))
            with pytest.raises(StoreUnreachable):
                await shelf.put(made("b"))
            with pytest.raises(StoreUnreachable):
                await shelf.delete("a", TARGET)
            assert await shelf.get("a", TARGET) == made("a")
        with pytest.raises(SettingsError, match="Read-only file system"):
            FolderRenditions(disk, MIB, Counted(), lambda: 0)


# ------------------------------------------------------------------------------------------ the bound


def _zipf(count: int, keys: int) -> list[str]:
    rng = random.Random(7)
    weights = [1 / rank for rank in range(1, keys + 1)]
    return [f"{number}" for number in rng.choices(range(keys), weights, k=count)]


def _length(key: str) -> int:
    return 100 + int(key) * 7919 % 24_000


async def test_the_bound_holds_at_every_moment_and_costs_few_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zipf load over three times the limit, against a least-recently-used cache in memory."""
    limit_bytes = 800 * KIB
    requests = _zipf(2000, 200)
    heaviest = max(disk_bytes(len(encode_rendition(made(key, bytes(_length(key)))))) for key in set(requests))
    seen_bytes: list[int] = []
    monkeypatch.setattr(shelf_module, "_fsync_folder", lambda _folder: None)
    written = itertools.count()

    def sample(_fd: int) -> None:  # where a rendition is on disk, but not yet in its place
        if next(written) % 5 == 0:
            seen_bytes.append(on_disk(tmp_path))

    monkeypatch.setattr(os, "fsync", sample)
    reference: OrderedDict[str, int] = OrderedDict()
    hits = reference_hits = 0
    async with opened(tmp_path, limit_bytes) as shelf:
        for key in requests:
            rendition = made(key, bytes(_length(key)))
            if await shelf.get(key, TARGET) is None:
                await shelf.put(rendition)
            else:
                hits += 1
            reference_hits += key in reference
            reference[key] = disk_bytes(len(encode_rendition(rendition)))
            reference.move_to_end(key)
            while sum(reference.values()) > limit_bytes:
                reference.popitem(last=False)
        assert shelf._ledger.used_bytes == on_disk(tmp_path)
    assert len(seen_bytes) > 100
    assert limit_bytes * 0.9 < max(seen_bytes) <= limit_bytes + heaviest
    assert on_disk(tmp_path) <= limit_bytes
    assert abs(hits - reference_hits) <= 0.03 * len(requests)


async def test_puts_at_once_keep_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_bytes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _fd: seen_bytes.append(on_disk(tmp_path)))
    counted = Counted()
    async with opened(tmp_path, 64 * KIB, counted) as shelf:
        await asyncio.gather(*(shelf.put(made(f"{number}", bytes(9000))) for number in range(60)))
    assert max(seen_bytes) <= 64 * KIB + 12 * KIB
    assert counted.events == ["rendition-evicted"] * 55


async def test_empty_files_are_bounded_too(tmp_path: Path) -> None:
    async with opened(tmp_path, 40 * KIB) as shelf:
        for number in range(30):
            await shelf.put(made(f"{number}", b""))
        assert len(stored(tmp_path)) == 10


async def test_a_rendition_over_the_whole_limit_drives_nothing_out(tmp_path: Path) -> None:
    async with opened(tmp_path, 40 * KIB) as shelf:
        await shelf.put(made("a"))
        with pytest.raises(StoreUnreachable):
            await shelf.put(made("b", bytes(40 * KIB)))
        assert await shelf.get("a", TARGET) == made("a")


async def test_an_eviction_does_not_break_a_read_in_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read = os.read
    path = file_of(tmp_path, "a")

    def evicted_before(fd: int, length: int) -> bytes:
        path.unlink()
        return real_read(fd, length)

    async with opened(tmp_path) as shelf:
        await shelf.put(made("a"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "read", evicted_before)
            assert await shelf.get("a", TARGET) == made("a")
        assert await shelf.get("a", TARGET) is None
        assert shelf._ledger.used_bytes == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 9)), max_size=40), st.integers(0, 30))
def test_the_ledger_adds_up(steps: list[tuple[str, int]], limit: int) -> None:
    ledger, expected = RenditionsIndex(), dict[bytes, int]()
    for letter, weight_bytes in steps:
        name = letter.encode()
        expected.pop(name, None)
        if weight_bytes < 0:
            ledger.forget(name)
        else:
            ledger.use(name, weight_bytes)
            expected[name] = weight_bytes
        assert (ledger.used_bytes, len(ledger)) == (sum(expected.values()), len(expected))
    victims = ledger.evict(limit)
    assert victims == list(expected)[: len(victims)]
    assert ledger.used_bytes == sum(expected[name] for name in list(expected)[len(victims) :])
    assert ledger.used_bytes <= limit


# ------------------------------------------------------------------------------------------- restarts


async def test_what_was_used_last_survives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, 40 * KIB) as shelf:
        for number in range(10):
            await shelf.put(made(f"{number}"))
    for number in range(10):
        hour = (number * 7) % 10
        os.utime(file_of(tmp_path, f"{number}"), (hour * HOUR_S, hour * HOUR_S))
    async with opened(tmp_path, 40 * KIB, now_s=9 * HOUR_S + 1800) as shelf:
        assert await shelf.get("0", TARGET) is not None  # the oldest, now used again
    async with opened(tmp_path, 40 * KIB, now_s=10 * HOUR_S) as shelf:
        for number in range(4):
            await shelf.put(made(f"new {number}"))
    gone = [number for number in range(10) if not file_of(tmp_path, f"{number}").exists()]
    assert sorted((number * 7) % 10 for number in gone) == [1, 2, 3, 4]


async def test_recency_is_written_down_once_an_hour_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    real_utime = os.utime

    def watched(path: Path, stamps: tuple[float, float], *, follow_symlinks: bool) -> None:
        times.append(stamps[1])
        real_utime(path, stamps, follow_symlinks=follow_symlinks)

    now = [1e9]
    shelf = FolderRenditions(tmp_path, MIB, Counted(), lambda: now[0])
    await shelf.put(made("a"))
    os.utime(file_of(tmp_path, "a"), (1e9, 1e9))
    monkeypatch.setattr(os, "utime", watched)
    for minute in range(150):
        now[0] = 1e9 + 60 * minute
        assert await shelf.get("a", TARGET) is not None
    await shelf.close()
    assert times == [1e9 + 61 * 60, 1e9 + 122 * 60]


async def test_head_does_not_delay_the_eviction(tmp_path: Path) -> None:
    async with opened(tmp_path, 2 * KIB * 4, now_s=1e12) as shelf:
        await shelf.put(made("a"))
        await shelf.put(made("b"))
        os.utime(file_of(tmp_path, "a"), (5, 5))
        for _ in range(2):
            assert await shelf.head("a", TARGET) == StoredObject("v1", 5.0)
        await shelf.put(made("c"))
        assert await shelf.head("a", TARGET) is None
        assert await shelf.head("b", TARGET) is not None


async def test_head_of_a_file_under_another_name_returns_an_empty_version(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await shelf.put(made("a"))
        file_of(tmp_path, "b").parent.mkdir(exist_ok=True)
        file_of(tmp_path, "a").rename(file_of(tmp_path, "b"))
        found = await shelf.head("b", TARGET)
        assert found is not None
        assert found.version == ""


async def test_head_of_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await shelf.put(made("a"))
        file_of(tmp_path, "a").unlink()
        file_of(tmp_path, "a").symlink_to(tmp_path)
        with pytest.raises(StoreUnreachable):
            await shelf.head("a", TARGET)


async def test_a_lower_limit_is_met_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        for number in range(30):
            await shelf.put(made(f"{number}"))
    async with opened(tmp_path, 40 * KIB):
        pass
    assert on_disk(tmp_path) == 40 * KIB


async def test_serving_does_not_wait_for_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, 40 * KIB) as shelf:
        for number in range(10):
            await shelf.put(made(f"{number}"))
    go_on = threading.Event()

    def late(root: Path, now_s: float, is_closing: Callable[[], bool]) -> RenditionsIndex:
        found = scan_folder(root, now_s, is_closing)
        assert go_on.wait(10)
        return found

    monkeypatch.setattr("galerly_cdn.store.folder.renditions.scan_folder", late)
    shelf = FolderRenditions(tmp_path, 40 * KIB, Counted(), lambda: 0)
    shelf.start()
    assert await shelf.get("3", TARGET) == made("3")
    await shelf.put(made("new"))
    assert await shelf.delete("4", TARGET)
    go_on.set()
    await shelf.close()
    assert shelf._ledger.used_bytes <= 40 * KIB
    assert on_disk(tmp_path) <= 40 * KIB
    assert file_of(tmp_path, "3").exists()
    assert file_of(tmp_path, "new").exists()


async def test_closing_stops_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()
    folders: list[str] = []
    real_scandir = os.scandir

    def paused(path: Path) -> object:
        folders.append(path.name)
        reached.set()
        assert go_on.wait(10)
        return real_scandir(path)

    shelf = FolderRenditions(tmp_path, MIB, Counted(), lambda: 0)
    monkeypatch.setattr(os, "scandir", paused)
    shelf.start()
    await asyncio.to_thread(reached.wait, 10)
    closing = asyncio.create_task(shelf.close())
    while not shelf._closing.is_set():
        await asyncio.wait([closing], timeout=0)
    go_on.set()
    await closing
    assert folders == ["00"]


# ----------------------------------------------------------------------------------- the folder itself


async def test_two_servers_on_one_folder_are_never_wrong(tmp_path: Path) -> None:
    async with opened(tmp_path, 64 * KIB) as one, opened(tmp_path, 64 * KIB) as two:
        asked = _zipf(300, 40)
        for key in asked:
            for shelf, writer in ((one, b"one"), (two, b"two")):
                found = await shelf.get(key, TARGET)
                if found is None:
                    await shelf.put(made(key, writer + key.encode()))
                else:
                    assert found.body in {b"one" + key.encode(), b"two" + key.encode()}
        assert await one.delete(asked[-1], TARGET)
        assert await two.get(asked[-1], TARGET) is None


async def test_a_folder_deleted_under_the_server_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "renditions"
    async with opened(root) as shelf:
        await shelf.put(made("a"))
        shutil.rmtree(root)
        assert await shelf.get("a", TARGET) is None
        await shelf.put(made("a"))
        assert await shelf.get("a", TARGET) == made("a")


async def test_the_folder_is_private_and_tagged_as_a_cache(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "renditions"
    async with opened(root) as shelf:
        await shelf.put(made("a"))
    path = file_of(root, "a")
    assert [stat.S_IMODE(one.stat().st_mode) for one in (root, path.parent, path)] == [0o700, 0o700, 0o600]
    # The specification's signature: https://bford.info/cachedir/
    tag = (root / "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    (root / "CACHEDIR.TAG").write_bytes(b"")
    async with opened(root):
        assert (root / "CACHEDIR.TAG").read_bytes() == tag


async def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    theirs = [
        tmp_path / "00" / "a.jpg",
        tmp_path / ".put-x",
        tmp_path / "b.jpg",
        tmp_path / "00" / ("0" * 63),
    ]
    (tmp_path / "00").mkdir()
    for path in theirs:
        path.write_bytes(bytes(9000))
    async with opened(tmp_path, 8 * KIB) as shelf:
        for number in range(10):
            await shelf.put(made(f"{number}"))
        assert all(path.exists() for path in theirs)


def test_a_file_in_the_folders_place_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "renditions"):
        with pytest.raises(SettingsError) as caught:
            FolderRenditions(root, MIB, Counted(), lambda: 0)
        assert caught.value.problems == [f"renditions: cannot write to {root}: Not a directory"]


async def test_no_file_descriptor_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    async with opened(tmp_path, 64 * KIB) as shelf:
        await shelf.put(made("first"))
        before = open_descriptors()
        for number in range(500):
            key = f"{number % 30}"
            rendition = await shelf.get(key, TARGET)
            if rendition is None:
                await shelf.put(made(key))
            elif number % 3 == 0:
                await shelf.delete(key, Target(Size(1, 1)))
        assert open_descriptors() == before
