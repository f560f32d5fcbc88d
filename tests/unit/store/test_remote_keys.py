"""Tests the objects of a remote store as other clients see them: keys, headers and metadata."""

from __future__ import annotations

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galerly_cdn.errors import StoreRefused, StoreUnreachable
from galerly_cdn.http import content_disposition
from galerly_cdn.model import Format, Listed, Record, Rendition, Size, Target
from galerly_cdn.store.remote import raw_listing, raw_request
from galerly_cdn.stored_keys import stored_key
from tests.support.fake_s3 import fake_s3

if TYPE_CHECKING:
    from galerly_cdn.errors import GalerlyError
    from tests.support.s3_servers import Objects, S3Server

# XML 1.0 has no U+FFFE and U+FFFF (§2.2): no listing of a server can contain them
_CHARACTERS = st.characters(
    codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\\ufffe\uffff"
) | st.sampled_from(" #?%+&=;:@,$!'()*~|\"<>{}[]^`._-é\u0301")
_SEGMENTS = st.text(_CHARACTERS, min_size=1, max_size=60).filter(lambda one: one[0] != ".")
KEYS = st.lists(_SEGMENTS, min_size=1, max_size=4).map("/".join).filter(lambda key: len(key.encode()) <= 900)
WORDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters=",;"), min_size=1)
"""The names of losses are printable ASCII without a comma and a semicolon."""

_same_bucket = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@given(key=KEYS)
@_same_bucket
async def test_key_is_the_same_for_every_client(bucket: Objects, key: str) -> None:
    store = bucket.originals()
    content = key.encode()
    with store.upload_file() as file:
        file.write(content)
        md5 = hashlib.md5(content).hexdigest()
        await store.put(key, file, media_type="image/jpeg", md5=md5, replaces=False)
    assert bucket.get(f"originals/{key}") == content
    assert bucket.names() == [f"originals/{key}"]
    assert [one.key async for one in store.list()] == [key]
    with await store.open(key) as original:
        assert os.pread(original.fd, 10_000, 0) == content
    bucket.remove(f"originals/{key}")
    bucket.put(f"originals/{key}", b"of another client")
    assert (await store.head(key)).length_bytes == 17
    assert await store.delete(key)
    assert bucket.names() == []


RECORDS = st.builds(
    Record,
    key=KEYS,
    target=st.just(Target(Size(800, 600))),
    version=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64),
    recipe=st.text("0123456789abcdef", min_size=1, max_size=64),
    format=st.sampled_from(Format),
    width_px=st.integers(1, 100_000),
    height_px=st.integers(1, 100_000),
    length_bytes=st.just(11),
    md5=st.just(hashlib.md5(b"the picture").hexdigest()),
    lost=st.lists(WORDS.map(str.strip).filter(bool), max_size=5).map(tuple),
)


@given(record=RECORDS)
@_same_bucket
async def test_rendition_survives_as_an_object(bucket: Objects, record: Record) -> None:
    store = bucket.renditions()
    rendition = Rendition(record, b"the picture")
    await store.put(rendition)
    assert bucket.names() == [f"resized/800x600/{stored_key(record.key)}"]
    assert await store.get(record.key, record.target) == rendition
    assert await store.delete(record.key, record.target)


async def test_rendition_object_has_the_headers_of_the_edge(bucket: Objects) -> None:
    """Its name is `resized/{W}x{H}[.{format}]/{stored key}`; the key is metadata, base64url (RFC 4648 §5)."""
    rendition = Rendition(
        Record(
            "gallery/a ÿ",
            Target(Size(800, 600), Format.WEBP),
            "v1",
            "r1",
            Format.WEBP,
            800,
            600,
            11,
            hashlib.md5(b"the picture").hexdigest(),
        ),
        b"the picture",
    )
    await bucket.renditions().put(rendition)
    found = bucket.server.client.get_object(
        Bucket=bucket.name, Key="resized/800x600.webp/gallery/.a-20-C3-BF"
    )
    assert found["Body"].read() == b"the picture"
    assert found["ContentType"] == "image/webp"
    assert found["CacheControl"] == "public, max-age=31536000, immutable"
    assert found["ContentDisposition"] == content_disposition.inline("a ÿ", "webp")
    assert found["Metadata"]["key"] == "Z2FsbGVyeS9hIMO_"
    assert found["ETag"] == f'"{rendition.record.md5}"'


async def test_original_and_renditions_have_the_same_cache_tags(bucket: Objects) -> None:
    """The tags are the beginnings of the SHA-256 of the key and of the gallery, in hex."""
    key = "gallery/a b.jpg"
    md5 = hashlib.md5(b"the picture").hexdigest()
    originals, target = bucket.originals(), Target(Size(150, 150))
    with originals.upload_file() as file:
        file.write(b"the picture")
        await originals.put(key, file, media_type="image/jpeg", md5=md5, replaces=False)
    record = Record(key, target, "v1", "r1", Format.JPEG, 150, 100, 11, md5)
    await bucket.renditions().put(Rendition(record, b"the picture"))
    tags = {
        bucket.server.client.head_object(Bucket=bucket.name, Key=name)["Metadata"]["cache-tag"]
        for name in (f"originals/{key}", "resized/150x150/gallery/.a-20b.jpg")
    }
    digests = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in (key, "gallery")]
    assert tags == {f"o-{digests[0]},g-{digests[1]}"}


