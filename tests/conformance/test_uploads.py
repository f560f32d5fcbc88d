"""Tests the interface `WritableOriginals` on every store. Add a new store to `STORES`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from galerly_cdn.errors import KeyNotHeld, NoSuchOriginal, OriginalExists, StoreRefused
from galerly_cdn.http.urls import checked_key
from galerly_cdn.store.folder.uploads import WritableFolderOriginals
from tests.support.s3_servers import SERVERS, VERSITYGW

if TYPE_CHECKING:
    from galerly_cdn.model import Head
    from galerly_cdn.store.interfaces import WritableOriginals
    from tests.support.s3_servers import Objects

PHOTOGRAPH = b"not a photograph: no store looks inside"
KEYS = [
    "a",
    "gallery/photo.jpg",
    "a/b/c/d/e/f/g.jpg",
    "Ünïcode folder/ein Bild.jpg",
    "日本/写真.jpg",
    "smile/\U0001f469\u200d\U0001f469\u200d\U0001f467.jpg",
    "q/#?%+&=;'\"<>|*:@!$(){}[]^`~,.jpg",
    "q/y%41 %2F",
    "spaces/ begins and ends ",
    "tail/dot.",
    "case/A.JPG",
    "long/" + "x" * 255,
    "/".join(["y" * 224] * 4),
]
SIMILAR_KEYS = [("n/\u00e9.jpg", "n/e\u0301.jpg"), ("c/a.jpg", "c/A.jpg"), ("Ab/c", "aB/c")]
"""Different keys that a file system may confuse."""


class StoreUnderTest(Protocol):
    """A store that takes uploads, and the same store as a second server opens it."""

    store: WritableOriginals
    other: WritableOriginals

    def unaccepted(self) -> list[str]:
        """The files of uploads that were not accepted."""
        ...


class FolderUnderTest:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store: WritableOriginals = WritableFolderOriginals(root, checked_key, now=lambda: 0.0)
        self.other: WritableOriginals = WritableFolderOriginals(root, checked_key, now=lambda: 0.0)

    def unaccepted(self) -> list[str]:
        return [path.name for path in (self.root / ".galerly").iterdir()]


class RemoteUnderTest:
    """Two servers on one bucket. Their upload files are this machine's temporary files."""

    def __init__(self, objects: Objects) -> None:
        self.store: WritableOriginals = objects.originals()
        self.other: WritableOriginals = objects.originals()

    def unaccepted(self) -> list[str]:
        return [path.name for path in Path(tempfile.gettempdir()).iterdir()]


STORES = ["folder", *SERVERS]
ATOMIC = ["folder", VERSITYGW]
"""Stores whose create is atomic. moto checks first and then writes."""


