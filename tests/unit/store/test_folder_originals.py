"""Tests the folder of originals: it stays in its root, compares names byte for byte, and caches heads."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
import time
from contextlib import chdir
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal
from unicodedata import normalize
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galerly_cdn.errors import (
    GalerlyError,
    MalformedKey,
    NoSuchOriginal,
    SettingsError,
    StoreRefused,
    StoreUnreachable,
    Unsettled,
)
from galerly_cdn.http.urls import checked_key
from galerly_cdn.library import read_page
from galerly_cdn.store.folder import listing, paths
from galerly_cdn.store.folder.originals import FolderOriginals
from tests.support.descriptors import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Hooking = Callable[[Callable[[str], None]], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`g/a.jpg` and `g/sub/b.jpg` inside, `secret.jpg` outside."""
    root = tmp_path / "photographs"
    (root / "g" / "sub").mkdir(parents=True)
    (root / "g" / "a.jpg").write_bytes(b"a")
    (root / "g" / "sub" / "b.jpg").write_bytes(b"bb")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.jpg").write_bytes(b"secret")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return root


@pytest.fixture
def store(root: Path) -> FolderOriginals:
    return FolderOriginals(root, checked_key, now=lambda: 0.0)


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Hooking:
    """Installs a hook that is called with each path just before `os.open` opens it."""

    def install(hook: Callable[[str], None]) -> None:
        real_open = os.open

        def hooked(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            hook(path)
            return real_open(path, flags, mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", hooked)

    return install


async def refused(store: FolderOriginals, key: str, kind: type[GalerlyError] = NoSuchOriginal) -> None:
    with pytest.raises(kind):
        await store.head(key)
    with pytest.raises(kind):
        await store.open(key)


async def content_of(store: FolderOriginals, key: str) -> bytes:
    with await store.open(key) as original:
        assert await store.head(key) == original.head
        return os.pread(original.fd, 100, 0)


async def keys_of(store: FolderOriginals, prefix: str = "") -> list[str]:
    return [one.key async for one in store.list(prefix)]


# ------------------------------------------------------------------------------- paths out of the root


@pytest.mark.parametrize(
    ("link", "target", "key"),
    [
        ("l.jpg", "../secret.jpg", "l.jpg"),
        ("l.jpg", "{outside}/a.jpg", "l.jpg"),
        ("l", "{outside}", "l/a.jpg"),
        ("l", "../outside", "l/a.jpg"),
        ("g/l", "../../outside", "g/l/a.jpg"),
        ("l", "..", "l/secret.jpg"),
        ("l", "../photographs/g", "l/a.jpg"),
        ("l", "{root}/../photographs/g", "l/a.jpg"),
        ("l", "{root}s/g", "l/a.jpg"),
        ("l", "l", "l"),
        ("l", "l/a.jpg", "l/a.jpg"),
        ("l.jpg", "nothing", "l.jpg"),
        ("l.jpg", "g/a.jpg/", "l.jpg"),
        ("l.jpg", "g/a.jpg/.", "l.jpg"),
        ("l.jpg", "g", "l.jpg"),
        ("l.jpg", "g/sub/..", "l.jpg"),
        ("l.jpg", "/etc/passwd", "l.jpg"),
        ("l.jpg", "/", "l.jpg"),
        ("l.jpg", "/dev/null", "l.jpg"),
    ],
)
async def test_symlink_out_of_the_root_is_not_an_original(
    root: Path, store: FolderOriginals, link: str, target: str, key: str
) -> None:
    (root / link).symlink_to(target.format(root=root, outside=root.parent / "outside"))
    await refused(store, key)
    for listed in await keys_of(store):
        assert await content_of(store, listed) != b"secret"


async def test_chain_of_symlinks_is_followed_only_if_each_stays_inside(
    root: Path, store: FolderOriginals
) -> None:
    (root.parent / "outside" / "back").symlink_to(root / "g")
    (root / "out").symlink_to("../outside/back")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("g/three")
    (root / "g" / "three").symlink_to("./a.jpg")
    assert await content_of(store, "one") == b"a"
    await refused(store, "out/a.jpg")


@pytest.mark.parametrize(
    ("link", "target", "key"),
    [
        ("l.jpg", "g/a.jpg", "l.jpg"),
        ("l", "g", "l/a.jpg"),
        ("g/sub/l.jpg", "../a.jpg", "g/sub/l.jpg"),
        ("h", "./g//sub/..", "h/a.jpg"),
        ("g/sub/l.jpg", "{root}/g/a.jpg", "g/sub/l.jpg"),
    ],
)
async def test_symlink_inside_the_root_is_served_and_listed(
    root: Path, store: FolderOriginals, link: str, target: str, key: str
) -> None:
    (root / link).symlink_to(target.format(root=root))
    assert await content_of(store, key) == b"a"
    assert key in await keys_of(store)


async def test_symlink_changed_to_another_file_serves_the_other_at_once(
    root: Path, store: FolderOriginals
) -> None:
    (root / "l.jpg").symlink_to("g/a.jpg")
    assert (await store.head("l.jpg")).length_bytes == 1
    (root / "new").symlink_to("g/sub/b.jpg")
    (root / "new").rename(root / "l.jpg")
    assert (await store.head("l.jpg")).length_bytes == 2


@pytest.mark.parametrize(
    "key",
    ["", ".", "..", "../secret.jpg", "g/../../secret.jpg", "g//a.jpg", "g/./a.jpg", "/g/a.jpg", "g/a.jpg/"],
)
async def test_key_that_no_url_can_express_is_refused(store: FolderOriginals, key: str) -> None:
    await refused(store, key)


@pytest.mark.parametrize("name", ["g", "g/a.jpg"])
async def test_component_replaced_by_a_symlink_during_the_walk_is_not_followed(
    root: Path, store: FolderOriginals, name: str, before: Hooking
) -> None:
    def swap(path: str) -> None:
        if path == (root / name).name and not (root / name).is_symlink():
            (root / name).rename(root / "aside")
            outside = root.parent / "outside"
            (root / name).symlink_to(outside if name == "g" else outside / "a.jpg")

    before(swap)
    with pytest.raises(NoSuchOriginal):
        await store.open("g/a.jpg")
    assert (root / name).is_symlink()


async def test_folder_moved_out_and_linked_back_is_refused_although_its_files_did_not_change(
    root: Path, store: FolderOriginals
) -> None:
    await store.head("g/a.jpg")
    (root / "g").rename(root.parent / "moved")
    (root / "g").symlink_to(root.parent / "moved")
    await refused(store, "g/a.jpg")


# -------------------------------------------------------------------------- names, byte for byte


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Simulates a case-folding file system: the given name is found by `stat`, but is not an entry."""
    hidden: set[str] = set()
    real_listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: [name for name in real_listdir(fd) if name not in hidden])
    return hidden.add


@pytest.mark.parametrize("key", ["g/A.JPG", "G/a.jpg", "G/A.JPG", "g/a.jpg.", "g/A~1.JPG"])
async def test_key_that_differs_by_case_is_not_an_original(
    root: Path, store: FolderOriginals, folding: Callable[[str], None], key: str
) -> None:
    (root / key).parent.mkdir(exist_ok=True)
    (root / key).write_bytes(b"a")
    for name in key.split("/"):
        if name not in {"g", "a.jpg"}:
            folding(name)
    await refused(store, key)
    await refused(store, key)
    assert await content_of(store, "g/a.jpg") == b"a"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
async def test_key_that_differs_by_normalisation_is_not_an_original(
    root: Path, store: FolderOriginals, folding: Callable[[str], None], form: Literal["NFC", "NFD"]
) -> None:
    entry, other = normalize(form, "é.jpg"), normalize("NFD" if form == "NFC" else "NFC", "é.jpg")
    (root / entry).write_bytes(b"a")
    (root / other).write_bytes(b"a")
    folding(other)
    await refused(store, other)
    assert await content_of(store, entry) == b"a"


async def test_renamed_folder_is_not_found_under_its_old_name(
    root: Path, store: FolderOriginals, folding: Callable[[str], None]
) -> None:
    await store.head("g/a.jpg")
    (root / "g").rename(root / "G")  # a folding file system still finds `g`
    (root / "G").rename(root / "g")
    folding("g")
    await refused(store, "g/a.jpg")


# ------------------------------------------------------------------------------- only regular files


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    with (
        chdir(path.parent),
        socket.socket(socket.AF_UNIX) as listener,
    ):  # a socket's path is limited to 108 bytes
        listener.bind(path.name)


@pytest.mark.parametrize("make", [_fifo, _folder, _socket])
async def test_path_that_is_not_a_regular_file_is_not_an_original(
    root: Path, store: FolderOriginals, make: Callable[[Path], None]
) -> None:
    make(root / "special.jpg")
    await refused(store, "special.jpg")
    assert "special.jpg" not in await keys_of(store)


async def test_fifo_in_place_of_a_file_does_not_block_the_server(
    root: Path, store: FolderOriginals, before: Hooking
) -> None:
    def swap(path: str) -> None:
        if path == "a.jpg":
            (root / "g" / "a.jpg").unlink()
            os.mkfifo(root / "g" / "a.jpg")

    before(swap)
    descriptors = open_descriptors()
    with pytest.raises(NoSuchOriginal):
        await store.open("g/a.jpg")
    assert open_descriptors() <= descriptors


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "x" * 256 + "/a.jpg", "g/" + "x" * 899])
async def test_name_that_the_file_system_cannot_hold_is_not_an_original(
    store: FolderOriginals, name: str
) -> None:
    await refused(store, name)


async def test_open_returns_the_head_of_the_opened_bytes(
    root: Path, store: FolderOriginals, before: Hooking
) -> None:
    def replace(path: str) -> None:
        if path == "a.jpg" and (root / "g" / "a.jpg").stat().st_size == 1:
            (root / "new").write_bytes(b"replaced")
            (root / "new").rename(root / "g" / "a.jpg")

    await store.head("g/a.jpg")
    before(replace)
    with await store.open("g/a.jpg") as original:
        assert original.head.length_bytes == len(os.pread(original.fd, 100, 0)) == 8
        assert original.head == await store.head("g/a.jpg")


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, NoSuchOriginal),
        (errno.EILSEQ, NoSuchOriginal),
        (errno.EINVAL, NoSuchOriginal),
        (errno.EACCES, StoreRefused),
        (errno.EPERM, StoreRefused),
        (errno.EIO, StoreUnreachable),
        (errno.EMFILE, StoreUnreachable),
        (errno.ENOTCONN, StoreUnreachable),
        (errno.ESTALE, StoreUnreachable),
        (errno.ENOMEM, StoreUnreachable),
    ],
)
async def test_file_system_error_is_mapped_to_its_store_error(
    store: FolderOriginals,
    number: int,
    kind: type[GalerlyError],
    before: Hooking,
) -> None:
    def fail(path: str) -> None:
        if path == "g":
            raise OSError(number, os.strerror(number), path)

    before(fail)
    await refused(store, "g/a.jpg", kind)


async def test_file_system_error_is_not_shown_to_the_viewer(store: FolderOriginals, root: Path) -> None:
    with pytest.raises(NoSuchOriginal) as caught:
        await store.head("g/none.jpg")
    assert str(root) not in caught.value.public
    assert "none.jpg" in caught.value.detail


async def test_missing_root_is_unreachable_instead_of_a_missing_original(
    root: Path, store: FolderOriginals
) -> None:
    await store.head("g/a.jpg")
    elsewhere = (root.parent / root.name).rename(root.parent / "elsewhere")
    await refused(store, "g/a.jpg", StoreUnreachable)
    with pytest.raises(StoreUnreachable):
        await keys_of(store)
    elsewhere.rename(root)
    assert await content_of(store, "g/a.jpg") == b"a"


async def test_known_head_is_returned_as_stale_while_the_root_is_missing(root: Path) -> None:
    now_s = time.time()
    store = FolderOriginals(root, checked_key, now=lambda: now_s, stale_s=60.0)
    before = await store.head("g/a.jpg")
    elsewhere = root.parent / "elsewhere"
    shutil.move(root, elsewhere)
    for passed_s, stale_s in ((0.0, 0.012), (30.0, 30.0), (30.0, 60.0)):
        now_s += passed_s
        head = await store.head("g/a.jpg")
        assert head.version == before.version
        assert head.stale_s == pytest.approx(stale_s)
        assert store.known_head("g/a.jpg") is None
    now_s += 1.0
    with pytest.raises(StoreUnreachable):
        await store.head("g/a.jpg")
    shutil.move(elsewhere, root)
    assert await store.head("g/a.jpg") == before
    shutil.move(root, elsewhere)
    assert (await store.head("g/a.jpg")).stale_s == pytest.approx(0.012)
    with pytest.raises(StoreUnreachable):
        await store.head("g/a.jpg", remembered=False)
    with pytest.raises(StoreUnreachable):
        await store.head("g/other.jpg")
    shutil.move(elsewhere, root)
    (root / "g" / "a.jpg").unlink()
    with pytest.raises(NoSuchOriginal):
        await store.head("g/a.jpg")
    shutil.move(root, elsewhere)
    with pytest.raises(StoreUnreachable):
        await store.head("g/a.jpg")


@pytest.mark.parametrize("name", ["none", "photographs/g/a.jpg"])
def test_root_that_is_not_a_folder_is_a_settings_error(root: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="originals: cannot read the folder"):
        FolderOriginals(root.parent / name, checked_key, now=lambda: 0.0)


async def test_root_that_is_a_symlink_is_served(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    assert (
        await content_of(FolderOriginals(root.parent / "link", checked_key, now=lambda: 0.0), "g/a.jpg")
        == b"a"
    )


# --------------------------------------------------------------------------------------------- cost


async def test_cached_head_costs_one_lstat_per_segment(
    store: FolderOriginals, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await store.head("g/a.jpg")
    paths_checked: list[str] = []
    real_lstat = os.lstat

    def counting(path: str) -> os.stat_result:
        paths_checked.append(path.rpartition("/")[2])
        return real_lstat(path)

    def forbidden(*_args: object, **_kwargs: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", counting)
        for name in ("open", "stat", "listdir", "scandir", "fstat"):
            patched.setattr(os, name, forbidden)
        assert await store.head("g/a.jpg") == head
        assert store.known_head("g/a.jpg") == head
    assert paths_checked == ["g", "a.jpg"] * 2


@pytest.mark.parametrize("field", ["st_ino", "st_mtime_ns", "st_ctime_ns", "st_size"])
async def test_changed_file_is_looked_up_again(
    store: FolderOriginals, before: Hooking, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    await store.head("g/a.jpg")
    opened: list[str] = []
    real_lstat = os.lstat

    def changed(path: str) -> object:
        status = real_lstat(path)
        if not path.endswith("a.jpg"):
            return status
        values = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
        return SimpleNamespace(**values | {field: values[field] + 1})

    before(opened.append)
    monkeypatch.setattr(os, "lstat", changed)
    await store.head("g/a.jpg")
    assert opened[1:] == ["g"]


async def test_file_created_in_the_clock_tick_of_the_last_listing_is_found(
    root: Path, store: FolderOriginals, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "g" / "late.jpg").write_bytes(b"photograph")
    real_listdir = os.listdir
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", lambda fd: [name for name in real_listdir(fd) if name != "late.jpg"])
        await store.head("g/a.jpg")
    assert (await store.head("g/late.jpg")).length_bytes == 10


async def test_folder_is_listed_once_for_all_its_originals(
    root: Path, store: FolderOriginals, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        (root / "g" / f"{number}.jpg").write_bytes(b"photograph")
    listed: list[int] = []
    real_listdir = os.listdir

    def counting(fd: int) -> list[str]:
        listed.append(fd)
        return real_listdir(fd)

    monkeypatch.setattr(os, "listdir", counting)
    for number in range(50):
        await store.head(f"g/{number}.jpg")
    assert len(listed) == 2  # the root and `g`


async def test_caches_are_bounded(
    root: Path, store: FolderOriginals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_MAX_NAMES", 10)
    monkeypatch.setattr("galerly_cdn.store.folder.originals._MAX_CACHED_HEADS", 10)
    for number in range(40):
        (root / f"g{number}").mkdir()
        (root / f"g{number}" / "a.jpg").write_bytes(b"photograph")
    for _ in range(2):
        for number in range(40):
            assert (await store.head(f"g{number}/a.jpg")).length_bytes == 10
    assert len(store._heads) == 10
    assert store._entries._cached_names <= 10 + 41
    assert store._entries._cached_names == sum(map(len, store._entries._listings.values()))


async def test_originals_leave_no_descriptor_open(root: Path, store: FolderOriginals) -> None:
    (root / "out").symlink_to("../outside")
    before = open_descriptors()
    for number in range(500):
        await content_of(store, ("g/a.jpg", "g/sub/b.jpg")[number % 2])
        await refused(store, ("none", "g", "out/a.jpg", "g/a.jpg/x")[number % 4])
    await keys_of(store)
    assert open_descriptors() <= before


def _tree(root: Path) -> list[tuple[Path, int, int]]:
    found = sorted([root, *root.rglob("*")])
    return [(path, path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in found]


async def test_originals_write_nothing_into_the_folder(root: Path, store: FolderOriginals) -> None:
    before = _tree(root)
    await content_of(store, "g/a.jpg")
    await refused(store, "none")
    await keys_of(store)
    assert _tree(root) == before


# ------------------------------------------------------------------------------------------ listing


async def pages_of(
    store: FolderOriginals, size: int, change: Callable[[int], None] = lambda _: None
) -> list[str]:
    """The keys of a listing in pages; `change` is called with the page's number after each."""
    keys: list[str] = []
    page = await read_page(store, "", "", size)
    for number in itertools.count():
        keys += [one.key for one in page.originals]
        change(number)
        if not page.next:
            return keys
        page = await read_page(store, "", page.next, size)
    raise AssertionError


async def test_pages_of_a_flat_folder_read_its_names_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page read every name, so that a whole listing took time by the square of their number."""
    names = [f"{number:04}.jpg" for number in range(3000)]
    for name in names:
        (root / "g" / name).write_bytes(b"photograph")
    read, status = Mock(wraps=os.listdir), Mock(wraps=os.stat)
    monkeypatch.setattr(os, "listdir", read)
    monkeypatch.setattr(os, "stat", status)
    store = FolderOriginals(root, checked_key, now=lambda: time.time() + 10)
    assert await pages_of(store, 1000) == sorted([*(f"g/{name}" for name in names), "g/a.jpg", "g/sub/b.jpg"])
    assert read.call_count == 3  # the root, `g` and `g/sub`
    assert status.call_count < 2 * len(names)


async def test_folder_changed_while_it_is_listed_in_pages_loses_no_other_key(root: Path) -> None:
    for number in range(60):
        (root / "g" / f"{number:02}.jpg").write_bytes(b"photograph")
    store = FolderOriginals(root, checked_key, now=time.time)

    def change(number: int) -> None:
        (root / "g" / f"{number * 10 + 5:02}.jpg").unlink(missing_ok=True)
        (root / "g" / f"{number * 10 + 1:02}-new.jpg").write_bytes(b"photograph")

    keys = await pages_of(store, 10, change)
    assert keys == sorted(set(keys))
    kept = [f"g/{number:02}.jpg" for number in range(60) if number % 10 != 5]
    assert set(kept) <= set(keys)


async def test_file_created_in_the_clock_tick_of_the_last_page_is_listed(root: Path) -> None:
    store = FolderOriginals(root, checked_key, now=time.time)
    for number in range(20):
        (root / "g" / f"{number:02}.jpg").write_bytes(b"photograph")
        assert f"g/{number:02}.jpg" in await keys_of(store)


async def test_names_of_listed_folders_are_cached_up_to_a_limit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_MAX_NAMES", 10)
    for number in range(40):
        (root / f"g{number}").mkdir()
        (root / f"g{number}" / "a.jpg").write_bytes(b"photograph")
    store = FolderOriginals(root, checked_key, now=lambda: time.time() + 10)
    assert len(await keys_of(store)) == 42
    assert sum(map(len, store._names._names.values())) <= 10


async def test_list_omits_names_that_are_not_keys(root: Path, store: FolderOriginals) -> None:
    for name in (".hidden.jpg", "back\\slash.jpg", "new\nline.jpg", "\x7f.jpg", "not UTF-8: \udce9.jpg"):
        (root / name).write_bytes(b"photograph")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a.jpg").write_bytes(b"photograph")
    deep = root.joinpath(*["x" * 200] * 5)
    deep.mkdir(parents=True)
    (deep / "a.jpg").write_bytes(b"photograph")
    assert await keys_of(store) == ["g/a.jpg", "g/sub/b.jpg"]


async def test_list_of_circular_symlinks_yields_each_file_once(root: Path, store: FolderOriginals) -> None:
    (root / "g" / "sub" / "up").symlink_to("..")
    (root / "top").symlink_to(".")
    (root / "g" / "twice").symlink_to("sub")
    assert await keys_of(store) == ["g/a.jpg", "g/sub/b.jpg", "g/twice/b.jpg"]


async def test_list_omits_only_the_unreadable_folder(store: FolderOriginals, before: Hooking) -> None:
    def refuse(path: str) -> None:
        if path == "sub":
            raise PermissionError(errno.EACCES, "denied")

    before(refuse)
    assert await keys_of(store) == ["g/a.jpg"]


async def test_list_of_an_unreadable_root_is_an_error(store: FolderOriginals, before: Hooking) -> None:
    def refuse(_path: str) -> None:
        raise PermissionError(errno.EACCES, "denied")

    before(refuse)
    with pytest.raises(StoreRefused):
        await keys_of(store)


SEGMENT = st.text("ab-/.é\U0001f600\uffee", min_size=1, max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(SEGMENT, max_size=14), prefix=st.text("ab-/é", max_size=2))
async def test_list_is_in_order_with_any_batch_size(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, keys: set[str], prefix: str
) -> None:
    monkeypatch.setattr(listing, "_BATCH_ENTRIES", 2)
    root = tmp_path_factory.mktemp("photographs")
    written = set()
    for key in keys:
        if "/." in f"/{key}" or not _is_key(key):
            continue
        path = root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"photograph")
        except OSError:  # a file where a folder is needed, or vice versa
            continue
        written.add(key)
    expected = sorted((key for key in written if key.startswith(prefix)), key=str.encode)
    store = FolderOriginals(root, checked_key, now=lambda: 0.0)
    assert await keys_of(store, prefix) == expected
    for key in expected:
        await store.head(key)


def _is_key(key: str) -> bool:
    try:
        checked_key(key)
    except MalformedKey:
        return False
    return True


async def test_open_of_a_just_changed_original_waits_for_the_next_clock_tick(root: Path) -> None:
    """Two edits within a tick leave equal versions: bytes read between them must not get that version."""
    file = root / "g" / "a.jpg"
    now_s = file.stat().st_ctime + 0.001
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        nonlocal now_s
        waits.append(seconds)
        file.write_bytes(b"edited")  # within the tick of the first check
        now_s = file.stat().st_ctime + (0.001 if len(waits) == 1 else 1)

    store = FolderOriginals(root, checked_key, now=lambda: now_s, wait=wait)
    with await store.open("g/a.jpg") as original:
        assert os.read(original.fd, 100) == b"edited"
    assert len(waits) == 2


async def test_open_of_an_original_that_changes_all_the_time_is_unsettled(root: Path) -> None:
    file = root / "g" / "a.jpg"

    async def wait(_: float) -> None:
        file.touch()

    store = FolderOriginals(root, checked_key, now=lambda: file.stat().st_ctime + 0.001, wait=wait)
    with pytest.raises(Unsettled):
        await store.open("g/a.jpg")


# private folders


@pytest.fixture
def private_store(root: Path) -> FolderOriginals:
    """`clients/` is private; the symlinks in `g/` lead into it."""
    (root / "clients" / "smith").mkdir(parents=True)
    (root / "clients" / "smith" / "1.jpg").write_bytes(b"private")
    (root / "clients2").mkdir()
    (root / "clients2" / "a.jpg").write_bytes(b"public")
    for name, target in {
        "photo.jpg": "../clients/smith/1.jpg",
        "gallery": "../clients/smith",
        "absolute": str(root / "clients" / "smith"),
        "whole": "..",
        "twice": "gallery",
        "other": "../clients2",
    }.items():
        (root / "g" / name).symlink_to(target)
    (root / "clients" / "shown.jpg").symlink_to("../g/a.jpg")
    (root / "clients" / "again").symlink_to("smith")
    return FolderOriginals(root, checked_key, now=lambda: 0.0, private_folders=("clients/",))


@pytest.mark.parametrize(
    "key",
    [
        "g/photo.jpg", "g/gallery/1.jpg", "g/absolute/1.jpg", "g/whole/clients/smith/1.jpg", "g/twice/1.jpg",
        "g/whole/g/photo.jpg", "clients2/../g/photo.jpg",
    ],
)  # fmt: skip
async def test_symlink_from_a_public_folder_into_a_private_one_is_not_an_original(
    private_store: FolderOriginals, key: str
) -> None:
    for _ in range(2):
        with pytest.raises(NoSuchOriginal):
            await private_store.head(key)
    with pytest.raises(NoSuchOriginal):
        await content_of(private_store, key)


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("clients/smith/1.jpg", b"private"), ("clients/again/1.jpg", b"private"), ("clients/shown.jpg", b"a"),
        ("g/other/a.jpg", b"public"), ("g/whole/g/a.jpg", b"a"),
    ],
)  # fmt: skip
async def test_symlink_that_stays_public_or_leaves_a_private_folder_is_served(
    private_store: FolderOriginals, key: str, content: bytes
) -> None:
    assert await content_of(private_store, key) == content


async def test_file_moved_into_a_private_folder_is_not_served_from_the_cached_head(
    root: Path, private_store: FolderOriginals
) -> None:
    (root / "l.jpg").symlink_to("g/a.jpg")
    assert (await private_store.head("l.jpg")).length_bytes == 1
    (root / "new").symlink_to("clients/smith/1.jpg")
    (root / "new").replace(root / "l.jpg")
    with pytest.raises(NoSuchOriginal):
        await private_store.head("l.jpg")


async def test_listing_has_no_public_key_of_a_private_file(private_store: FolderOriginals) -> None:
    keys = [one.key async for one in private_store.list()]
    assert "clients/smith/1.jpg" in keys
    assert "g/other/a.jpg" in keys
    for key in keys:
        await private_store.head(key)
    assert await private_store.folders("g") == {"sub", "whole", "other"}
