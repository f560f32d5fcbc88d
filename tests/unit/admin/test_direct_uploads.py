"""Tests direct uploads to the store: presigning, completing, and refused uploads."""

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
from tests.support.in_memory_admin import PHOTOGRAPH, UPLOAD_ID, InMemoryAdmin, InMemoryDirectUploads
from tests.support.rendition_folders import Counted

if TYPE_CHECKING:
    from galerly_cdn.errors import GalerlyError
    from tests.support.in_memory_admin import AdminResponse
    from tests.support.s3_servers import Objects

COMPLETE = f"/uploads/{UPLOAD_ID}/complete"


@pytest.fixture
def direct_uploads() -> InMemoryDirectUploads:
    return InMemoryDirectUploads()


@pytest.fixture
def admin(direct_uploads: InMemoryDirectUploads) -> InMemoryAdmin:
    return InMemoryAdmin(Settings(max_original_bytes=1000), direct_uploads=direct_uploads)


async def complete(
    admin: InMemoryAdmin, body: bytes = b'{"key": "g/a.jpg"}', path: str = COMPLETE
) -> AdminResponse:
    return await admin.request("POST", path, body=body)


async def test_invite_answers_method_url_headers_and_expiry(admin: InMemoryAdmin) -> None:
    response = await admin.request("POST", "/uploads")
    assert response.status == 201
    assert response.json == {
        "id": UPLOAD_ID,
        "method": "PUT",
        "url": f"https://store.test/{UPLOAD_ID}",
        "headers": {"a": "b"},
        "expires_s": 60,
    }
    (record,) = admin.audits
    assert (record.subject, record.outcome) == (UPLOAD_ID, "invited")
    assert "store.test" not in str(record), "a reader of the log could upload"


async def test_complete_stores_the_original_and_removes_the_upload(
    admin: InMemoryAdmin, direct_uploads: InMemoryDirectUploads
) -> None:
    direct_uploads.uploaded[UPLOAD_ID] = PHOTOGRAPH
    response = await complete(admin)
    assert (response.status, response.json["outcome"]) == (201, "created")
    assert (admin.originals.contents, direct_uploads.uploaded) == ({"g/a.jpg": PHOTOGRAPH}, {})
    assert (admin.audits[0].subject, admin.audits[0].outcome) == (f"{UPLOAD_ID} as g/a.jpg", "created")
    assert (await complete(admin)).code == "no-such-upload"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"no picture", 415, "unsupported-format"),
        (b"", 400, "empty-upload"),
        (b"x" * 1001, 413, "upload-too-large"),
    ],
)
async def test_complete_with_invalid_bytes_removes_the_upload(
    admin: InMemoryAdmin, direct_uploads: InMemoryDirectUploads, content: bytes, status: int, code: str
) -> None:
    direct_uploads.uploaded[UPLOAD_ID] = content
    response = await complete(admin)
    assert (response.status, response.code) == (status, code)
    assert (admin.originals.contents, direct_uploads.uploaded) == ({}, {})


async def test_complete_with_existing_key_keeps_the_upload(
    admin: InMemoryAdmin, direct_uploads: InMemoryDirectUploads
) -> None:
    await admin.put("g/a.jpg")
    direct_uploads.uploaded[UPLOAD_ID] = PHOTOGRAPH + b" by night"
    assert (await complete(admin)).code == "original-exists"
    assert UPLOAD_ID in direct_uploads.uploaded
    response = await complete(admin, b'{"key": "g/a.jpg", "replace": true}')
    assert (response.status, response.json["outcome"]) == (200, "replaced")


async def test_complete_with_failing_store_keeps_the_upload(
    admin: InMemoryAdmin, direct_uploads: InMemoryDirectUploads
) -> None:
    direct_uploads.uploaded[UPLOAD_ID] = PHOTOGRAPH
    admin.renderer.error = StoreUnreachable()
    assert (await complete(admin)).status == 503
    assert UPLOAD_ID in direct_uploads.uploaded


