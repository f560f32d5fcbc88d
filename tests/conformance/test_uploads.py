"""What every store promises that takes uploads. A new store joins by an entry in `WORLDS`."""

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
TWINS = [("n/\u00e9.jpg", "n/e\u0301.jpg"), ("c/a.jpg", "c/A.jpg"), ("Ab/c", "aB/c")]
"""Different keys that a careless store takes for one."""


class World(Protocol):
    """A store that takes uploads, and what a second server on the same store has in hand."""

    store: WritableOriginals
    other: WritableOriginals

    def unaccepted(self) -> list[str]:
        """What lies about of uploads that were not accepted."""
        ...


class FolderWorld:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store: WritableOriginals = WritableFolderOriginals(root, checked_key, now=lambda: 0.0)
        self.other: WritableOriginals = WritableFolderOriginals(root, checked_key, now=lambda: 0.0)

    def unaccepted(self) -> list[str]:
        return [path.name for path in (self.root / ".galerly").iterdir()]


class RemoteWorld:
    """Two servers on one bucket; their spools are this machine's temporary files."""

    def __init__(self, objects: Objects) -> None:
        self.store: WritableOriginals = objects.originals()
        self.other: WritableOriginals = objects.originals()

    def unaccepted(self) -> list[str]:
        return [path.name for path in Path(tempfile.gettempdir()).iterdir()]


