"""Tests uploads into a folder: durability, symlinks, exact names, concurrency and errors."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unicodedata import normalize

import pytest

from galerly_cdn.errors import (
    GalerlyError,
    KeyNotHeld,
    NoSuchOriginal,
    OriginalExists,
    SettingsError,
    StoreRefused,
    StoreUnreachable,
)
from galerly_cdn.http.urls import checked_key
from galerly_cdn.store.folder.originals import FolderOriginals
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from tests.support.descriptors import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from galerly_cdn.model import Head
    from galerly_cdn.store.temp_files import UploadFile

    Patching = Callable[[str, Callable[..., Any]], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`g/a.jpg` inside, `secret.jpg` and an empty folder outside."""
    root = tmp_path / "photographs"
    (root / "g").mkdir(parents=True)
    (root / "g" / "a.jpg").write_bytes(b"a")
    (tmp_path / "outside").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return root


@pytest.fixture
def store(root: Path) -> WritableFolderOriginals:
    return open_store(root)


def open_store(root: Path) -> WritableFolderOriginals:
    return WritableFolderOriginals(root, checked_key, now=lambda: 0.0)


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Patching:
    """Installs a hook that is called with the arguments of a function of `os` before that function."""

    def install(name: str, hook: Callable[..., object]) -> None:
        real = getattr(os, name)

        def hooked(*arguments: object, **options: object) -> object:
            hook(*arguments)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, hooked)

    return install


async def put_file(
    store: WritableFolderOriginals, file: UploadFile, key: str, content: bytes, *, replaces: bool = False
) -> tuple[Head, bool]:
    md5 = hashlib.md5(content).hexdigest()
    return await store.put(key, file, media_type="image/jpeg", md5=md5, replaces=replaces)