@pytest.mark.parametrize("upload_id", ["1", "", f"{UPLOAD_ID[:-1]}%66", UPLOAD_ID.upper()])
async def test_complete_with_unknown_id_answers_no_such_upload(
    admin: InMemoryAdmin, direct_uploads: InMemoryDirectUploads, upload_id: str
) -> None:
    direct_uploads.uploaded[upload_id] = PHOTOGRAPH
    assert (await complete(admin, path=f"/uploads/{upload_id}/complete")).code == "no-such-upload"


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
async def test_complete_with_malformed_body_answers_400(
    admin: InMemoryAdmin, direct_uploads: InMemoryDirectUploads, body: bytes, code: str
) -> None:
    direct_uploads.uploaded[UPLOAD_ID] = PHOTOGRAPH
    response = await complete(admin, body)
    assert (response.status, response.code) == (400, code)
    assert (admin.originals.contents, list(direct_uploads.uploaded)) == ({}, [UPLOAD_ID])


@pytest.mark.parametrize("path", ["/uploads", COMPLETE])
async def test_folder_store_has_no_direct_uploads(path: str) -> None:
    response = await complete(InMemoryAdmin(Settings()), path=path)
    assert (response.status, response.code) == (409, "no-direct-uploads")


# on an S3 server


def remote(bucket: Objects, **settings: object) -> RemoteDirectUploads:
    store_settings = bucket.settings(**settings)
    root = Bucket(f"{store_settings.store}/incoming", store_settings, lambda: 0.0, Counted())
    return RemoteDirectUploads(root, RemoteOriginals(root, store_settings, lambda: 0.0))


def send(url: str, method: str, content: bytes) -> int:
    """The status of a request to the presigned URL, without credentials."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", content if method == "PUT" else None)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_presigned_upload_is_completed(bucket: Objects) -> None:
    admin = InMemoryAdmin(Settings(), direct_uploads=remote(bucket))
    presigned = (await admin.request("POST", "/uploads")).json
    assert send(presigned["url"], presigned["method"], PHOTOGRAPH) == 200
    assert bucket.names() == [f"incoming/{UPLOAD_ID}"]
    assert (await complete(admin)).status == 201
    assert admin.originals.contents == {"g/a.jpg": PHOTOGRAPH}
    assert bucket.names() == []


@pytest.mark.server("versitygw")
@pytest.mark.parametrize(
    ("part", "altered"),
    [
        (UPLOAD_ID, UPLOAD_ID[::-1]),
        ("/incoming/", "/originals/"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=7200"),
    ],
)
async def test_presigned_upload_with_altered_url_is_refused(
    versitygw_bucket: Objects, part: str, altered: str
) -> None:
    presigned = await remote(versitygw_bucket).presign(UPLOAD_ID)
    assert part in presigned.url
    assert send(presigned.url.replace(part, altered), "PUT", PHOTOGRAPH) == 403
    assert send(presigned.url, "DELETE", b"") == 403
    assert versitygw_bucket.names() == []


async def read_error(direct_uploads: RemoteDirectUploads) -> type[GalerlyError] | None:
    try:
        async for _ in direct_uploads.read(UPLOAD_ID):
            pass
    except NoSuchUpload:
        return NoSuchUpload
    except UploadTooLarge:
        return UploadTooLarge
    return None


async def test_reading_a_missing_or_too_large_upload_raises(bucket: Objects) -> None:
    assert await read_error(remote(bucket)) is NoSuchUpload
    await remote(bucket).remove(UPLOAD_ID)
    bucket.put(f"incoming/{UPLOAD_ID}", b"x" * 1001)
    assert await read_error(remote(bucket, max_original_bytes=1000)) is UploadTooLarge
    assert await read_error(remote(bucket, max_original_bytes=1001)) is None