@pytest.mark.parametrize("other", [{}, {"key": "Zy9i"}])
async def test_object_of_another_key_is_no_rendition_and_is_replaced(
    bucket: Objects, other: dict[str, str]
) -> None:
    store, target = bucket.renditions(), Target(Size(800, 600))
    md5 = hashlib.md5(b"the picture").hexdigest()
    rendition = Rendition(Record("g/a", target, "v1", "r1", Format.JPEG, 800, 600, 11, md5), b"the picture")
    await store.put(rendition)
    found = bucket.server.client.head_object(Bucket=bucket.name, Key="resized/800x600/g/a")
    metadata = {name: value for name, value in found["Metadata"].items() if name != "key"} | other
    bucket.put("resized/800x600/g/a", b"the picture", Metadata=metadata, ContentType=found["ContentType"])
    assert await store.get("g/a", target) is None
    assert await store.record("g/a", target) is None
    head = await store.head("g/a", target)
    assert head
    assert head.version == ""
    await store.put(rendition)
    assert await store.get("g/a", target) == rendition


async def test_object_that_is_not_a_rendition_is_a_miss(bucket: Objects) -> None:
    for metadata in ({}, {"version": "v1"}, *({"version": "v1", "picture": one} for one in ("", "8", "ax1"))):
        bucket.put("resized/800x600/a", b"something else", Metadata=metadata)
        assert await bucket.renditions().get("a", Target(Size(800, 600))) is None
        assert await bucket.renditions().record("a", Target(Size(800, 600))) is None


async def test_folder_marker_is_not_an_original(bucket: Objects) -> None:
    """The clouds' consoles create an empty object for each folder."""
    store = bucket.originals()
    for marker in ("originals/", "originals/gallery/"):
        bucket.put(marker, b"")
    bucket.put("originals/gallery/a", b"photograph")
    assert [one.key async for one in store.list()] == ["gallery/a"]


ODD_NAMES = ["g//a", "/lead", "g/../up", "g/./dot", "g/tab\t", "g/back\\slash", "g/\x1b[2J"]
GOOD_KEYS = [*(f"g/{number}" for number in range(5)), "g/z é+%41&<", "h/a"]


@pytest.fixture
def odd_bucket(moto: S3Server) -> Objects:
    """A bucket with keys that are none of ours between those that are; versitygw cannot hold them."""
    bucket = moto.bucket()
    for name in (*ODD_NAMES, *GOOD_KEYS, "g/.hidden"):
        bucket.put(f"originals/{name}", b"photograph")
    assert len(bucket.names()) == len(ODD_NAMES) + len(GOOD_KEYS) + 1  # botocore's listing has them all
    return bucket


@pytest.mark.parametrize("max_keys", [1, 3, 1000])
async def test_listing_skips_and_counts_names_that_are_no_keys(
    odd_bucket: Objects, max_keys: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    query = raw_listing.query
    monkeypatch.setattr(
        raw_listing, "query", lambda *args, **more: f"max-keys={max_keys}&{query(*args, **more)}"
    )
    store = odd_bucket.originals()
    caplog.clear()
    assert [one.key async for one in store.list()] == GOOD_KEYS
    assert odd_bucket.count.events.count("store-key-skipped") == len(ODD_NAMES)
    assert [one.key async for one in store.list("g/", after="g/3")] == ["g/4", "g/z é+%41&<"]
    assert [one.key async for one in store.list("g/z")] == ["g/z é+%41&<"]
    assert [one.key async for one in store.list("none/")] == []
    warnings = [one.getMessage() for one in caplog.records if one.name.startswith("galerly_cdn")]
    assert warnings == ["the store has objects whose keys cannot be served, such as '/lead'"]


async def test_folders_beside_odd_names_are_found(odd_bucket: Objects) -> None:
    store = odd_bucket.originals()
    assert {"g", "h"} <= await store.folders("")
    assert await store.folders("h") == frozenset()


async def test_listing_of_odd_names_has_the_sizes_and_times_of_the_store(odd_bucket: Objects) -> None:
    (listed,) = [one async for one in odd_bucket.originals().list("h/")]
    found = odd_bucket.server.client.head_object(Bucket=odd_bucket.name, Key="originals/h/a")
    assert listed == Listed("h/a", 10, found["LastModified"].timestamp())


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (403, b"<Error><Code>AccessDenied</Code></Error>", StoreRefused),
        (307, b"", StoreRefused),
        (503, b"", StoreUnreachable),
        (429, b"", StoreUnreachable),
        (200, b"<html>", StoreUnreachable),
        (200, b"<a><Contents><Key>a</Key></Contents></a>", StoreUnreachable),
        (200, b"<a><Contents><Key>a</Key><Size>x</Size></Contents></a>", StoreUnreachable),
    ],
)
def test_failed_raw_listing_raises_the_error_of_the_store(
    status: int, content: bytes, error: type[GalerlyError]
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(error):
                raw_listing.parse_page(raw_request.fetch(f"http://127.0.0.1:{server.server_port}/x", 5))
        finally:
            server.shutdown()
            thread.join()


def test_raw_listing_of_an_unreachable_store_is_an_error() -> None:
    with pytest.raises(StoreUnreachable):
        raw_request.fetch("http://127.0.0.1:1/", 5)


async def test_delete_is_a_plain_delete_request() -> None:
    async with fake_s3() as fake:
        fake.put("originals/a", b"photograph")
        from galerly_cdn.store.remote.bucket import Bucket

        bucket = Bucket("s3://bucket/originals", fake.settings(), lambda: 0.0, lambda _event: None)
        await bucket.delete("a")
        assert [one.method for one in fake.requests] == ["DELETE"]
