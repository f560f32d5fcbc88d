"""Uploads sent straight to the store: taken by the same path as any other, or refused and let go of."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from galerly_cdn.errors import NoSuchUpload, StoreUnreachable, UploadTooLarge
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.direct_uploads import RemoteDirectUploads
from galerly_cdn.store.remote.originals import RemoteOriginals
from tests.support.in_memory_admin import NUMBER, PHOTOGRAPH, MemoryIncoming, SmallAdmin
from tests.support.rendition_folders import Counted

if TYPE_CHECKING:
    from galerly_cdn.errors import GalerlyError
    from tests.support.in_memory_admin import Told
    from tests.support.s3_servers import Objects

COMPLETE = f"/uploads/{NUMBER}/complete"


@pytest.fixture
def incoming() -> MemoryIncoming:
    return MemoryIncoming()


@pytest.fixture
def admin(incoming: MemoryIncoming) -> SmallAdmin:
    return SmallAdmin(Settings(max_original_bytes=1000), incoming=incoming)


async def complete(admin: SmallAdmin, body: bytes = b'{"key": "g/a.jpg"}', path: str = COMPLETE) -> Told:
    return await admin.ask("POST", path, body=body)


async def test_an_invitation_tells_where_how_and_by_when(admin: SmallAdmin) -> None:
    told = await admin.ask("POST", "/uploads")
    assert told.status == 201
    assert told.json == {
        "id": NUMBER,
        "method": "PUT",
        "url": f"https://store.test/{NUMBER}",
        "headers": {"a": "b"},
        "expires_s": 60,
    }
    (record,) = admin.audits
    assert (record.subject, record.outcome) == (NUMBER, "invited")
    assert "store.test" not in str(record), "whoever reads the log could upload"


async def test_what_was_sent_becomes_an_original_and_is_let_go_of(
    admin: SmallAdmin, incoming: MemoryIncoming
) -> None:
    incoming.sent[NUMBER] = PHOTOGRAPH
    told = await complete(admin)
    assert (told.status, told.json["outcome"]) == (201, "created")
    assert (admin.deposit.contents, incoming.sent) == ({"g/a.jpg": PHOTOGRAPH}, {})
    assert (admin.audits[0].subject, admin.audits[0].outcome) == (f"{NUMBER} as g/a.jpg", "created")
    assert (await complete(admin)).code == "no-such-upload"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"no picture", 415, "unsupported-format"),
        (b"", 400, "empty-upload"),
        (b"x" * 1001, 413, "upload-too-large"),
    ],
)
async def test_what_can_never_be_shown_is_refused_and_let_go_of(
    admin: SmallAdmin, incoming: MemoryIncoming, content: bytes, status: int, code: str
) -> None:
    incoming.sent[NUMBER] = content
    told = await complete(admin)
    assert (told.status, told.code) == (status, code)
    assert (admin.deposit.contents, incoming.sent) == ({}, {})


async def test_what_another_key_or_a_replace_would_take_is_kept(
    admin: SmallAdmin, incoming: MemoryIncoming
) -> None:
    await admin.put("g/a.jpg")
    incoming.sent[NUMBER] = PHOTOGRAPH + b" by night"
    assert (await complete(admin)).code == "original-exists"
    assert NUMBER in incoming.sent
    told = await complete(admin, b'{"key": "g/a.jpg", "replace": true}')
    assert (told.status, told.json["outcome"]) == (200, "replaced")


async def test_a_store_that_fails_loses_nothing(admin: SmallAdmin, incoming: MemoryIncoming) -> None:
    incoming.sent[NUMBER] = PHOTOGRAPH
    admin.decoder.error = StoreUnreachable()
    assert (await complete(admin)).status == 503
    assert NUMBER in incoming.sent


@pytest.mark.parametrize("number", ["1", "", f"{NUMBER[:-1]}%66", NUMBER.upper()])
async def test_a_number_that_was_never_given_leads_nowhere(
    admin: SmallAdmin, incoming: MemoryIncoming, number: str
) -> None:
    incoming.sent[number] = PHOTOGRAPH
    assert (await complete(admin, path=f"/uploads/{number}/complete")).code == "no-such-upload"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed-body"),
        (b"{}", "malformed-body"),
        (b"[]", "malformed-body"),
        (b"[" * 16_000, "malformed-body"),
        (b'{"key": 1}', "malformed-body"),
        (b'{"key": "g/a", "replace": "yes"}', "malformed-body"),
        (b'{"key": "g/a", "other": 1}', "malformed-body"),
        (b'{"key": "\xff"}', "malformed-body"),
        (b'{"key": "g/a"' + b" " * 17_000 + b"}", "malformed-body"),
        (b'{"key": ""}', "malformed-key"),
        (b'{"key": "g/../a"}', "malformed-key"),
        (b'{"key": "a\\u0000b"}', "malformed-key"),
    ],
)
async def test_a_body_that_is_not_understood_is_refused(
    admin: SmallAdmin, incoming: MemoryIncoming, body: bytes, code: str
) -> None:
    incoming.sent[NUMBER] = PHOTOGRAPH
    told = await complete(admin, body)
    assert (told.status, told.code) == (400, code)
    assert (admin.deposit.contents, list(incoming.sent)) == ({}, [NUMBER])


@pytest.mark.parametrize("path", ["/uploads", COMPLETE])
async def test_a_folder_takes_none(path: str) -> None:
    told = await complete(SmallAdmin(Settings()), path=path)
    assert (told.status, told.code) == (409, "no-direct-uploads")


# on a real store


def remote(bucket: Objects, **settings: object) -> RemoteDirectUploads:
    made = bucket.settings(**settings)
    root = Bucket(f"{made.store}/incoming", made, lambda: 0.0, Counted())
    return RemoteDirectUploads(root, RemoteOriginals(root, made, lambda: 0.0))


def send(url: str, method: str, content: bytes) -> int:
    """What the store answers whoever has nothing but the address."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=30)
    try:
        connection.request(method, f"{place.path}?{place.query}", content if method == "PUT" else None)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_whoever_is_invited_uploads_past_us(bucket: Objects) -> None:
    admin = SmallAdmin(Settings(), incoming=remote(bucket))
    invited = (await admin.ask("POST", "/uploads")).json
    assert send(invited["url"], invited["method"], PHOTOGRAPH) == 200
    assert bucket.names() == [f"incoming/{NUMBER}"]
    assert (await complete(admin)).status == 201
    assert admin.deposit.contents == {"g/a.jpg": PHOTOGRAPH}
    assert bucket.names() == []


