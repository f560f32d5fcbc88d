"""The resizer function: it renders, stores and responds as the edge does, or redirects to S3."""

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
TAG = urls.cache_tags(KEY)
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


async def test_missing_rendition_is_rendered_stored_and_returned(
    functions: Functions, bucket: Objects
) -> None:
    response = await functions.ask(PATH)
    stored = bucket.server.client.get_object(Bucket=bucket.name, Key=STORED)
    assert (response.status, response.body) == (200, stored["Body"].read())
    assert response.headers["etag"] == f'"{hashlib.md5(response.body).hexdigest()}"' == stored["ETag"]
    assert response.headers["content-type"] == stored["ContentType"] == "image/webp"
    assert response.headers["content-disposition"] == stored["ContentDisposition"]
    assert response.headers["content-disposition"] == content_disposition.inline(KEY, "webp")
    assert response.headers["cache-control"] == stored["CacheControl"] == IMMUTABLE
    assert response.headers["x-amz-meta-cache-tag"] == stored["Metadata"]["cache-tag"] == TAG


@pytest.mark.parametrize(
    "passed", ["", "g/a%20b%2B%C3%BC.JPG", "g/a%20b+%C3", "g/.a-20b-2B-C3-BC.jpg", "other", "%"]
)
async def test_path_with_the_key_of_another_rendition_is_refused(functions: Functions, passed: str) -> None:
    response = await functions.ask(PATH, x_galerly_key=passed)
    assert (response.status, response.code) == (400, "malformed-key")
    assert functions.renderer.renders == 0


async def test_key_that_the_path_does_not_tell_is_that_of_the_header(bucket: Objects) -> None:
    key = "g/" + "é" * 100
    bucket.put(f"originals/{key}", b"an original")
    path = urls.format_stored(WEBP, key)
    response = await Functions(bucket.settings()).ask(path, x_galerly_key=urls.format_key(key))
    assert (response.status, response.body) == (200, bucket.get(path[1:]))
    assert response.headers["x-amz-meta-cache-tag"] == urls.cache_tags(key)


async def test_log_has_the_access_record_and_the_metrics(functions: Functions) -> None:
    response = await functions.ask(PATH)
    access, metrics = functions.lines
    assert (access["status"], access["bytes"], access["key"]) == (200, len(response.body), KEY)
    assert (access["size"], access["format"], access["request_id"]) == ("800x600", "webp", "request-1")
    assert access["cache"] == "fwd=uri-miss; stored"
    assert set(access["stages_ms"]) == {"queue", "open", "render", "put", "head"}
    assert metrics["RenditionBytes"] == len(response.body)
    assert metrics["RenderTime"] == access["stages_ms"]["render"]
    assert metrics["FunctionName"] == "resizer"
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("galerly-cdn", [["FunctionName"]])
    assert directive["Metrics"] == [
        {"Name": "RenditionBytes", "Unit": "Bytes"},
        {"Name": "RenderTime", "Unit": "Milliseconds"},
    ]
    assert abs(metrics["_aws"]["Timestamp"] / 1000 - functions.wall()) < 60


async def test_head_fills_and_has_the_headers_of_get(functions: Functions) -> None:
    head = await functions.ask(PATH, "HEAD")
    assert head.body == b""
    got = await functions.ask(PATH)
    assert got.headers == head.headers
    assert head.headers["content-length"] == str(len(got.body))
    assert functions.renderer.renders == 1
    assert functions.lines[0]["bytes"] == 0


async def test_rendition_stored_meanwhile_is_returned_without_render_and_alarm(
    functions: Functions,
) -> None:
    first = await functions.ask(PATH)
    again = await functions.ask(PATH)
    assert (again.status, again.body, again.headers) == (200, first.body, first.headers)
    assert functions.renderer.renders == 1
    assert functions.metric("StoredButUnreadable") == []
    assert functions.metric("RenditionBytes") == [len(first.body)]


