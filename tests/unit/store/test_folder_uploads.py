"""Uploads into a folder: durable before they are acknowledged, confined, never under another name."""

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
from tests.support.rendition_folders import open_descriptors

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
    return opened(root)


def opened(root: Path) -> WritableFolderOriginals:
    return WritableFolderOriginals(root, checked_key, now=lambda: 0.0)


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Patching:
    """Have a hook called with the arguments of a function of `os` before it does its work."""

    def install(name: str, hook: Callable[..., object]) -> None:
        real = getattr(os, name)

        def hooked(*arguments: object, **options: object) -> object:
            hook(*arguments)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, hooked)

    return install


async def place(
    store: WritableFolderOriginals, file: UploadFile, key: str, content: bytes, *, replaces: bool = False
) -> tuple[Head, bool]:
    md5 = hashlib.md5(content).hexdigest()
    return await store.put(key, file, media_type="image/jpeg", md5=md5, replaces=replaces)


async def put(
    store: WritableFolderOriginals, key: str, content: bytes = b"photograph", *, replaces: bool = False
) -> tuple[Head, bool]:
    with store.upload_file() as file:
        file.write(content)
        return await place(store, file, key, content, replaces=replaces)


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything under a folder: a file's bytes, None for whatever else."""
    found = sorted(path for path in root.rglob("*") if path != root / ".galerly")
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in found}


async def refused(
    store: WritableFolderOriginals, root: Path, key: str, kind: type[GalerlyError] = KeyNotHeld
) -> None:
    """To create and to replace are refused, and all is as it was."""
    was = tree(root.parent)
    for replaces in (False, True):
        with pytest.raises(kind):
            await put(store, key, replaces=replaces)
    assert tree(root.parent) == was


# ------------------------------------------------------------------------------------- the reserved folder


@pytest.mark.parametrize("make", [opened, lambda root: FolderOriginals(root, checked_key, now=lambda: 0.0)])
async def test_what_waits_is_never_served_nor_listed(
    root: Path, make: Callable[[Path], FolderOriginals]
) -> None:
    waiting = root / ".galerly"
    waiting.mkdir()
    (waiting / "incoming-x").write_bytes(b"half a pho")
    (root / "l").symlink_to(".galerly")
    (root / "l.jpg").symlink_to(".galerly/incoming-x")
    store = make(root)
    (waiting / "incoming-x").write_bytes(b"half a pho")
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
async def test_a_hidden_name_is_no_key_of_a_folder(
    root: Path, store: WritableFolderOriginals, key: str
) -> None:
    await refused(store, root, key)
    with pytest.raises(KeyNotHeld):
        await store.delete(key)


def test_only_what_a_dead_writer_left_is_swept(root: Path) -> None:
    waiting = root / ".galerly"
    waiting.mkdir()
    dead, living, stranger = (waiting / name for name in ("incoming-dead", "incoming-living", "notes.txt"))
    for path in (dead, living, stranger):
        path.write_bytes(b"half a pho")
    with living.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        opened(root)
        assert sorted(waiting.iterdir()) == [living, stranger]
    opened(root)
    assert list(waiting.iterdir()) == [stranger]


def test_a_worker_that_outlives_its_server_does_not_keep_what_it_left(
    root: Path, store: WritableFolderOriginals
) -> None:
    with store.upload_file() as file, file.reader() as fd:
        file.write(b"half a pho")
        (root / ".galerly" / "incoming-left").hardlink_to(file.path)
        of_worker = os.dup(fd)
    opened(root)
    assert list((root / ".galerly").iterdir()) == []
    assert os.pread(of_worker, 100, 0) == b"half a pho"
    os.close(of_worker)


async def test_an_upload_under_way_survives_the_start_of_a_second_server(
    root: Path, store: WritableFolderOriginals
) -> None:
    with store.upload_file() as file:
        file.write(b"photograph")
        opened(root)
        await place(store, file, "g/b.jpg", b"photograph")
    assert (root / "g" / "b.jpg").read_bytes() == b"photograph"


async def test_a_reserved_folder_tidied_away_comes_again(root: Path, store: WritableFolderOriginals) -> None:
    (root / ".galerly").rmdir()
    await put(store, "g/b.jpg")
    assert (root / ".galerly").stat().st_mode & 0o777 == 0o700