async def put(
    store: WritableFolderOriginals, key: str, content: bytes = b"photograph", *, replaces: bool = False
) -> tuple[Head, bool]:
    with store.upload_file() as file:
        file.write(content)
        return await put_file(store, file, key, content, replaces=replaces)


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything under a folder by path: the bytes of files, None for anything else."""
    found = sorted(path for path in root.rglob("*") if path != root / ".galerly")
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in found}


async def refused(
    store: WritableFolderOriginals, root: Path, key: str, kind: type[GalerlyError] = KeyNotHeld
) -> None:
    """Asserts that creating and replacing are refused and change nothing."""
    expected = tree(root.parent)
    for replaces in (False, True):
        with pytest.raises(kind):
            await put(store, key, replaces=replaces)
    assert tree(root.parent) == expected


# ------------------------------------------------------------------------------------- the reserved folder


@pytest.mark.parametrize(
    "make", [open_store, lambda root: FolderOriginals(root, checked_key, now=lambda: 0.0)]
)
async def test_unaccepted_upload_is_neither_served_nor_listed(
    root: Path, make: Callable[[Path], FolderOriginals]
) -> None:
    reserved = root / ".galerly"
    reserved.mkdir()
    (reserved / "incoming-x").write_bytes(b"half a pho")
    (root / "l").symlink_to(".galerly")
    (root / "l.jpg").symlink_to(".galerly/incoming-x")
    store = make(root)
    (reserved / "incoming-x").write_bytes(b"half a pho")
    for key in (".galerly/incoming-x", ".galerly", "l/incoming-x", "l.jpg"):
        with pytest.raises(NoSuchOriginal):
            await store.head(key)
        with pytest.raises(NoSuchOriginal):
            await store.open(key)
    assert [one.key async for one in store.list()] == ["g/a.jpg"]
    assert [one.key async for one in store.list(".galerly/")] == []


@pytest.mark.parametrize(
    "key", [".galerly/x", ".galerly", ".hidden.jpg", "g/.a.jpg", ".g/a.jpg", "g/.galerly/x"]
)
async def test_hidden_name_is_refused(root: Path, store: WritableFolderOriginals, key: str) -> None:
    await refused(store, root, key)
    with pytest.raises(KeyNotHeld):
        await store.delete(key)


def test_only_uploads_of_dead_writers_are_removed(root: Path) -> None:
    reserved = root / ".galerly"
    reserved.mkdir()
    dead, living, foreign = (reserved / name for name in ("incoming-dead", "incoming-living", "notes.txt"))
    for path in (dead, living, foreign):
        path.write_bytes(b"half a pho")
    with living.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        open_store(root)
        assert sorted(reserved.iterdir()) == [living, foreign]
    open_store(root)
    assert list(reserved.iterdir()) == [foreign]


def test_surviving_worker_does_not_keep_the_lock_of_a_dead_server(
    root: Path, store: WritableFolderOriginals
) -> None:
    with store.upload_file() as file, file.reader() as fd:
        file.write(b"half a pho")
        (root / ".galerly" / "incoming-left").hardlink_to(file.path)
        worker_fd = os.dup(fd)
    open_store(root)
    assert list((root / ".galerly").iterdir()) == []
    assert os.pread(worker_fd, 100, 0) == b"half a pho"
    os.close(worker_fd)


async def test_upload_in_progress_survives_the_start_of_a_second_server(
    root: Path, store: WritableFolderOriginals
) -> None:
    with store.upload_file() as file:
        file.write(b"photograph")
        open_store(root)
        await put_file(store, file, "g/b.jpg", b"photograph")
    assert (root / "g" / "b.jpg").read_bytes() == b"photograph"


async def test_deleted_reserved_folder_is_created_again(root: Path, store: WritableFolderOriginals) -> None:
    (root / ".galerly").rmdir()
    await put(store, "g/b.jpg")
    assert (root / ".galerly").stat().st_mode & 0o777 == 0o700


async def test_upload_whose_file_was_deleted_stores_nothing(
    root: Path, store: WritableFolderOriginals
) -> None:
    expected = tree(root)
    for replaces in (False, True):
        with store.upload_file() as file:
            file.write(b"photograph")
            file.path.unlink()
            with pytest.raises(StoreUnreachable):
                await put_file(store, file, "new/b.jpg", b"photograph", replaces=replaces)
    assert tree(root) == expected


def test_start_beside_another_start_that_removes_its_trial_file_succeeds(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_link = os.link
    removed: list[str] = []

    def sweep_first(trial: str, linked: Path) -> None:
        if not removed:
            removed.append(trial)
            Path(trial).unlink()
        real_link(trial, linked)

    monkeypatch.setattr(os, "link", sweep_first)
    open_store(root)
    assert len(removed) == 1


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("link", errno.EPERM, "its file system has no hard links"),
        ("link", errno.ENOTSUP, "its file system has no hard links"),
        ("mkdir", errno.EROFS, "Read-only file system"),
        ("mkdir", errno.EACCES, "Permission denied"),
        ("fsync", errno.EINVAL, "Invalid argument"),
    ],
)
def test_folder_that_cannot_store_uploads_is_a_settings_error(
    root: Path, before: Patching, name: str, number: int, message: str
) -> None:
    before(name, failing(number))
    with pytest.raises(SettingsError, match=f"cannot store uploads in .*: {message}"):
        open_store(root)


def test_reserved_folder_that_is_a_symlink_is_a_settings_error(root: Path) -> None:
    (root / ".galerly").symlink_to("../outside")
    with pytest.raises(SettingsError, match="cannot store uploads"):
        open_store(root)


def failing(number: int) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


# ------------------------------------------------------------------------------------------------ symlinks


@pytest.mark.parametrize(
    ("link", "target", "key"),
    [
        ("l", "../outside", "l/b.jpg"),
        ("l", "../outside", "l/new/b.jpg"),
        ("l", "{root}/../outside", "l/b.jpg"),
        ("g/l", "../../outside", "g/l/b.jpg"),
        ("l", "g", "l/b.jpg"),
        ("l", "nothing", "l/b.jpg"),
        ("l", ".", "l/b.jpg"),
        ("l.jpg", "../secret.jpg", "l.jpg"),
        ("l.jpg", "../none.jpg", "l.jpg"),
        ("l.jpg", "g/a.jpg", "l.jpg"),
        ("l.jpg", "l.jpg", "l.jpg"),
    ],
)
async def test_symlink_is_neither_written_nor_deleted_through(
    root: Path, store: WritableFolderOriginals, link: str, target: str, key: str
) -> None:
    (root / link).symlink_to(target.format(root=root))
    await refused(store, root, key)
    expected = tree(root.parent)
    with pytest.raises(KeyNotHeld):
        await store.delete(key)
    assert tree(root.parent) == expected


async def test_folder_replaced_by_a_symlink_during_a_put_is_not_followed(
    root: Path, store: WritableFolderOriginals, before: Patching
) -> None:
    def swap(path: object, *_: object) -> None:
        if path == "g" and not (root / "g").is_symlink():
            (root / "g").rename(root / "aside")
            (root / "g").symlink_to(root.parent / "outside")

    before("open", swap)
    with pytest.raises(KeyNotHeld):
        await put(store, "g/b.jpg")
    assert list((root.parent / "outside").iterdir()) == []


async def test_folder_moved_during_a_put_keeps_the_upload(
    root: Path, store: WritableFolderOriginals, before: Patching
) -> None:
    """The opened folder is written to, although a symlink has replaced it."""

    def swap(_source: object, name: object) -> None:
        if name == "b.jpg":
            (root / "g").rename(root / "aside")
            (root / "g").symlink_to(root.parent / "outside")

    before("link", swap)
    await put(store, "g/b.jpg")
    assert list((root.parent / "outside").iterdir()) == []


# ------------------------------------------------------------------------- keys a folder cannot hold exactly


@pytest.mark.parametrize(
    "key",
    [
        "g",
        "g/a.jpg/b.jpg",
        "g/a.jpg/b/c.jpg",
        "x" * 256,
        "é" * 128,
        "g/" + "x" * 256,
        "new/" + "x" * 256,
        "new/" + "x" * 256 + "/b.jpg",
        "new/deep/" + "é" * 200,
        "new/\ud800.jpg",
    ],
)
async def test_key_that_no_file_can_have_is_refused(
    root: Path, store: WritableFolderOriginals, key: str
) -> None:
    await refused(store, root, key)
    assert not await store.delete(key)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
async def test_path_that_is_not_a_regular_file_is_not_replaced(
    root: Path, store: WritableFolderOriginals, make: Callable[[Path], None]
) -> None:
    make(root / "special.jpg")
    await refused(store, root, "special.jpg")


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Simulates a case-folding file system: a file created under one name is listed under another."""
    listed: dict[str, str] = {}
    real_scandir = os.scandir

    class FoldedEntries:
        """The result of `scandir` for a descriptor."""

        def __init__(self, fd: int) -> None:
            with real_scandir(fd) as entries:
                self.entries = [
                    SimpleNamespace(name=listed.get(one.name, one.name), inode=one.inode) for one in entries
                ]

        def __enter__(self) -> list[SimpleNamespace]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(
        os, "scandir", lambda at: FoldedEntries(at) if isinstance(at, int) else real_scandir(at)
    )
    return listed.__setitem__