@pytest.fixture(params=STORES)
def tested(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreUnderTest:
    """An empty store."""
    if request.param == "folder":
        return FolderUnderTest(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return RemoteUnderTest(request.getfixturevalue(request.param).bucket())


async def put(
    store: WritableOriginals, key: str, content: bytes, *, replaces: bool = False
) -> tuple[Head, bool]:
    md5 = hashlib.md5(content).hexdigest()
    with store.upload_file() as file:
        file.write(content)
        return await store.put(key, file, media_type="image/jpeg", md5=md5, replaces=replaces)


def abort_upload(store: WritableOriginals) -> None:
    """An upload whose sender disconnects in the middle of it."""
    with contextlib.suppress(ConnectionError), store.upload_file() as file:
        file.write(b"half a pho")
        raise ConnectionError


async def content_of(store: WritableOriginals, key: str) -> bytes:
    with await store.open(key) as original:
        content = os.pread(original.fd, 1 << 22, 0)
        assert len(content) == original.head.length_bytes
        return content


async def keys_of(store: WritableOriginals) -> list[str]:
    return [one.key async for one in store.list()]


# ---------------------------------------------------------------------------------------- one upload


@pytest.mark.parametrize("key", KEYS)
async def test_put_original_is_stored_under_exactly_its_key(tested: StoreUnderTest, key: str) -> None:
    head, created = await put(tested.store, key, b"photograph")
    assert created
    assert await content_of(tested.store, key) == await content_of(tested.other, key) == b"photograph"
    assert await tested.store.head(key, remembered=False) == head
    assert head.length_bytes == 10
    assert await keys_of(tested.store) == [key]
    assert tested.unaccepted() == []


@pytest.mark.parametrize("similar", SIMILAR_KEYS)
async def test_keys_that_look_alike_are_different_originals(
    tested: StoreUnderTest, similar: tuple[str, str]
) -> None:
    for key in similar:
        await put(tested.store, key, key.encode())
    for key in similar:
        assert await content_of(tested.store, key) == key.encode()
    assert set(await keys_of(tested.store)) == set(similar)


@pytest.mark.parametrize("length_bytes", [1, 65_536, 3_000_001])
async def test_put_keeps_every_byte(tested: StoreUnderTest, length_bytes: int) -> None:
    content = os.urandom(length_bytes)
    await put(tested.store, "a/x", content)
    assert await content_of(tested.store, "a/x") == content


async def test_upload_written_in_chunks_is_one_original(tested: StoreUnderTest) -> None:
    chunks = [bytes([number]) * (number * 1000) for number in range(1, 20)]
    whole = b"".join(chunks)
    with tested.store.upload_file() as file:
        for chunk in chunks:
            file.write(chunk)
        assert file.length_bytes == len(whole)
        md5 = hashlib.md5(whole).hexdigest()
        await tested.store.put("a/x", file, media_type="image/jpeg", md5=md5, replaces=False)
    assert await content_of(tested.store, "a/x") == whole


async def test_unaccepted_upload_is_neither_listed_nor_served(tested: StoreUnderTest) -> None:
    await put(tested.store, "a/x", b"photograph")
    with tested.store.upload_file() as file:
        file.write(b"half a pho")
        assert await keys_of(tested.store) == ["a/x"]
        for key in (file.path.name, f".galerly/{file.path.name}", str(file.path).lstrip("/")):
            with pytest.raises(NoSuchOriginal):
                await tested.store.head(key)
            with pytest.raises(NoSuchOriginal):
                await tested.store.open(key)
    assert tested.unaccepted() == []


async def test_aborted_upload_leaves_nothing(tested: StoreUnderTest) -> None:
    abort_upload(tested.store)
    assert tested.unaccepted() == await keys_of(tested.store) == []


# -------------------------------------------------------------------------- repeated uploads, replaces


async def test_put_of_the_same_bytes_succeeds_and_changes_nothing(tested: StoreUnderTest) -> None:
    first, _ = await put(tested.store, "a/x", b"photograph")
    assert await put(tested.store, "a/x", b"photograph") == (first, False)
    assert await put(tested.other, "a/x", b"photograph") == (first, False)
    assert await tested.store.head("a/x", remembered=False) == first
    assert tested.unaccepted() == []


@pytest.mark.parametrize("other", [b"photographs", b"photograpj", b"p"])
async def test_put_of_other_bytes_is_refused(tested: StoreUnderTest, other: bytes) -> None:
    first, _ = await put(tested.store, "a/x", b"photograph")
    for store in (tested.store, tested.other):
        with pytest.raises(OriginalExists):
            await put(store, "a/x", other)
    assert await content_of(tested.store, "a/x") == b"photograph"
    assert await tested.store.head("a/x", remembered=False) == first
    assert tested.unaccepted() == []


@pytest.mark.parametrize("content", [b"after!", b"photograph", b"something longer than that"])
async def test_replace_is_visible_at_once_and_has_a_new_version(
    tested: StoreUnderTest, content: bytes
) -> None:
    first, _ = await put(tested.store, "a/x", b"before")
    second, created = await put(tested.store, "a/x", content, replaces=True)
    assert created
    assert second.version != first.version
    assert await tested.store.head("a/x") == second
    assert await content_of(tested.store, "a/x") == content
    assert await keys_of(tested.store) == ["a/x"]
    assert tested.unaccepted() == []


async def test_replace_of_a_missing_original_creates_it(tested: StoreUnderTest) -> None:
    _, created = await put(tested.store, "a/x", b"photograph", replaces=True)
    assert created
    assert await content_of(tested.store, "a/x") == b"photograph"


async def test_opened_original_keeps_its_bytes_when_it_is_replaced_or_deleted(tested: StoreUnderTest) -> None:
    await put(tested.store, "a/x", b"before")
    with await tested.store.open("a/x") as original:
        await put(tested.store, "a/x", b"and after", replaces=True)
        assert os.pread(original.fd, 100, 0) == b"before"
    with await tested.store.open("a/x") as original:
        await tested.store.delete("a/x")
        assert os.pread(original.fd, 100, 0) == b"and after"


# --------------------------------------------------------------------------------------------- delete


@pytest.mark.parametrize("key", KEYS)
async def test_deleted_original_is_gone_and_can_be_put_again(tested: StoreUnderTest, key: str) -> None:
    await put(tested.store, key, b"photograph")
    assert await tested.store.delete(key)
    with pytest.raises(NoSuchOriginal):
        await tested.store.head(key)
    assert await keys_of(tested.store) == []
    assert not await tested.store.delete(key)
    _, created = await put(tested.store, key, b"another")
    assert created
    assert await content_of(tested.store, key) == b"another"


@pytest.mark.parametrize("key", ["none", "a/none", "a", "b/below a photograph", "none/none", "a/x/y"])
async def test_delete_of_a_missing_key_deletes_nothing(tested: StoreUnderTest, key: str) -> None:
    await put(tested.store, "a/x", b"photograph")
    await put(tested.store, "b", b"photograph")
    assert not await tested.store.delete(key)
    assert await keys_of(tested.store) == ["a/x", "b"]


async def test_delete_unchanged_removes_only_the_version_that_is_named(tested: StoreUnderTest) -> None:
    before, _ = await put(tested.store, "a/x", b"before")
    after, _ = await put(tested.store, "a/x", b"after", replaces=True)
    assert not await tested.store.delete_unchanged("a/x", before.version)
    assert await content_of(tested.store, "a/x") == b"after"
    assert await tested.store.delete_unchanged("a/x", after.version)
    assert await keys_of(tested.store) == []


async def test_delete_keeps_other_originals(tested: StoreUnderTest) -> None:
    for key in ("a/x", "a/y", "a/z/1", "b"):
        await put(tested.store, key, key.encode())
    assert await tested.store.delete("a/x")
    assert await keys_of(tested.store) == ["a/y", "a/z/1", "b"]
    assert await tested.store.delete("a/z/1")
    assert await keys_of(tested.store) == ["a/y", "b"]


async def test_delete_of_the_last_original_frees_the_name_of_its_folder(tested: StoreUnderTest) -> None:
    """A key may then have the name of that folder, as in a store that has no folders."""
    await put(tested.store, "a/b/x", b"photograph")
    await tested.store.delete("a/b/x")
    await put(tested.store, "a", b"photograph")
    assert await keys_of(tested.store) == ["a"]


# ---------------------------------------------------------------------------------------- concurrency

WRITERS = 12


@pytest.mark.parametrize("tested", ATOMIC, indirect=True)
async def test_concurrent_creates_of_one_key_have_exactly_one_winner(tested: StoreUnderTest) -> None:
    for turn in range(10):
        contents = [f"{turn} {number}".encode() * 100 for number in range(WRITERS)]
        stores = [(tested.store, tested.other)[number % 2] for number in range(WRITERS)]
        outcomes = await asyncio.gather(
            *(put(store, f"a/{turn}", content) for store, content in zip(stores, contents, strict=True)),
            return_exceptions=True,
        )
        winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, tuple)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, OriginalExists)]
        assert (len(winners), len(losers)) == (1, WRITERS - 1)
        assert await content_of(tested.store, f"a/{turn}") == contents[winners[0]]
    assert tested.unaccepted() == []