@pytest.mark.server("versitygw")
@pytest.mark.parametrize(
    ("told", "altered"),
    [(NUMBER, NUMBER[::-1]), ("/incoming/", "/originals/"), ("X-Amz-Expires=3600", "X-Amz-Expires=7200")],
)
async def test_an_invitation_is_for_that_number_alone(
    versitygw_bucket: Objects, told: str, altered: str
) -> None:
    invitation = await remote(versitygw_bucket).presign(NUMBER)
    assert told in invitation.url
    assert send(invitation.url.replace(told, altered), "PUT", PHOTOGRAPH) == 403
    assert send(invitation.url, "DELETE", b"") == 403
    assert versitygw_bucket.names() == []


async def gone(incoming: RemoteDirectUploads) -> type[GalerlyError] | None:
    try:
        async for _ in incoming.read(NUMBER):
            pass
    except NoSuchUpload:
        return NoSuchUpload
    except UploadTooLarge:
        return UploadTooLarge
    return None


async def test_what_was_never_sent_and_what_is_too_large_is_told(bucket: Objects) -> None:
    assert await gone(remote(bucket)) is NoSuchUpload
    await remote(bucket).remove(NUMBER)
    bucket.put(f"incoming/{NUMBER}", b"x" * 1001)
    assert await gone(remote(bucket, max_original_bytes=1000)) is UploadTooLarge
    assert await gone(remote(bucket, max_original_bytes=1001)) is None
