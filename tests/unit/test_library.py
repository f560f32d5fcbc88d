"""Tests of `StoreLibrary`: uploads, replacing, deleting, purging, listing and inspecting."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn import errors
from galerly_cdn.http.checksums import LENGTHS_BYTES
from galerly_cdn.library import Accepted, Deleted, Purged, Refused, StoreCatalog
from galerly_cdn.model import Format, RecipeEntry, Size, Target
from galerly_cdn.retries import RENDERERS_BUSY, Retries
from galerly_cdn.serialization import replaced
from galerly_cdn.store.folder.originals import head_of
from tests.support import s3_servers
from tests.support.folder_library import (
    MAX_BYTES,
    PHOTOGRAPH,
    REFRESHED,
    FolderLibrary,
    open_folder_library,
    stream,
)
from tests.support.in_memory_cdn import FACTS, MemoryRenditions
from tests.support.rendition_folders import make_rendition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.store.interfaces import Renditions

KEY = "g/a.jpg"


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[FolderLibrary]:
    async with open_folder_library(tmp_path) as opened:
        yield opened


async def assert_nothing_stored(library: FolderLibrary) -> None:
    assert await library.keys() == library.temp_files() == []
    assert [path.name for path in library.root.iterdir()] == [".galerly"]


# upload


async def test_upload_is_stored_unchanged_and_described(library: FolderLibrary) -> None:
    accepted = await library.upload(KEY)
    version = (await library.originals.head(KEY)).version
    assert accepted == Accepted(KEY, "created", version, len(PHOTOGRAPH), "jpeg", 60, 40, REFRESHED)
    assert library.content(KEY) == PHOTOGRAPH
    assert library.temp_files() == []


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
async def test_upload_returns_its_outcome(
    library: FolderLibrary, first: bytes | None, content: bytes, *, replaces: bool, outcome: str
) -> None:
    if first:
        await library.upload(KEY, first)
    accepted = await library.upload(KEY, content, replaces=replaces)
    assert accepted.outcome == outcome
    assert accepted.version == (await library.originals.head(KEY)).version
    assert accepted.length_bytes == len(content)
    assert library.content(KEY) == content


async def test_upload_of_other_bytes_under_existing_key_is_refused(library: FolderLibrary) -> None:
    await library.upload(KEY)
    with pytest.raises(errors.OriginalExists):
        await library.upload(KEY, b"another")
    assert library.content(KEY) == PHOTOGRAPH
    assert library.temp_files() == []


async def test_concurrent_uploads_of_one_key_create_one_original(library: FolderLibrary) -> None:
    contents = [f"photograph {number}".encode() for number in range(8)]
    outcomes = await asyncio.gather(*(library.upload(KEY, one) for one in contents), return_exceptions=True)
    (created,) = [one for one in outcomes if isinstance(one, Accepted)]
    assert created.outcome == "created"
    assert sum(isinstance(one, errors.OriginalExists) for one in outcomes) == 7
    assert library.content(KEY) in contents


async def test_upload_is_not_visible_before_it_is_decoded(library: FolderLibrary) -> None:
    library.renderer.gate.close()
    uploading = asyncio.create_task(library.upload(KEY))
    await library.renderer.gate.arrival()
    assert await library.keys() == []
    with pytest.raises(errors.NoSuchOriginal):
        await library.originals.head(KEY)
    library.renderer.gate.open()
    await uploading
    assert await library.keys() == [KEY]


async def test_upload_renders_one_picture_to_prove_that_it_decodes(library: FolderLibrary) -> None:
    await library.upload(KEY)
    assert library.renderer.renders == 1
    assert library.renderer.tokens[0] == library.renderer.tokens[1]


async def test_renderer_reads_whole_upload_and_cannot_write_it(library: FolderLibrary) -> None:
    await library.upload(KEY)
    assert library.renderer.inspected == PHOTOGRAPH
    assert not library.renderer.may_write


async def test_two_uploads_of_one_key_have_different_tokens(library: FolderLibrary) -> None:
    """Otherwise the quarantine of a photograph that crashes workers would hit its replacement too."""
    await library.upload(KEY)
    await library.upload(KEY, b"another", replaces=True)
    assert len(set(library.renderer.tokens)) == 2


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
async def test_upload_that_cannot_be_rendered_is_refused_with_the_reason(
    library: FolderLibrary, error: type[errors.GalerlyError], at: str
) -> None:
    if at == "header":
        library.renderer.inspect_error = error()
    else:
        library.renderer.error = error()
    with pytest.raises(error):
        await library.upload(KEY)
    await assert_nothing_stored(library)


async def test_replacing_upload_that_cannot_be_rendered_changes_nothing(library: FolderLibrary) -> None:
    await library.upload(KEY)
    await library.store_renditions(KEY, "800x600")
    library.renderer.error = errors.Undecodable()
    with pytest.raises(errors.Undecodable):
        await library.upload(KEY, b"half", replaces=True)
    assert library.content(KEY) == PHOTOGRAPH
    assert await library.stored_renditions(KEY) == ["800x600"]
    assert library.temp_files() == []


@pytest.mark.parametrize("name", LENGTHS_BYTES)
async def test_upload_with_right_checksum_is_accepted_and_with_wrong_one_refused(
    library: FolderLibrary, name: str
) -> None:
    right = hashlib.new(name, PHOTOGRAPH).digest()
    for wrong in (bytes([right[0] ^ 1]) + right[1:], right[:-1], b"", hashlib.new(name, b"other").digest()):
        with pytest.raises(errors.ChecksumMismatch) as caught:
            await library.store_library.upload(KEY, stream([PHOTOGRAPH]), digests={name: wrong})
        assert name in caught.value.detail
        await assert_nothing_stored(library)
    accepted = await library.store_library.upload(KEY, stream([PHOTOGRAPH]), digests={name: right})
    assert accepted.outcome == "created"


async def test_upload_with_one_wrong_checksum_of_several_is_refused(library: FolderLibrary) -> None:
    right = {name: hashlib.new(name, PHOTOGRAPH).digest() for name in LENGTHS_BYTES}
    for name in LENGTHS_BYTES:
        with pytest.raises(errors.ChecksumMismatch):
            await library.store_library.upload(
                KEY, stream([PHOTOGRAPH]), digests=right | {name: bytes(len(right[name]))}
            )
    await assert_nothing_stored(library)
    await library.store_library.upload(KEY, stream([PHOTOGRAPH]), digests=right)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100, 1000, 1001, 5000])
async def test_upload_over_the_limit_is_aborted_at_the_limit(
    library: FolderLibrary, chunk_bytes: int
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += chunk_bytes
            yield bytes(chunk_bytes)

    with pytest.raises(errors.UploadTooLarge):
        await library.store_library.upload(KEY, endless())
    assert sent <= MAX_BYTES + chunk_bytes
    assert library.renderer.tokens == []
    await assert_nothing_stored(library)


async def test_upload_of_the_largest_size_is_accepted(library: FolderLibrary) -> None:
    assert (await library.upload(KEY, bytes(MAX_BYTES))).length_bytes == MAX_BYTES
    with pytest.raises(errors.UploadTooLarge):
        await library.upload("g/b.jpg", bytes(MAX_BYTES + 1))


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b"", b""]])
async def test_empty_upload_is_refused(library: FolderLibrary, chunks: list[bytes]) -> None:
    with pytest.raises(errors.EmptyUpload):
        await library.store_library.upload(KEY, stream(chunks))
    await assert_nothing_stored(library)


async def test_upload_that_breaks_off_leaves_nothing(library: FolderLibrary) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield PHOTOGRAPH
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await library.store_library.upload(KEY, cut())
    await assert_nothing_stored(library)


@pytest.mark.parametrize("at", ["receiving", "decoding"])
async def test_cancelled_upload_leaves_nothing(library: FolderLibrary, at: str) -> None:
    waiting = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield PHOTOGRAPH
        if at == "receiving":
            waiting.set()
            await asyncio.Event().wait()

    library.renderer.gate.close()
    uploading = asyncio.create_task(library.store_library.upload(KEY, stalled()))
    await (waiting.wait() if at == "receiving" else library.renderer.gate.arrival())
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    await assert_nothing_stored(library)


@pytest.mark.parametrize("error", [errors.QueueFull(), errors.RenderTimeout()])
async def test_upload_waits_its_turn_while_the_workers_are_busy(
    library: FolderLibrary, error: errors.GalerlyError
) -> None:
    waits: list[float] = []

    async def wait(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 3:
            library.renderer.error = None

    library.store_library._turns = Retries(RENDERERS_BUSY, 60, lambda: 0.0, wait=wait)
    library.renderer.error = error
    assert (await library.upload(KEY)).outcome == "created"
    assert waits == [1, 2, 4]


@pytest.mark.parametrize("key", ["", "a//b", "../a", "a/", "a\\b", "a\x00", "x" * 901])
async def test_malformed_key_is_refused_before_the_body_is_read(library: FolderLibrary, key: str) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    with pytest.raises(errors.MalformedKey):
        await library.store_library.upload(key, unread())
    with pytest.raises(errors.MalformedKey):
        await library.store_library.delete(key)
    with pytest.raises(errors.MalformedKey):
        await library.store_library.inspect(key)
    await assert_nothing_stored(library)


@pytest.mark.parametrize("key", ["g/" + "x" * 256, "x" * 256 + "/a.jpg"])
async def test_key_that_the_store_cannot_hold_is_refused(library: FolderLibrary, key: str) -> None:
    with pytest.raises(errors.KeyNotHeld):
        await library.upload(key)
    await assert_nothing_stored(library)


# replace, delete, purge


async def test_replace_removes_the_renditions_of_the_old_original(library: FolderLibrary) -> None:
    await library.upload(KEY)
    await library.upload("g/b.jpg")
    await library.store_renditions(KEY, "150x150", "800x600.webp")
    await library.store_renditions("g/b.jpg", "150x150")
    await library.upload(KEY, b"another", replaces=True)
    assert await library.stored_renditions(KEY) == []
    assert await library.stored_renditions("g/b.jpg") == ["150x150"]
    assert set(library.forgotten) == {(KEY, str(target)) for target in library.recipes}


async def test_replace_succeeds_if_the_renditions_cannot_be_removed(
    library: FolderLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.upload(KEY)

    async def fail(*_: object) -> bool:
        raise errors.StoreUnreachable

    monkeypatch.setattr(library.renditions, "delete", fail)
    replaced = await library.upload(KEY, b"another", replaces=True)
    assert (replaced.outcome, replaced.refreshed) == ("replaced", REFRESHED)
    assert library.content(KEY) == b"another"


async def test_unchanged_upload_keeps_the_renditions(library: FolderLibrary) -> None:
    await library.upload(KEY)
    await library.store_renditions(KEY, "800x600")
    await library.upload(KEY)
    assert await library.stored_renditions(KEY) == ["800x600"]
    assert library.forgotten == []


async def test_delete_removes_the_original_and_its_renditions(library: FolderLibrary) -> None:
    await library.upload(KEY)
    await library.store_renditions(KEY, "400x400", "800x600.webp")
    assert await library.store_library.delete(KEY) == Deleted(
        KEY, True, ("400x400", "800x600.webp"), REFRESHED
    )
    assert await library.keys() == await library.stored_renditions(KEY) == []
    assert await library.store_library.delete(KEY) == Deleted(KEY, False, (), REFRESHED)


async def test_delete_of_missing_original_removes_leftover_renditions(library: FolderLibrary) -> None:
    await library.upload(KEY)
    await library.store_renditions(KEY, "400x400")
    await library.originals.delete(KEY)
    assert await library.store_library.delete(KEY) == Deleted(KEY, False, ("400x400",), REFRESHED)


async def test_purge_keeps_the_original_and_can_be_repeated(library: FolderLibrary) -> None:
    await library.upload(KEY)
    await library.upload("g/b.jpg")
    every = [str(target) for target in library.recipes]
    await library.store_renditions(KEY, *every)
    await library.store_renditions("g/b.jpg", *every)
    assert await library.store_library.purge(KEY) == Purged(KEY, tuple(sorted(every)), REFRESHED)
    assert await library.store_library.purge(KEY) == Purged(KEY, (), REFRESHED)
    assert await library.stored_renditions(KEY) == []
    assert len(await library.stored_renditions("g/b.jpg")) == len(every)
    assert library.content(KEY) == PHOTOGRAPH


async def test_purge_of_gallery_leaves_other_galleries(library: FolderLibrary) -> None:
    keys = ["g/a.jpg", "g/sub/b.jpg", "g2/a.jpg", "g.jpg", "a/g/c.jpg"]
    for key in keys:
        await library.upload(key)
        await library.store_renditions(key, "150x150")
    purged = [one async for one in library.store_library.purge_gallery("g")]
    assert purged == [Purged(key, ("150x150",), REFRESHED) for key in ("g/a.jpg", "g/sub/b.jpg")]
    assert [key for key in keys if await library.stored_renditions(key)] == ["g2/a.jpg", "g.jpg", "a/g/c.jpg"]
    assert library.invalidated == [("g/a.jpg", []), ("g/sub/b.jpg", [])]


async def test_purge_of_gallery_that_is_stopped_has_forgotten_and_invalidates_what_it_removed(
    library: FolderLibrary,
) -> None:
    for key in ("g/a.jpg", "g/b.jpg"):
        await library.upload(key)
        await library.store_renditions(key, "150x150")
    purging = library.store_library.purge_gallery("g")
    await anext(purging)
    assert set(library.forgotten) == {("g/a.jpg", str(target)) for target in library.recipes}
    await purging.aclose()
    assert library.invalidated == [("g/a.jpg", [])]


# list and inspect


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 100])
async def test_pages_of_a_listing_are_complete_and_in_order(library: FolderLibrary, limit: int) -> None:
    keys = ["a/1", "a/2", "a-b", "b", "z/9/x", "é"]
    for key in keys:
        await library.upload(key)
    found: list[str] = []
    after = ""
    while True:
        page = await library.store_library.list(after=after, limit=limit)
        found += [one.key for one in page.originals]
        if not page.next:
            break
        assert len(page.originals) == limit
        after = page.next
    assert found == sorted(keys, key=str.encode)


async def test_page_holds_only_keys_of_its_prefix(library: FolderLibrary) -> None:
    for key in ("a/1", "a/2", "b/1"):
        await library.upload(key)
    page = await library.store_library.list("a/", limit=2)
    assert [one.key for one in page.originals] == ["a/1", "a/2"]
    assert page.originals[0].length_bytes == len(PHOTOGRAPH)
    assert page.next == ""
    assert (await library.store_library.list("none")).originals == ()


async def test_inspection_marks_stale_renditions(library: FolderLibrary) -> None:
    accepted = await library.upload(KEY)
    await library.store_renditions(KEY, "150x150", "800x600.webp")
    await library.store_renditions(KEY, "400x400", version="an older one")
    await library.store_renditions(KEY, "2000x2000", recipe="another")
    inspection = await library.store_library.inspect(KEY)
    assert inspection.version == accepted.version
    assert inspection.length_bytes == len(PHOTOGRAPH)
    assert inspection.facts.format == "jpeg"
    is_current = {one.target: one.is_current for one in inspection.renditions}
    assert is_current == {"150x150": True, "2000x2000": False, "400x400": False, "800x600.webp": True}
    assert inspection.renditions[0].lost == ("gps",)


async def test_inspection_of_missing_original_raises(library: FolderLibrary) -> None:
    with pytest.raises(errors.NoSuchOriginal):
        await library.store_library.inspect(KEY)


@pytest.mark.parametrize(
    ("error", "verdict", "refused"),
    [
        (None, "good", None),
        (
            errors.Undecodable("VipsJpeg: premature end"),
            "refused",
            Refused("undecodable", errors.Undecodable.public),
        ),
        (errors.RenderTimeout(), "unknown", None),
        (errors.WorkerDied(), "unknown", None),
        (errors.QueueFull(), "unknown", None),
        (errors.Quarantined(), "unknown", None),
        (errors.TooMuchMemory(), "unknown", None),
    ],
    ids=lambda one: getattr(one, "code", None) or str(one),
)
async def test_inspection_decodes_the_pixels_and_says_the_verdict(
    library: FolderLibrary, error: errors.GalerlyError | None, verdict: str, refused: Refused | None
) -> None:
    put_original(library)
    library.renderer.error = error
    for _ in range(2):
        inspection = await library.store_library.inspect(KEY)
        assert (inspection.verdict, inspection.refused) == (verdict, refused)
        assert inspection.facts == FACTS
    await library.facts.drain()
    assert library.renderer.renders == (2 if verdict == "unknown" else 1)
    record = await library.renditions.facts(KEY)
    assert record is not None
    assert record.is_decided is (verdict != "unknown")
    library.renderer.error = None
    assert (await library.store_library.inspect(KEY)).verdict == ("good" if verdict == "unknown" else verdict)


async def test_inspection_of_an_original_over_a_limit_is_refused_without_decoding(
    library: FolderLibrary,
) -> None:
    put_original(library)
    library.renderer.header = replaced(FACTS, width_px=100_000, height_px=100_000)
    inspection = await library.store_library.inspect(KEY)
    assert inspection.verdict == "refused"
    assert inspection.refused == Refused("too-many-pixels", errors.TooManyPixels.public)
    assert library.renderer.renders == 0


@pytest.mark.parametrize("error", [errors.UnsupportedFormat("svg"), errors.Undecodable("cut")])
async def test_inspection_of_an_unreadable_header_raises_its_reason_and_reads_it_once(
    library: FolderLibrary, error: errors.Unrenderable
) -> None:
    put_original(library)
    library.renderer.inspect_error = error
    for _ in range(2):
        with pytest.raises(type(error)):
            await library.store_library.inspect(KEY)
    assert len(library.renderer.tokens) == 1


async def test_page_reads_a_header_once_and_learns_of_damage_from_a_later_render(
    library: FolderLibrary,
) -> None:
    version = put_original(library)
    for _ in range(2):
        record = await library.inspector.record(KEY)
        assert (record.facts, record.is_decided, record.version) == (FACTS, False, version)
    assert len(library.renderer.tokens) == 1
    library.renderer.error = errors.Undecodable()
    await library.store_library.inspect(KEY)
    record = await library.inspector.record(KEY)
    assert record.refusal is not None


async def test_upload_stores_the_record_of_its_version(library: FolderLibrary) -> None:
    for content, replaces in ((PHOTOGRAPH, False), (b"another", True)):
        accepted = await library.upload(KEY, content, replaces=replaces)
        await library.facts.drain()
        record = await library.renditions.facts(KEY)
        assert record is not None
        assert (record.version, record.is_good, record.facts) == (accepted.version, True, FACTS)
    renders = library.renderer.renders
    assert (await library.store_library.inspect(KEY)).verdict == "good"
    assert library.renderer.renders == renders


@pytest.mark.parametrize("operation", ["delete", "purge"])
async def test_record_is_removed_with_the_renditions(library: FolderLibrary, operation: str) -> None:
    for key in (KEY, "g/b.jpg"):
        await library.upload(key)
    await library.facts.drain()
    await getattr(library.store_library, operation)(KEY)
    assert await library.renditions.facts(KEY) is None
    assert await library.renditions.facts("g/b.jpg") is not None
    version = (await library.originals.head("g/b.jpg")).version
    assert library.facts.remembered("g/b.jpg", version) is not None
    await library.store_renditions("g/b.jpg", "150x150")
    catalog = StoreCatalog(
        originals=library.originals, renditions=library.renditions, targets=library.recipes
    )
    assert (await catalog.purge("g/b.jpg")).removed == ("150x150",)
    assert await library.renditions.facts("g/b.jpg") is None


def put_original(library: FolderLibrary) -> str:
    """Put an original without an upload, and return its version."""
    path = library.root / KEY
    path.parent.mkdir()
    path.write_bytes(PHOTOGRAPH)
    return head_of(path.stat()).version


# invalidation of caches in front of the CDN


async def test_invalidation_follows_the_removal_of_the_renditions(library: FolderLibrary) -> None:
    """In the other order, a cache could fetch an old rendition again in between."""
    await library.upload(KEY)
    assert library.invalidated == []
    for change in (
        lambda: library.store_library.purge(KEY),
        lambda: library.upload(KEY, b"another photograph", replaces=True),
        lambda: library.store_library.delete(KEY),
        lambda: library.store_library.purge(KEY),  # nothing was stored, but a cache may hold it
    ):
        if await library.keys():
            await library.store_renditions(KEY, "150x150", "800x600.webp")
        await change()
        assert library.invalidated.pop() == (KEY, [])
        assert library.invalidated == []


async def test_replace_that_is_not_invalidated_raises(library: FolderLibrary) -> None:
    await library.upload(KEY)
    library.invalidation_error = errors.NotInvalidated("away")
    with pytest.raises(errors.NotInvalidated):
        await library.upload(KEY, b"another photograph", replaces=True)
    assert library.content(KEY) == b"another photograph"


# targets that are no longer in the allow-list

FORMER = Target(Size(640, 480), Format.WEBP)


@pytest.mark.parametrize("store", ["folder", *s3_servers.SERVERS])
async def test_purge_removes_renditions_of_targets_that_are_no_longer_allowed(
    request: pytest.FixtureRequest, library: FolderLibrary, store: str
) -> None:
    renditions: Renditions = library.renditions
    if store != "folder":
        renditions = request.getfixturevalue(store).bucket().renditions()
    await renditions.append(RecipeEntry(1, {str(FORMER): "earlier"}))
    for key in (KEY, "g/b.jpg"):
        await renditions.put(make_rendition(key, target=FORMER))
    catalog = StoreCatalog(originals=library.originals, renditions=renditions, targets=library.recipes)
    assert (await catalog.purge(KEY)).removed == (str(FORMER),)
    assert (await catalog.delete("g/b.jpg")).removed == (str(FORMER),)
    assert await renditions.get(KEY, FORMER) is None


async def test_inspection_shows_renditions_of_targets_that_are_no_longer_allowed(
    library: FolderLibrary,
) -> None:
    await library.upload(KEY)
    await library.renditions.append(RecipeEntry(1, {str(FORMER): "earlier"}))
    await library.renditions.put(make_rendition(KEY, target=FORMER))
    shown = (await library.store_library.inspect(KEY)).renditions
    assert [(one.target, one.is_current) for one in shown] == [(str(FORMER), False)]


async def test_purges_of_many_keys_list_the_stored_targets_once_a_second(library: FolderLibrary) -> None:
    now_s, listings = 100.0, []

    class CountedRenditions(MemoryRenditions):
        async def targets(self) -> frozenset[Target]:
            listings.append(now_s)
            return await super().targets()

    catalog = StoreCatalog(
        originals=library.originals,
        renditions=CountedRenditions(),
        targets=library.recipes,
        clock=lambda: now_s,
    )
    for _ in range(5):
        now_s += 0.5
        for key in ("a", "b", "c"):
            await catalog.purge(key)
    assert listings == [100.5, 102.0]


# refreshing


async def test_changed_photograph_is_refreshed_after_its_renditions_are_removed(
    library: FolderLibrary,
) -> None:
    for content, replaces in ((PHOTOGRAPH, False), (PHOTOGRAPH, False), (b"another", True)):
        assert (await library.upload(KEY, content, replaces=replaces)).refreshed == REFRESHED
        await library.store_renditions(KEY, "400x400")
    await library.store_library.purge(KEY)
    await library.store_library.delete(KEY)
    assert library.refreshed == [(KEY, []), (KEY, ["400x400"]), *[(KEY, [])] * 3]
    assert len(library.invalidated) == 3


async def test_photograph_is_refreshed_if_it_cannot_be_invalidated(library: FolderLibrary) -> None:
    await library.upload(KEY)
    library.invalidation_error = errors.NotInvalidated("away")
    with pytest.raises(errors.NotInvalidated):
        await library.store_library.purge(KEY)
    assert library.refreshed == [(KEY, [])] * 2