@pytest.mark.parametrize("tested", ATOMIC, indirect=True)
async def test_concurrent_creates_of_the_same_bytes_all_succeed(tested: StoreUnderTest) -> None:
    outcomes = await asyncio.gather(
        *(put((tested.store, tested.other)[number % 2], "a/x", b"photograph") for number in range(WRITERS))
    )
    assert sum(created for _, created in outcomes) == 1
    assert tested.unaccepted() == []


async def test_concurrent_replaces_leave_one_complete_original(tested: StoreUnderTest) -> None:
    contents = [bytes([number]) * 100_000 for number in range(WRITERS)]
    await asyncio.gather(
        *(
            put((tested.store, tested.other)[number % 2], "a/x", content, replaces=True)
            for number, content in enumerate(contents)
        )
    )
    assert await content_of(tested.store, "a/x") in contents
    assert tested.unaccepted() == []


async def test_reader_during_replaces_gets_complete_originals(tested: StoreUnderTest) -> None:
    """Each version has one byte value: a read has one value, not older than the last acknowledged version."""
    acknowledged = 0
    await put(tested.store, "a/x", bytes([0]) * 50_000)
    done = asyncio.Event()

    async def replace() -> None:
        nonlocal acknowledged
        for number in range(1, 40):
            await put(tested.store, "a/x", bytes([number]) * (50_000 + number), replaces=True)
            acknowledged = number
        done.set()

    async def read() -> int:
        reads = 0
        while not done.is_set():
            at_least = acknowledged
            content = await content_of(tested.store, "a/x")
            assert len(set(content)) == 1
            assert content[0] >= at_least
            assert len(content) == 50_000 + content[0]
            reads += 1
            await asyncio.sleep(0)
        return reads

    reads, _ = await asyncio.gather(read(), replace())
    assert reads