async def test_rendition_stored_long_ago_is_returned_with_an_alarm(functions: Functions) -> None:
    await functions.ask(PATH)
    functions.later_s = 120
    assert (await functions.ask(PATH)).status == 200
    assert functions.metric("StoredButUnreadable") == [1]
    assert functions.renderer.renders == 1


async def test_outdated_rendition_is_overwritten_with_an_alarm(functions: Functions, bucket: Objects) -> None:
    before = await functions.ask(PATH)
    bucket.put(f"originals/{KEY}", b"another original")
    functions.later_s = 120
    after = await functions.ask(PATH)
    assert after.body != before.body
    assert bucket.get(STORED) == after.body
    assert functions.metric("StoredButUnreadable") == [1]
    assert functions.lines[-2]["cache"] == "fwd=stale; stored"


async def test_concurrent_misses_raise_no_alarm(functions: Functions, bucket: Objects) -> None:
    other = Functions(bucket.settings(), renderer=functions.renderer)
    functions.renderer.gate.close()
    requested = [asyncio.create_task(one.ask(PATH)) for one in (functions, other)]
    for _ in requested:
        await functions.renderer.gate.arrival()
    functions.renderer.gate.open()
    first, second = await asyncio.gather(*requested)
    assert first.body == second.body == bucket.get(STORED)
    assert functions.metric("StoredButUnreadable") == other.metric("StoredButUnreadable") == []


async def test_original_replaced_during_the_render_is_rendered_again(
    functions: Functions, bucket: Objects
) -> None:
    functions.renderer.gate.close()
    requested = asyncio.create_task(functions.ask(PATH))
    await functions.renderer.gate.arrival()
    bucket.put(f"originals/{KEY}", b"another original")
    functions.renderer.gate.open()
    response = await requested
    assert functions.renderer.renders == 2
    version = hashlib.md5(b"another original").hexdigest()
    assert response.body.startswith(version.encode())
    assert bucket.get(STORED) == response.body


REFUSED = [
    ("GET", "/resized/801x600/g/a.jpg", 403, "size-not-allowed", "no-store", None),
    ("GET", "/resized/thumbnail/g/a.jpg", 403, "size-not-allowed", "no-store", None),
    ("GET", "/resized/facts/g/a.jpg", 403, "size-not-allowed", "no-store", None),
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
    ("GET", "/originals/g/a.jpg", 404, "unknown-path", "public, max-age=60", None),
    ("POST", PATH, 405, "method-not-allowed", "no-store", None),
    ("OPTIONS", PATH, 405, "method-not-allowed", "no-store", None),
    ("DELETE", "/", 405, "method-not-allowed", "no-store", None),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "cache_control", "tagged"),
    REFUSED,
    ids=[f"{number}-{one[3]}" for number, one in enumerate(REFUSED)],
)
async def test_error_is_that_of_the_edge(  # noqa: PLR0917 - a table's columns
    fake: FakeS3, method: str, path: str, status: int, code: str, cache_control: str, tagged: str | None
) -> None:
    functions = Functions(fake.settings())
    response = await functions.ask(path, method)
    assert (response.status, response.headers["cache-control"]) == (status, cache_control)
    assert response.headers.get("x-amz-meta-cache-tag") == (urls.cache_tags(tagged) if tagged else None)
    assert (response.code if response.body else "") == code
    assert functions.renderer.renders == 0
    assert fake.request_count("PUT") == 0
    (line,) = functions.lines
    assert line["status"] == status


