"""Tests the interface `FactRecords` on every store. Add a new store to `STORES`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Protocol

import pytest

from galerly_cdn.errors import StoreRefused
from galerly_cdn.model import FactRecord, facts_key
from galerly_cdn.store import record_file
from galerly_cdn.store.folder.renditions_index import file_name, file_path
from tests.support.fact_records import FACTS, good, header_only, refused
from tests.support.rendition_folders import TARGET, make_rendition, open_folder
from tests.support.s3_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from galerly_cdn.store.interfaces import Renditions
    from tests.support.s3_servers import Objects


class StoreUnderTest(Protocol):
    """A store of records, and ways to change what it holds."""

    store: Renditions

    def change(self, key: str, change: Callable[[bytes], bytes]) -> None: ...

    def put_foreign(self, key: str, content: bytes) -> None: ...

    def can_hold(self, key: str) -> bool: ...


class FolderUnderTest:
    def __init__(self, root: Path, store: Renditions) -> None:
        self.root = root
        self.store = store

    def change(self, key: str, change: Callable[[bytes], bytes]) -> None:
        path = self._path(key)
        path.write_bytes(change(path.read_bytes()))

    def put_foreign(self, key: str, content: bytes) -> None:
        self._path(key).parent.mkdir(exist_ok=True)
        self._path(key).write_bytes(content)

    def can_hold(self, key: str) -> bool:  # noqa: ARG002 - it can hold every key
        return True

    def _path(self, key: str) -> Path:
        return file_path(self.root, file_name(facts_key(key)))


class S3UnderTest:
    def __init__(self, bucket: Objects) -> None:
        self.bucket = bucket
        self.store: Renditions = bucket.renditions()

    def change(self, key: str, change: Callable[[bytes], bytes]) -> None:
        self.bucket.damage(f"resized/{facts_key(key)}", change)

    def put_foreign(self, key: str, content: bytes) -> None:
        self.bucket.put(f"resized/{facts_key(key)}", content)

    def can_hold(self, key: str) -> bool:
        return self.bucket.server.holds(key)


STORES = [pytest.param("folder"), *SERVERS]


@pytest.fixture(params=STORES)
async def tested(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreUnderTest]:
    if request.param == "folder":
        async with open_folder(tmp_path) as store:
            yield FolderUnderTest(tmp_path, store)
    else:
        yield S3UnderTest(request.getfixturevalue(request.param).bucket())


@pytest.mark.parametrize("make", [good, header_only, refused])
@pytest.mark.parametrize("key", ["a", "gallery/a photo.jpg", "日本/写真.jpg", "facts/a", "x" * 900])
async def test_record_is_returned_as_it_was_put(
    tested: StoreUnderTest, key: str, make: Callable[[str], FactRecord]
) -> None:
    assert await tested.store.facts(key) is None
    if tested.can_hold(key):
        await tested.store.put_facts(make(key))
        assert await tested.store.facts(key) == make(key)
    else:
        with pytest.raises(StoreRefused):
            await tested.store.put_facts(make(key))
        assert await tested.store.facts(key) is None


async def test_record_put_later_replaces_the_earlier_one(tested: StoreUnderTest) -> None:
    for record in (good("a"), refused("a", "v2"), header_only("a", "v3", "r2"), good("a", "v3", "r2")):
        await tested.store.put_facts(record)
        assert await tested.store.facts("a") == record


async def test_records_do_not_mix_with_those_of_others_nor_with_renditions(tested: StoreUnderTest) -> None:
    rendition = make_rendition("a")
    await tested.store.put(rendition)
    assert await tested.store.facts("a") is None
    for key in ("a", "b", "800x600.webp/a"):
        await tested.store.put_facts(good(key))
    for key in ("a", "b", "800x600.webp/a"):
        assert await tested.store.facts(key) == good(key)
    assert await tested.store.get("a", TARGET) == rendition
    await tested.store.delete("a", TARGET)
    assert await tested.store.facts("a") == good("a")


async def test_deleted_record_is_gone_and_others_stay(tested: StoreUnderTest) -> None:
    await tested.store.put_facts(good("a"))
    await tested.store.put_facts(good("b"))
    for _ in range(2):  # deleting what is not there is no error
        await tested.store.delete_facts("a")
        assert await tested.store.facts("a") is None
    assert await tested.store.facts("b") == good("b")
    await tested.store.put_facts(good("a", "v2"))
    assert await tested.store.facts("a") == good("a", "v2")


async def test_concurrent_puts_leave_one_complete_record(tested: StoreUnderTest) -> None:
    records = [good("a", f"v{number}") for number in range(8)]
    await asyncio.gather(*map(tested.store.put_facts, records))
    assert await tested.store.facts("a") in records


def of_another_form(content: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    """A record with a valid checksum whose JSON another release would write."""
    fields = json.loads(content.partition(b"\n")[2])
    change(fields)
    text = json.dumps(fields).encode()
    return record_file._first_line(text) + text


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "one byte short": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "emptied": lambda _content: b"",
    "one byte long": lambda content: content + b"\0",
    "zeros": lambda content: b"\0" * len(content),
    "last bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "first bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "another width, which is valid JSON": lambda content: content.replace(b"6000", b"9000"),
    "another verdict, which is valid JSON": lambda content: content.replace(b"true", b"null"),
    "only JSON": lambda content: content.partition(b"\n")[2],
    "a record of another key": lambda _content: record_file.encode_record(good("b")),
    "without a field": lambda content: of_another_form(content, lambda fields: fields.pop("version")),
    "without a fact": lambda content: of_another_form(content, drop_width),
    "with an unknown field": lambda content: of_another_form(content, lambda fields: fields.update(date=1)),
    "of another type": lambda content: of_another_form(content, lambda fields: fields.update(facts=[1])),
    "a rendition": lambda _content: b"galerly-rendition 1 00000000 " + b"0" * 32 + b"\n",
    "a bomb of brackets": lambda _content: b"[" * 100_000,
}


def drop_width(fields: dict[str, object]) -> None:
    facts = fields["facts"]
    assert isinstance(facts, dict)
    del facts["width_px"]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_changed_record_is_absent_and_can_be_put_again(
    tested: StoreUnderTest, change: Callable[[bytes], bytes]
) -> None:
    await tested.store.put_facts(good("a"))
    tested.change("a", change)
    assert await tested.store.facts("a") is None
    await tested.store.put_facts(good("a"))
    assert await tested.store.facts("a") == good("a")


async def test_foreign_object_is_absent_and_is_overwritten(tested: StoreUnderTest) -> None:
    tested.put_foreign("a", b"some other object")
    assert await tested.store.facts("a") is None
    await tested.store.put_facts(refused("a", facts=FACTS))
    assert await tested.store.facts("a") == refused("a", facts=FACTS)
