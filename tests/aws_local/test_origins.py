"""Who is asked on a miss, by which signature, and what becomes of it when something is missing or broken."""

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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from galerly_cdn.aws_local.http.origin_exchange import Responder
    from tests.support import s3_servers

pytestmark = pytest.mark.server("node")
DISTRIBUTION = local_cloudfront.planned().distribution
GROUP = "s3-else-resizer"
PATH = "/resize/800x600/g/a.jpg"
STORED = "resized/800x600/g/a.jpg"
STATEMENTS = "BucketPolicy/Properties/PolicyDocument/Statement"
CONFIG = "Distribution/Properties/DistributionConfig"
ASKED = OriginRequest("GET", "https", local_cloudfront.HOST, "/resized/800x600/g/a.jpg", "", {})


@pytest.fixture
def moto_bucket(moto: s3_servers.S3Server) -> s3_servers.Objects:
    return moto.bucket()


@pytest.fixture
async def viewer(moto_bucket: s3_servers.Objects) -> AsyncIterator[local_cloudfront.Viewer]:
    async with local_cloudfront.cloud(moto_bucket) as running:
        yield running


# ------------------------------------------------------------------------------------- 7: the group


class Scripted:
    """An origin that answers, or raises, one thing after another, and then the last for ever."""

    def __init__(self, *told: int | OSError) -> None:
        self._told = list(told)
        self.asked: list[OriginRequest] = []

    async def respond(self, request: OriginRequest) -> OriginResponse:
        self.asked.append(request)
        told = self._told.pop(0) if len(self._told) > 1 else self._told[0]
        if isinstance(told, OSError):
            raise told
        return OriginResponse(told, {}, b"")


DOWN, SLOW = ConnectionRefusedError(), TimeoutError()