NFC, NFD = normalize("NFC", "é.jpg"), normalize("NFD", "é.jpg")


@pytest.mark.parametrize(
    ("entry", "other"),
    [
        ("a.jpg", "A.JPG"),
        ("a.jpg", "a.jpg."),
        ("a.jpg", "a.jpg "),
        (NFC, NFD),
        (NFD, NFC),
        ("longer~.jpg", "LONGER~1"),
    ],
)
async def test_name_that_the_file_system_confuses_with_another_is_refused(
    root: Path, store: WritableFolderOriginals, folding: Callable[[str, str], None], entry: str, other: str
) -> None:
    (root / "g" / other).write_bytes(b"entry")  # on such a file system both names lead to this file
    folding(other, entry)
    await refused(store, root, f"g/{other}")
    with pytest.raises(KeyNotHeld):
        await store.delete(f"g/{other}")
    assert (root / "g" / other).read_bytes() == b"entry"


async def test_folder_name_that_the_file_system_confuses_with_another_is_refused(
    root: Path, store: WritableFolderOriginals, folding: Callable[[str, str], None]
) -> None:
    (root / "G").mkdir()
    folding("G", "g")
    await refused(store, root, "G/b.jpg")
    await refused(store, root, "G/new/b.jpg")


@pytest.mark.parametrize(
    ("key", "created"), [("g/B.JPG", "B.JPG"), ("NEW/b.jpg", "NEW"), ("new/DEEP/b.jpg", "DEEP")]
)
async def test_upload_that_is_listed_under_another_name_is_removed(
    root: Path, store: WritableFolderOriginals, folding: Callable[[str, str], None], key: str, created: str
) -> None:
    folding(created, created.lower())
    await refused(store, root, key)