WORLDS = ["folder", *SERVERS]
ATOMIC = ["folder", VERSITYGW]
"""Those that decide between creates at once; moto looks, and then writes."""


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty one."""
    if request.param == "folder":
        return FolderWorld(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return RemoteWorld(request.getfixturevalue(request.param).bucket())


async def put(
    store: WritableOriginals, key: str, content: bytes, *, replaces: bool = False
) -> tuple[Head, bool]:
    md5 = hashlib.md5(content).hexdigest()
    with store.upload_file() as file:
        file.write(content)
        return await store.put(key, file, media_type="image/jpeg", md5=md5, replaces=replaces)


def break_off(store: WritableOriginals) -> None:
    """An upload whose sender goes away in the middle of it."""
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
async def test_what_is_put_is_there_under_exactly_its_key(world: World, key: str) -> None:
    head, made = await put(world.store, key, b"photograph")
    assert made
    assert await content_of(world.store, key) == await content_of(world.other, key) == b"photograph"
    assert await world.store.head(key, remembered=False) == head
    assert head.length_bytes == 10
    assert await keys_of(world.store) == [key]
    assert world.unaccepted() == []


@pytest.mark.parametrize("twins", TWINS)
async def test_keys_that_look_alike_are_two(world: World, twins: tuple[str, str]) -> None:
    for key in twins:
        await put(world.store, key, key.encode())
    for key in twins:
        assert await content_of(world.store, key) == key.encode()
    assert set(await keys_of(world.store)) == set(twins)


@pytest.mark.parametrize("length_bytes", [1, 65_536, 3_000_001])
async def test_every_byte_is_kept(world: World, length_bytes: int) -> None:
    content = os.urandom(length_bytes)
    await put(world.store, "a/x", content)
    assert await content_of(world.store, "a/x") == content


async def test_what_is_filled_in_pieces_is_one_upload(world: World) -> None:
    pieces = [bytes([number]) * (number * 1000) for number in range(1, 20)]
    whole = b"".join(pieces)
    with world.store.upload_file() as file:
        for piece in pieces:
            file.write(piece)
        assert file.length_bytes == len(whole)
        md5 = hashlib.md5(whole).hexdigest()
        await world.store.put("a/x", file, media_type="image/jpeg", md5=md5, replaces=False)
    assert await content_of(world.store, "a/x") == whole


async def test_an_upload_on_its_way_is_neither_listed_nor_served(world: World) -> None:
    await put(world.store, "a/x", b"photograph")
    with world.store.upload_file() as file:
        file.write(b"half a pho")
        assert await keys_of(world.store) == ["a/x"]
        for key in (file.path.name, f".galerly/{file.path.name}", str(file.path).lstrip("/")):
            with pytest.raises(NoSuchOriginal):
                await world.store.head(key)
            with pytest.raises(NoSuchOriginal):
                await world.store.open(key)
    assert world.unaccepted() == []


async def test_an_upload_broken_off_leaves_nothing(world: World) -> None:
    break_off(world.store)
    assert world.unaccepted() == await keys_of(world.store) == []


# ------------------------------------------------------------------------------- again, and over it


async def test_the_same_bytes_again_are_no_fault_and_change_nothing(world: World) -> None:
    first, _ = await put(world.store, "a/x", b"photograph")
    assert await put(world.store, "a/x", b"photograph") == (first, False)
    assert await put(world.other, "a/x", b"photograph") == (first, False)
    assert await world.store.head("a/x", remembered=False) == first
    assert world.unaccepted() == []


@pytest.mark.parametrize("other", [b"photographs", b"photograpj", b"p"])
async def test_other_bytes_of_the_same_name_are_refused(world: World, other: bytes) -> None:
    first, _ = await put(world.store, "a/x", b"photograph")
    for store in (world.store, world.other):
        with pytest.raises(OriginalExists):
            await put(store, "a/x", other)
    assert await content_of(world.store, "a/x") == b"photograph"
    assert await world.store.head("a/x", remembered=False) == first
    assert world.unaccepted() == []


@pytest.mark.parametrize("content", [b"after!", b"photograph", b"something longer than that"])
async def test_a_replace_is_seen_at_once_and_is_another_version(world: World, content: bytes) -> None:
    first, _ = await put(world.store, "a/x", b"before")
    second, made = await put(world.store, "a/x", content, replaces=True)
    assert made
    assert second.version != first.version
    assert await world.store.head("a/x") == second
    assert await content_of(world.store, "a/x") == content
    assert await keys_of(world.store) == ["a/x"]
    assert world.unaccepted() == []


async def test_a_replace_of_nothing_creates(world: World) -> None:
    _, made = await put(world.store, "a/x", b"photograph", replaces=True)
    assert made
    assert await content_of(world.store, "a/x") == b"photograph"


async def test_what_was_opened_stays_whole_when_it_is_replaced_or_deleted(world: World) -> None:
    await put(world.store, "a/x", b"before")
    with await world.store.open("a/x") as original:
        await put(world.store, "a/x", b"and after", replaces=True)
        assert os.pread(original.fd, 100, 0) == b"before"
    with await world.store.open("a/x") as original:
        await world.store.delete("a/x")
        assert os.pread(original.fd, 100, 0) == b"and after"


# --------------------------------------------------------------------------------------------- delete


@pytest.mark.parametrize("key", KEYS)
async def test_a_deleted_original_is_gone_and_may_come_again(world: World, key: str) -> None:
    await put(world.store, key, b"photograph")
    assert await world.store.delete(key)
    with pytest.raises(NoSuchOriginal):
        await world.store.head(key)
    assert await keys_of(world.store) == []
    assert not await world.store.delete(key)
    _, made = await put(world.store, key, b"another")
    assert made
    assert await content_of(world.store, key) == b"another"


@pytest.mark.parametrize("key", ["none", "a/none", "a", "b/below a photograph", "none/none", "a/x/y"])
async def test_deleting_what_is_not_there_deletes_nothing(world: World, key: str) -> None:
    await put(world.store, "a/x", b"photograph")
    await put(world.store, "b", b"photograph")
    assert not await world.store.delete(key)
    assert await keys_of(world.store) == ["a/x", "b"]


async def test_a_delete_leaves_the_neighbours(world: World) -> None:
    for key in ("a/x", "a/y", "a/z/1", "b"):
        await put(world.store, key, key.encode())
    assert await world.store.delete("a/x")
    assert await keys_of(world.store) == ["a/y", "a/z/1", "b"]
    assert await world.store.delete("a/z/1")
    assert await keys_of(world.store) == ["a/y", "b"]


async def test_the_last_original_of_a_gallery_takes_its_name_along(world: World) -> None:
    """A key may then be what was a gallery's, as in a store that knows no folders."""
    await put(world.store, "a/b/x", b"photograph")
    await world.store.delete("a/b/x")
    await put(world.store, "a", b"photograph")
    assert await keys_of(world.store) == ["a"]


# ---------------------------------------------------------------------------------------- all at once

CROWD = 12


@pytest.mark.parametrize("world", ATOMIC, indirect=True)
async def test_of_many_creates_of_one_key_exactly_one_wins(world: World) -> None:
    for turn in range(10):
        contents = [f"{turn} {number}".encode() * 100 for number in range(CROWD)]
        stores = [(world.store, world.other)[number % 2] for number in range(CROWD)]
        outcomes = await asyncio.gather(
            *(put(store, f"a/{turn}", content) for store, content in zip(stores, contents, strict=True)),
            return_exceptions=True,
        )
        winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, tuple)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, OriginalExists)]
        assert (len(winners), len(losers)) == (1, CROWD - 1)
        assert await content_of(world.store, f"a/{turn}") == contents[winners[0]]
    assert world.unaccepted() == []