@pytest.mark.parametrize(
    ("s3_says", "resizer_says", "status", "asked"),
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
async def test_the_primary_is_asked_first_and_the_secondarys_word_is_final(
    s3_says: list[int | OSError],
    resizer_says: list[int | OSError],
    status: int,
    asked: tuple[int, int],
) -> None:
    doors = {"s3": Scripted(*s3_says), "resizer": Scripted(*resizer_says)}
    found = await Origins(DISTRIBUTION, doors).respond(GROUP, ASKED)
    assert found.status == status
    assert (len(doors["s3"].asked), len(doors["resizer"].asked)) == asked
    hosts = {one.host for door in doors.values() for one in door.asked}
    assert hosts <= {origin.domain for origin in DISTRIBUTION.origins.values()}


def only_resizer(door: Responder, **fields: object) -> Origins:
    """The resizer alone, asked in another way than the template says."""
    resizer = replaced(DISTRIBUTION.origins["resizer"], **fields)
    return Origins(replaced(DISTRIBUTION, origins={"resizer": resizer}), {"resizer": door})


@pytest.mark.parametrize(("attempts", "asked"), [(1, 1), (3, 3)])
async def test_attempts_repeat_a_stuck_render(attempts: int, asked: int) -> None:
    """AWS: for a custom origin they count for timeouts of the answer too."""
    resizer = replaced(DISTRIBUTION.origins["resizer"], attempts=attempts)
    doors = {"resizer": Scripted(SLOW)}
    found = await Origins(replaced(DISTRIBUTION, origins={"resizer": resizer}), doors).respond(
        "resizer", ASKED
    )
    assert (found.status, len(doors["resizer"].asked)) == (504, asked)


async def test_who_does_not_answer_within_the_read_timeout_is_too_slow() -> None:
    class Stuck:
        async def respond(self, request: OriginRequest) -> OriginResponse:
            await asyncio.Event().wait()
            raise AssertionError(request)

    assert (await only_resizer(Stuck(), read_s=0.0).respond("resizer", ASKED)).status == 504


async def test_without_its_code_there_is_no_failover(moto_bucket: s3_servers.Objects) -> None:
    where = f"{CONFIG}/OriginGroups/Items/0/FailoverCriteria/StatusCodes/Items"
    async with local_cloudfront.cloud(
        moto_bucket, local_cloudfront.changed(local_cloudfront.put(where, [403]))
    ) as viewer:
        assert (await viewer.ask(PATH)).status == 404
        assert not viewer.resizer.asked


async def test_what_the_secondary_answers_is_kept_under_the_same_key(viewer: local_cloudfront.Viewer) -> None:
    found = [(await viewer.ask(PATH)).headers["x-cache"] for _ in range(2)]
    assert found == ["Miss from cloudfront", "Hit from cloudfront"]
    assert (viewer.cloud.faults["s3"].asked, len(viewer.resizer.asked)) == (1, 1)


async def test_a_head_is_asked_of_the_origins_as_one(viewer: local_cloudfront.Viewer) -> None:
    found = await viewer.ask(PATH, "HEAD")
    assert (found.status, found.body) == (200, b"")
    assert viewer.resizer.asked[0].method == "HEAD"


# -------------------------------------------------------------------------------- 8: access to the bucket


@pytest.mark.server("versitygw")
@pytest.mark.parametrize(
    "key", ["g/a.jpg", "g/a b+c&d.jpg", "g/été.jpg", "g/(1)!'*.jpg", "g/%41.jpg", "g/~_-.=,;:@$.jpg"]
)
async def test_a_stored_rendition_is_read_by_a_signature_that_the_server_verifies(
    key: str, versitygw_bucket: s3_servers.Objects
) -> None:
    versitygw_bucket.put(f"resized/800x600/{key}", b"stored", ContentType="image/jpeg")
    async with local_cloudfront.cloud(versitygw_bucket) as viewer:
        found = await viewer.ask(f"/resize/800x600/{quote(key)}")
        assert (found.status, found.body, found.headers["content-type"]) == (200, b"stored", "image/jpeg")
        assert not viewer.resizer.asked


@pytest.mark.server("versitygw")
@pytest.mark.parametrize("identity", [Identity("tests", "another"), None], ids=["wrong", "none"])
async def test_a_wrong_signature_or_none_is_refused_by_the_server(
    identity: Identity | None, versitygw_bucket: s3_servers.Objects
) -> None:
    versitygw_bucket.put(STORED, b"stored")
    place = versitygw_bucket.server.endpoint
    wire = HttpClient(place, connect_s=5)
    door = SigningOrigin(wire, identity, "s3", DISTRIBUTION.arn) if identity else wire
    host = place.removeprefix("http://")
    asked = OriginRequest("GET", "http", host, f"/{versitygw_bucket.name}/{STORED}", "", {})
    assert (await door.respond(asked)).status == 403


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
    ("text", "of_stored", "of_missing"),
    [
        pytest.param(local_cloudfront.PLAIN, 200, 404, id="nothing"),
        pytest.param(
            local_cloudfront.changed(local_cloudfront.put(f"{STATEMENTS}/1", None)), 200, 403, id="listing"
        ),
        *(
            pytest.param(local_cloudfront.changed(local_cloudfront.put(*mistake)), 403, 403, id=name)
            for name, mistake in MISTAKES.items()
        ),
    ],
)
async def test_the_bucket_policy_decides_what_cloudfront_may_read(
    text: str, of_stored: int, of_missing: int, moto_bucket: s3_servers.Objects
) -> None:
    """Each id is what is missing or wrong in the template."""
    moto_bucket.put(STORED, b"stored")
    async with local_cloudfront.cloud(moto_bucket, text) as viewer:
        door = viewer.cloud.faults["s3"]
        found = await door.respond(replaced(ASKED, raw_path=f"/{STORED}"))
        missing = await door.respond(replaced(ASKED, raw_path="/resized/800x600/missing"))
        original = await door.respond(replaced(ASKED, raw_path="/originals/g/a.jpg"))
        assert (found.status, missing.status) == (of_stored, of_missing)
        assert original.status in {403, 404}
        if found.status == 403:
            assert b"<Code>AccessDenied</Code>" in found.body


async def test_originals_are_read_where_the_settings_hand_them_out(moto_bucket: s3_servers.Objects) -> None:
    moto_bucket.put("originals/g/a.jpg", b"original")
    asked = replaced(ASKED, raw_path="/originals/g/a.jpg")
    for settings, status in ((Settings(), 403), (Settings(sign_originals=False), 200)):
        async with local_cloudfront.cloud(moto_bucket, template.render(settings)) as viewer:
            assert (await viewer.cloud.faults["s3"].respond(asked)).status == status


async def test_without_access_control_the_bucket_refuses_what_came_by_http(
    moto_bucket: s3_servers.Objects,
) -> None:
    moto_bucket.put(STORED, b"stored", ACL="public-read")

    def change(resources: dict[str, Any]) -> None:
        local_cloudfront.put(f"{CONFIG}/Origins/0/OriginAccessControlId", None)(resources)
        open_to_all = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}
        resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"].insert(0, open_to_all)

    async with local_cloudfront.cloud(moto_bucket, local_cloudfront.changed(change)) as viewer:
        door = viewer.cloud.faults["s3"]
        for scheme, status in (("https", 200), ("http", 403)):
            asked = replaced(ASKED, scheme=scheme, raw_path=f"/{STORED}")
            assert (await door.respond(asked)).status == status