# ---------------------------------------------------------------------------------------------------- errors

ERRORS = [
    (errno.ENOSPC, StoreUnreachable),
    (errno.EDQUOT, StoreUnreachable),
    (errno.EIO, StoreUnreachable),
    (errno.EMFILE, StoreUnreachable),
    (errno.EROFS, StoreRefused),
    (errno.EACCES, StoreRefused),
    (errno.EPERM, StoreRefused),
]


@pytest.mark.parametrize("name", ["write", "mkdir", "fchmod", "fsync", "link", "dup"])
@pytest.mark.parametrize(("number", "kind"), ERRORS)
async def test_failed_upload_leaves_nothing(
    root: Path, before: Patching, name: str, number: int, kind: type[GalerlyError]
) -> None:
    store, expected = open_store(root), tree(root)
    descriptors = open_descriptors()
    before(name, failing(number))
    with pytest.raises(kind) as caught:
        await put(store, "new/deep/b.jpg")
    assert tree(root) == expected
    assert open_descriptors() <= descriptors
    assert str(root) not in caught.value.public


@pytest.mark.parametrize("name", ["fchmod", "fsync", "rename"])
@pytest.mark.parametrize(("number", "kind"), ERRORS)
async def test_failed_replace_keeps_the_old_original(
    root: Path, before: Patching, name: str, number: int, kind: type[GalerlyError]
) -> None:
    store, expected = open_store(root), tree(root)
    before(name, failing(number))
    with pytest.raises(kind):
        await put(store, "g/a.jpg", replaces=True)
    assert tree(root) == expected


@pytest.mark.parametrize(("number", "kind"), ERRORS)
async def test_failed_delete_is_an_error(
    root: Path, store: WritableFolderOriginals, before: Patching, number: int, kind: type[GalerlyError]
) -> None:
    before("unlink", failing(number))
    with pytest.raises(kind):
        await store.delete("g/a.jpg")
    assert (root / "g" / "a.jpg").read_bytes() == b"a"


async def test_missing_root_is_not_created(root: Path, store: WritableFolderOriginals) -> None:
    expected = tree(root)
    with store.upload_file() as file:
        file.write(b"photograph")
        shutil.move(root, root.parent / "elsewhere")
        with pytest.raises(StoreUnreachable):
            await put_file(store, file, "g/b.jpg", b"photograph")
    with pytest.raises(StoreUnreachable):
        await store.delete("g/a.jpg")
    with pytest.raises(StoreUnreachable):
        store.upload_file()
    assert tree(root) == {}
    assert expected.items() <= tree(root.parent / "elsewhere").items()


