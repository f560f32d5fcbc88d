"""Tests the interface `Renditions` on every store. Add a new store to `STORES`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from galerly_cdn.errors import StoreRefused
from galerly_cdn.model import Format, Size, Target
from tests.support.rendition_folders import TARGET, file_of, make_rendition, open_folder
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from galerly_cdn.model import Record
    from galerly_cdn.store.interfaces import Renditions
    from tests.support.s3_servers import Objects


class StoreUnderTest(Protocol):
    """A store of renditions, and ways to damage what it holds."""

    store: Renditions

    def damage(self, key: str, change: Callable[[bytes], bytes]) -> None: ...

    def put_foreign(self, key: str) -> None: ...

    def can_hold(self, key: str) -> bool: ...


class FolderUnderTest:
    def __init__(self, root: Path, store: Renditions) -> None:
        self.root = root
        self.store = store

    def damage(self, key: str, change: Callable[[bytes], bytes]) -> None:
        path = file_of(self.root, key)
        path.write_bytes(change(path.read_bytes()))

    def put_foreign(self, key: str) -> None:
        path = file_of(self.root, key)
        path.parent.mkdir()
        path.write_bytes(b"some other file")

    def can_hold(self, key: str) -> bool:  # noqa: ARG002 - it can hold every key
        return True


class S3World:
    def __init__(self, bucket: Objects) -> None:
        self.bucket = bucket
        self.store: Renditions = bucket.renditions()

    def damage(self, key: str, change: Callable[[bytes], bytes]) -> None:
        self.bucket.damage(f"resized/{TARGET.rendition_key(key)}", change)

    def put_foreign(self, key: str) -> None:
        self.bucket.put(f"resized/{TARGET.rendition_key(key)}", b"some other object")

    def can_hold(self, key: str) -> bool:
        return self.bucket.server.holds(key)


STORES = [pytest.param("folder"), *SERVERS]


@pytest.fixture(params=STORES)
async def tested(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreUnderTest]:
    if request.param == "folder":
        async with open_folder(tmp_path) as store:
            yield FolderUnderTest(tmp_path, store)
    else:
        yield S3World(request.getfixturevalue(request.param).bucket())


@pytest.mark.parametrize("body", [b"", b"\0", b"the picture", bytes(range(256)) * 1000])
@pytest.mark.parametrize("key", ["a", "gallery/a photo.jpg", "日本/写真.jpg", "x" * 900])
async def test_get_returns_what_was_put(tested: StoreUnderTest, key: str, body: bytes) -> None:
    rendition = make_rendition(key, body)
    if tested.can_hold(key):
        await tested.store.put(rendition)
        assert await tested.store.get(key, TARGET) == rendition
    else:
        with pytest.raises(StoreRefused):
            await tested.store.put(rendition)
        assert await tested.store.get(key, TARGET) is None


async def test_get_of_a_missing_rendition_returns_none(tested: StoreUnderTest) -> None:
    assert await tested.store.get("a", TARGET) is None


async def test_record_returns_the_record_of_the_stored_rendition(tested: StoreUnderTest) -> None:
    assert await tested.store.record("a", TARGET) is None
    for rendition in (
        make_rendition("a", b"before"),
        make_rendition("a", b"after, and longer", version="v2"),
    ):
        await tested.store.put(rendition)
        assert await tested.store.record("a", TARGET) == rendition.record
    await tested.store.delete("a", TARGET)
    assert await tested.store.record("a", TARGET) is None


async def test_head_of_a_missing_rendition_returns_none(tested: StoreUnderTest) -> None:
    assert await tested.store.head("a", TARGET) is None
    await tested.store.put(make_rendition("a"))
    await tested.store.delete("a", TARGET)
    assert await tested.store.head("a", TARGET) is None


async def test_head_of_a_stored_rendition_returns_version_and_time(tested: StoreUnderTest) -> None:
    for version in ("v1", "v2"):
        before_s = time.time()
        await tested.store.put(make_rendition("a", version=version))
        found = await tested.store.head("a", TARGET)
        assert found is not None
        assert found.version == version
        assert before_s - 1.1 <= found.modified_s <= time.time() + 0.1  # S3 has whole seconds
        assert await tested.store.get("a", TARGET) is not None
        assert await tested.store.head("a", TARGET) == found


async def test_head_of_a_foreign_object_returns_an_empty_version(tested: StoreUnderTest) -> None:
    tested.put_foreign("a")
    for _ in range(2):  # head removes nothing
        found = await tested.store.head("a", TARGET)
        assert found is not None
        assert found.version == ""
    assert await tested.store.delete("a", TARGET)
    assert await tested.store.head("a", TARGET) is None


async def test_renditions_of_one_original_do_not_mix(tested: StoreUnderTest) -> None:
    targets = [Target(Size(width, 600), chosen) for width in (400, 800) for chosen in (None, *Format)]
    for target in targets:
        await tested.store.put(make_rendition("a", str(target).encode(), target))
    for target in targets:
        found = await tested.store.get("a", target)
        assert found is not None
        assert found.body == str(target).encode()


async def test_put_overwrites_a_rendition_of_another_version(tested: StoreUnderTest) -> None:
    await tested.store.put(make_rendition("a", b"before"))
    after = make_rendition("a", b"after, and longer", version="v2")
    assert await tested.store.put(after) == after
    assert await tested.store.get("a", TARGET) == after


async def test_put_of_a_second_rendition_returns_the_stored_one(tested: StoreUnderTest) -> None:
    await tested.store.put(make_rendition("a", b"one encoder's"))
    stored = await tested.store.put(make_rendition("a", b"another's"))
    assert await tested.store.get("a", TARGET) == stored


async def test_concurrent_puts_leave_one_complete_rendition(tested: StoreUnderTest) -> None:
    bodies = [bytes([number]) * 5000 for number in range(8)]
    await asyncio.gather(*(tested.store.put(make_rendition("a", body)) for body in bodies))
    found = await tested.store.get("a", TARGET)
    assert found is not None
    assert found.body in bodies


async def test_delete_returns_whether_there_was_one(tested: StoreUnderTest) -> None:
    await tested.store.put(make_rendition("a"))
    await tested.store.put(make_rendition("b"))
    assert await tested.store.delete("a", TARGET)
    assert not await tested.store.delete("a", TARGET)
    assert await tested.store.get("a", TARGET) is None
    assert await tested.store.get("b", TARGET) == make_rendition("b")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one byte short": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "emptied": lambda _content: b"",
    "one byte long": lambda content: content + b"\0",
    "zeros": lambda content: b"\0" * len(content),
    "last bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "first bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
async def test_damaged_rendition_is_a_miss_and_can_be_put_again(
    tested: StoreUnderTest, change: Callable[[bytes], bytes]
) -> None:
    await tested.store.put(make_rendition("a"))
    tested.damage("a", change)
    assert await tested.store.get("a", TARGET) is None
    await tested.store.put(make_rendition("a"))
    assert await tested.store.get("a", TARGET) == make_rendition("a")


async def test_put_keeps_what_the_predicate_keeps(tested: StoreUnderTest) -> None:
    stored = make_rendition("a", b"stored", version="v1")
    await tested.store.put(stored)
    seen = []

    def keeps(record: Record) -> bool:
        seen.append(record)
        return True

    assert await tested.store.put(make_rendition("a", b"new", version="v2"), keeps) == stored
    assert await tested.store.get("a", TARGET) == stored
    assert seen == [stored.record]


async def test_put_replaces_only_what_the_predicate_has_seen(tested: StoreUnderTest) -> None:
    await tested.store.put(make_rendition("a", b"", version="v0"))
    seen: list[str] = []

    def keeps(record: Record) -> bool:
        seen.append(record.version)
        return record.version == "v9"

    newest = make_rendition("a", b"newest", version="v9")
    others = [make_rendition("a", b"older", version=f"v{number}") for number in range(1, 5)]
    puts = [tested.store.put(one, keeps) for one in others]
    results = await asyncio.gather(*puts[:2], tested.store.put(newest, keeps), *puts[2:])
    assert results[2] == newest
    assert await tested.store.get("a", TARGET) == newest