async def test_the_resizer_is_asked_by_a_signature_and_told_who_asks(viewer: local_cloudfront.Viewer) -> None:
    await viewer.ask(PATH)
    (asked,) = viewer.resizer.asked
    assert asked.host == DISTRIBUTION.origins["resizer"].domain
    assert (asked.scheme, asked.raw_path) == ("https", "/resized/800x600/g/a.jpg")
    assert asked.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=tests/")
    assert "/us-east-1/lambda/aws4_request" in asked.headers["authorization"]
    assert asked.headers["x-amz-source-arn"] == DISTRIBUTION.arn
    assert viewer.resizer.function
    assert viewer.resizer.function.caller_arn == DISTRIBUTION.arn
    actions = {one.action for one in viewer.resizer.function.permissions}
    assert actions == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}


async def test_without_access_control_the_resizer_gets_no_signature(moto_bucket: s3_servers.Objects) -> None:
    text = local_cloudfront.changed(local_cloudfront.put(f"{CONFIG}/Origins/1/OriginAccessControlId", None))
    async with local_cloudfront.cloud(moto_bucket, text) as viewer:
        await viewer.ask(PATH)
        assert "authorization" not in viewer.resizer.asked[0].headers


# ------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("origin", "fault", "status", "again_s"),
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
async def test_a_fault_is_answered_as_cloudfront_does_and_kept_no_longer_than_its_ttl(
    origin: str, fault: Fault, status: int, again_s: float | None, viewer: local_cloudfront.Viewer
) -> None:
    door = viewer.cloud.faults[origin]
    assert isinstance(door, FaultInjector)
    door.fault = fault
    assert (await viewer.ask(PATH)).status == status
    door.fault = None
    if again_s is None:
        return
    if again_s:
        viewer.clock.now_s += again_s - 0.5
        assert (await viewer.ask(PATH)).status == status
        viewer.clock.now_s += 0.5
    assert (await viewer.ask(PATH)).status == 200


async def test_a_server_that_is_not_there_is_no_answer() -> None:
    with pytest.raises(ConnectionError):
        await HttpClient("http://127.0.0.1:9", connect_s=5).respond(ASKED)


@pytest.mark.parametrize(
    "said",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b"HTTP/1.1 200"],
)
async def test_a_server_that_hangs_up_or_speaks_no_http_is_no_answer(said: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            await HttpClient(f"http://127.0.0.1:{port}", connect_s=5).respond(ASKED)


async def test_a_server_that_takes_too_long_to_connect_to_is_not_reached() -> None:
    with pytest.raises(ConnectionError, match="no connection in time"):
        await HttpClient("http://127.0.0.1:9", connect_s=0).respond(ASKED)


async def test_a_replaced_picture_is_new_after_its_tag_is_invalidated(
    viewer: local_cloudfront.Viewer,
) -> None:
    def respond(body: bytes) -> Callable[[OriginRequest], OriginResponse]:
        headers = {"cache-control": local_cloudfront.YEAR, "x-amz-meta-cache-tag": "o-1"}
        return lambda _: OriginResponse(200, headers, body)

    viewer.resizer.answers = respond(b"old")
    assert (await viewer.ask(PATH)).body == b"old"
    viewer.resizer.answers = respond(b"new")
    assert (await viewer.ask(PATH)).body == b"old"
    viewer.cloud.cache.invalidate("#o-1")
    assert (await viewer.ask(PATH)).body == b"new"


async def test_a_wrong_tag_header_leaves_the_old_picture(moto_bucket: s3_servers.Objects) -> None:
    text = local_cloudfront.changed(local_cloudfront.put(f"{CONFIG}/CacheTagConfig/HeaderName", "cache-tag"))
    async with local_cloudfront.cloud(moto_bucket, text) as viewer:
        headers = {"cache-control": local_cloudfront.YEAR, "x-amz-meta-cache-tag": "o-1"}
        viewer.resizer.answers = lambda _: OriginResponse(200, headers, b"old")
        await viewer.ask(PATH)
        viewer.cloud.cache.invalidate("#o-1")
        assert (await viewer.ask(PATH)).headers["x-cache"] == "Hit from cloudfront"
