"""What every store promises that takes uploads. A new store joins by an entry in `WORLDS`.

Of keys that a store may be unable to hold exactly it promises one of two things: to hold them exactly, or to
say so and leave all as it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import unicodedata
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import KeyNotHeld, NoSuchOriginal, OriginalExists, StoreRefused
from tests.s3 import SERVERS, VERSITYGW

if TYPE_CHECKING:
    from galerly_cdn.model import Head
    from galerly_cdn.store import WritableOriginals

PHOTOGRAPH = b"not a photograph: no store looks inside"
KEYS = [
    "a",
    "gallery/photo.jpg",
    "gallery/deeper/and/deeper/photo.jpg",
    "Ünïcode folder/ein Bild.jpg",
    "日本/写真.jpg",
    "emoji 😀/🏔️.jpg",
    "trailing space /photo ",
    ".hidden/.photo",
    "..a/b../...",
    "percent%41/100%/%2F/%",
    "a#b?c+d&e=f;g:h@i,j$k!l'm(n)*o",
    'quotes "and" <angles> {braces} [brackets] |pipe| ^caret^ `tick` ~tilde~',
    "zero\u200bwidth \u202eright to left\u00a0no break",
    "/".join(["y" * 224] * 4),
]
WORLDS = [*SERVERS]
ATOMIC = [VERSITYGW]
"""Those that decide between creates at once; moto looks, and then writes."""


@pytest.fixture(params=WORLDS)
def store(request: pytest.FixtureRequest) -> WritableOriginals:
    """An empty one."""
    made: WritableOriginals = request.getfixturevalue(request.param).bucket().originals()
    return made


async def put(
    store: WritableOriginals, key: str, content: bytes = PHOTOGRAPH, *, replaces: bool = False
) -> tuple[Head, bool]:
    with store.spool() as spool:
        for begin in range(0, len(content), 1 << 20):
            spool.write(content[begin : begin + (1 << 20)])
        md5 = hashlib.md5(content).hexdigest()
        return await store.put(key, spool, media_type="image/jpeg", md5=md5, replaces=replaces)


async def content_of(store: WritableOriginals, key: str) -> bytes:
    with await store.open(key) as original:
        return os.pread(original.fd, original.head.length_bytes + 1, 0)


async def listed(store: WritableOriginals) -> list[str]:
    return [one.key async for one in store.list()]


@pytest.mark.parametrize("key", KEYS)
async def test_what_is_put_is_found_by_exactly_its_key(store: WritableOriginals, key: str) -> None:
    head, is_new = await put(store, key)
    assert is_new
    assert head == await store.head(key)
    assert head.length_bytes == len(PHOTOGRAPH)
    assert await content_of(store, key) == PHOTOGRAPH
    assert await listed(store) == [key]
    assert await store.delete(key)
    assert await listed(store) == []


async def test_a_large_original_is_put_whole(store: WritableOriginals) -> None:
    content = os.urandom(1 << 20) * 20 + b"end"
    await put(store, "a", content)
    assert await content_of(store, "a") == content


async def test_the_same_bytes_again_are_no_fault_and_no_other_version(store: WritableOriginals) -> None:
    first, _ = await put(store, "a")
    assert await put(store, "a") == (first, False)


async def test_other_bytes_are_refused_unless_they_replace(store: WritableOriginals) -> None:
    before, _ = await put(store, "a", b"before")
    with pytest.raises(OriginalExists):
        await put(store, "a", b"other!")
    assert await store.head("a") == before
    assert await content_of(store, "a") == b"before"
    after, is_new = await put(store, "a", b"after!", replaces=True)
    assert is_new
    assert after.version != before.version
    assert await store.head("a") == after
    assert await content_of(store, "a") == b"after!"


async def test_what_replaces_need_not_replace_anything(store: WritableOriginals) -> None:
    head, is_new = await put(store, "a", replaces=True)
    assert is_new
    assert await store.head("a") == head


@pytest.mark.parametrize("store", ATOMIC, indirect=True)
async def test_of_different_uploads_at_once_one_is_created(store: WritableOriginals) -> None:
    contents = [b"upload %d" % number for number in range(8)]
    outcomes = await asyncio.gather(
        *(put(store, "a", content) for content in contents), return_exceptions=True
    )
    created = [one for one in outcomes if not isinstance(one, OriginalExists)]
    assert [is_new for _, is_new in created] == [True]  # type: ignore[misc]
    assert await content_of(store, "a") in contents


@pytest.mark.parametrize("store", ATOMIC, indirect=True)
async def test_the_same_upload_many_times_at_once_is_one(store: WritableOriginals) -> None:
    outcomes = await asyncio.gather(*(put(store, "a") for _ in range(8)))
    assert len({head for head, _ in outcomes}) == 1
    assert [is_new for _, is_new in outcomes].count(True) == 1


async def test_of_replaces_at_once_one_is_there_whole(store: WritableOriginals) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(put(store, "a", content, replaces=True) for content in contents))
    assert await content_of(store, "a") in contents


async def test_what_was_spooled_and_never_put_is_nowhere(store: WritableOriginals) -> None:
    with store.spool() as spool:
        spool.write(PHOTOGRAPH)
        assert await listed(store) == []
    assert not spool.path.exists()
    assert await listed(store) == []


async def test_delete_says_whether_there_was_one(store: WritableOriginals) -> None:
    await put(store, "gallery/a")
    await put(store, "gallery/b")
    assert await store.delete("gallery/a")
    assert not await store.delete("gallery/a")
    with pytest.raises(NoSuchOriginal):
        await store.head("gallery/a")
    assert await listed(store) == ["gallery/b"]


async def test_what_was_deleted_may_be_created_again(store: WritableOriginals) -> None:
    await put(store, "gallery/a", b"before")
    await store.delete("gallery/a")
    _, is_new = await put(store, "gallery/a", b"after")
    assert is_new
    assert await content_of(store, "gallery/a") == b"after"


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
async def test_a_key_beside_another_is_held_exactly_or_refused(
    store: WritableOriginals, first: str, second: str
) -> None:
    await put(store, first, b"first")
    try:
        await put(store, second, b"second")
    except KeyNotHeld:
        with pytest.raises((NoSuchOriginal, StoreRefused)):
            await store.head(second)
        assert await listed(store) == [first]
    else:
        assert await content_of(store, second) == b"second"
        assert await listed(store) == sorted([first, second], key=str.encode)
    assert await content_of(store, first) == b"first"


async def test_a_listing_begins_after_any_key(store: WritableOriginals) -> None:
    keys = ["a/1", "a/2", "a/3", "b"]
    for key in keys:
        await put(store, key)
    for number, after in enumerate(["", *keys]):
        assert [one.key async for one in store.list(after=after)] == keys[number:]
    assert [one.key async for one in store.list("a/", "a/1")] == ["a/2", "a/3"]
    assert [one.key async for one in store.list("a/", "a/25")] == ["a/3"]
    (last,) = [one async for one in store.list("b")]
    assert last.length_bytes == len(PHOTOGRAPH)
    assert last.modified_s > 1.7e9