async def test_an_upload_whose_file_was_tidied_away_stores_nothing(
    root: Path, store: WritableFolderOriginals
) -> None:
    was = tree(root)
    for replaces in (False, True):
        with store.upload_file() as file:
            file.write(b"photograph")
            file.path.unlink()
            with pytest.raises(StoreUnreachable):
                await place(store, file, "new/b.jpg", b"photograph", replaces=replaces)
    assert tree(root) == was


@pytest.mark.parametrize(
    ("name", "number", "told"),
    [
        ("link", errno.EPERM, "it has no hard links"),
        ("link", errno.ENOTSUP, "it has no hard links"),
        ("mkdir", errno.EROFS, "Read-only file system"),
        ("mkdir", errno.EACCES, "Permission denied"),
        ("fsync", errno.EINVAL, "Invalid argument"),
    ],
)
def test_a_folder_that_cannot_take_uploads_refuses_to_start(
    root: Path, before: Patching, name: str, number: int, told: str
) -> None:
    before(name, failing(number))
    with pytest.raises(SettingsError, match=f"cannot take uploads into .*: {told}"):
        opened(root)


def test_a_reserved_folder_that_leads_elsewhere_refuses_to_start(root: Path) -> None:
    (root / ".galerly").symlink_to("../outside")
    with pytest.raises(SettingsError, match="cannot take uploads"):
        opened(root)


def failing(number: int) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


# --------------------------------------------------------------------------------------------- confinement


