"""What the admin side does with originals, and what it answers, refuses and writes into the audit log."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import QueueFull, StoreUnreachable
from galerly_cdn.model import Size, Target
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import PHOTOGRAPH, SmallAdmin

if TYPE_CHECKING:
    from tests.support.in_memory_admin import Told

OTHER = b"photograph of the moor"
TARGETS = 4 * 3  # sizes, and what addresses without a format may be answered with


@pytest.fixture
def admin() -> SmallAdmin:
    return SmallAdmin(Settings())


def never_kept(told: Told) -> bool:
    return (
        told.headers["cache-control"] == "no-store"
        and told.headers["x-content-type-options"] == "nosniff"
        and "access-control-allow-origin" not in told.headers
        and "cross-origin-resource-policy" not in told.headers
    )


# uploads


async def test_an_upload_is_created_told_and_served(admin: SmallAdmin) -> None:
    told = await admin.put("g/%C3%A9t%C3%A9%20%231.jpg")
    assert told.status == 201
    assert told.json["key"] == "g/été #1.jpg"
    assert (told.json["outcome"], told.json["format"]) == ("created", "jpeg")
    assert (told.json["width_px"], told.json["height_px"]) == (60, 40)
    assert told.json["length_bytes"] == len(PHOTOGRAPH)
    assert never_kept(told)
    assert (await admin.cdn.ask("/resize/tiny/g/%C3%A9t%C3%A9%20%231.jpg")).status == 200


async def test_the_same_bytes_again_are_no_fault_and_others_are(admin: SmallAdmin) -> None:
    await admin.put("g/a.jpg")
    again = await admin.put("g/a.jpg")
    other = await admin.put("g/a.jpg", OTHER)
    assert (again.status, again.json["outcome"]) == (200, "unchanged")
    assert (other.status, other.code) == (412, "original-exists")
    assert admin.deposit.contents["g/a.jpg"] == PHOTOGRAPH


async def test_a_replace_is_said_and_reaches_every_cache_of_ours(admin: SmallAdmin) -> None:
    await admin.put("g/a.jpg")
    before = await admin.cdn.ask("/resize/tiny/g/a.jpg")
    told = await admin.put("g/a.jpg", OTHER, replace=True)
    assert (told.status, told.json["outcome"]) == (200, "replaced")
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
async def test_a_condition_is_kept_or_refused_and_never_passed_over(
    admin: SmallAdmin, headers: dict[str, str], status: int
) -> None:
    told = await admin.ask("PUT", "/originals/g/a.jpg", body=PHOTOGRAPH, headers=headers)
    assert told.status == status
    assert bool(admin.deposit.contents) == (status == 201)


async def test_creating_and_replacing_at_once_is_refused(admin: SmallAdmin) -> None:
    told = await admin.ask(
        "PUT", "/originals/g/a.jpg?replace=true", body=PHOTOGRAPH, headers={"If-None-Match": "*"}
    )
    assert (told.status, told.code) == (400, "bad-request")


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
async def test_what_is_refused_leaves_nothing(
    body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    admin = SmallAdmin(Settings(max_original_bytes=1000))
    told = await admin.ask("PUT", "/originals/g/a.jpg", body=body, headers=headers)
    assert (told.status, told.code) == (status, code)
    assert never_kept(told)
    assert admin.deposit.contents == {}
    assert admin.audits[0].outcome == code


@pytest.mark.parametrize("length", ["1001", "9" * 18, "9" * 5000])
async def test_an_upload_that_announces_too_much_is_refused_unread(length: str) -> None:
    admin = SmallAdmin(Settings(max_original_bytes=1000))
    told = await admin.ask("PUT", "/originals/g/a.jpg", body=PHOTOGRAPH, headers={"Content-Length": length})
    assert (told.status, told.code) == (413, "upload-too-large")
    assert admin.audits[0].bytes == 0


async def test_an_upload_that_is_cut_off_leaves_nothing(admin: SmallAdmin) -> None:
    await admin.ask("PUT", "/originals/g/a.jpg", body=PHOTOGRAPH, leaves_early=True)
    assert admin.deposit.contents == {}
    (record,) = admin.audits
    assert (record.outcome, record.bytes) == ("disconnected", len(PHOTOGRAPH))


async def test_an_upload_arrives_in_pieces_and_as_its_checksums_say(admin: SmallAdmin) -> None:
    digest = base64.b64encode(hashlib.sha256(PHOTOGRAPH).digest()).decode()
    told = await admin.ask(
        "PUT",
        "/originals/g/a.jpg",
        body=[PHOTOGRAPH[:5], b"", PHOTOGRAPH[5:]],
        headers={"Repr-Digest": f"sha-256=:{digest}:"},
    )
    assert told.status == 201
    assert admin.deposit.contents["g/a.jpg"] == PHOTOGRAPH


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
async def test_a_malformed_key_is_400_and_no_store_is_asked(
    admin: SmallAdmin, method: str, path: str | bytes
) -> None:
    told = await admin.ask(method, path, body=PHOTOGRAPH)
    assert (told.status, told.code) == (400, "malformed-key")
    assert (admin.deposit.contents, admin.cdn.originals.heads, admin.cdn.originals.opened) == ({}, 0, 0)


@pytest.mark.parametrize(
    ("key", "status"),
    [("clients/smith/1.jpg", 201), ("clients/1.jpg", 400), ("clients/smith/raw/1.jpg", 400), ("g/1", 201)],
)
async def test_under_a_private_prefix_a_key_has_exactly_two_segments(key: str, status: int) -> None:
    admin = SmallAdmin(Settings(private_prefixes=("clients",)))
    assert (await admin.put(key)).status == status
    assert (key in admin.deposit.contents) == (status == 201)


# what there is


async def test_originals_are_listed_a_page_at_a_time(admin: SmallAdmin) -> None:
    for key in ("g/a", "g/b", "g/c", "h/a"):
        await admin.put(key)
    first = (await admin.ask("GET", "/originals?prefix=g/&limit=2")).json
    second = (await admin.ask("GET", f"/originals?prefix=g/&limit=2&after={first['next']}")).json
    assert [one["key"] for one in first["originals"]] == ["g/a", "g/b"]
    assert ([one["key"] for one in second["originals"]], second["next"]) == (["g/c"], "")
    assert len((await admin.ask("GET", "/originals")).json["originals"]) == 4


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
async def test_a_query_that_is_not_understood_is_refused(admin: SmallAdmin, query: str) -> None:
    told = await admin.ask("GET", f"/originals?{query}")
    assert (told.status, told.code) == (400, "malformed-query")


async def test_what_is_known_of_one_is_told(admin: SmallAdmin) -> None:
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    told = await admin.ask("GET", "/originals/g/a.jpg")
    assert (told.status, told.json["key"], told.json["facts"]["format"]) == (200, "g/a.jpg", "jpeg")
    assert [(one["target"], one["is_current"]) for one in told.json["renditions"]] == [("150x150", True)]
    head = await admin.ask("HEAD", "/originals/g/a.jpg")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(told.body)))
    assert (await admin.ask("GET", "/originals/g/none.jpg")).code == "no-such-original"


async def test_a_delete_takes_the_pictures_with_it_and_may_be_repeated(admin: SmallAdmin) -> None:
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    first, second = [await admin.ask("DELETE", "/originals/g/a.jpg") for _ in range(2)]
    assert first.json == {"key": "g/a.jpg", "existed": True, "removed": ["150x150"]}
    assert second.json == {"key": "g/a.jpg", "existed": False, "removed": []}
    assert (await admin.cdn.ask("/resize/tiny/g/a.jpg")).status == 404
    assert [one.outcome for one in admin.audits[-2:]] == ["deleted", "absent"]


# purge and warm


async def test_a_purge_tells_what_it_removed_and_may_be_repeated(admin: SmallAdmin) -> None:
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    first, second = [await admin.ask("POST", "/purge/g/a.jpg") for _ in range(2)]
    assert first.json == {"key": "g/a.jpg", "removed": ["150x150"]}
    assert second.json == {"key": "g/a.jpg", "removed": []}
    renders = admin.decoder.renders
    await admin.cdn.ask("/resize/tiny/g/a.jpg")
    assert admin.decoder.renders == renders + 1, "memory held it still"


async def test_a_gallery_is_purged_with_a_line_for_each_photograph(admin: SmallAdmin) -> None:
    for key in ("g/a", "g/b", "gg/c"):
        await admin.put(key)
        await admin.cdn.ask(f"/resize/tiny/{key}")
    told = await admin.ask("POST", "/purge?gallery=g")
    assert told.headers["content-type"] == "application/jsonl"
    assert never_kept(told)
    assert told.lines == [{"key": "g/a", "removed": ["150x150"]}, {"key": "g/b", "removed": ["150x150"]}]
    assert list(admin.cdn.renditions.kept) == ["150x150/gg/c"]
    assert (admin.audits[-1].subject, admin.audits[-1].outcome) == ("g", "purged 2")


@pytest.mark.parametrize("path", ["/purge", "/purge?gallery=", "/purge?gallery=a//b", "/warm?gallery=.."])
async def test_a_gallery_has_to_be_named(admin: SmallAdmin, path: str) -> None:
    assert (await admin.ask("POST", path)).code == "malformed-query"


async def test_an_empty_gallery_is_no_line_at_all(admin: SmallAdmin) -> None:
    told = await admin.ask("POST", "/warm?gallery=nobody")
    assert (told.status, told.body) == (200, b"")


async def test_warming_tells_every_picture_and_begun_again_makes_none(admin: SmallAdmin) -> None:
    await admin.put("g/a.jpg")
    first, second = [await admin.ask("POST", "/warm/g/a.jpg") for _ in range(2)]
    assert [one["was_there"] for one in first.lines] == [False] * TARGETS
    assert [one["was_there"] for one in second.lines] == [True] * TARGETS
    assert admin.audits[-1].outcome == f"warmed {TARGETS}"
    tiny = Target(Size(150, 150))
    assert await admin.cdn.renditions.get("g/a.jpg", tiny) is not None


async def test_what_fails_before_the_first_line_is_a_status_and_later_a_line(admin: SmallAdmin) -> None:
    assert (await admin.ask("POST", "/warm/g/none.jpg")).code == "no-such-original"
    await admin.put("g/a.jpg")
    await admin.cdn.ask("/resize/tiny/g/a.jpg")  # this one is there, and told first
    admin.decoder.error = QueueFull()
    told = await admin.ask("POST", "/warm/g/a.jpg")
    assert told.status == 200
    assert told.lines[0]["was_there"]
    assert told.lines[-1]["key"] == "g/a.jpg"
    assert told.lines[-1]["error"]["code"] == "queue-full"
    assert admin.audits[-1].outcome == "queue-full"


async def test_a_store_that_is_away_is_503(admin: SmallAdmin) -> None:
    admin.cdn.originals.error = StoreUnreachable("secret place")
    told = await admin.ask("GET", "/originals/g/a.jpg")
    assert (told.status, told.code, told.headers["retry-after"]) == (503, "store-unreachable", "1")
    assert b"secret" not in told.body


# paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/",
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
async def test_beside_its_paths_there_is_nothing(admin: SmallAdmin, method: str, path: str) -> None:
    """Also nothing that a cache in front might keep for its extension (web cache deception)."""
    told = await admin.ask(method, path)
    assert (told.status, told.code) == (404, "unknown-path")
    assert never_kept(told)


async def test_no_answer_may_be_kept_whatever_its_path_looks_like(admin: SmallAdmin) -> None:
    await admin.put("g/style.css")
    for path in ("/originals/g/style.css", "/originals/g/none.css", "/originals"):
        assert never_kept(await admin.ask("GET", path))


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
async def test_another_method_is_told_which_are_answered(
    admin: SmallAdmin, method: str, path: str, allow: str
) -> None:
    told = await admin.ask(method, path)
    assert (told.status, told.code, told.headers["allow"]) == (405, "method-not-allowed", allow)


# the audit log


async def test_every_change_leaves_one_line_and_reading_none(admin: SmallAdmin) -> None:
    await admin.put("g/a.jpg")
    for method, path in [("GET", "/originals"), ("GET", "/originals/g/a.jpg"), ("GET", "/readyz")]:
        await admin.ask(method, path)
    (record,) = admin.audits
    assert (record.client, record.who, record.action) == ("127.0.0.1", "loopback", "PUT /originals/{key}")
    assert (record.subject, record.outcome, record.status) == ("g/a.jpg", "created", 201)
    assert record.bytes == len(PHOTOGRAPH)
    assert record.time_s == 1_700_000_000.0


async def test_a_client_behind_a_trusted_proxy_is_named() -> None:
    admin = SmallAdmin(Settings(trusted_proxies=("127.0.0.0/8",)))
    await admin.ask("DELETE", "/originals/g/a.jpg", headers={"X-Forwarded-For": "192.0.2.7"})
    assert admin.audits[0].client == "192.0.2.7"


async def test_what_nobody_foresaw_is_a_500_without_a_word_of_it(
    admin: SmallAdmin, caplog: pytest.LogCaptureFixture
) -> None:
    admin.decoder.error = ZeroDivisionError("secret place")
    told = await admin.put("g/a.jpg")
    assert (told.status, told.code) == (500, "internal")
    assert b"secret" not in told.body
    assert "secret place" in caplog.text
    assert (admin.audits[0].outcome, admin.audits[0].detail) == ("internal", "ZeroDivisionError")


async def test_what_never_became_a_request_is_answered(admin: SmallAdmin) -> None:
    response = admin.application.refuse(QueueFull("why"), "192.0.2.9")
    assert response.status == 503
    assert b"why" not in response.body
    assert admin.audits == []