async def test_undecodable_original_is_415_with_a_lifetime_and_a_tag(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    functions.renderer.error = Undecodable("premature end of /tmp/secret")
    response = await functions.ask(PATH)
    assert (response.status, response.code) == (415, "undecodable")
    assert response.headers["cache-control"] == "public, max-age=300"
    assert response.headers["x-amz-meta-cache-tag"] == TAG
    assert b"secret" not in response.body
    assert "secret" in functions.lines[0]["detail"]


@pytest.mark.parametrize(
    ("method", "fault", "status", "code"),
    [
        ("HEAD", Fault(status=503), 503, "store-busy"),
        ("HEAD", Fault(status=403), 502, "store-refused"),
        ("GET", Fault(status=403), 502, "store-refused"),
        ("GET", Fault(altered=lambda body: body[:-1] + b"!"), 502, "store-corrupt"),
    ],
    ids=["away", "closed", "unreadable", "altered"],
)
async def test_failing_store_is_an_error_that_is_not_cached(
    fake: FakeS3, method: str, fault: Fault, status: int, code: str
) -> None:
    fake.put(f"originals/{KEY}", b"an original", md5=hashlib.md5(b"an original").hexdigest())
    fake.fault = lambda one: fault if one.method == method else None
    response = await Functions(fake.settings(store_deadline_s=2)).ask(PATH)
    assert (response.status, response.code, response.headers["cache-control"]) == (status, code, "no-store")
    assert "x-amz-meta-cache-tag" not in response.headers


async def test_rendition_that_cannot_be_stored_is_returned(fake: FakeS3) -> None:
    fake.fault = lambda one: Fault(status=403) if one.method == "PUT" else None
    functions = Functions(fake.settings())
    response = await functions.ask(PATH)
    assert (response.status, response.headers["cache-control"]) == (200, IMMUTABLE)
    assert functions.lines[0]["cache"] == "fwd=uri-miss"


@pytest.mark.parametrize("event", [{}, {"rawPath": "/x"}, {"requestContext": {"http": {}}, "rawPath": "/"}])
async def test_unforeseen_exception_is_500_with_its_traceback_in_the_log(
    fake: FakeS3, event: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    functions = Functions(fake.settings())
    response = answer(await functions.resizer.answer(event, "request-1", "resizer"))
    assert (response.status, response.code, response.headers["cache-control"]) == (
        500,
        "internal",
        "no-store",
    )
    assert b"KeyError" not in response.body
    assert "KeyError" in caplog.text
    assert functions.lines[0]["reason"] == "internal"


# ---------------------------------------------------------------------- responses too large for a function


async def test_largest_response_is_within_lambda_s_limit(functions: Functions) -> None:
    functions.renderer.length_bytes = function_url.MAX_BODY_BYTES
    result = await functions.resizer.answer(request(PATH), "request-1", "resizer")
    assert result["statusCode"] == 200
    assert len(result["body"]) + len(str(result["headers"])) < 6 * 1024 * 1024 - 4096


async def test_too_large_rendition_is_stored_and_redirected_to(functions: Functions, bucket: Objects) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    response = await functions.ask(PATH)
    assert (response.status, response.body) == (302, b"")
    assert response.headers["cache-control"] == "private, no-store"
    assert response.headers["x-amz-meta-cache-tag"] == TAG
    assert len(bucket.get(STORED)) == TOO_LARGE_BYTES
    assert functions.metric("StoredButUnreadable") == []


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("requested", ["800x600", "thumbnail", "800x600.jpeg", "800x600.webp", "small.avif"])
async def test_redirect_leads_the_same_viewer_to_the_stored_rendition(
    fake: FakeS3, requested: str, accept: str
) -> None:
    """As the edge parses both addresses; the tests of the viewer function compare it with the edge."""

    def chosen(path: str) -> Target:
        parsed = urls.parse(path.encode(), ALLOWED)
        assert isinstance(parsed, PictureRequest)
        assert parsed.key == KEY
        form = parsed.target.format or negotiate(accept.encode(), parsed.offered)
        return Target(parsed.target.size, form)

    first = chosen(f"/resize/{requested}/{urls.format_key(KEY)}")
    functions = Functions(fake.settings())
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    response = await functions.ask(urls.format_stored(first, KEY))
    path, _, query = response.headers["location"].partition("?")
    assert chosen(path) == first
    assert f"bucket/resized/{first.rendition_key(KEY)}" in fake.objects
    assert query.split("&")[0] == "stored=1"


async def test_redirect_of_another_rendition_has_another_address(
    functions: Functions, bucket: Objects
) -> None:
    """A browser keeps the response for a year."""
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    first = await functions.ask(PATH)
    assert (await functions.ask(PATH)).headers["location"] == first.headers["location"]
    bucket.put(f"originals/{KEY}", b"another original")
    second = await functions.ask(PATH)
    assert second.headers["location"] != first.headers["location"]


async def test_redirect_is_followed_once(functions: Functions) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    await functions.ask(PATH)
    response = await functions.ask(PATH, x_galerly_stored="1")
    assert (response.status, response.code, response.headers["cache-control"]) == (
        502,
        "store-refused",
        "no-store",
    )
    assert functions.metric("StoredButUnreadable") == [1]


async def test_followed_redirect_is_answered_if_the_body_fits(functions: Functions) -> None:
    assert (await functions.ask(PATH, x_galerly_stored="1")).status == 200


@pytest.mark.parametrize("marks", [{}, {"x_galerly_stored": "1"}])
async def test_too_large_private_picture_is_stored_and_503(
    functions: Functions, bucket: Objects, marks: dict[str, str]
) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    response = await functions.ask(PATH, x_galerly_private="1", **marks)
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert response.headers["cache-control"] == "no-store"
    assert "location" not in response.headers
    assert len(bucket.get(STORED)) == TOO_LARGE_BYTES


@pytest.mark.parametrize("marks", [{}, {"x_galerly_private": "1"}, {"x_galerly_stored": "1"}])
async def test_too_large_rendition_that_cannot_be_stored_is_503(fake: FakeS3, marks: dict[str, str]) -> None:
    fake.fault = lambda one: Fault(status=403) if one.method == "PUT" else None
    functions = Functions(fake.settings())
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    response = await functions.ask(PATH, **marks)
    assert (response.status, response.code) == (503, "store-unreachable")
    assert response.headers["cache-control"] == "no-store"


async def test_head_is_never_too_large(functions: Functions) -> None:
    functions.renderer.length_bytes = TOO_LARGE_BYTES
    response = await functions.ask(PATH, "HEAD")
    assert (response.status, response.headers["content-length"]) == (200, str(TOO_LARGE_BYTES))


def test_marks_with_other_values_are_ignored() -> None:
    for value in ("0", "", "true", "1 "):
        requested = function_url.read_event(request("/", x_galerly_stored=value, x_galerly_private=value))
        assert not requested.is_stored
        assert not requested.is_private


@pytest.mark.parametrize("form", [None, *PREFERENCE])
async def test_private_picture_that_fits_has_the_headers_of_the_stored_object(
    functions: Functions, form: Format
) -> None:
    """CloudFront caches it behind the signature; the viewer function sends `private` to the viewer."""
    response = await functions.ask(urls.format_stored(target("800x600", form), KEY), x_galerly_private="1")
    assert (response.status, response.headers["cache-control"]) == (200, IMMUTABLE)


@pytest.mark.parametrize("key", [KEY, "g/none.jpg"])
@pytest.mark.parametrize("marks", [{}, {"x_galerly_private": "1"}])
async def test_response_has_no_embedding_headers(
    functions: Functions, key: str, marks: dict[str, str]
) -> None:
    """CloudFront's policies add them to S3's objects too, and none to private galleries."""
    response = await functions.ask(urls.format_stored(WEBP, key), **marks)
    embedding = {"access-control-allow-origin", "cross-origin-resource-policy", "timing-allow-origin"}
    assert not embedding & response.headers.keys()


async def test_error_behind_a_signature_is_not_cached(functions: Functions) -> None:
    missing = urls.format_stored(WEBP, "g/none.jpg")
    assert (await functions.ask(missing)).headers["cache-control"] == "public, max-age=5"
    private = await functions.ask(missing, x_galerly_private="1")
    assert (private.status, private.code, private.headers["cache-control"]) == (
        404,
        "no-such-original",
        "no-store",
    )