async def test_uploads_leave_no_descriptor_open(root: Path, store: WritableFolderOriginals) -> None:
    descriptors = open_descriptors()
    for number in range(100):
        await put(store, f"n/{number % 7}.jpg", b"%d" % number, replaces=True)
        with suppress(KeyNotHeld, OriginalExists):
            await put(store, ("g/a.jpg", "g/a.jpg/x", "g", ".x")[number % 4])
        await store.delete(("n/1.jpg", "none", "g/a.jpg/x")[number % 3])
    assert open_descriptors() <= descriptors
    assert list((root / ".galerly").iterdir()) == []


# ------------------------------------------------------------------------------------------------ durability


@pytest.fixture
def events(root: Path, before: Patching) -> list[str]:
    """The calls to the file system, in order."""
    events: list[str] = []

    def name_of(fd: int) -> str:
        path = Path(f"/dev/fd/{fd}").resolve()
        known = {root: "root", root / ".galerly": "reserved"}
        return known.get(path, "file" if path.name.startswith("incoming-") else path.name)

    before("fsync", lambda fd: events.append(f"fsync {name_of(fd)}"))
    before("mkdir", lambda path, *_: events.append(f"mkdir {Path(path).name}"))
    before("link", lambda _, name: events.append(f"link {name}"))
    before("rename", lambda _, name: events.append(f"rename {name}"))
    before("unlink", lambda path: events.append(f"unlink {path}"))
    before("rmdir", lambda path: events.append(f"rmdir {path}"))
    return events


def outside_reserved(calls: list[str]) -> list[str]:
    """The events outside the reserved folder."""
    return [event for event in calls if event != "mkdir .galerly" and "incoming-" not in event]


@pytest.mark.parametrize(
    ("key", "replaces", "expected"),
    [
        ("g/b.jpg", False, ["fsync file", "link b.jpg", "fsync g", "fsync root"]),
        ("g/a.jpg", True, ["fsync file", "rename a.jpg", "fsync g", "fsync root"]),
        ("b.jpg", False, ["fsync file", "link b.jpg", "fsync root"]),
        (
            "new/deep/b.jpg",
            False,
            ["mkdir new", "mkdir deep", "fsync file", "link b.jpg", "fsync deep", "fsync new", "fsync root"],
        ),
    ],
)
async def test_put_fsyncs_bytes_then_name_then_folders(
    store: WritableFolderOriginals, events: list[str], key: str, *, replaces: bool, expected: list[str]
) -> None:
    await put(store, key, replaces=replaces)
    assert outside_reserved(events) == expected


async def test_put_of_existing_bytes_fsyncs_them(store: WritableFolderOriginals, events: list[str]) -> None:
    """The writer that stored them may not have fsynced them yet."""
    await put(store, "g/a.jpg", b"a")
    assert outside_reserved(events) == ["fsync file", "link a.jpg", "fsync a.jpg", "fsync g", "fsync root"]


async def test_delete_fsyncs_the_folder(store: WritableFolderOriginals, events: list[str]) -> None:
    await store.delete("g/a.jpg")
    assert events == ["unlink a.jpg", "fsync g", "rmdir g"]


async def test_put_waits_for_the_disk_in_a_thread(store: WritableFolderOriginals, before: Patching) -> None:
    loop_ran = threading.Event()
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(_fd: int) -> None:
        loop.call_soon_threadsafe(reached.set)
        assert loop_ran.wait(10)

    before("fsync", wait)
    putting = asyncio.create_task(put(store, "g/b.jpg"))
    await reached.wait()
    assert (await store.head("g/a.jpg")).length_bytes == 1
    loop_ran.set()
    await putting


@pytest.mark.parametrize(("step", "name_is_taken"), [("fsync", False), ("link", False), ("fsync", True)])
async def test_upload_cancelled_at_any_step_is_stored_completely_or_not_at_all(
    root: Path, before: Patching, step: str, *, name_is_taken: bool
) -> None:
    """The caller is cancelled while the thread waits, and closes the upload's file."""
    store, file = open_store(root), root / "g" / "b.jpg"
    reached, resume = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    descriptors = open_descriptors()

    def wait(*_: object) -> None:
        if file.is_file() == name_is_taken:
            loop.call_soon_threadsafe(reached.set)
            assert resume.wait(10)

    before(step, wait)
    putting = asyncio.create_task(put(store, "g/b.jpg"))
    await reached.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    resume.set()
    await loop.shutdown_default_executor()
    assert tree(root) == {"g": None, "g/a.jpg": b"a"} | ({"g/b.jpg": b"photograph"} if name_is_taken else {})
    assert open_descriptors() <= descriptors


