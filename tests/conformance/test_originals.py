"""Tests the interface `Originals` on every store. Add a new store to `STORES`."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from galerly_cdn.errors import NoSuchOriginal, Unsettled
from galerly_cdn.http.urls import checked_key
from galerly_cdn.store.folder.originals import FolderOriginals
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from galerly_cdn.store.interfaces import Originals
    from tests.support.s3_servers import Objects

KEYS = ["a/x", "a-b", "a/é", "a/z/1", "Ünïcode folder/ein Bild.jpg", "b", "a/y%41", "日本/写真.jpg"]


class StoreUnderTest(Protocol):
    """A store of originals, and an application that writes to it."""

    store: Originals

    def write(self, key: str, content: bytes) -> None: ...

    def remove(self, key: str) -> None: ...


class FolderUnderTest:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store: Originals = FolderOriginals(root, checked_key, now=lambda: 0.0)

    def write(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(content)
        fresh.replace(path)

    def remove(self, key: str) -> None:
        (self.root / key).unlink()


class S3World:
    """The store caches no heads: what other clients write is visible at once."""

    def __init__(self, bucket: Objects) -> None:
        self.bucket = bucket
        self.store: Originals = bucket.originals()

    def write(self, key: str, content: bytes) -> None:
        self.bucket.put(f"originals/{key}", content)

    def remove(self, key: str) -> None:
        self.bucket.remove(f"originals/{key}")


STORES = [pytest.param("folder"), *SERVERS]


@pytest.fixture(params=STORES)
def tested(request: pytest.FixtureRequest, tmp_path: Path) -> StoreUnderTest:
    if request.param == "folder":
        return FolderUnderTest(tmp_path)
    return S3World(request.getfixturevalue(request.param).bucket())


async def _bytes(store: Originals, key: str) -> bytes:
    with await store.open(key) as original:
        content = os.pread(original.fd, 1 << 20, 0)
        assert len(content) == original.head.length_bytes
        return content


@pytest.mark.parametrize("key", KEYS)
async def test_original_is_found_by_its_key(tested: StoreUnderTest, key: str) -> None:
    tested.write(key, b"photograph")
    head = await tested.store.head(key)
    assert head.length_bytes == 10
    assert await _bytes(tested.store, key) == b"photograph"
    with await tested.store.open(key) as original:
        assert original.head == head


@pytest.mark.parametrize("key", ["none", "a/none", "a", "b/below a photograph", "none/none", "a/x/y"])
async def test_missing_key_is_not_an_original(tested: StoreUnderTest, key: str) -> None:
    tested.write("a/x", b"photograph")
    tested.write("b", b"photograph")
    with pytest.raises(NoSuchOriginal):
        await tested.store.head(key)
    with pytest.raises(NoSuchOriginal):
        await tested.store.open(key)


async def test_version_of_an_unchanged_original_stays_the_same(tested: StoreUnderTest) -> None:
    tested.write("a/x", b"photograph")
    first = await tested.store.head("a/x")
    tested.write("a/neighbour", b"another")
    assert await tested.store.head("a/x") == first


async def test_known_head_is_the_head_of_now_or_none(tested: StoreUnderTest) -> None:
    assert tested.store.known_head("a/x") is None
    tested.write("a/x", b"photograph")
    head = await tested.store.head("a/x")
    assert tested.store.known_head("a/x") in {head, None}  # these stores remember no head of S3
    tested.remove("a/x")
    assert tested.store.known_head("a/x") is None


async def test_replaced_original_of_the_same_length_has_a_new_version(tested: StoreUnderTest) -> None:
    tested.write("a/x", b"before")
    before = await tested.store.head("a/x")
    tested.write("a/x", b"after!")
    after = await tested.store.head("a/x")
    assert after.version != before.version
    assert await _bytes(tested.store, "a/x") == b"after!"


async def test_deleted_original_is_gone_at_once(tested: StoreUnderTest) -> None:
    tested.write("a/x", b"photograph")
    await tested.store.head("a/x")
    tested.remove("a/x")
    with pytest.raises(NoSuchOriginal):
        await tested.store.head("a/x")


async def test_new_original_is_found_at_once(tested: StoreUnderTest) -> None:
    tested.write("a/x", b"photograph")
    for number in range(20):
        with pytest.raises(NoSuchOriginal):
            await tested.store.head(f"a/{number}")
        tested.write(f"a/{number}", b"photograph")
        assert (await tested.store.head(f"a/{number}")).length_bytes == 10


async def test_opened_original_keeps_its_bytes_when_it_is_replaced(tested: StoreUnderTest) -> None:
    tested.write("a/x", b"before")
    with await tested.store.open("a/x") as original:
        tested.write("a/x", b"and after")
        assert os.pread(original.fd, 100, 0) == b"before"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", sorted(KEYS, key=str.encode)),
        ("a", ["a-b", "a/x", "a/y%41", "a/z/1", "a/é"]),
        ("a/", ["a/x", "a/y%41", "a/z/1", "a/é"]),
        ("a/z", ["a/z/1"]),
        ("a/z/1", ["a/z/1"]),
        ("a/z/1/", []),
        ("日", ["日本/写真.jpg"]),
        ("none", []),
        ("b", ["b"]),
        ("bb", []),
    ],
)
async def test_list_is_in_the_order_of_utf8_bytes(
    tested: StoreUnderTest, prefix: str, expected: list[str]
) -> None:
    for key in KEYS:
        tested.write(key, b"photograph")
    assert [one.key async for one in tested.store.list(prefix)] == expected


async def _read(store: Originals, key: str, version: str, first: int, length_bytes: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, version, first, length_bytes)])


LARGE = bytes(range(256)) * 4096 + b"and a bit"
"""Longer than a chunk of any store."""


@pytest.mark.parametrize(
    ("first", "length_bytes"),
    [(0, len(LARGE)), (0, 1), (255, 2), (len(LARGE) - 1, 1), (300_000, 600_000), (1, len(LARGE) - 1)],
)
async def test_read_returns_the_requested_bytes(
    tested: StoreUnderTest, first: int, length_bytes: int
) -> None:
    tested.write("a/日", LARGE)
    head = await tested.store.head("a/日")
    assert (
        await _read(tested.store, "a/日", head.version, first, length_bytes)
        == (LARGE[first : first + length_bytes])
    )


async def test_read_of_another_version_is_unsettled(tested: StoreUnderTest) -> None:
    tested.write("a/x", b"before")
    before = await tested.store.head("a/x")
    tested.write("a/x", b"after!")
    with pytest.raises(Unsettled):
        await _read(tested.store, "a/x", before.version, 0, 6)


async def test_read_of_a_missing_original_is_an_error(tested: StoreUnderTest) -> None:
    tested.write("a/x", b"before")
    before = await tested.store.head("a/x")
    tested.remove("a/x")
    with pytest.raises(NoSuchOriginal):
        await _read(tested.store, "a/x", before.version, 0, 6)
    with pytest.raises(NoSuchOriginal):
        await _read(tested.store, "a/none", before.version, 0, 6)


async def test_read_of_an_original_replaced_midway_never_mixes_versions(tested: StoreUnderTest) -> None:
    tested.write("a/x", LARGE)
    head = await tested.store.head("a/x")
    chunks = tested.store.read("a/x", head.version, 0, head.length_bytes)
    content = await anext(chunks)
    tested.write("a/x", LARGE[::-1])
    with contextlib.suppress(Unsettled):  # a store may finish reading the version it has begun
        async for chunk in chunks:
            content += chunk
        assert len(content) == len(LARGE)
    assert LARGE.startswith(content)


def _open_files() -> int:
    """The number of open regular files. Sockets are not counted: a remote store keeps its connections."""
    found = 0
    for path in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this listing is closed already
            found += stat.S_ISREG(os.fstat(int(path.name)).st_mode)
    return found


async def test_closed_read_leaves_no_file_open(tested: StoreUnderTest) -> None:
    tested.write("a/x", LARGE)
    head = await tested.store.head("a/x")
    before = _open_files()
    for _ in range(10):
        chunks = tested.store.read("a/x", head.version, 0, head.length_bytes)
        await anext(chunks)
        await chunks.aclose()
        await tested.store.read("a/x", head.version, 0, head.length_bytes).aclose()
    assert _open_files() == before


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("", {"a", "Ünïcode folder", "日本", "cafe\u0301"}),
        ("a", {"z"}),
        ("a/z", set()),
        ("b", set()),
        ("none", set()),
        ("cafe\u0301", {"x"}),
        ("caf\u00e9", set()),
    ],
)
async def test_folders_are_those_directly_in_a_folder(
    tested: StoreUnderTest, folder: str, expected: set[str]
) -> None:
    for key in (*KEYS, "cafe\u0301/x/1"):
        tested.write(key, b"photograph")
    assert await tested.store.folders(folder) == expected
