"""Requests to origins: failover, signatures, the bucket policy, and faults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from galerly_cdn.aws.deploy import template
from galerly_cdn.aws_local.cloudfront.origin_access_control import Identity, SigningOrigin
from galerly_cdn.aws_local.cloudfront.origins import Origins
from galerly_cdn.aws_local.faults import Fault, FaultInjector
from galerly_cdn.aws_local.http.http_client import HttpClient
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support import local_cloudfront
from tests.support.template_mistakes import no_failover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.aws_local.http.origin_exchange import Responder
    from tests.support import s3_servers

pytestmark = pytest.mark.server("node")
DISTRIBUTION = local_cloudfront.read_plan().distribution
GROUP = "s3-else-resizer"
PATH = "/resize/800x600/g/a.jpg"
STORED = "resized/800x600/g/a.jpg"
STATEMENTS = "BucketPolicy/Properties/PolicyDocument/Statement"
CONFIG = "Distribution/Properties/DistributionConfig"
REQUEST = OriginRequest("GET", "https", local_cloudfront.HOST, "/resized/800x600/g/a.jpg", "", {})


@pytest.fixture
def moto_bucket(moto: s3_servers.S3Server) -> s3_servers.Objects:
    return moto.bucket()


@pytest.fixture
async def viewer(moto_bucket: s3_servers.Objects) -> AsyncIterator[local_cloudfront.Viewer]:
    async with local_cloudfront.start(moto_bucket) as running:
        yield running


# ------------------------------------------------------------------------------------- origin group


class ScriptedOrigin:
    """An origin with a list of statuses and exceptions. The last one is repeated."""

    def __init__(self, *results: int | OSError) -> None:
        self._results = list(results)
        self.requests: list[OriginRequest] = []

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.requests.append(request)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, OSError):
            raise result
        return OriginResponse(result, {}, b"")


DOWN, SLOW = ConnectionRefusedError(), TimeoutError()


@pytest.mark.parametrize(
    ("s3_results", "resizer_results", "status", "request_counts"),
    [
        ([200], [200], 200, (1, 0)),
        ([302], [200], 302, (1, 0)),
        ([403], [200], 200, (1, 1)),
        ([404], [200], 200, (1, 1)),
        ([404], [404], 404, (1, 1)),
        ([404], [403], 403, (1, 1)),
        ([500], [200], 500, (1, 0)),
        ([503], [200], 503, (1, 0)),
        ([DOWN], [200], 200, (2, 1)),
        ([DOWN, 200], [500], 200, (2, 0)),
        ([DOWN, SLOW], [200], 200, (2, 1)),
        ([SLOW], [200], 200, (1, 1)),
        ([404], [DOWN], 502, (1, 1)),
        ([404], [SLOW], 504, (1, 1)),
        ([DOWN], [SLOW], 504, (2, 1)),
    ],
)
async def test_an_origin_group_tries_the_primary_first_and_fails_over_once(
    s3_results: list[int | OSError],
    resizer_results: list[int | OSError],
    status: int,
    request_counts: tuple[int, int],
) -> None:
    origins = {"s3": ScriptedOrigin(*s3_results), "resizer": ScriptedOrigin(*resizer_results)}
    response = await Origins(DISTRIBUTION, origins).respond(GROUP, REQUEST)
    assert response.status == status
    assert (len(origins["s3"].requests), len(origins["resizer"].requests)) == request_counts
    hosts = {request.host for origin in origins.values() for request in origin.requests}
    assert hosts <= {origin.domain for origin in DISTRIBUTION.origins.values()}


def resizer_only(responder: Responder, **fields: object) -> Origins:
    """The resizer as the only origin, with changed fields."""
    resizer = replaced(DISTRIBUTION.origins["resizer"], **fields)
    return Origins(replaced(DISTRIBUTION, origins={"resizer": resizer}), {"resizer": responder})


@pytest.mark.parametrize(("attempts", "request_count"), [(1, 1), (3, 3)])
async def test_connection_attempts_repeat_a_request_that_times_out(attempts: int, request_count: int) -> None:
    """AWS: for a custom origin, attempts also count response time-outs."""
    resizer = replaced(DISTRIBUTION.origins["resizer"], connection_attempts=attempts)
    origins = {"resizer": ScriptedOrigin(SLOW)}
    response = await Origins(replaced(DISTRIBUTION, origins={"resizer": resizer}), origins).respond(
        "resizer", REQUEST
    )
    assert (response.status, len(origins["resizer"].requests)) == (504, request_count)


async def test_a_response_after_the_timeout_is_504() -> None:
    class Stuck:
        async def respond(self, request: OriginRequest) -> OriginResponse:
            await asyncio.Event().wait()
            raise AssertionError(request)

    assert (await resizer_only(Stuck(), response_timeout_s=0.0).respond("resizer", REQUEST)).status == 504


async def test_a_status_outside_the_failover_criteria_does_not_fail_over(
    moto_bucket: s3_servers.Objects,
) -> None:
    text = local_cloudfront.changed_template(no_failover("404"))
    async with local_cloudfront.start(moto_bucket, text) as viewer:
        assert (await viewer.request(PATH)).status == 404
        assert not viewer.resizer.requests


async def test_the_secondarys_response_is_cached_under_the_same_key(viewer: local_cloudfront.Viewer) -> None:
    response = [(await viewer.request(PATH)).headers["x-cache"] for _ in range(2)]
    assert response == ["Miss from cloudfront", "Hit from cloudfront"]
    assert (viewer.cloudfront.faults["s3"].request_count, len(viewer.resizer.requests)) == (1, 1)


async def test_a_head_request_is_sent_to_origins_as_head(viewer: local_cloudfront.Viewer) -> None:
    response = await viewer.request(PATH, "HEAD")
    assert (response.status, response.body) == (200, b"")
    assert viewer.resizer.requests[0].method == "HEAD"


# -------------------------------------------------------------------------------- access to the bucket


@pytest.mark.server("versitygw")
@pytest.mark.parametrize(
    "key", ["g/a.jpg", "g/a b+c&d.jpg", "g/été.jpg", "g/(1)!'*.jpg", "g/%41.jpg", "g/~_-.=,;:@$.jpg"]
)
async def test_a_stored_rendition_is_read_with_a_signature_that_s3_verifies(
    key: str, versitygw_bucket: s3_servers.Objects
) -> None:
    versitygw_bucket.put(f"resized/800x600/{key}", b"stored", ContentType="image/jpeg")
    async with local_cloudfront.start(versitygw_bucket) as viewer:
        response = await viewer.request(f"/resize/800x600/{quote(key)}")
        assert (response.status, response.body, response.headers["content-type"]) == (
            200,
            b"stored",
            "image/jpeg",
        )
        assert not viewer.resizer.requests


@pytest.mark.server("versitygw")
@pytest.mark.parametrize("identity", [Identity("tests", "another"), None], ids=["wrong", "none"])
async def test_a_wrong_or_missing_signature_is_refused_by_s3(
    identity: Identity | None, versitygw_bucket: s3_servers.Objects
) -> None:
    versitygw_bucket.put(STORED, b"stored")
    endpoint = versitygw_bucket.server.endpoint
    client = HttpClient(endpoint, connection_timeout_s=5)
    s3 = SigningOrigin(client, identity, "s3", DISTRIBUTION.arn) if identity else client
    host = endpoint.removeprefix("http://")
    request = OriginRequest("GET", "http", host, f"/{versitygw_bucket.name}/{STORED}", "", {})
    assert (await s3.respond(request)).status == 403


CONTROL = "S3Access/Properties/OriginAccessControlConfig"
MISTAKES: dict[str, tuple[str, object]] = {
    "the statement": (f"{STATEMENTS}/0", None),
    "the action": (f"{STATEMENTS}/0/Action", "s3:PutObject"),
    "the resource": (f"{STATEMENTS}/0/Resource", "arn:aws:s3:::another/*"),
    "the principal": (f"{STATEMENTS}/0/Principal", {"Service": "lambda.amazonaws.com"}),
    "the distribution": (f"{STATEMENTS}/0/Condition/StringEquals/AWS:SourceArn", "arn:other"),
    "TLS": (f"{STATEMENTS}/2/Condition/Bool/aws:SecureTransport", True),
    "the policy": ("BucketPolicy", None),
    "access control": (f"{CONFIG}/Origins/0/OriginAccessControlId", None),
    "signing": (f"{CONTROL}/SigningBehavior", "never"),
    "the kind of access control": (f"{CONTROL}/OriginAccessControlOriginType", "lambda"),
}


@pytest.mark.parametrize(
    ("text", "stored_status", "missing_status"),
    [
        pytest.param(local_cloudfront.TEMPLATE, 200, 404, id="nothing"),
        pytest.param(
            local_cloudfront.changed_template(local_cloudfront.set_value(f"{STATEMENTS}/1", None)),
            200,
            403,
            id="listing",
        ),
        *(
            pytest.param(
                local_cloudfront.changed_template(local_cloudfront.set_value(*mistake)), 403, 403, id=name
            )
            for name, mistake in MISTAKES.items()
        ),
    ],
)
async def test_the_bucket_policy_decides_what_cloudfront_may_read(
    text: str, stored_status: int, missing_status: int, moto_bucket: s3_servers.Objects
) -> None:
    """Each test ID names what is missing or wrong in the template."""
    moto_bucket.put(STORED, b"stored")
    async with local_cloudfront.start(moto_bucket, text) as viewer:
        s3 = viewer.cloudfront.faults["s3"]
        response = await s3.respond(replaced(REQUEST, raw_path=f"/{STORED}"))
        missing = await s3.respond(replaced(REQUEST, raw_path="/resized/800x600/missing"))
        original = await s3.respond(replaced(REQUEST, raw_path="/originals/g/a.jpg"))
        assert (response.status, missing.status) == (stored_status, missing_status)
        assert original.status in {403, 404}
        if response.status == 403:
            assert b"<Code>AccessDenied</Code>" in response.body


async def test_originals_are_readable_if_the_settings_make_them_public(
    moto_bucket: s3_servers.Objects,
) -> None:
    moto_bucket.put("originals/g/a.jpg", b"original")
    request = replaced(REQUEST, raw_path="/originals/g/a.jpg")
    for settings, status in ((Settings(), 403), (Settings(sign_originals=False), 200)):
        async with local_cloudfront.start(moto_bucket, template.render(settings)) as viewer:
            assert (await viewer.cloudfront.faults["s3"].respond(request)).status == status


async def test_without_access_control_the_bucket_policy_refuses_http(
    moto_bucket: s3_servers.Objects,
) -> None:
    moto_bucket.put(STORED, b"stored", ACL="public-read")

    def change(resources: dict[str, Any]) -> None:
        local_cloudfront.set_value(f"{CONFIG}/Origins/0/OriginAccessControlId", None)(resources)
        open_to_all = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}
        resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"].insert(0, open_to_all)

    async with local_cloudfront.start(moto_bucket, local_cloudfront.changed_template(change)) as viewer:
        s3 = viewer.cloudfront.faults["s3"]
        for scheme, status in (("https", 200), ("http", 403)):
            request = replaced(REQUEST, scheme=scheme, raw_path=f"/{STORED}")
            assert (await s3.respond(request)).status == status


async def test_requests_to_the_resizer_are_signed_and_name_the_distribution(
    viewer: local_cloudfront.Viewer,
) -> None:
    await viewer.request(PATH)
    (request,) = viewer.resizer.requests
    assert request.host == DISTRIBUTION.origins["resizer"].domain
    assert (request.scheme, request.raw_path) == ("https", "/resized/800x600/g/a.jpg")
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=tests/")
    assert "/us-east-1/lambda/aws4_request" in request.headers["authorization"]
    assert request.headers["x-amz-source-arn"] == DISTRIBUTION.arn
    assert viewer.resizer.function
    assert viewer.resizer.function.caller_arn == DISTRIBUTION.arn
    actions = {one.action for one in viewer.resizer.function.permissions}
    assert actions == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}


async def test_without_access_control_requests_to_the_resizer_are_not_signed(
    moto_bucket: s3_servers.Objects,
) -> None:
    text = local_cloudfront.changed_template(
        local_cloudfront.set_value(f"{CONFIG}/Origins/1/OriginAccessControlId", None)
    )
    async with local_cloudfront.start(moto_bucket, text) as viewer:
        await viewer.request(PATH)
        assert "authorization" not in viewer.resizer.requests[0].headers


# ------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("origin", "fault", "status", "cached_s"),
    [
        ("s3", Fault.DOWN, 200, None),
        ("s3", Fault.SLOW, 200, None),
        ("s3", Fault.FORBIDDEN, 200, None),
        ("resizer", Fault.DOWN, 502, 5),
        ("resizer", Fault.SLOW, 504, 5),
        ("resizer", Fault.FORBIDDEN, 403, 0),
        ("resizer", Fault.THROTTLED, 429, 0),
        ("resizer", Fault.OVERSIZE, 502, 5),
        ("resizer", Fault.CRASHED, 502, 5),
    ],
)
async def test_a_fault_has_cloudfronts_status_until_its_lifetime_ends(
    origin: str, fault: Fault, status: int, cached_s: float | None, viewer: local_cloudfront.Viewer
) -> None:
    injector = viewer.cloudfront.faults[origin]
    assert isinstance(injector, FaultInjector)
    injector.fault = fault
    assert (await viewer.request(PATH)).status == status
    injector.fault = None
    if cached_s is None:
        return
    if cached_s:
        viewer.clock.now_s += cached_s - 0.5
        assert (await viewer.request(PATH)).status == status
        viewer.clock.now_s += 0.5
    assert (await viewer.request(PATH)).status == 200


async def test_http_client_without_a_server_raises_connection_error() -> None:
    with pytest.raises(ConnectionError):
        await HttpClient("http://127.0.0.1:9", connection_timeout_s=5).respond(REQUEST)


@pytest.mark.parametrize(
    "received",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b"HTTP/1.1 200"],
)
async def test_http_client_raises_connection_error_for_an_incomplete_response(received: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(received)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            await HttpClient(f"http://127.0.0.1:{port}", connection_timeout_s=5).respond(REQUEST)


async def test_http_client_raises_connection_error_after_the_connection_timeout() -> None:
    with pytest.raises(ConnectionError, match="no connection in 0 s"):
        await HttpClient("http://127.0.0.1:9", connection_timeout_s=0).respond(REQUEST)


async def test_a_new_rendition_is_served_after_its_tag_is_invalidated(
    viewer: local_cloudfront.Viewer,
) -> None:
    def respond(body: bytes) -> Callable[[OriginRequest], OriginResponse]:
        headers = {"cache-control": local_cloudfront.IMMUTABLE, "x-amz-meta-cache-tag": "o-1"}
        return lambda _: OriginResponse(200, headers, body)

    viewer.resizer.make_response = respond(b"old")
    assert (await viewer.request(PATH)).body == b"old"
    viewer.resizer.make_response = respond(b"new")
    assert (await viewer.request(PATH)).body == b"old"
    viewer.cloudfront.cache.invalidate("#o-1")
    assert (await viewer.request(PATH)).body == b"new"


async def test_a_wrong_tag_header_keeps_the_old_rendition_cached(moto_bucket: s3_servers.Objects) -> None:
    text = local_cloudfront.changed_template(
        local_cloudfront.set_value(f"{CONFIG}/CacheTagConfig/HeaderName", "cache-tag")
    )
    async with local_cloudfront.start(moto_bucket, text) as viewer:
        headers = {"cache-control": local_cloudfront.IMMUTABLE, "x-amz-meta-cache-tag": "o-1"}
        viewer.resizer.make_response = lambda _: OriginResponse(200, headers, b"old")
        await viewer.request(PATH)
        viewer.cloudfront.cache.invalidate("#o-1")
        assert (await viewer.request(PATH)).headers["x-cache"] == "Hit from cloudfront"
