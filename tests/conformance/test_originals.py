"""What every store of originals promises. A new store joins by an entry in `WORLDS`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import pytest

from galerly_cdn.errors import NoSuchOriginal
from galerly_cdn.store.folder import FolderOriginals
from galerly_cdn.url import checked_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from galerly_cdn.store import Originals

KEYS = ["a/x", "a-b", "a/é", "a/z/1", "Ünïcode folder/ein Bild.jpg", "b", "a/y%41", "日本/写真.jpg"]


class World(Protocol):
    """A store of originals, and what the application around it does."""

    store: Originals

    def write(self, key: str, content: bytes) -> None: ...

    def remove(self, key: str) -> None: ...


class FolderWorld:
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


WORLDS: dict[str, Callable[[Path], World]] = {"folder": FolderWorld}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return WORLDS[request.param](tmp_path)


async def _bytes(store: Originals, key: str) -> bytes:
    with await store.open(key) as original:
        content = os.pread(original.fd, 1 << 20, 0)
        assert len(content) == original.head.length_bytes
        return content


@pytest.mark.parametrize("key", KEYS)
async def test_an_original_is_found_by_its_key(world: World, key: str) -> None:
    world.write(key, b"photograph")
    head = await world.store.head(key)
    assert head.length_bytes == 10
    assert await _bytes(world.store, key) == b"photograph"
    with await world.store.open(key) as original:
        assert original.head == head


@pytest.mark.parametrize("key", ["none", "a/none", "a", "b/below a photograph", "none/none", "a/x/y"])
async def test_what_is_not_there_is_no_original(world: World, key: str) -> None:
    world.write("a/x", b"photograph")
    world.write("b", b"photograph")
    with pytest.raises(NoSuchOriginal):
        await world.store.head(key)
    with pytest.raises(NoSuchOriginal):
        await world.store.open(key)


async def test_a_version_lasts_as_long_as_the_original(world: World) -> None:
    world.write("a/x", b"photograph")
    first = await world.store.head("a/x")
    world.write("a/neighbour", b"another")
    assert await world.store.head("a/x") == first


async def test_a_replaced_original_has_a_new_version_even_if_its_length_is_the_same(world: World) -> None:
    world.write("a/x", b"before")
    before = await world.store.head("a/x")
    world.write("a/x", b"after!")
    after = await world.store.head("a/x")
    assert after.version != before.version
    assert await _bytes(world.store, "a/x") == b"after!"


async def test_a_deleted_original_is_gone_at_once(world: World) -> None:
    world.write("a/x", b"photograph")
    await world.store.head("a/x")
    world.remove("a/x")
    with pytest.raises(NoSuchOriginal):
        await world.store.head("a/x")


async def test_an_original_that_appears_is_found_at_once(world: World) -> None:
    world.write("a/x", b"photograph")
    for number in range(20):
        with pytest.raises(NoSuchOriginal):
            await world.store.head(f"a/{number}")
        world.write(f"a/{number}", b"photograph")
        assert (await world.store.head(f"a/{number}")).length_bytes == 10


async def test_what_was_opened_stays_whole_when_it_is_replaced(world: World) -> None:
    world.write("a/x", b"before")
    with await world.store.open("a/x") as original:
        world.write("a/x", b"and after")
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
async def test_keys_are_listed_in_the_order_of_their_bytes(
    world: World, prefix: str, expected: list[str]
) -> None:
    for key in KEYS:
        world.write(key, b"photograph")
    assert [one.key async for one in world.store.list(prefix)] == expected