# ------------------------------------------------------------------------------------------------------ races


async def test_concurrent_creates_by_two_servers_have_one_winner(root: Path, before: Patching) -> None:
    stores = [open_store(root) for _ in range(4)]
    all_ready = threading.Barrier(len(stores))
    before("link", lambda *_: all_ready.wait(10))
    outcomes = await asyncio.gather(
        *(put(one, "new/b.jpg", f"{number}".encode()) for number, one in enumerate(stores)),
        return_exceptions=True,
    )
    (winner,) = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, tuple)]
    assert sum(isinstance(outcome, OriginalExists) for outcome in outcomes) == len(stores) - 1
    assert (root / "new" / "b.jpg").read_bytes() == f"{winner}".encode()


@pytest.mark.parametrize("step", ["open", "link"])
async def test_folder_deleted_during_a_put_is_created_again(
    root: Path, store: WritableFolderOriginals, before: Patching, step: str
) -> None:
    deletions = 3

    def delete(*arguments: object) -> None:
        nonlocal deletions
        if deletions and {"new", "b.jpg"} & set(map(str, arguments)) and (root / "new").exists():
            deletions -= 1
            (root / "new").rmdir()

    before(step, delete)
    await put(store, "new/b.jpg")
    assert deletions == 0
    assert (root / "new" / "b.jpg").read_bytes() == b"photograph"


async def test_folder_filled_during_a_delete_is_kept(
    root: Path, store: WritableFolderOriginals, before: Patching
) -> None:
    before("rmdir", lambda path: (root / path / "b.jpg").write_bytes(b"photograph"))
    assert await store.delete("g/a.jpg")
    assert (root / "g" / "b.jpg").read_bytes() == b"photograph"


async def test_original_deleted_during_the_comparison_is_created(
    root: Path, store: WritableFolderOriginals, before: Patching
) -> None:
    def delete(path: object, *_: object) -> None:
        if path == "a.jpg":
            (root / "g" / "a.jpg").unlink(missing_ok=True)

    before("open", delete)
    _, created = await put(store, "g/a.jpg", b"other")
    assert created
    assert (root / "g" / "a.jpg").read_bytes() == b"other"


# --------------------------------------------------------------------------------------------------- versions


async def test_open_of_a_new_upload_waits_for_the_next_clock_tick(root: Path) -> None:
    """A second replace within the tick may leave an equal version: the first one must not be rendered."""
    now_s = 0.0
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        nonlocal now_s
        waits.append(seconds)
        if len(waits) == 1:
            await put(ticking, "g/a.jpg", b"second", replaces=True)
        now_s = (root / "g" / "a.jpg").stat().st_ctime + (0.001 if len(waits) == 1 else 1)

    ticking = WritableFolderOriginals(root, checked_key, now=lambda: now_s, wait=wait)
    await put(ticking, "g/a.jpg", b"first", replaces=True)
    now_s = (root / "g" / "a.jpg").stat().st_ctime + 0.001
    with await ticking.open("g/a.jpg") as original:
        assert os.pread(original.fd, 100, 0) == b"second"
    assert len(waits) == 2


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o644), (0o775, 0o664), (0o700, 0o600)])
async def test_upload_gets_the_permissions_of_its_folder(
    root: Path, store: WritableFolderOriginals, folder_mode: int, file_mode: int
) -> None:
    (root / "g").chmod(folder_mode)
    await put(store, "g/b.jpg")
    assert (root / "g" / "b.jpg").stat().st_mode & 0o777 == file_mode
