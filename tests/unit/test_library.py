"""The archive: what is accepted, what it answers, and that a refusal leaves all as it was."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn import errors
from galerly_cdn.http.checksums import LENGTHS_BYTES
from galerly_cdn.library import Accepted, Deleted, Purged
from tests.support.folder_library import MAX_BYTES, PHOTOGRAPH, Scratch, scratch, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "g/a.jpg"


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Scratch]:
    async with scratch(tmp_path) as made:
        yield made


async def nothing_came_of_it(it: Scratch) -> None:
    assert await it.keys() == it.lies_about() == []
    assert [path.name for path in it.root.iterdir()] == [".galerly"]


# upload


async def test_an_upload_is_stored_as_it_is_and_told(it: Scratch) -> None:
    accepted = await it.upload(KEY)
    version = (await it.originals.head(KEY)).version
    assert accepted == Accepted(KEY, "created", version, len(PHOTOGRAPH), "jpeg", 60, 40)
    assert it.content(KEY) == PHOTOGRAPH
    assert it.lies_about() == []


@pytest.mark.parametrize(
    ("first", "content", "replaces", "outcome"),
    [
        (None, PHOTOGRAPH, False, "created"),
        (None, PHOTOGRAPH, True, "created"),
        (PHOTOGRAPH, PHOTOGRAPH, False, "unchanged"),
        (PHOTOGRAPH, PHOTOGRAPH, True, "replaced"),
        (PHOTOGRAPH, b"another", True, "replaced"),
    ],
)
async def test_its_outcome_has_a_word(
    it: Scratch, first: bytes | None, content: bytes, *, replaces: bool, outcome: str
) -> None:
    if first:
        await it.upload(KEY, first)
    accepted = await it.upload(KEY, content, replaces=replaces)
    assert accepted.outcome == outcome
    assert accepted.version == (await it.originals.head(KEY)).version
    assert accepted.length_bytes == len(content)
    assert it.content(KEY) == content


async def test_another_photograph_of_the_name_is_refused(it: Scratch) -> None:
    await it.upload(KEY)
    with pytest.raises(errors.OriginalExists):
        await it.upload(KEY, b"another")
    assert it.content(KEY) == PHOTOGRAPH
    assert it.lies_about() == []


async def test_of_uploads_of_one_key_at_once_one_is_created(it: Scratch) -> None:
    contents = [f"photograph {number}".encode() for number in range(8)]
    outcomes = await asyncio.gather(*(it.upload(KEY, one) for one in contents), return_exceptions=True)
    (created,) = [one for one in outcomes if isinstance(one, Accepted)]
    assert created.outcome == "created"
    assert sum(isinstance(one, errors.OriginalExists) for one in outcomes) == 7
    assert it.content(KEY) in contents


async def test_nothing_is_there_until_it_was_decoded(it: Scratch) -> None:
    it.decoder.gate.close()
    uploading = asyncio.create_task(it.upload(KEY))
    await it.decoder.gate.arrival()
    assert await it.keys() == []
    with pytest.raises(errors.NoSuchOriginal):
        await it.originals.head(KEY)
    it.decoder.gate.open()
    await uploading
    assert await it.keys() == [KEY]


async def test_the_smallest_picture_is_rendered_for_proof(it: Scratch) -> None:
    await it.upload(KEY)
    assert it.decoder.renders == 1
    assert it.decoder.tokens[0] == it.decoder.tokens[1]


async def test_a_decoder_sees_every_byte_and_can_change_none(it: Scratch) -> None:
    await it.upload(KEY)
    assert it.decoder.seen == PHOTOGRAPH
    assert not it.decoder.may_write


async def test_uploads_of_one_key_are_told_apart_by_the_workers(it: Scratch) -> None:
    """Or a photograph that ends workers would have its successor of the same name quarantined."""
    await it.upload(KEY)
    await it.upload(KEY, b"another", replaces=True)
    assert len(set(it.decoder.tokens)) == 2


UNACCEPTABLE = [
    errors.UnsupportedFormat,
    errors.Undecodable,
    errors.TooManyPixels,
    errors.TooManyFrames,
    errors.TooMuchMemory,
    errors.Quarantined,
    errors.QueueFull,
    errors.RenderTimeout,
    errors.WorkerDied,
    errors.Draining,
]


@pytest.mark.parametrize("at", ["header", "pixels"])
@pytest.mark.parametrize("error", UNACCEPTABLE)
async def test_what_cannot_be_rendered_is_refused_with_its_reason(
    it: Scratch, error: type[errors.GalerlyError], at: str
) -> None:
    if at == "header":
        it.decoder.unlike = error()
    else:
        it.decoder.error = error()
    with pytest.raises(error):
        await it.upload(KEY)
    await nothing_came_of_it(it)


async def test_what_cannot_be_rendered_replaces_nothing(it: Scratch) -> None:
    await it.upload(KEY)
    await it.store(KEY, "800x600")
    it.decoder.error = errors.Undecodable()
    with pytest.raises(errors.Undecodable):
        await it.upload(KEY, b"half", replaces=True)
    assert it.content(KEY) == PHOTOGRAPH
    assert await it.stored(KEY) == ["800x600"]
    assert it.lies_about() == []


@pytest.mark.parametrize("name", LENGTHS_BYTES)
async def test_a_right_checksum_is_accepted_and_a_wrong_one_refused(it: Scratch, name: str) -> None:
    right = hashlib.new(name, PHOTOGRAPH).digest()
    for wrong in (bytes([right[0] ^ 1]) + right[1:], right[:-1], b"", hashlib.new(name, b"other").digest()):
        with pytest.raises(errors.ChecksumMismatch) as caught:
            await it.archive.upload(KEY, stream([PHOTOGRAPH]), digests={name: wrong})
        assert name in caught.value.detail
        await nothing_came_of_it(it)
    accepted = await it.archive.upload(KEY, stream([PHOTOGRAPH]), digests={name: right})
    assert accepted.outcome == "created"


async def test_of_several_checksums_every_one_must_hold(it: Scratch) -> None:
    right = {name: hashlib.new(name, PHOTOGRAPH).digest() for name in LENGTHS_BYTES}
    for name in LENGTHS_BYTES:
        with pytest.raises(errors.ChecksumMismatch):
            await it.archive.upload(
                KEY, stream([PHOTOGRAPH]), digests=right | {name: bytes(len(right[name]))}
            )
    await nothing_came_of_it(it)
    await it.archive.upload(KEY, stream([PHOTOGRAPH]), digests=right)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100, 1000, 1001, 5000])
async def test_too_large_an_upload_is_broken_off_at_the_limit(it: Scratch, chunk_bytes: int) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += chunk_bytes
            yield bytes(chunk_bytes)

    with pytest.raises(errors.UploadTooLarge):
        await it.archive.upload(KEY, endless())
    assert sent <= MAX_BYTES + chunk_bytes
    assert it.decoder.tokens == []
    await nothing_came_of_it(it)


async def test_an_upload_as_large_as_may_be_is_accepted(it: Scratch) -> None:
    assert (await it.upload(KEY, bytes(MAX_BYTES))).length_bytes == MAX_BYTES
    with pytest.raises(errors.UploadTooLarge):
        await it.upload("g/b.jpg", bytes(MAX_BYTES + 1))


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b"", b""]])
async def test_an_empty_upload_is_refused(it: Scratch, chunks: list[bytes]) -> None:
    with pytest.raises(errors.EmptyUpload):
        await it.archive.upload(KEY, stream(chunks))
    await nothing_came_of_it(it)


async def test_an_upload_cut_off_leaves_nothing(it: Scratch) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield PHOTOGRAPH
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await it.archive.upload(KEY, cut())
    await nothing_came_of_it(it)


@pytest.mark.parametrize("at", ["receiving", "decoding"])
async def test_an_upload_cancelled_leaves_nothing(it: Scratch, at: str) -> None:
    waiting = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield PHOTOGRAPH
        if at == "receiving":
            waiting.set()
            await asyncio.Event().wait()

    it.decoder.gate.close()
    uploading = asyncio.create_task(it.archive.upload(KEY, stalled()))
    await (waiting.wait() if at == "receiving" else it.decoder.gate.arrival())
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    await nothing_came_of_it(it)


@pytest.mark.parametrize("key", ["", "a//b", "../a", "a/", "a\\b", "a\x00", "x" * 901])
async def test_a_malformed_key_is_refused_before_a_byte_is_read(it: Scratch, key: str) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    with pytest.raises(errors.MalformedKey):
        await it.archive.upload(key, unread())
    with pytest.raises(errors.MalformedKey):
        await it.archive.delete(key)
    with pytest.raises(errors.MalformedKey):
        await it.archive.inspect(key)
    await nothing_came_of_it(it)


@pytest.mark.parametrize("key", [".hidden/a.jpg", ".galerly/a.jpg", "g/" + "x" * 256])
async def test_a_key_the_store_cannot_hold_is_refused(it: Scratch, key: str) -> None:
    with pytest.raises(errors.KeyNotHeld):
        await it.upload(key)
    await nothing_came_of_it(it)


# replace, delete, purge


async def test_a_replace_removes_what_was_made_of_the_former(it: Scratch) -> None:
    await it.upload(KEY)
    await it.upload("g/b.jpg")
    await it.store(KEY, "150x150", "800x600.webp")
    await it.store("g/b.jpg", "150x150")
    await it.upload(KEY, b"another", replaces=True)
    assert await it.stored(KEY) == []
    assert await it.stored("g/b.jpg") == ["150x150"]
    assert set(it.forgotten) == {(KEY, str(target)) for target in it.recipes}


async def test_a_replace_holds_though_the_renditions_cannot_be_removed(
    it: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await it.upload(KEY)

    async def away(*_: object) -> bool:
        raise errors.StoreUnreachable

    monkeypatch.setattr(it.renditions, "delete", away)
    assert (await it.upload(KEY, b"another", replaces=True)).outcome == "replaced"
    assert it.content(KEY) == b"another"


async def test_an_upload_that_changes_nothing_removes_nothing(it: Scratch) -> None:
    await it.upload(KEY)
    await it.store(KEY, "800x600")
    await it.upload(KEY)
    assert await it.stored(KEY) == ["800x600"]
    assert it.forgotten == []


async def test_a_delete_removes_the_original_and_what_was_made_of_it(it: Scratch) -> None:
    await it.upload(KEY)
    await it.store(KEY, "400x400", "800x600.webp")
    assert await it.archive.delete(KEY) == Deleted(KEY, True, ("400x400", "800x600.webp"))
    assert await it.keys() == await it.stored(KEY) == []
    assert await it.archive.delete(KEY) == Deleted(KEY, False, ())


async def test_a_delete_removes_what_an_earlier_one_left(it: Scratch) -> None:
    await it.upload(KEY)
    await it.store(KEY, "400x400")
    await it.originals.delete(KEY)
    assert await it.archive.delete(KEY) == Deleted(KEY, False, ("400x400",))


async def test_a_purge_keeps_the_original_and_may_be_repeated(it: Scratch) -> None:
    await it.upload(KEY)
    await it.upload("g/b.jpg")
    every = [str(target) for target in it.recipes]
    await it.store(KEY, *every)
    await it.store("g/b.jpg", *every)
    assert await it.archive.purge(KEY) == Purged(KEY, tuple(sorted(every)))
    assert await it.archive.purge(KEY) == Purged(KEY, ())
    assert await it.stored(KEY) == []
    assert len(await it.stored("g/b.jpg")) == len(every)
    assert it.content(KEY) == PHOTOGRAPH


async def test_a_gallery_is_purged_and_no_other(it: Scratch) -> None:
    keys = ["g/a.jpg", "g/sub/b.jpg", "g2/a.jpg", "g.jpg", "a/g/c.jpg"]
    for key in keys:
        await it.upload(key)
        await it.store(key, "150x150")
    purged = [one async for one in it.archive.purge_gallery("g")]
    assert purged == [Purged("g/a.jpg", ("150x150",)), Purged("g/sub/b.jpg", ("150x150",))]
    assert [key for key in keys if await it.stored(key)] == ["g2/a.jpg", "g.jpg", "a/g/c.jpg"]


# list and inspect


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 100])
async def test_pages_follow_each_other_without_a_gap(it: Scratch, limit: int) -> None:
    keys = ["a/1", "a/2", "a-b", "b", "z/9/x", "é"]
    for key in keys:
        await it.upload(key)
    found: list[str] = []
    after = ""
    while True:
        page = await it.archive.list(after=after, limit=limit)
        found += [one.key for one in page.originals]
        if not page.next:
            break
        assert len(page.originals) == limit
        after = page.next
    assert found == sorted(keys, key=str.encode)


async def test_a_page_is_of_its_prefix(it: Scratch) -> None:
    for key in ("a/1", "a/2", "b/1"):
        await it.upload(key)
    page = await it.archive.list("a/", limit=2)
    assert [one.key for one in page.originals] == ["a/1", "a/2"]
    assert page.originals[0].length_bytes == len(PHOTOGRAPH)
    assert page.next == ""
    assert (await it.archive.list("none")).originals == ()


async def test_an_inspection_tells_the_current_from_the_stale(it: Scratch) -> None:
    accepted = await it.upload(KEY)
    await it.store(KEY, "150x150", "800x600.webp")
    await it.store(KEY, "400x400", version="an older one")
    await it.store(KEY, "2000x2000", recipe="another")
    inspection = await it.archive.inspect(KEY)
    assert inspection.version == accepted.version
    assert inspection.length_bytes == len(PHOTOGRAPH)
    assert inspection.facts.format == "jpeg"
    told = {one.target: one.is_current for one in inspection.renditions}
    assert told == {"150x150": True, "2000x2000": False, "400x400": False, "800x600.webp": True}
    assert inspection.renditions[0].lost == ("gps",)


async def test_nothing_is_said_of_an_original_that_is_not_there(it: Scratch) -> None:
    with pytest.raises(errors.NoSuchOriginal):
        await it.archive.inspect(KEY)


# caches beyond the edge


async def test_caches_beyond_are_told_after_the_renditions_are_gone(it: Scratch) -> None:
    """The other way round they would fetch the old ones again in between."""
    await it.upload(KEY)
    assert it.invalidated == []
    for change in (
        lambda: it.archive.purge(KEY),
        lambda: it.upload(KEY, b"another photograph", replaces=True),
        lambda: it.archive.delete(KEY),
        lambda: it.archive.purge(KEY),  # nothing was stored, but a cache may hold it
    ):
        if await it.keys():
            await it.store(KEY, "150x150", "800x600.webp")
        await change()
        assert it.invalidated.pop() == (KEY, [])
        assert it.invalidated == []


async def test_a_replace_that_caches_were_not_told_of_is_no_success(it: Scratch) -> None:
    await it.upload(KEY)
    it.unlike_cloudfront = errors.NotInvalidated("away")
    with pytest.raises(errors.NotInvalidated):
        await it.upload(KEY, b"another photograph", replaces=True)
    assert it.content(KEY) == b"another photograph"
