"""Conformance tests of `Library` and `Catalog`: over a store, and over the admin API of a running CDN."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.app.renderer import open_library
from galerly_cdn.app.stores import open_catalog
from galerly_cdn.client import Client
from galerly_cdn.errors import (
    ChecksumMismatch,
    EmptyUpload,
    KeyNotHeld,
    MalformedKey,
    NoSuchOriginal,
    OriginalExists,
    Undecodable,
    UnsupportedFormat,
    UploadTooLarge,
)
from galerly_cdn.library import Refused
from galerly_cdn.model import Format
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.cdn_process import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.library import Accepted, Catalog, Library

PHOTOGRAPH = pictures.jpeg(300, 200, gps=True)
ANOTHER = pictures.jpeg(310, 200)
SPECIAL_NAMES = ["first dance.jpg", "#?%+&.jpg", "%41.jpg", "é.jpg", "e\u0301.jpg", "\U0001f600/*;,=.jpg"]


@pytest.fixture(scope="module")
def cdn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("store")
    with running(folder) as address:
        yield folder, address


@pytest.fixture(params=["store", "client"])
async def library(request: pytest.FixtureRequest, cdn: tuple[Path, str]) -> AsyncIterator[Library]:
    folder, address = cdn
    if request.param == "client":
        async with Client(address) as client:
            yield client
    else:
        async with open_library(Settings(store=str(folder), workers=1)) as opened:
            yield opened


@pytest.fixture(params=["store", "client"])
async def catalog(request: pytest.FixtureRequest, cdn: tuple[Path, str]) -> AsyncIterator[Catalog]:
    folder, address = cdn
    if request.param == "client":
        async with Client(address) as client:
            yield client
    else:
        async with open_catalog(Settings(store=str(folder))) as opened:
            yield opened


@pytest.fixture
def gallery() -> str:
    """A gallery that no other test uses."""
    return uuid.uuid4().hex


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    step = len(content) // 20 + 1
    for first in range(0, len(content), step):
        yield content[first : first + step]


async def upload(
    library: Library, key: str, content: bytes = PHOTOGRAPH, *, replaces: bool = False
) -> Accepted:
    md5 = hashlib.md5(content).digest()
    return await library.upload(key, chunks(content), replaces=replaces, digests={"md5": md5})


async def test_upload_is_created_unchanged_refused_or_replaced(library: Library, gallery: str) -> None:
    key = f"{gallery}/a.jpg"
    created = await upload(library, key)
    assert (created.key, created.outcome, created.length_bytes) == (key, "created", len(PHOTOGRAPH))
    assert (created.format, created.width_px, created.height_px) == ("jpeg", 300, 200)
    again = await upload(library, key)
    assert (again.outcome, again.version) == ("unchanged", created.version)
    with pytest.raises(OriginalExists):
        await upload(library, key, ANOTHER)
    replaced = await upload(library, key, ANOTHER, replaces=True)
    assert (replaced.outcome, replaced.width_px) == ("replaced", 310)
    assert replaced.version != created.version
    assert (await library.inspect(key)).version == replaced.version


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyUpload),
        (b"no photograph", UnsupportedFormat),
        (pictures.truncated(PHOTOGRAPH), Undecodable),
        (bytes(Settings().max_original_bytes + 1), UploadTooLarge),
    ],
    ids=["empty", "text", "truncated", "long"],
)
async def test_refused_upload_leaves_nothing(
    library: Library, gallery: str, content: bytes, error: type[GalerlyError]
) -> None:
    with pytest.raises(error):
        await upload(library, f"{gallery}/a.jpg", content)
    assert (await library.list(f"{gallery}/")).originals == ()


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512"])
async def test_upload_with_a_flipped_bit_is_refused(library: Library, gallery: str, name: str) -> None:
    key = f"{gallery}/a.jpg"
    flipped = bytearray(PHOTOGRAPH)
    flipped[-10] ^= 1
    digests = {name: hashlib.new(name, PHOTOGRAPH).digest()}
    with pytest.raises(ChecksumMismatch):
        await library.upload(key, chunks(bytes(flipped)), digests=digests)
    assert (await library.list(f"{gallery}/")).originals == ()
    assert (await library.upload(key, chunks(PHOTOGRAPH), digests=digests)).outcome == "created"


async def test_key_with_special_characters_is_kept_exactly(library: Library, gallery: str) -> None:
    keys = sorted((f"{gallery}/{name}" for name in SPECIAL_NAMES), key=str.encode)
    for key in keys:
        await upload(library, key)
    assert [one.key for one in (await library.list(f"{gallery}/")).originals] == keys
    for key in keys:
        assert (await library.inspect(key)).key == key
        assert (await library.purge(key)).key == key
        assert (await library.delete(key)).existed


@pytest.mark.parametrize("key", ["", "/", "a//b", "../a", "a/.", "a\\b", "a\n", "a\udcff", "x" * 901])
async def test_malformed_key_is_refused_by_every_method(library: Library, key: str) -> None:
    for method in (library.delete, library.inspect, library.purge):
        with pytest.raises(MalformedKey):
            await method(key)
    with pytest.raises(MalformedKey):
        await upload(library, key)
    with pytest.raises(MalformedKey):
        _ = [one async for one in library.warm(key)]


async def test_key_that_the_store_cannot_hold_is_refused(library: Library, gallery: str) -> None:
    await upload(library, f"{gallery}/a")
    with pytest.raises(KeyNotHeld):
        await upload(library, f"{gallery}/a/b")


async def test_listing_is_divided_into_pages(library: Library, gallery: str) -> None:
    keys = [f"{gallery}/{number}.jpg" for number in range(5)]
    for key in keys:
        await upload(library, key)
    first = await library.list(f"{gallery}/", limit=2)
    assert ([one.key for one in first.originals], first.next) == (keys[:2], keys[1])
    second = await library.list(f"{gallery}/", first.next, limit=2)
    last = await library.list(f"{gallery}/", second.next, limit=2)
    assert ([one.key for one in last.originals], last.next) == (keys[4:], "")
    assert [one.length_bytes for one in last.originals] == [len(PHOTOGRAPH)]


async def test_warmed_renditions_are_listed_purged_and_deleted(library: Library, gallery: str) -> None:
    key = f"{gallery}/a.jpg"
    await upload(library, key)
    made = [one async for one in library.warm(key)]
    assert {str(one.target) for one in made} == set(map(str, Settings().warm_targets))
    assert len(made) == len(Settings().warm_targets)
    assert {one.target.format for one in made} == {None, Format.AVIF, Format.WEBP}
    assert not any(one.was_there for one in made)
    assert all([one.was_there async for one in library.warm(key)])
    stored = (await library.inspect(key)).renditions
    assert {one.target for one in stored} == {str(one.target) for one in made}
    assert all(one.is_current and "gps" in one.lost for one in stored)
    assert sorted((await library.purge(key)).removed) == sorted(one.target for one in stored)
    assert (await library.purge(key)).removed == ()
    assert len([one async for one in library.warm(key)]) == len(made)
    deleted = await library.delete(key)
    assert (deleted.existed, len(deleted.removed)) == (True, len(made))


async def test_catalog_lists_purges_and_deletes(
    catalog: Catalog, cdn: tuple[Path, str], gallery: str
) -> None:
    key = f"{gallery}/a.jpg"
    async with Client(cdn[1]) as client:
        await upload(client, key)
        targets = {str(one.target) async for one in client.warm(key)}
    page = await catalog.list(f"{gallery}/")
    assert ([one.key for one in page.originals], page.next) == ([key], "")
    assert set((await catalog.purge(key)).removed) == targets
    assert (await catalog.delete(key)).existed
    assert not (await catalog.delete(key)).existed
    assert (await catalog.list(f"{gallery}/")).originals == ()
    for method in (catalog.delete, catalog.purge):
        with pytest.raises(MalformedKey):
            await method("../a")


async def test_inspection_says_the_verdict_and_the_reason(
    library: Library, cdn: tuple[Path, str], gallery: str
) -> None:
    good, cut = f"{gallery}/a.jpg", f"{gallery}/cut.jpg"
    await upload(library, good)
    path = cdn[0] / "originals" / cut
    path.write_bytes(pictures.truncated(PHOTOGRAPH))
    inspection = await library.inspect(good)
    assert (inspection.verdict, inspection.refused) == ("good", None)
    for _ in range(2):
        inspection = await library.inspect(cut)
        assert (inspection.verdict, inspection.facts.width_px) == ("refused", 300)
        assert inspection.refused == Refused(Undecodable.code, Undecodable.public)
    with pytest.raises(Undecodable):
        _ = [one async for one in library.warm(cut)]
    path.write_bytes(PHOTOGRAPH)
    inspection = await library.inspect(cut)
    assert (inspection.verdict, inspection.refused) == ("good", None)


async def test_missing_original_raises_or_is_reported(library: Library, gallery: str) -> None:
    key = f"{gallery}/none.jpg"
    with pytest.raises(NoSuchOriginal):
        await library.inspect(key)
    with pytest.raises(NoSuchOriginal):
        _ = [one async for one in library.warm(key)]
    assert (await library.purge(key)).removed == ()
    assert not (await library.delete(key)).existed
