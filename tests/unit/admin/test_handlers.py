"""Tests the admin API's operations on originals: responses, errors, effects and audit records."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import QueueFull, StoreUnreachable
from galerly_cdn.model import Size, Target
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import PHOTOGRAPH, InMemoryAdmin

if TYPE_CHECKING:
    from tests.support.in_memory_admin import AdminResponse

OTHER = b"photograph of the moor"
TARGETS = 4 * 3  # sizes × (own format, WebP, AVIF)


@pytest.fixture
def admin() -> InMemoryAdmin:
    return InMemoryAdmin(Settings())


def has_private_headers(response: AdminResponse) -> bool:
    return (
        response.headers["cache-control"] == "no-store"
        and response.headers["x-content-type-options"] == "nosniff"
        and "access-control-allow-origin" not in response.headers
        and "cross-origin-resource-policy" not in response.headers
    )


# uploads


async def test_upload_with_new_key_answers_201_and_is_served(admin: InMemoryAdmin) -> None:
    response = await admin.put("g/%C3%A9t%C3%A9%20%231.jpg")
    assert response.status == 201
    assert response.json["key"] == "g/été #1.jpg"
    assert (response.json["outcome"], response.json["format"]) == ("created", "jpeg")
    assert (response.json["width_px"], response.json["height_px"]) == (60, 40)
    assert response.json["length_bytes"] == len(PHOTOGRAPH)
    assert has_private_headers(response)
    assert (await admin.cdn.ask("/resize/tiny/g/%C3%A9t%C3%A9%20%231.jpg")).status == 200


async def test_upload_again_answers_200_and_with_other_bytes_412(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    again = await admin.put("g/a.jpg")
    other = await admin.put("g/a.jpg", OTHER)
    assert (again.status, again.json["outcome"]) == (200, "unchanged")
    assert (other.status, other.code) == (412, "original-exists")
    assert admin.originals.contents["g/a.jpg"] == PHOTOGRAPH


async def test_upload_with_replace_answers_200_and_drops_cached_renditions(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    before = await admin.cdn.ask("/resize/tiny/g/a.jpg")
    response = await admin.put("g/a.jpg", OTHER, replace=True)
    assert (response.status, response.json["outcome"]) == (200, "replaced")
    assert admin.cdn.renditions.kept == {}
    assert (await admin.cdn.ask("/resize/tiny/g/a.jpg")).body != before.body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "*"}, 201),
        ({"If-None-Match": '"abc"'}, 400),
        ({"If-Match": "*"}, 400),
        ({"If-Unmodified-Since": "Tue, 24 Nov 2026 20:00:00 GMT"}, 400),
        ({"Content-Range": "bytes 0-9/100"}, 400),
        ({"Content-Encoding": "gzip"}, 400),
        ({"Content-Type": "text/html"}, 201),
    ],
    ids=str,
)
async def test_upload_precondition_is_honoured_or_refused(
    admin: InMemoryAdmin, headers: dict[str, str], status: int
) -> None:
    response = await admin.request("PUT", "/originals/g/a.jpg", body=PHOTOGRAPH, headers=headers)
    assert response.status == status
    assert bool(admin.originals.contents) == (status == 201)


async def test_upload_with_replace_and_if_none_match_answers_400(admin: InMemoryAdmin) -> None:
    response = await admin.request(
        "PUT", "/originals/g/a.jpg?replace=true", body=PHOTOGRAPH, headers={"If-None-Match": "*"}
    )
    assert (response.status, response.code) == (400, "bad-request")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "empty-upload"),
        (b"no picture", {}, 415, "unsupported-format"),
        (PHOTOGRAPH, {"Content-MD5": base64.b64encode(bytes(16)).decode()}, 400, "checksum-mismatch"),
        (PHOTOGRAPH, {"x-amz-checksum-crc32": "AAAAAA=="}, 400, "malformed-checksum"),
        (PHOTOGRAPH * 100, {}, 413, "upload-too-large"),
    ],
)
async def test_refused_upload_stores_nothing(
    body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    admin = InMemoryAdmin(Settings(max_original_bytes=1000))
    response = await admin.request("PUT", "/originals/g/a.jpg", body=body, headers=headers)
    assert (response.status, response.code) == (status, code)
    assert has_private_headers(response)
    assert admin.originals.contents == {}
    assert admin.audits[0].outcome == code


@pytest.mark.parametrize("length", ["1001", "9" * 18, "9" * 5000])
async def test_upload_with_too_large_content_length_is_refused_unread(length: str) -> None:
    admin = InMemoryAdmin(Settings(max_original_bytes=1000))
    response = await admin.request(
        "PUT", "/originals/g/a.jpg", body=PHOTOGRAPH, headers={"Content-Length": length}
    )
    assert (response.status, response.code) == (413, "upload-too-large")
    assert admin.audits[0].bytes == 0


async def test_interrupted_upload_stores_nothing(admin: InMemoryAdmin) -> None:
    await admin.request("PUT", "/originals/g/a.jpg", body=PHOTOGRAPH, disconnects_early=True)
    assert admin.originals.contents == {}
    (record,) = admin.audits
    assert (record.outcome, record.bytes) == ("disconnected", len(PHOTOGRAPH))


async def test_chunked_upload_with_checksum_is_stored_whole(admin: InMemoryAdmin) -> None:
    digest = base64.b64encode(hashlib.sha256(PHOTOGRAPH).digest()).decode()
    response = await admin.request(
        "PUT",
        "/originals/g/a.jpg",
        body=[PHOTOGRAPH[:5], b"", PHOTOGRAPH[5:]],
        headers={"Repr-Digest": f"sha-256=:{digest}:"},
    )
    assert response.status == 201
    assert admin.originals.contents["g/a.jpg"] == PHOTOGRAPH


@pytest.mark.parametrize(
    "path",
    [
        "/originals/",
        "/originals//a",
        "/originals/a%2Fb",
        "/originals/a%5Cb",
        "/originals/../a",
        "/originals/%2e%2e/a",
        "/originals/a%00",
        "/originals/a%0A",
        "/originals/a%ff",
        "/originals/%",
        "/originals/a/",
        "/originals/" + "a" * 901,
        b"/originals/a\nb",
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
async def test_malformed_key_answers_400_without_a_store_request(
    admin: InMemoryAdmin, method: str, path: str | bytes
) -> None:
    response = await admin.request(method, path, body=PHOTOGRAPH)
    assert (response.status, response.code) == (400, "malformed-key")
    assert (admin.originals.contents, admin.cdn.originals.heads, admin.cdn.originals.opened) == ({}, 0, 0)


@pytest.mark.parametrize(
    ("key", "status"),
    [("clients/smith/1.jpg", 201), ("clients/1.jpg", 400), ("clients/smith/raw/1.jpg", 400), ("g/1", 201)],
)
async def test_upload_under_private_prefix_needs_exactly_two_segments(key: str, status: int) -> None:
    admin = InMemoryAdmin(Settings(private_prefixes=("clients",)))
    assert (await admin.put(key)).status == status
    assert (key in admin.originals.contents) == (status == 201)


# list, inspect, delete


async def test_list_answers_one_page_at_a_time(admin: InMemoryAdmin) -> None:
    for key in ("g/a", "g/b", "g/c", "h/a"):
        await admin.put(key)
    first = (await admin.request("GET", "/originals?prefix=g/&limit=2")).json
    second = (await admin.request("GET", f"/originals?prefix=g/&limit=2&after={first['next']}")).json
    assert [one["key"] for one in first["originals"]] == ["g/a", "g/b"]
    assert ([one["key"] for one in second["originals"]], second["next"]) == (["g/c"], "")
    assert len((await admin.request("GET", "/originals")).json["originals"]) == 4


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1&limit=2",
        "prefix",
        "prefix=a&",
        "prefix=%ff",
        "prefix=../",
        "prefix=/a",
        "prefix=a%00",
        "prefix=" + "a" * 900,
        "after=a/../b",
        "other=1",
        "&".join(f"a{number}=1" for number in range(17)),
    ],
)
async def test_list_with_malformed_query_answers_400(admin: InMemoryAdmin, query: str) -> None:
    response = await admin.request("GET", f"/originals?{query}")
    assert (response.status, response.code) == (400, "malformed-query")


async def test_inspect_answers_facts_and_renditions(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    response = await admin.request("GET", "/originals/g/a.jpg")
    assert (response.status, response.json["key"], response.json["facts"]["format"]) == (
        200,
        "g/a.jpg",
        "jpeg",
    )
    assert [(one["target"], one["is_current"]) for one in response.json["renditions"]] == [("150x150", True)]
    head = await admin.request("HEAD", "/originals/g/a.jpg")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(response.body)))
    assert (await admin.request("GET", "/originals/g/none.jpg")).code == "no-such-original"


async def test_delete_removes_renditions_and_is_idempotent(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    first, second = [await admin.request("DELETE", "/originals/g/a.jpg") for _ in range(2)]
    assert first.json == {"key": "g/a.jpg", "existed": True, "removed": ["150x150"], "refreshed": []}
    assert second.json == {"key": "g/a.jpg", "existed": False, "removed": [], "refreshed": []}
    assert (await admin.cdn.ask("/resize/tiny/g/a.jpg")).status == 404
    assert [one.outcome for one in admin.audits[-2:]] == ["deleted", "absent"]


# purge and warm


async def test_forget_answers_what_was_in_memory_and_the_version_of_now(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    version = (await admin.originals.head("g/a.jpg")).version
    first, second = [await admin.request("POST", "/forget/g/a.jpg") for _ in range(2)]
    assert first.json == {"key": "g/a.jpg", "removed": ["150x150"], "version": version}
    assert second.json == {"key": "g/a.jpg", "removed": [], "version": version}
    absent = await admin.request("POST", "/forget/g/none.jpg")
    assert (absent.status, absent.json) == (200, {"key": "g/none.jpg", "removed": [], "version": ""})
    assert (await admin.request("POST", "/forget/g/../x.jpg")).status == 400
    answer = await admin.cdn.ask("/resize/tiny/g/a.jpg")
    assert answer.headers["cache-status"] == "galerly-cdn; hit; detail=store"


async def test_purge_answers_removed_renditions_and_is_idempotent(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    first, second = [await admin.request("POST", "/purge/g/a.jpg") for _ in range(2)]
    assert first.json == {"key": "g/a.jpg", "removed": ["150x150"], "refreshed": []}
    assert second.json == {"key": "g/a.jpg", "removed": [], "refreshed": []}
    renders = admin.renderer.renders
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    assert admin.renderer.renders == renders + 1, "the memory cache still holds it"


async def test_purge_gallery_answers_one_line_for_each_original(admin: InMemoryAdmin) -> None:
    for key in ("g/a", "g/b", "gg/c"):
        await admin.put(key)
        await admin.cdn.ask(f"/resize/tiny/{key}")
    response = await admin.request("POST", "/purge?gallery=g")
    assert response.headers["content-type"] == "application/jsonl"
    assert has_private_headers(response)
    assert response.lines == [
        {"key": "g/a", "removed": ["150x150"], "refreshed": []},
        {"key": "g/b", "removed": ["150x150"], "refreshed": []},
    ]
    assert list(admin.cdn.renditions.kept) == ["150x150/gg/c"]
    assert (admin.audits[-1].subject, admin.audits[-1].outcome) == ("g", "purged 2")


@pytest.mark.parametrize("path", ["/purge", "/purge?gallery=", "/purge?gallery=a//b", "/warm?gallery=.."])
async def test_gallery_operation_without_valid_gallery_answers_400(admin: InMemoryAdmin, path: str) -> None:
    assert (await admin.request("POST", path)).code == "malformed-query"


async def test_warm_gallery_without_originals_answers_an_empty_body(admin: InMemoryAdmin) -> None:
    response = await admin.request("POST", "/warm?gallery=none")
    assert (response.status, response.body) == (200, b"")


async def test_warm_repeated_renders_nothing_new(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    first, second = [await admin.request("POST", "/warm/g/a.jpg") for _ in range(2)]
    assert [one["was_there"] for one in first.lines] == [False] * TARGETS
    assert [one["was_there"] for one in second.lines] == [True] * TARGETS
    assert admin.audits[-1].outcome == f"warmed {TARGETS}"
    tiny = Target(Size(150, 150))
    assert await admin.cdn.renditions.get("g/a.jpg", tiny) is not None


async def test_warm_failure_is_a_status_before_the_first_line_and_a_line_after(admin: InMemoryAdmin) -> None:
    assert (await admin.request("POST", "/warm/g/none.jpg")).code == "no-such-original"
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")  # already stored, so its line comes first
    admin.renderer.error = QueueFull()
    response = await admin.request("POST", "/warm/g/a.jpg")
    assert response.status == 200
    assert response.lines[0]["was_there"]
    assert response.lines[-1]["key"] == "g/a.jpg"
    assert response.lines[-1]["error"]["code"] == "queue-full"
    assert admin.audits[-1].outcome == "queue-full"


async def test_inspect_with_unreachable_store_answers_503(admin: InMemoryAdmin) -> None:
    admin.cdn.originals.error = StoreUnreachable("secret path")
    response = await admin.request("GET", "/originals/g/a.jpg")
    assert (response.status, response.code, response.headers["retry-after"]) == (
        503,
        "store-unreachable",
        "1",
    )
    assert b"secret" not in response.body


# paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/originals.css",
        "/livez/",
        "/livez/a.jpg",
        "/livez.css",
        "/%6civez",
        "/LIVEZ",
        "//livez",
        "/metrics/a.css",
        "/openapi.json/a.js",
        "/uploads/",
        "/uploads/a/b/complete",
        "/uploads/1/complete/x.css",
        "/warmer",
        "/resize/tiny/g/a.jpg",
        "/original/g/a.jpg",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_path_answers_404_without_caching(admin: InMemoryAdmin, method: str, path: str) -> None:
    """Includes paths that a cache in front could store because of their extension (web cache deception)."""
    response = await admin.request(method, path)
    assert (response.status, response.code) == (404, "unknown-path")
    assert has_private_headers(response)


async def test_key_with_asset_extension_is_not_cacheable(admin: InMemoryAdmin) -> None:
    await admin.put("g/style.css")
    for path in ("/originals/g/style.css", "/originals/g/none.css", "/originals"):
        assert has_private_headers(await admin.request("GET", path))


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/originals/g/a.jpg", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/originals", "GET, HEAD"),
        ("OPTIONS", "/originals", "GET, HEAD"),
        ("GET", "/purge", "POST"),
        ("GET", "/warm/g/a.jpg", "POST"),
        ("PUT", "/livez", "GET, HEAD"),
        ("TRACE", "/metrics", "GET, HEAD"),
        ("X" * 10_000, "/metrics", "GET, HEAD"),
    ],
)
async def test_unsupported_method_answers_405_with_allow(
    admin: InMemoryAdmin, method: str, path: str, allow: str
) -> None:
    response = await admin.request(method, path)
    assert (response.status, response.code, response.headers["allow"]) == (405, "method-not-allowed", allow)


# the audit log


async def test_audit_log_records_changes_and_no_reads(admin: InMemoryAdmin) -> None:
    await admin.put("g/a.jpg")
    for method, path in [("GET", "/originals"), ("GET", "/originals/g/a.jpg"), ("GET", "/readyz")]:
        await admin.request(method, path)
    (record,) = admin.audits
    assert (record.client, record.who, record.action) == ("127.0.0.1", "loopback", "PUT /originals/{key}")
    assert (record.subject, record.outcome, record.status) == ("g/a.jpg", "created", 201)
    assert record.bytes == len(PHOTOGRAPH)
    assert record.time_s == 1_700_000_000.0


async def test_audit_log_records_the_client_behind_a_trusted_proxy() -> None:
    admin = InMemoryAdmin(Settings(trusted_proxies=("127.0.0.0/8",)))
    await admin.request("DELETE", "/originals/g/a.jpg", headers={"X-Forwarded-For": "192.0.2.7"})
    assert admin.audits[0].client == "192.0.2.7"


async def test_unexpected_exception_answers_500_without_details(
    admin: InMemoryAdmin, caplog: pytest.LogCaptureFixture
) -> None:
    admin.renderer.error = ZeroDivisionError("secret path")
    response = await admin.put("g/a.jpg")
    assert (response.status, response.code) == (500, "internal")
    assert b"secret" not in response.body
    assert "secret path" in caplog.text
    assert (admin.audits[0].outcome, admin.audits[0].detail) == ("internal", "ZeroDivisionError")


async def test_refused_connection_gets_a_response(admin: InMemoryAdmin) -> None:
    response = admin.application.refuse(QueueFull("secret"), "192.0.2.9")
    assert response.status == 503
    assert b"secret" not in response.body
    assert admin.audits == []