@pytest.mark.parametrize("world", ATOMIC, indirect=True)
async def test_many_creates_of_the_same_bytes_are_one_original_and_no_fault(world: World) -> None:
    outcomes = await asyncio.gather(
        *(put((world.store, world.other)[number % 2], "a/x", b"photograph") for number in range(CROWD))
    )
    assert sum(made for _, made in outcomes) == 1
    assert world.unaccepted() == []


async def test_of_many_replaces_one_is_left_whole(world: World) -> None:
    contents = [bytes([number]) * 100_000 for number in range(CROWD)]
    await asyncio.gather(
        *(
            put((world.store, world.other)[number % 2], "a/x", content, replaces=True)
            for number, content in enumerate(contents)
        )
    )
    assert await content_of(world.store, "a/x") in contents
    assert world.unaccepted() == []


async def test_a_reader_sees_an_original_whole_whatever_happens_to_it(world: World) -> None:
    """One byte value a version: what is read is of one, and of none before the last acknowledged."""
    acknowledged = 0
    await put(world.store, "a/x", bytes([0]) * 50_000)
    done = asyncio.Event()

    async def replace() -> None:
        nonlocal acknowledged
        for number in range(1, 40):
            await put(world.store, "a/x", bytes([number]) * (50_000 + number), replaces=True)
            acknowledged = number
        done.set()

    async def read() -> int:
        reads = 0
        while not done.is_set():
            at_least = acknowledged
            content = await content_of(world.store, "a/x")
            assert len(set(content)) == 1
            assert content[0] >= at_least
            assert len(content) == 50_000 + content[0]
            reads += 1
            await asyncio.sleep(0)
        return reads

    reads, _ = await asyncio.gather(read(), replace())
    assert reads


async def test_a_gallery_emptied_under_an_upload_costs_nothing(world: World) -> None:
    """Every original that was acknowledged is there, whatever was deleted beside it meanwhile."""

    async def come_and_go(store: WritableOriginals, name: str) -> None:
        for _ in range(25):
            await put(store, f"g/h/{name}", name.encode())
            assert await content_of(store, f"g/h/{name}") == name.encode()
            assert await store.delete(f"g/h/{name}")

    await asyncio.gather(
        *(come_and_go((world.store, world.other)[number % 2], f"{number}") for number in range(4))
    )
    assert world.unaccepted() == await keys_of(world.store) == []


async def test_listing_while_uploads_come_and_go_shows_only_what_was_accepted(world: World) -> None:
    done = asyncio.Event()

    async def upload() -> None:
        for number in range(30):
            await put(world.store, f"g/{number}", b"photograph")
            break_off(world.store)
        done.set()

    async def look() -> None:
        while not done.is_set():
            async for one in world.store.list():
                assert one.key.startswith("g/")
                assert one.length_bytes == 10
            await asyncio.sleep(0)

    await asyncio.gather(upload(), look())
    assert len(await keys_of(world.store)) == 30


# ------------------------------------------------------------------------------- beside each other

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
async def test_a_key_beside_another_is_held_exactly_or_refused(world: World, first: str, second: str) -> None:
    await put(world.store, first, b"first")
    try:
        await put(world.store, second, b"second")
    except KeyNotHeld:
        with pytest.raises((NoSuchOriginal, StoreRefused)):
            await world.store.head(second)
        assert await keys_of(world.store) == [first]
    else:
        assert await content_of(world.store, second) == b"second"
        assert await keys_of(world.store) == sorted([first, second], key=str.encode)
    assert await content_of(world.store, first) == b"first"


async def test_a_listing_begins_after_any_key(world: World) -> None:
    keys = ["a/1", "a/2", "a/3", "b"]
    for key in keys:
        await put(world.store, key, PHOTOGRAPH)
    for number, after in enumerate(["", *keys]):
        assert [one.key async for one in world.store.list(after=after)] == keys[number:]
    assert [one.key async for one in world.store.list("a/", "a/1")] == ["a/2", "a/3"]
    assert [one.key async for one in world.store.list("a/", "a/25")] == ["a/3"]
    (last,) = [one async for one in world.store.list("b")]
    assert last.length_bytes == len(PHOTOGRAPH)
    assert last.modified_s > 1.7e9
