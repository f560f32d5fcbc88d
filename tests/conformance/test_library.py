"""What whoever keeps originals promises: the archive of a store, and a running CDN's by its admin side."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.app.renderer import open_library
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
from galerly_cdn.model import Format
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.cdn_process import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.library import Accepted, Library

PHOTOGRAPH = pictures.jpeg(300, 200, gps=True)
ANOTHER = pictures.jpeg(310, 200)
STRANGE = ["first dance.jpg", "#?%+&.jpg", "%41.jpg", "é.jpg", "e\u0301.jpg", "\U0001f600/*;,=.jpg"]


@pytest.fixture(scope="module")
def cdn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("store")
    with running(folder) as address:
        yield folder, address


@pytest.fixture(params=["archive", "client"])
async def keeper(request: pytest.FixtureRequest, cdn: tuple[Path, str]) -> AsyncIterator[Library]:
    folder, address = cdn
    if request.param == "client":
        async with Client(address) as client:
            yield client
    else:
        async with open_library(Settings(store=str(folder), workers=1)) as archive:
            yield archive


@pytest.fixture
def gallery() -> str:
    """One that no other test uses."""
    return uuid.uuid4().hex


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    step = len(content) // 20 + 1
    for first in range(0, len(content), step):
        yield content[first : first + step]


async def upload(
    keeper: Library, key: str, content: bytes = PHOTOGRAPH, *, replaces: bool = False
) -> Accepted:
    md5 = hashlib.md5(content).digest()
    return await keeper.upload(key, chunks(content), replaces=replaces, digests={"md5": md5})


async def test_an_upload_is_created_unchanged_refused_or_replaced(keeper: Library, gallery: str) -> None:
    key = f"{gallery}/a.jpg"
    created = await upload(keeper, key)
    assert (created.key, created.outcome, created.length_bytes) == (key, "created", len(PHOTOGRAPH))
    assert (created.format, created.width_px, created.height_px) == ("jpeg", 300, 200)
    again = await upload(keeper, key)
    assert (again.outcome, again.version) == ("unchanged", created.version)
    with pytest.raises(OriginalExists):
        await upload(keeper, key, ANOTHER)
    replaced = await upload(keeper, key, ANOTHER, replaces=True)
    assert (replaced.outcome, replaced.width_px) == ("replaced", 310)
    assert replaced.version != created.version
    assert (await keeper.inspect(key)).version == replaced.version


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
async def test_what_is_refused_leaves_nothing(
    keeper: Library, gallery: str, content: bytes, error: type[GalerlyError]
) -> None:
    with pytest.raises(error):
        await upload(keeper, f"{gallery}/a.jpg", content)
    assert (await keeper.list(f"{gallery}/")).originals == ()


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512"])
async def test_a_bit_that_turns_on_the_way_is_noticed(keeper: Library, gallery: str, name: str) -> None:
    key = f"{gallery}/a.jpg"
    turned = bytearray(PHOTOGRAPH)
    turned[-10] ^= 1
    digests = {name: hashlib.new(name, PHOTOGRAPH).digest()}
    with pytest.raises(ChecksumMismatch):
        await keeper.upload(key, chunks(bytes(turned)), digests=digests)
    assert (await keeper.list(f"{gallery}/")).originals == ()
    assert (await keeper.upload(key, chunks(PHOTOGRAPH), digests=digests)).outcome == "created"


async def test_any_key_comes_back_as_it_went_in(keeper: Library, gallery: str) -> None:
    keys = sorted((f"{gallery}/{name}" for name in STRANGE), key=str.encode)
    for key in keys:
        await upload(keeper, key)
    assert [one.key for one in (await keeper.list(f"{gallery}/")).originals] == keys
    for key in keys:
        assert (await keeper.inspect(key)).key == key
        assert (await keeper.purge(key)).key == key
        assert (await keeper.delete(key)).existed


@pytest.mark.parametrize("key", ["", "/", "a//b", "../a", "a/.", "a\\b", "a\n", "a\udcff", "x" * 901])
async def test_what_is_no_key_is_refused_everywhere(keeper: Library, key: str) -> None:
    for ask in (keeper.delete, keeper.inspect, keeper.purge):
        with pytest.raises(MalformedKey):
            await ask(key)
    with pytest.raises(MalformedKey):
        await upload(keeper, key)
    with pytest.raises(MalformedKey):
        _ = [one async for one in keeper.warm(key)]


async def test_a_key_that_cannot_be_held_exactly_is_refused(keeper: Library, gallery: str) -> None:
    await upload(keeper, f"{gallery}/a")
    with pytest.raises(KeyNotHeld):
        await upload(keeper, f"{gallery}/a/b")


async def test_a_listing_comes_in_pages(keeper: Library, gallery: str) -> None:
    keys = [f"{gallery}/{number}.jpg" for number in range(5)]
    for key in keys:
        await upload(keeper, key)
    first = await keeper.list(f"{gallery}/", limit=2)
    assert ([one.key for one in first.originals], first.next) == (keys[:2], keys[1])
    second = await keeper.list(f"{gallery}/", first.next, limit=2)
    last = await keeper.list(f"{gallery}/", second.next, limit=2)
    assert ([one.key for one in last.originals], last.next) == (keys[4:], "")
    assert [one.length_bytes for one in last.originals] == [len(PHOTOGRAPH)]


async def test_what_is_warm_is_told_and_kept_and_goes_with_its_original(
    keeper: Library, gallery: str
) -> None:
    key = f"{gallery}/a.jpg"
    await upload(keeper, key)
    made = [one async for one in keeper.warm(key)]
    assert len(made) == len(Settings().sizes) * 3
    assert {one.target.format for one in made} == {None, Format.AVIF, Format.WEBP}
    assert not any(one.was_there for one in made)
    assert all([one.was_there async for one in keeper.warm(key)])
    stored = (await keeper.inspect(key)).renditions
    assert {one.target for one in stored} == {str(one.target) for one in made}
    assert all(one.is_current and "gps" in one.lost for one in stored)
    assert sorted((await keeper.purge(key)).removed) == sorted(one.target for one in stored)
    assert (await keeper.purge(key)).removed == ()
    assert len([one async for one in keeper.warm(key)]) == len(made)
    deleted = await keeper.delete(key)
    assert (deleted.existed, len(deleted.removed)) == (True, len(made))


async def test_what_is_not_there_is_told(keeper: Library, gallery: str) -> None:
    key = f"{gallery}/none.jpg"
    with pytest.raises(NoSuchOriginal):
        await keeper.inspect(key)
    with pytest.raises(NoSuchOriginal):
        _ = [one async for one in keeper.warm(key)]
    assert (await keeper.purge(key)).removed == ()
    assert not (await keeper.delete(key)).existed
