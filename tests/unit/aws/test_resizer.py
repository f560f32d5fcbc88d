"""The resizer answers what CloudFront found nothing for: as the edge would, or with the way to it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.aws.functions import function_url
from galerly_cdn.errors import Undecodable
from galerly_cdn.http import content_disposition, urls
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.http.urls import AllowList, PictureRequest
from galerly_cdn.model import IMMUTABLE, PREFERENCE, Format, Target
from galerly_cdn.settings.table import Settings
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.lambda_functions import Functions, answer, request
from tests.support.render_jobs import target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.s3_servers import Objects

KEY = "g/a b+ü.jpg"
WEBP = target("800x600", Format.WEBP)
PATH = urls.format_stored(WEBP, KEY)
STORED = f"resized/{WEBP.rendition_key(KEY)}"
TAG = urls.cache_tag(KEY)
ALLOWED = AllowList(Settings().size_rules)
TOO_LARGE_BYTES = function_url.MAX_BODY_BYTES + 1
ACCEPTS = ["image/avif,image/webp,*/*", "image/webp,*/*", "*/*", ""]


@pytest.fixture
def functions(bucket: Objects) -> Functions:
    """Over a bucket with one original."""
    bucket.put(f"originals/{KEY}", b"an original")
    return Functions(bucket.settings())


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        server.put(f"originals/{KEY}", b"an original")
        yield server


async def test_what_s3_lacks_is_rendered_stored_and_answered(functions: Functions, bucket: Objects) -> None:
    found = await functions.ask(PATH)
    stored = bucket.server.client.get_object(Bucket=bucket.name, Key=STORED)
    assert (found.status, found.body) == (200, stored["Body"].read())
    assert found.headers["etag"] == f'"{hashlib.md5(found.body).hexdigest()}"' == stored["ETag"]
    assert found.headers["content-type"] == stored["ContentType"] == "image/webp"
    assert found.headers["content-disposition"] == stored["ContentDisposition"]
    assert found.headers["content-disposition"] == content_disposition.inline(KEY, "webp")
    assert found.headers["cache-control"] == stored["CacheControl"] == IMMUTABLE
    assert found.headers["x-amz-meta-cache-tag"] == stored["Metadata"]["cache-tag"] == TAG


async def test_the_log_tells_the_request_and_its_metrics(functions: Functions) -> None:
    found = await functions.ask(PATH)
    access, metrics = functions.lines
    assert (access["status"], access["bytes"], access["key"]) == (200, len(found.body), KEY)
    assert (access["size"], access["format"], access["request_id"]) == ("800x600", "webp", "request-1")
    assert access["cache"] == "fwd=uri-miss; stored"
    assert set(access["stages_ms"]) == {"open", "render", "put", "head"}
    assert metrics["RenditionBytes"] == len(found.body)
    assert metrics["RenderTime"] == access["stages_ms"]["render"]
    assert metrics["FunctionName"] == "resizer"
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("galerly-cdn", [["FunctionName"]])
    assert directive["Metrics"] == [
        {"Name": "RenditionBytes", "Unit": "Bytes"},
        {"Name": "RenderTime", "Unit": "Milliseconds"},
    ]
    assert abs(metrics["_aws"]["Timestamp"] / 1000 - functions.wall()) < 60


async def test_a_head_fills_and_tells_what_a_get_would(functions: Functions) -> None:
    head = await functions.ask(PATH, "HEAD")
    assert head.body == b""
    got = await functions.ask(PATH)
    assert got.headers == head.headers
    assert head.headers["content-length"] == str(len(got.body))
    assert functions.renderer.renders == 1
    assert functions.lines[0]["bytes"] == 0


async def test_what_is_stored_meanwhile_is_answered_without_a_render_and_no_alarm(
    functions: Functions,
) -> None:
    first = await functions.ask(PATH)
    again = await functions.ask(PATH)
    assert (again.status, again.body, again.headers) == (200, first.body, first.headers)
    assert functions.renderer.renders == 1
    assert functions.metric("StoredButUnreadable") == []
    assert functions.metric("RenditionBytes") == [len(first.body)]


async def test_what_was_stored_long_ago_is_answered_and_is_an_alarm(functions: Functions) -> None:
    await functions.ask(PATH)
    functions.later_s = 120
    assert (await functions.ask(PATH)).status == 200
    assert functions.metric("StoredButUnreadable") == [1]
    assert functions.renderer.renders == 1


async def test_what_was_stored_of_an_older_original_is_overwritten_and_is_an_alarm_too(
    functions: Functions, bucket: Objects
) -> None:
    before = await functions.ask(PATH)
    bucket.put(f"originals/{KEY}", b"another original")
    functions.later_s = 120
    after = await functions.ask(PATH)
    assert after.body != before.body
    assert bucket.get(STORED) == after.body
    assert functions.metric("StoredButUnreadable") == [1]
    assert functions.lines[-2]["cache"] == "fwd=stale; stored"


async def test_two_misses_at_once_are_no_alarm(functions: Functions, bucket: Objects) -> None:
    other = Functions(bucket.settings(), renderer=functions.renderer)
    functions.renderer.gate.close()
    asked = [asyncio.create_task(one.ask(PATH)) for one in (functions, other)]
    for _ in asked:
        await functions.renderer.gate.arrival()
    functions.renderer.gate.open()
    first, second = await asyncio.gather(*asked)
    assert first.body == second.body == bucket.get(STORED)
    assert functions.metric("StoredButUnreadable") == other.metric("StoredButUnreadable") == []


async def test_an_original_replaced_during_the_render_is_rendered_anew(
    functions: Functions, bucket: Objects
) -> None:
    functions.renderer.gate.close()
    asked = asyncio.create_task(functions.ask(PATH))
    await functions.renderer.gate.arrival()
    bucket.put(f"originals/{KEY}", b"another original")
    functions.renderer.gate.open()
    found = await asked
    assert functions.renderer.renders == 2
    version = hashlib.md5(b"another original").hexdigest()
    assert found.body.startswith(version.encode())
    assert bucket.get(STORED) == found.body


REFUSED = [
    ("GET", "/resized/801x600/g/a.jpg", 403, "size-not-allowed", "no-store", None),
    ("GET", "/resized/thumbnail/g/a.jpg", 403, "size-not-allowed", "no-store", None),
    ("GET", "/resized/800x600.gif/g/a.jpg", 403, "format-not-allowed", "no-store", None),
    ("GET", "/resized/800x600/a//b", 400, "malformed-key", "no-store", None),
    ("GET", "/resized/800x600/a%2Fb", 400, "malformed-key", "no-store", None),
    ("GET", "/resized/800x600/a\udc80", 400, "malformed-key", "no-store", None),
    ("GET", "/resized/800x600/ü", 400, "malformed-key", "no-store", None),
    ("GET", "/resize/800x600/g/a.jpg", 404, "unknown-path", "public, max-age=60", None),
    ("GET", "/", 404, "unknown-path", "public, max-age=60", None),
    ("GET", "", 404, "unknown-path", "public, max-age=60", None),
    ("GET", "/resized/800x600/g/none.jpg", 404, "no-such-original", "public, max-age=5", "g/none.jpg"),
    ("HEAD", "/resized/800x600/g/none.jpg", 404, "", "public, max-age=5", "g/none.jpg"),
    (
        "GET",
        urls.format_original(KEY).replace("/original/", "/originals/"),
        404,
        "no-such-original",
        "public, max-age=5",
        KEY,
    ),
    ("POST", PATH, 405, "method-not-allowed", "no-store", None),
    ("OPTIONS", PATH, 405, "method-not-allowed", "no-store", None),
    ("DELETE", "/", 405, "method-not-allowed", "no-store", None),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "lifetime", "tagged"),
    REFUSED,
    ids=[f"{number}-{one[3]}" for number, one in enumerate(REFUSED)],
)
async def test_a_refusal_is_the_edge_s(  # noqa: PLR0917 - a table's columns
    fake: FakeS3, method: str, path: str, status: int, code: str, lifetime: str, tagged: str | None
) -> None:
    functions = Functions(fake.settings())
    found = await functions.ask(path, method)
    assert (found.status, found.headers["cache-control"]) == (status, lifetime)
    assert found.headers.get("x-amz-meta-cache-tag") == (urls.cache_tag(tagged) if tagged else None)
    assert (found.code if found.body else "") == code
    assert functions.renderer.renders == 0
    assert fake.request_count("PUT") == 0
    (line,) = functions.lines
    assert line["status"] == status


async def test_an_original_that_cannot_be_decoded_is_415_for_a_while_and_tagged(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    functions.renderer.error = Undecodable("premature end of /tmp/secret")
    found = await functions.ask(PATH)
    assert (found.status, found.code) == (415, "undecodable")
    assert found.headers["cache-control"] == "public, max-age=300"
    assert found.headers["x-amz-meta-cache-tag"] == TAG
    assert b"secret" not in found.body
    assert "secret" in functions.lines[0]["detail"]


@pytest.mark.parametrize(
    ("method", "fault", "status", "code"),
    [
        ("HEAD", Fault(status=503), 503, "store-unreachable"),
        ("HEAD", Fault(status=403), 502, "store-refused"),
        ("GET", Fault(status=403), 502, "store-refused"),
        ("GET", Fault(altered=lambda body: body[:-1] + b"!"), 502, "store-corrupt"),
    ],
    ids=["away", "closed", "unreadable", "altered"],
)
async def test_a_store_that_fails_is_told_and_remembered_by_nobody(
    fake: FakeS3, method: str, fault: Fault, status: int, code: str
) -> None:
    fake.put(f"originals/{KEY}", b"an original", md5=hashlib.md5(b"an original").hexdigest())
    fake.fault = lambda one: fault if one.method == method else None
    found = await Functions(fake.settings(store_deadline_s=2)).ask(PATH)
    assert (found.status, found.code, found.headers["cache-control"]) == (status, code, "no-store")
    assert "x-amz-meta-cache-tag" not in found.headers


async def test_what_the_store_does_not_take_is_answered_all_the_same(fake: FakeS3) -> None:
    fake.fault = lambda one: Fault(status=403) if one.method == "PUT" else None
    functions = Functions(fake.settings())
    found = await functions.ask(PATH)
    assert (found.status, found.headers["cache-control"]) == (200, IMMUTABLE)
    assert functions.lines[0]["cache"] == "fwd=uri-miss"


@pytest.mark.parametrize("event", [{}, {"rawPath": "/x"}, {"requestContext": {"http": {}}, "rawPath": "/"}])
async def test_the_unforeseen_is_an_answer_without_a_trace(
    fake: FakeS3, event: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    functions = Functions(fake.settings())
    found = answer(await functions.resizer.answer(event, "request-1", "resizer"))
    assert (found.status, found.code, found.headers["cache-control"]) == (500, "internal", "no-store")
    assert b"KeyError" not in found.body
    assert "KeyError" in caplog.text
    assert functions.lines[0]["reason"] == "internal"


# ---------------------------------------------------------------------- what is too large for a function


async def test_the_largest_answer_is_within_what_lambda_takes(functions: Functions) -> None:
    functions.renderer.length_bytes = function_url.MAX_BODY_BYTES
    result = await functions.resizer.answer(request(PATH), "request-1", "resizer")
    assert result["statusCode"] == 200
    assert len(result["body"]) + len(str(result["headers"])) < 6 * 1024 * 1024 - 4096


async def test_what_is_too_large_is_stored_and_the_viewer_sent_there(
    functions: Functions, bucket: Objects
) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    found = await functions.ask(PATH)
    assert (found.status, found.body) == (302, b"")
    assert found.headers["cache-control"] == "private, no-store"
    assert found.headers["x-amz-meta-cache-tag"] == TAG
    assert len(bucket.get(STORED)) == TOO_LARGE_BYTES
    assert functions.metric("StoredButUnreadable") == []


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("asked", ["800x600", "thumbnail", "800x600.jpeg", "800x600.webp", "small.avif"])
async def test_the_redirect_leads_the_same_viewer_to_what_was_stored(
    fake: FakeS3, asked: str, accept: str
) -> None:
    """As the edge reads both addresses; `test_viewer` holds the viewer function to it."""

    def chosen(path: str) -> Target:
        found = urls.parse(path.encode(), ALLOWED)
        assert isinstance(found, PictureRequest)
        assert found.key == KEY
        form = found.target.format or negotiate(accept.encode(), found.offered)
        return Target(found.target.size, form)

    first = chosen(f"/resize/{asked}/{urls.format_key(KEY)}")
    functions = Functions(fake.settings())
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    found = await functions.ask(urls.format_stored(first, KEY))
    path, _, query = found.headers["location"].partition("?")
    assert chosen(path) == first
    assert f"bucket/resized/{first.rendition_key(KEY)}" in fake.objects
    assert query.split("&")[0] == "stored=1"


async def test_the_redirect_of_another_rendition_is_another_address(
    functions: Functions, bucket: Objects
) -> None:
    """A browser keeps what it finds there for a year."""
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    first = await functions.ask(PATH)
    assert (await functions.ask(PATH)).headers["location"] == first.headers["location"]
    bucket.put(f"originals/{KEY}", b"another original")
    second = await functions.ask(PATH)
    assert second.headers["location"] != first.headers["location"]


async def test_a_redirect_is_followed_once(functions: Functions) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    await functions.ask(PATH)
    found = await functions.ask(PATH, x_galerly_stored="1")
    assert (found.status, found.code, found.headers["cache-control"]) == (502, "store-refused", "no-store")
    assert functions.metric("StoredButUnreadable") == [1]


async def test_a_redirect_that_led_here_is_answered_where_it_fits(functions: Functions) -> None:
    assert (await functions.ask(PATH, x_galerly_stored="1")).status == 200


@pytest.mark.parametrize("marks", [{}, {"x_galerly_stored": "1"}])
async def test_a_private_picture_that_is_too_large_is_stored_and_asked_for_again(
    functions: Functions, bucket: Objects, marks: dict[str, str]
) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    found = await functions.ask(PATH, x_galerly_private="1", **marks)
    assert (found.status, found.headers["retry-after"]) == (503, "1")
    assert found.headers["cache-control"] == "no-store"
    assert "location" not in found.headers
    assert len(bucket.get(STORED)) == TOO_LARGE_BYTES


@pytest.mark.parametrize("marks", [{}, {"x_galerly_private": "1"}, {"x_galerly_stored": "1"}])
async def test_what_is_too_large_and_not_stored_is_503(fake: FakeS3, marks: dict[str, str]) -> None:
    fake.fault = lambda one: Fault(status=403) if one.method == "PUT" else None
    functions = Functions(fake.settings())
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    found = await functions.ask(PATH, **marks)
    assert (found.status, found.code) == (503, "store-unreachable")
    assert found.headers["cache-control"] == "no-store"


async def test_a_head_is_never_too_large(functions: Functions) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    found = await functions.ask(PATH, "HEAD")
    assert (found.status, found.headers["content-length"]) == (200, str(TOO_LARGE_BYTES))


def test_the_marks_of_anybody_but_the_viewer_function_s_spelling_are_none() -> None:
    for value in ("0", "", "true", "1 "):
        asked = function_url.read_event(request("/", x_galerly_stored=value, x_galerly_private=value))
        assert not asked.is_stored
        assert not asked.is_private


@pytest.mark.parametrize("form", [None, *PREFERENCE])
async def test_a_private_picture_that_fits_is_told_as_it_is_stored(
    functions: Functions, form: Format
) -> None:
    """CloudFront keeps it behind the signature; the viewer function tells the viewer `private`."""
    found = await functions.ask(urls.format_stored(target("800x600", form), KEY), x_galerly_private="1")
    assert (found.status, found.headers["cache-control"]) == (200, IMMUTABLE)


@pytest.mark.parametrize("key", [KEY, "g/none.jpg"])
@pytest.mark.parametrize("marks", [{}, {"x_galerly_private": "1"}])
async def test_who_may_embed_an_answer_is_left_to_cloudfront(
    functions: Functions, key: str, marks: dict[str, str]
) -> None:
    """Of what S3 hands out its policies say so too, and nothing for a private gallery's."""
    found = await functions.ask(urls.format_stored(WEBP, key), **marks)
    told = {"access-control-allow-origin", "cross-origin-resource-policy", "timing-allow-origin"}
    assert not told & found.headers.keys()


async def test_an_error_behind_a_signature_is_kept_by_nobody(functions: Functions) -> None:
    missing = urls.format_stored(WEBP, "g/none.jpg")
    assert (await functions.ask(missing)).headers["cache-control"] == "public, max-age=5"
    private = await functions.ask(missing, x_galerly_private="1")
    assert (private.status, private.code, private.headers["cache-control"]) == (
        404,
        "no-such-original",
        "no-store",
    )
