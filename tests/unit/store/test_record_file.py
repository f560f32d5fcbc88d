"""Tests the stored form of fact records, and their files in a folder of renditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.model import facts_key
from galerly_cdn.store.folder.renditions_index import BLOCK_BYTES, file_name, file_path
from galerly_cdn.store.record_file import DamagedRecord, decode_record, encode_record
from tests.support.fact_records import good, header_only, refused
from tests.support.rendition_folders import Counted, make_rendition, open_folder

if TYPE_CHECKING:
    from pathlib import Path

    from galerly_cdn.model import FactRecord

KEY = "gallery/a photo.jpg"
RECORDS = [good(KEY), header_only(KEY), refused(KEY)]


@given(key=st.text("aé/ \0\n\u2028", min_size=1), version=st.text(max_size=80))
def test_decode_is_the_inverse_of_encode(key: str, version: str) -> None:
    for record in (good(key, version), header_only(key, version), refused(key, version)):
        assert decode_record(encode_record(record), key) == record


@pytest.mark.parametrize("record", RECORDS, ids=["good", "header", "refused"])
def test_decode_detects_any_changed_bit_and_any_truncation(record: FactRecord) -> None:
    encoded = encode_record(record)
    for position in range(len(encoded)):
        for bit in range(8):
            changed = bytearray(encoded)
            changed[position] ^= 1 << bit
            with pytest.raises(DamagedRecord):
                decode_record(bytes(changed), KEY)
        with pytest.raises(DamagedRecord):
            decode_record(encoded[:position], KEY)


@given(st.binary(max_size=300))
def test_other_bytes_are_damaged(content: bytes) -> None:
    with pytest.raises(DamagedRecord):
        decode_record(content, KEY)


async def test_damaged_record_is_counted_and_deleted(tmp_path: Path) -> None:
    count = Counted()
    async with open_folder(tmp_path, count=count) as store:
        await store.put_facts(good(KEY))
        path = file_path(tmp_path, file_name(facts_key(KEY)))
        path.write_bytes(b"")  # as after a power failure: it is not fsynced
        assert await store.facts(KEY) is None
        assert (count.events, path.exists()) == (["facts-corrupt"], False)
        assert await store.facts(KEY) is None
        assert count.events == ["facts-corrupt"]


async def test_record_that_cannot_be_read_is_absent_and_stays(tmp_path: Path) -> None:
    count = Counted()
    async with open_folder(tmp_path, count=count) as store:
        await store.put_facts(good(KEY))
        path = file_path(tmp_path, file_name(facts_key(KEY)))
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")  # O_NOFOLLOW: ELOOP
        assert await store.facts(KEY) is None
        assert (count.events, path.is_symlink()) == (["facts-unreadable"], True)


async def test_records_count_for_the_limit_and_the_least_recently_used_are_evicted(tmp_path: Path) -> None:
    """Also after a restart, which reads the order of use from the files' times."""
    count = Counted()
    async with open_folder(tmp_path, 4 * BLOCK_BYTES, count) as store:
        await store.put(make_rendition("a"))
        for key in ("b", "c", "d"):
            await store.put_facts(good(key))
        assert store._index.used_bytes == 4 * BLOCK_BYTES
        assert await store.facts("b") is not None  # used: `c` is next after the rendition
        await store.put_facts(good("e"))
        await store.put_facts(good("f"))
        assert count.events == ["rendition-evicted"] * 2
    async with open_folder(tmp_path, 4 * BLOCK_BYTES) as store:
        assert store._index.used_bytes == 4 * BLOCK_BYTES
        assert len(store._index) == 4
        assert [key for key in "bcdef" if await store.facts(key)] == ["b", "d", "e", "f"]