async def test_folder_emptied_during_uploads_loses_no_original(tested: StoreUnderTest) -> None:
    """Each acknowledged original is there, although others in its folder are deleted meanwhile."""

    async def put_and_delete(store: WritableOriginals, name: str) -> None:
        for _ in range(25):
            await put(store, f"g/h/{name}", name.encode())
            assert await content_of(store, f"g/h/{name}") == name.encode()
            assert await store.delete(f"g/h/{name}")

    await asyncio.gather(
        *(put_and_delete((tested.store, tested.other)[number % 2], f"{number}") for number in range(4))
    )
    assert tested.unaccepted() == await keys_of(tested.store) == []


async def test_list_during_uploads_shows_only_accepted_originals(tested: StoreUnderTest) -> None:
    done = asyncio.Event()

    async def upload() -> None:
        for number in range(30):
            await put(tested.store, f"g/{number}", b"photograph")
            abort_upload(tested.store)
        done.set()

    async def list_all() -> None:
        while not done.is_set():
            async for one in tested.store.list():
                assert one.key.startswith("g/")
                assert one.length_bytes == 10
            await asyncio.sleep(0)

    await asyncio.gather(upload(), list_all())
    assert len(await keys_of(tested.store)) == 30


# ------------------------------------------------------------------------------------ similar keys

NFC = unicodedata.normalize("NFC", "gallery/caf\u00e9.jpg")
NFD = unicodedata.normalize("NFD", NFC)
assert NFC != NFD


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (NFC, NFD),
        (NFD, NFC),
        ("a/PHOTO.jpg", "a/photo.jpg"),
        ("a/%41", "a/A"),
        ("a/b c", "a/b+c"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a", "a" * 256),
        ("a", "é" * 128),
        ("a", "x" * 900),
    ],
)
async def test_key_similar_to_another_is_stored_exactly_or_refused(
    tested: StoreUnderTest, first: str, second: str
) -> None:
    await put(tested.store, first, b"first")
    try:
        await put(tested.store, second, b"second")
    except KeyNotHeld:
        with pytest.raises((NoSuchOriginal, StoreRefused)):
            await tested.store.head(second)
        assert await keys_of(tested.store) == [first]
    else:
        assert await content_of(tested.store, second) == b"second"
        assert await keys_of(tested.store) == sorted([first, second], key=str.encode)
    assert await content_of(tested.store, first) == b"first"


async def test_list_begins_after_any_key(tested: StoreUnderTest) -> None:
    keys = ["a/1", "a/2", "a/3", "b"]
    for key in keys:
        await put(tested.store, key, PHOTOGRAPH)
    for number, after in enumerate(["", *keys]):
        assert [one.key async for one in tested.store.list(after=after)] == keys[number:]
    assert [one.key async for one in tested.store.list("a/", "a/1")] == ["a/2", "a/3"]
    assert [one.key async for one in tested.store.list("a/", "a/25")] == ["a/3"]
    (last,) = [one async for one in tested.store.list("b")]
    assert last.length_bytes == len(PHOTOGRAPH)
    assert last.modified_s > 1.7e9