@pytest.mark.parametrize(
    ("at", "target", "key"),
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
async def test_nothing_is_written_or_deleted_through_a_symlink(
    root: Path, store: WritableFolderOriginals, at: str, target: str, key: str
) -> None:
    (root / at).symlink_to(target.format(root=root))
    await refused(store, root, key)
    was = tree(root.parent)
    with pytest.raises(KeyNotHeld):
        await store.delete(key)
    assert tree(root.parent) == was


async def test_a_gallery_swapped_for_a_symlink_in_mid_way_is_not_followed(
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


async def test_a_gallery_moved_away_in_mid_way_takes_the_upload_along(
    root: Path, store: WritableFolderOriginals, before: Patching
) -> None:
    """What was opened is what is written to: a symlink put in its place changes nothing."""

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
async def test_a_key_no_file_can_have_is_refused(
    root: Path, store: WritableFolderOriginals, key: str
) -> None:
    await refused(store, root, key)
    assert not await store.delete(key)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
async def test_what_is_no_file_is_not_replaced(
    root: Path, store: WritableFolderOriginals, make: Callable[[Path], None]
) -> None:
    make(root / "special.jpg")
    await refused(store, root, "special.jpg")


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A file system that folds: what is made as `twin` is listed as `entry`."""
    listed: dict[str, str] = {}
    real_scandir = os.scandir

    class Folded:
        """What `scandir` answers for a descriptor."""

        def __init__(self, fd: int) -> None:
            with real_scandir(fd) as entries:
                self.entries = [
                    SimpleNamespace(name=listed.get(one.name, one.name), inode=one.inode) for one in entries
                ]

        def __enter__(self) -> list[SimpleNamespace]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", lambda at: Folded(at) if isinstance(at, int) else real_scandir(at))
    return listed.__setitem__


NFC, NFD = normalize("NFC", "é.jpg"), normalize("NFD", "é.jpg")


@pytest.mark.parametrize(
    ("entry", "twin"),
    [
        ("a.jpg", "A.JPG"),
        ("a.jpg", "a.jpg."),
        ("a.jpg", "a.jpg "),
        (NFC, NFD),
        (NFD, NFC),
        ("longer~.jpg", "LONGER~1"),
    ],
)
async def test_a_twin_is_refused_and_the_other_unharmed(
    root: Path, store: WritableFolderOriginals, folding: Callable[[str, str], None], entry: str, twin: str
) -> None:
    (root / "g" / twin).write_bytes(b"entry")  # on such a file system both names are of this one file
    folding(twin, entry)
    await refused(store, root, f"g/{twin}")
    with pytest.raises(KeyNotHeld):
        await store.delete(f"g/{twin}")
    assert (root / "g" / twin).read_bytes() == b"entry"


async def test_a_gallery_that_is_another_ones_twin_is_refused(
    root: Path, store: WritableFolderOriginals, folding: Callable[[str, str], None]
) -> None:
    (root / "G").mkdir()
    folding("G", "g")
    await refused(store, root, "G/b.jpg")
    await refused(store, root, "G/new/b.jpg")


@pytest.mark.parametrize(
    ("key", "made"), [("g/B.JPG", "B.JPG"), ("NEW/b.jpg", "NEW"), ("new/DEEP/b.jpg", "DEEP")]
)
async def test_what_the_file_system_files_under_another_name_is_taken_back(
    root: Path, store: WritableFolderOriginals, folding: Callable[[str, str], None], key: str, made: str
) -> None:
    folding(made, made.lower())
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
async def test_an_upload_the_file_system_fails_leaves_nothing(
    root: Path, before: Patching, name: str, number: int, kind: type[GalerlyError]
) -> None:
    store, was = opened(root), tree(root)
    descriptors = open_descriptors()
    before(name, failing(number))
    with pytest.raises(kind) as caught:
        await put(store, "new/deep/b.jpg")
    assert tree(root) == was
    assert open_descriptors() == descriptors
    assert str(root) not in caught.value.public


@pytest.mark.parametrize("name", ["fchmod", "fsync", "rename"])
@pytest.mark.parametrize(("number", "kind"), ERRORS)
async def test_a_replace_the_file_system_fails_leaves_what_was_there(
    root: Path, before: Patching, name: str, number: int, kind: type[GalerlyError]
) -> None:
    store, was = opened(root), tree(root)
    before(name, failing(number))
    with pytest.raises(kind):
        await put(store, "g/a.jpg", replaces=True)
    assert tree(root) == was


@pytest.mark.parametrize(("number", "kind"), ERRORS)
async def test_a_delete_the_file_system_fails_is_told(
    root: Path, store: WritableFolderOriginals, before: Patching, number: int, kind: type[GalerlyError]
) -> None:
    before("unlink", failing(number))
    with pytest.raises(kind):
        await store.delete("g/a.jpg")
    assert (root / "g" / "a.jpg").read_bytes() == b"a"


async def test_a_root_that_went_away_is_neither_written_nor_made(
    root: Path, store: WritableFolderOriginals
) -> None:
    was = tree(root)
    with store.upload_file() as file:
        file.write(b"photograph")
        shutil.move(root, root.parent / "elsewhere")
        with pytest.raises(StoreUnreachable):
            await place(store, file, "g/b.jpg", b"photograph")
    with pytest.raises(StoreUnreachable):
        await store.delete("g/a.jpg")
    with pytest.raises(StoreUnreachable):
        store.upload_file()
    assert tree(root) == {}
    assert was.items() <= tree(root.parent / "elsewhere").items()


async def test_no_descriptor_is_left_open(root: Path, store: WritableFolderOriginals) -> None:
    descriptors = open_descriptors()
    for number in range(100):
        await put(store, f"n/{number % 7}.jpg", b"%d" % number, replaces=True)
        with suppress(KeyNotHeld, OriginalExists):
            await put(store, ("g/a.jpg", "g/a.jpg/x", "g", ".x")[number % 4])
        await store.delete(("n/1.jpg", "none", "g/a.jpg/x")[number % 3])
    assert open_descriptors() == descriptors
    assert list((root / ".galerly").iterdir()) == []


# ------------------------------------------------------------------------------------------------ durability


@pytest.fixture
def happened(root: Path, before: Patching) -> list[str]:
    """What is asked of the file system, in order."""
    events: list[str] = []

    def name_of(fd: int) -> str:
        path = Path(f"/dev/fd/{fd}").resolve()
        known = {root: "root", root / ".galerly": "waiting"}
        return known.get(path, "file" if path.name.startswith("incoming-") else path.name)

    before("fsync", lambda fd: events.append(f"fsync {name_of(fd)}"))
    before("mkdir", lambda path, *_: events.append(f"mkdir {Path(path).name}"))
    before("link", lambda _, name: events.append(f"link {name}"))
    before("rename", lambda _, name: events.append(f"rename {name}"))
    before("unlink", lambda path: events.append(f"unlink {path}"))
    before("rmdir", lambda path: events.append(f"rmdir {path}"))
    return events


def of_galleries(events: list[str]) -> list[str]:
    """But for what happens in the reserved folder."""
    return [event for event in events if event != "mkdir .galerly" and "incoming-" not in event]


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
async def test_bytes_then_name_then_folders_are_durable_before_the_answer(
    store: WritableFolderOriginals, happened: list[str], key: str, *, replaces: bool, expected: list[str]
) -> None:
    await put(store, key, replaces=replaces)
    assert of_galleries(happened) == expected


async def test_bytes_that_were_there_already_are_durable_before_the_answer(
    store: WritableFolderOriginals, happened: list[str]
) -> None:
    """Whoever put them may not have got so far yet."""
    await put(store, "g/a.jpg", b"a")
    assert of_galleries(happened) == ["fsync file", "link a.jpg", "fsync a.jpg", "fsync g", "fsync root"]


async def test_a_delete_is_durable_before_the_answer(
    store: WritableFolderOriginals, happened: list[str]
) -> None:
    await store.delete("g/a.jpg")
    assert happened == ["unlink a.jpg", "fsync g", "rmdir g"]


async def test_the_disk_is_waited_for_in_a_thread(store: WritableFolderOriginals, before: Patching) -> None:
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
async def test_an_upload_cancelled_in_mid_step_is_stored_whole_or_not_at_all(
    root: Path, before: Patching, step: str, *, name_is_taken: bool
) -> None:
    """Cancelled while the thread waits; then its caller closes what it had spooled, and goes."""
    store, file = opened(root), root / "g" / "b.jpg"
    reached, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    descriptors = open_descriptors()

    def wait(*_: object) -> None:
        if file.is_file() == name_is_taken:
            loop.call_soon_threadsafe(reached.set)
            assert go_on.wait(10)

    before(step, wait)
    putting = asyncio.create_task(put(store, "g/b.jpg"))
    await reached.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    go_on.set()
    await loop.shutdown_default_executor()
    assert tree(root) == {"g": None, "g/a.jpg": b"a"} | ({"g/b.jpg": b"photograph"} if name_is_taken else {})
    assert open_descriptors() == descriptors


# ------------------------------------------------------------------------------------------------------ races


async def test_of_two_servers_that_create_one_key_at_once_one_wins(root: Path, before: Patching) -> None:
    stores = [opened(root) for _ in range(4)]
    at_once = threading.Barrier(len(stores))
    before("link", lambda *_: at_once.wait(10))
    outcomes = await asyncio.gather(
        *(put(one, "new/b.jpg", f"{number}".encode()) for number, one in enumerate(stores)),
        return_exceptions=True,
    )
    (winner,) = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, tuple)]
    assert sum(isinstance(outcome, OriginalExists) for outcome in outcomes) == len(stores) - 1
    assert (root / "new" / "b.jpg").read_bytes() == f"{winner}".encode()


@pytest.mark.parametrize("step", ["open", "link"])
async def test_a_gallery_deleted_in_mid_put_is_made_again(
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


async def test_a_gallery_that_fills_while_it_is_deleted_stays(
    root: Path, store: WritableFolderOriginals, before: Patching
) -> None:
    before("rmdir", lambda path: (root / path / "b.jpg").write_bytes(b"photograph"))
    assert await store.delete("g/a.jpg")
    assert (root / "g" / "b.jpg").read_bytes() == b"photograph"


async def test_an_original_deleted_while_it_is_compared_is_created(
    root: Path, store: WritableFolderOriginals, before: Patching
) -> None:
    def delete(path: object, *_: object) -> None:
        if path == "a.jpg":
            (root / "g" / "a.jpg").unlink(missing_ok=True)

    before("open", delete)
    _, made = await put(store, "g/a.jpg", b"other")
    assert made
    assert (root / "g" / "a.jpg").read_bytes() == b"other"


# --------------------------------------------------------------------------------------------------- versions


async def test_a_fresh_upload_is_opened_when_its_clock_tick_is_over(root: Path) -> None:
    """A second replace within the tick may look alike; no picture is made of what it then replaces."""
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
async def test_an_original_is_open_to_whom_its_gallery_is(
    root: Path, store: WritableFolderOriginals, folder_mode: int, file_mode: int
) -> None:
    (root / "g").chmod(folder_mode)
    await put(store, "g/b.jpg")
    assert (root / "g" / "b.jpg").stat().st_mode & 0o777 == file_mode
