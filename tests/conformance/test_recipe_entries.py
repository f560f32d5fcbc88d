"""Tests the interface `RecipeEntries` on every store. Add a new store to `STORES`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import pytest

from galerly_cdn.model import Format, RecipeEntry, Size, Target
from galerly_cdn.serialization import to_json
from tests.support.rendition_folders import make_rendition, open_folder
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.store.interfaces import Renditions
    from tests.support.s3_servers import Objects


class StoreUnderTest(Protocol):
    """A store with a list, and a way to write an entry that is not ours."""

    store: Renditions

    def write(self, number: int, content: bytes) -> None: ...


class FolderUnderTest:
    def __init__(self, root: Path, store: Renditions) -> None:
        self.root = root
        self.store = store

    def write(self, number: int, content: bytes) -> None:
        path = self.root / "recipes" / f"{number:08d}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


class S3UnderTest:
    def __init__(self, bucket: Objects) -> None:
        self.bucket = bucket
        self.store: Renditions = bucket.renditions()

    def write(self, number: int, content: bytes) -> None:
        self.bucket.put(f"resized/recipes/{number:08d}.json", content)


STORES = [pytest.param("folder"), *SERVERS]


@pytest.fixture(params=STORES)
async def tested(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreUnderTest]:
    if request.param == "folder":
        async with open_folder(tmp_path / "resized") as store:
            yield FolderUnderTest(tmp_path / "resized", store)
    else:
        yield S3UnderTest(request.getfixturevalue(request.param).bucket())


def entry(number: int, digest: str = "d") -> RecipeEntry:
    return RecipeEntry(number, {"800x600.webp": digest}, "1.0", 1_700_000_000.5)


async def test_appended_entries_are_read_in_order(tested: StoreUnderTest) -> None:
    assert await tested.store.entries() == ()
    appended = tuple(entry(number, f"d{number}") for number in range(1, 10))
    for one in appended:
        assert await tested.store.append(one)
        assert await tested.store.entries(one.number) == ()
    for after in range(10):
        assert await tested.store.entries(after) == appended[after:]


async def test_entry_of_a_number_that_is_taken_is_not_stored(tested: StoreUnderTest) -> None:
    assert await tested.store.append(entry(1, "first"))
    assert not await tested.store.append(entry(1, "second"))
    assert await tested.store.entries() == (entry(1, "first"),)


async def test_one_of_concurrent_appends_takes_the_number(tested: StoreUnderTest) -> None:
    digests = [f"d{number}" for number in range(8)]
    taken = await asyncio.gather(*(tested.store.append(entry(1, digest)) for digest in digests))
    assert taken.count(True) == 1
    assert await tested.store.entries() == (entry(1, digests[taken.index(True)]),)


async def test_entries_after_a_gap_are_not_read(tested: StoreUnderTest) -> None:
    await tested.store.append(entry(1))
    await tested.store.append(entry(3))
    assert await tested.store.entries() == (entry(1),)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"number":1}', to_json(entry(2)), b'{"number":1,"recipes":{"a":1}}']
)
async def test_damaged_entry_names_no_recipes_and_hides_no_later_one(
    tested: StoreUnderTest, content: bytes
) -> None:
    tested.write(1, content)
    assert not await tested.store.append(entry(1))
    assert await tested.store.append(entry(2))
    assert await tested.store.entries() == (RecipeEntry(1, {}), entry(2))


async def test_entry_of_another_release_keeps_its_names(tested: StoreUnderTest) -> None:
    tested.write(1, b'{"number":1,"recipes":{"8x6.jxl":"d"},"colour":"red"}')
    assert await tested.store.entries() == (RecipeEntry(1, {"8x6.jxl": "d"}),)


async def test_targets_are_those_of_stored_renditions(tested: StoreUnderTest) -> None:
    assert await tested.store.targets() == frozenset()
    target = Target(Size(640, 480), Format.WEBP)
    await tested.store.append(RecipeEntry(1, {"640x480.webp": "d", "8x6.jxl": "d", "no target": "d"}))
    await tested.store.put(make_rendition("a b", target=target))
    targets = await tested.store.targets()
    assert target in targets
    assert targets <= {target, Target(target.size)}
