"""A viewer's request meets its behaviour, its signature, its function and its headers as on CloudFront."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.access.policy import Policy
from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty
from galerly_cdn.aws_local.cloudfront import behaviors
from galerly_cdn.aws_local.cloudfront.response_headers_policy import (
    CorsConfig,
    Items,
    ResponseHeadersPolicyConfig,
)
from galerly_cdn.aws_local.http.origin_exchange import OriginResponse
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest
from galerly_cdn.serialization import replaced
from tests.support import local_cloudfront, private_galleries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from galerly_cdn.access.signing import Signer
    from tests.support import s3_servers

PLAIN = local_cloudfront.planned().distribution.behaviors[0]
PATH = "/resize/800x600/g/a.jpg"
STORED = "resized/800x600/g/a.jpg"
ENGINES = [
    pytest.param(("node",), id="node", marks=pytest.mark.server("node")),
    pytest.param(("njs",), id="njs", marks=pytest.mark.server("njs")),
]
every_engine = pytest.mark.parametrize("programs", ENGINES)
needs_node = pytest.mark.server("node")


@pytest.fixture
def bucket(moto: s3_servers.S3Server) -> s3_servers.Objects:
    return moto.bucket()


@pytest.fixture
async def viewer(bucket: s3_servers.Objects) -> AsyncIterator[local_cloudfront.Viewer]:
    async with local_cloudfront.cloud(bucket) as running:
        yield running


def request(method: str = "GET", scheme: str = "https", target: str = PATH, **fields: Any) -> ViewerRequest:  # noqa: ANN401 - fields of a value
    path, _, query = target.partition("?")
    told = {
        "method": method,
        "scheme": scheme,
        "raw_path": path,
        "query": query,
        "host": local_cloudfront.HOST,
    }
    return ViewerRequest(**{**told, **fields})


# ------------------------------------------------------------------------------------------ 1: schemes


@pytest.mark.parametrize(
    ("protocol", "scheme", "method", "status"),
    [
        ("redirect-to-https", "http", "GET", 301),
        ("redirect-to-https", "http", "HEAD", 301),
        ("redirect-to-https", "http", "POST", 307),
        ("redirect-to-https", "https", "GET", None),
        ("https-only", "http", "GET", 403),
        ("https-only", "https", "GET", None),
        ("allow-all", "http", "GET", None),
    ],
)
def test_a_behaviour_redirects_or_refuses_what_is_not_https(
    protocol: str, scheme: str, method: str, status: int | None
) -> None:
    found = behaviors.refusal(replaced(PLAIN, protocol=protocol), request(method, scheme), 443)
    assert (found and found.response.status) == status


@pytest.mark.parametrize(
    ("host", "https_port", "location"),
    [
        ("cdn.example.com", 443, "https://cdn.example.com/resize/a//%2F/../b?x=%41&&y"),
        ("localhost:8000", 8443, "https://localhost:8443/resize/a//%2F/../b?x=%41&&y"),
    ],
)
def test_a_redirect_leads_to_the_same_address_byte_for_byte(
    host: str, https_port: int, location: str
) -> None:
    asked = request(scheme="http", target="/resize/a//%2F/../b?x=%41&&y", host=host)
    found = behaviors.refusal(PLAIN, asked, https_port)
    assert found
    assert found.response.headers["location"] == location


# --------------------------------------------------------------------------------------- 2: behaviours


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../a", "/a"),
        ("/a/..", "/"),
        ("/a/b/", "/a/b/"),
        ("/a/b/.", "/a/b/"),
        ("/%61/%2e%2E/b", "/b"),
        ("/a%2fb", "/a%2Fb"),
        ("/%7Ea", "/~a"),
    ],
)
def test_a_path_is_normalised_to_choose_a_behaviour(path: str, normal: str) -> None:
    assert behaviors.normalized_path(path) == normal


@given(st.text("/.%2eE~aé", max_size=20))
def test_a_normal_path_is_normal_already(text: str) -> None:
    path = behaviors.normalized_path(f"/{text}")
    assert behaviors.normalized_path(path) == path
    assert not {"", ".", ".."} & set(path.strip("/").split("/")[:-1])


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        ("*", "/anything/at/all", True),
        ("/resize/*", "/resize/a/b", True),
        ("resize/*", "/resize/a", True),
        ("/resize/*", "/Resize/a", False),
        ("/resize/*", "/x/resize/a", False),
        ("/a?c", "/abc", True),
        ("/a?c", "/ac", False),
        ("*.jpg", "/a/b.jpg", True),
        ("/a.c", "/abc", False),
        ("/resize/*/clients/*", "/resize/800x600/clients/x", True),
        ("/resize/*/clients/*", "/resize/800x600/x/clients/y", True),
    ],
)
def test_a_pattern_matches_as_cloudfronts_do(pattern: str, path: str, *, is_match: bool) -> None:
    assert behaviors.matches(pattern, path) is is_match


def test_the_first_pattern_wins() -> None:
    tried = [replaced(PLAIN, pattern=one) for one in ("/resize/*/clients/*", "/resize/*", "*")]
    chosen = [
        behaviors.choose(tried, path).pattern
        for path in ("/resize/a/clients/b", "/x/../resize/a", "/original/a")
    ]
    assert chosen == ["/resize/*/clients/*", "/resize/*", "*"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request("POST"), 403),
        (request("OPTIONS"), 403),
        (request("DELETE"), 403),
        (request(has_body=True), 403),
        (request("HEAD"), None),
    ],
)
def test_methods_that_are_not_allowed_and_bodies_are_403(asked: ViewerRequest, status: int | None) -> None:
    found = behaviors.refusal(PLAIN, asked, 443)
    assert (found and found.response.status) == status


@needs_node
async def test_the_raw_path_goes_on_to_the_function(viewer: local_cloudfront.Viewer) -> None:
    found = await viewer.ask("/x/../resize/800x600/g/a.jpg")
    assert (found.status, json.loads(found.body)["error"]["code"]) == (404, "unknown-path")
    assert not viewer.resizer.asked


# --------------------------------------------------------------------------------------- 3: signatures


SECRET = "/resize/800x600/clients/smith/1.jpg"
ADDRESS = f"https://{local_cloudfront.HOST}{SECRET}"
SOON_S = int(local_cloudfront.Clock().now_s) + 60


def signed(signer: Signer, **given: Any) -> str:  # noqa: ANN401 - fields of a value
    grant = Policy(resource=ADDRESS, **{"expires_s": SOON_S, **given})
    return signer.url(ADDRESS, grant).removeprefix(f"https://{local_cloudfront.HOST}")


@needs_node
@pytest.mark.parametrize("ecdsa", [True, False], ids=["ecdsa", "rsa"])
async def test_a_signed_address_is_answered_and_the_origin_sees_no_signature(
    *,
    ecdsa: bool,
    bucket: s3_servers.Objects,
    tmp_path: Path,
) -> None:
    private = private_galleries.Private(tmp_path, ecdsa=ecdsa)
    async with local_cloudfront.cloud(bucket, private.text) as viewer:
        found = await viewer.ask(signed(private.signer))
        assert (found.status, found.headers["cache-control"]) == (200, "private, max-age=3600")
        (asked,) = viewer.resizer.asked
        assert (asked.query, asked.headers["x-galerly-private"]) == ("", "1")
        assert not {"Key-Pair-Id", "Hash-Algorithm"} & set(re.findall(r"[\w-]+", str(asked)))


@needs_node
async def test_cookies_let_a_viewer_in_as_well(bucket: s3_servers.Objects, tmp_path: Path) -> None:
    private = private_galleries.Private(tmp_path)
    resource = f"https://{local_cloudfront.HOST}/resize/*/clients/smith/*"
    cookies = private.signer.cookies(Policy(resource=resource, expires_s=SOON_S))
    told = "; ".join(f"{name}={value}" for name, value in cookies.items())
    async with local_cloudfront.cloud(bucket, private.text) as viewer:
        assert (await viewer.ask(SECRET, cookie=told)).status == 200
        assert (await viewer.ask(SECRET.replace("smith", "jones"), cookie=told)).status == 403


@needs_node
async def test_what_is_not_or_badly_signed_is_403_and_reaches_no_origin(
    bucket: s3_servers.Objects, tmp_path: Path
) -> None:
    private = private_galleries.Private(tmp_path)
    good = signed(private.signer)
    async with local_cloudfront.cloud(bucket, private.text) as viewer:
        bad = {
            SECRET: "MissingKey",
            signed(private.of_key("KOTHER")): "AccessDenied",
            signed(private.signer, expires_s=SOON_S - 60): "AccessDenied",
            signed(private.signer, starts_s=SOON_S - 1): "AccessDenied",
            signed(private.signer, network="192.0.2.0/24"): "AccessDenied",
            good.replace("smith/1", "smith/2"): "AccessDenied",
        }
        for target, code in bad.items():
            found = await viewer.ask(target)
            assert (found.status, f"<Code>{code}</Code>" in found.body.decode()) == (403, True), target
            assert found.headers["x-cache"] == "Error from cloudfront"
        assert not viewer.resizer.asked
        assert (await viewer.ask(good)).status == 200


@needs_node
async def test_a_hit_asks_for_a_signature_too(bucket: s3_servers.Objects, tmp_path: Path) -> None:
    private = private_galleries.Private(tmp_path)
    async with local_cloudfront.cloud(bucket, private.text) as viewer:
        await viewer.ask(signed(private.signer))
        assert (await viewer.ask(signed(private.signer))).headers["x-cache"] == "Hit from cloudfront"
        assert (await viewer.ask(SECRET)).status == 403


@needs_node
async def test_a_spelling_that_slips_past_the_pattern_ends_at_the_function(
    bucket: s3_servers.Objects, tmp_path: Path
) -> None:
    """RFC 3986 leaves `%40` alone, so the pattern does not see the `@` that the key has."""
    async with local_cloudfront.cloud(
        bucket, private_galleries.Private(tmp_path, "smith@home").text
    ) as viewer:
        for spelt in ("smith@home", "%73mith@home", "x/../smith@home"):
            assert b"MissingKey" in (await viewer.ask(f"/resize/800x600/{spelt}/1.jpg")).body
        found = await viewer.ask("/resize/800x600/smith%40home/a/1.jpg")
        assert (found.status, found.headers["x-cache"].split()[0]) == (403, "FunctionGeneratedResponse")
        assert b"signature-required" in found.body
        assert not viewer.resizer.asked


@needs_node
async def test_a_private_behaviour_without_its_key_group_lets_everybody_in(
    bucket: s3_servers.Objects, tmp_path: Path
) -> None:
    """The planted mistake shows: nothing else would keep a stranger out."""
    where = "Distribution/Properties/DistributionConfig/CacheBehaviors/0/TrustedKeyGroups"
    text = local_cloudfront.changed(
        local_cloudfront.put(where, None), private_galleries.Private(tmp_path).text
    )
    async with local_cloudfront.cloud(bucket, text) as viewer:
        assert (await viewer.ask(SECRET)).status == 200


# ---------------------------------------------------------------------------------------- 4: functions

SHOW = """function handler(event) {
    return { statusCode: 200, statusDescription: 'OK', headers: { a: { value: '1' } },
        body: { encoding: 'text', data: JSON.stringify(event) } };
}"""


def with_function(code: str) -> str:
    return local_cloudfront.changed(local_cloudfront.put("Viewer/Properties/FunctionCode", code))


@every_engine
async def test_a_function_is_shown_the_event_of_version_1(
    programs: tuple[str, ...], bucket: s3_servers.Objects
) -> None:
    async with local_cloudfront.cloud(bucket, with_function(SHOW), programs) as viewer:
        found = await viewer.ask(
            "/resize/a%20b?x=1&y=2&y=%33&z", cookie="c=d; e", accept="a", connection="close"
        )
    event = json.loads(found.body)
    request_id = event["context"].pop("requestId")
    assert request_id == found.headers["x-amz-cf-id"]
    assert event == {
        "version": "1.0",
        "context": {
            "distributionDomainName": "distribution.cloudfront.net",
            "distributionId": "EDISTRIBUTION",
            "eventType": "viewer-request",
        },
        "viewer": {"ip": "127.0.0.1"},
        "request": {
            "method": "GET",
            "uri": "/resize/a%20b",
            "querystring": {
                "x": {"value": "1"},
                "y": {"value": "%33", "multiValue": [{"value": "2"}, {"value": "%33"}]},
                "z": {"value": ""},
            },
            "headers": {"host": {"value": local_cloudfront.HOST}, "accept": {"value": "a"}},
            "cookies": {"c": {"value": "d"}, "e": {"value": ""}},
        },
    }


@every_engine
async def test_an_answer_of_the_function_skips_origin_and_cache(
    programs: tuple[str, ...], bucket: s3_servers.Objects
) -> None:
    async with local_cloudfront.cloud(bucket, with_function(SHOW), programs) as viewer:
        for _ in range(2):
            found = await viewer.ask(PATH)
            assert found.headers["x-cache"] == "FunctionGeneratedResponse from cloudfront"
        assert viewer.cloud.faults["s3"].asked == 0


@every_engine
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("throw new Error('no')", 503),
        ("for (;;) {}", 503),
        ("return missing", 503),
        ("return 1", 502),
        ("return {}", 502),
        ("event.request.method = 'PUT'; return event.request", 502),
        ("event.request.headers.host.value = 'x'; return event.request", 502),
        ("delete event.request.headers.host; return event.request", 502),
        ("event.request.headers['X-A'] = { value: '1' }; return event.request", 502),
        ("event.request.headers.connection = { value: '1' }; return event.request", 502),
        ("event.request.uri = 'resized'; return event.request", 502),
        ("return { statusCode: 'many' }", 502),
        ("return { statusCode: 200, body: { encoding: 'base64', data: 'YWI=' } }", 200),
        ("return event.request", 200),
    ],
)
async def test_a_function_that_fails_or_does_what_it_may_not_is_an_error(
    body: str, status: int, programs: tuple[str, ...], bucket: s3_servers.Objects
) -> None:
    code = f"function handler(event) {{ {body} }}"
    async with local_cloudfront.cloud(bucket, with_function(code), programs) as viewer:
        assert (await viewer.ask(PATH)).status == status
        assert (await viewer.ask(PATH)).status == status  # and the engine goes on


@needs_node
async def test_code_that_is_none_stops_the_start(bucket: s3_servers.Objects) -> None:
    with pytest.raises(UnmodelledProperty, match="FunctionCode: SyntaxError"):
        async with local_cloudfront.cloud(bucket, with_function("function handler(event) {"), ("node",)):
            pass


def with_response_function(body: str) -> str:
    """Of the behaviour of `/resize/*`."""
    code = f"""function handler(event) {{
        if (event.context.eventType === 'viewer-request') {{ return event.request; }}
        {body}
    }}"""

    def change(resources: dict[str, Any]) -> None:
        local_cloudfront.put("Viewer/Properties/FunctionCode", code)(resources)
        where = "Distribution/Properties/DistributionConfig/CacheBehaviors/0/FunctionAssociations"
        arn = {"Fn::GetAtt": ["Viewer", "FunctionARN"]}
        events = ("viewer-request", "viewer-response")
        local_cloudfront.put(where, [{"EventType": one, "FunctionARN": arn} for one in events])(resources)

    return local_cloudfront.changed(change)


@needs_node
async def test_a_viewer_response_function_sees_no_errors(bucket: s3_servers.Objects) -> None:
    body = """event.response.headers.seen = { value: String(event.response.statusCode) };
        return event.response;"""
    async with local_cloudfront.cloud(bucket, with_response_function(body)) as viewer:
        assert (await viewer.ask(PATH)).headers["seen"] == "200"
        viewer.resizer.answers = lambda _: OriginResponse(404, {}, b"")
        assert "seen" not in (await viewer.ask("/resize/other")).headers


@needs_node
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("throw new Error('no')", 503),
        ("event.response.statusCode = 404; return event.response", 502),
        ("event.response.headers.Upper = { value: '1' }; return event.response", 502),
    ],
)
async def test_a_viewer_response_function_that_fails_is_an_error(
    body: str, status: int, bucket: s3_servers.Objects
) -> None:
    async with local_cloudfront.cloud(bucket, with_response_function(body)) as viewer:
        found = await viewer.ask(PATH)
        assert (found.status, found.headers["x-cache"]) == (status, "Error from cloudfront")


# -------------------------------------------------------------------------------------- 5: the key


@needs_node
async def test_neither_query_nor_accept_splits_the_key(viewer: local_cloudfront.Viewer) -> None:
    asked = [
        await viewer.ask(PATH),
        await viewer.ask(f"{PATH}?v=2"),
        await viewer.ask(PATH, accept="image/png"),
        await viewer.ask("/resize/thumbnail/g/%61.jpg"),
        await viewer.ask(PATH, "HEAD"),
    ]
    assert [one.headers["x-cache"].split()[0] for one in asked] == ["Miss", "Hit", "Hit", "Hit", "Hit"]
    assert (await viewer.ask(PATH, accept="image/webp")).headers["x-cache"] == "Miss from cloudfront"


@needs_node
async def test_accept_in_the_key_would_split_it(bucket: s3_servers.Objects) -> None:
    where = "PathOnly/Properties/CachePolicyConfig/ParametersInCacheKeyAndForwardedToOrigin/HeadersConfig"
    text = local_cloudfront.changed(
        local_cloudfront.put(where, {"HeaderBehavior": "whitelist", "Headers": ["Accept"]})
    )
    async with local_cloudfront.cloud(bucket, text) as viewer:
        for accept in ("image/png", "image/gif"):
            assert (await viewer.ask(PATH, accept=accept)).headers["x-cache"] == "Miss from cloudfront"
        assert [one.headers["accept"] for one in viewer.resizer.asked] == ["image/png", "image/gif"]


@needs_node
@pytest.mark.parametrize(
    ("config", "query"),
    [
        ({"QueryStringBehavior": "none"}, ""),
        ({"QueryStringBehavior": "all"}, "b=1&a=2&a=3"),
        ({"QueryStringBehavior": "whitelist", "QueryStrings": ["a"]}, "a=2&a=3"),
    ],
)
async def test_the_origin_is_sent_what_the_policies_say(
    config: dict[str, Any], query: str, bucket: s3_servers.Objects
) -> None:
    def change(resources: dict[str, Any]) -> None:
        local_cloudfront.put(
            "Viewer/Properties/FunctionCode", "function handler(event) { return event.request; }"
        )(resources)
        local_cloudfront.put("Marks/Properties/OriginRequestPolicyConfig/QueryStringsConfig", config)(
            resources
        )

    async with local_cloudfront.cloud(bucket, local_cloudfront.changed(change)) as viewer:
        await viewer.ask(f"{PATH}?b=1&a=2&a=3", x_galerly_stored="1", referer="x", user_agent="me")
        (asked,) = viewer.resizer.asked
    assert asked.query == query
    assert asked.headers["x-galerly-stored"] == "1"
    assert "referer" not in asked.headers
    assert asked.headers["user-agent"] == "Amazon CloudFront"


# ------------------------------------------------------------------------------------------ 11: headers


@needs_node
async def test_headers_are_removed_then_added_after_caching(viewer: local_cloudfront.Viewer) -> None:
    viewer.resizer.answers = lambda _: OriginResponse(
        200,
        {
            "x-amz-meta-cache-tag": "o-1",
            "server": "x",
            "vary": "Origin",
            "cache-control": local_cloudfront.YEAR,
        },
        b"",
    )
    for _ in range(2):
        found = (await viewer.ask(PATH, origin="https://gallery.example")).headers
        assert not {"x-amz-meta-cache-tag", "server"} & set(found)
        assert (found["vary"], found["x-content-type-options"]) == ("Accept", "nosniff")
        assert found["access-control-allow-origin"] == "*"
        assert found["strict-transport-security"] == "max-age=31536000"
        assert found["cache-control"] == local_cloudfront.YEAR
    assert "access-control-allow-origin" not in (await viewer.ask(PATH)).headers


def policy(**fields: Any) -> ResponseHeadersPolicyConfig:  # noqa: ANN401 - fields of a value
    return replaced(PLAIN.headers, **fields)


def cors(*origins: str, credentials: bool = False, override: bool = True) -> CorsConfig:
    return CorsConfig(
        access_control_allow_credentials=credentials,
        access_control_allow_headers=Items(("*",)),
        access_control_allow_methods=Items(("GET",)),
        access_control_allow_origins=Items(origins),
        origin_override=override,
    )


@pytest.mark.parametrize(
    ("config", "sent", "told"),
    [
        (cors("*"), "https://a.example", "*"),
        (cors("*", credentials=True), "https://a.example", "https://a.example"),
        (cors("https://a.example"), "https://a.example", "https://a.example"),
        (cors("https://a.example"), "https://b.example", "of the origin"),
        (cors("*", override=False), "https://a.example", "of the origin"),
        (cors("*"), None, "of the origin"),
        (None, "https://a.example", "of the origin"),
    ],
)
def test_cors_headers_are_for_who_asks_with_an_origin(
    config: CorsConfig | None, sent: str | None, told: str
) -> None:
    asked = request(headers={"origin": sent} if sent else {})
    found = policy(cors_config=config).applied({"access-control-allow-origin": "of the origin"}, asked)
    assert found["access-control-allow-origin"] == told


def test_hsts_is_told_on_https_alone() -> None:
    for scheme in ("http", "https"):
        found = PLAIN.headers.applied({}, request(scheme=scheme))
        assert ("strict-transport-security" in found) == (scheme == "https")


def test_without_override_the_origins_own_header_stays() -> None:
    items = PLAIN.headers.custom_headers_config.items
    kept = replaced(
        PLAIN.headers.custom_headers_config, items=tuple(replaced(one, override=False) for one in items)
    )
    found = policy(custom_headers_config=kept).applied({"vary": "Origin"}, request())
    assert found["vary"] == "Origin"


# ---------------------------------------------------------------------------------------------- 13: log


@needs_node
async def test_the_log_has_the_templates_fields_and_gives_the_hit_ratio(
    viewer: local_cloudfront.Viewer,
) -> None:
    for path in (PATH, PATH, PATH, "/resize/801x600/a", "/nothing"):
        await viewer.ask(path, user_agent="me")
    assert [one["x-edge-result-type"] for one in viewer.lines] == [
        *("Miss", "Hit", "Hit", "FunctionGeneratedResponse", "FunctionGeneratedResponse")
    ]
    first = viewer.lines[0]
    assert (
        first.items()
        >= {
            "date": "2027-01-15",
            "time": "08:00:00",
            "cs-method": "GET",
            "cs-protocol": "https",
            "cs-uri-stem": PATH,
            "cs(User-Agent)": "me",
            "sc-status": "200",
            "sc-bytes": "4",
            "x-host-header": local_cloudfront.HOST,
        }.items()
    )
    assert not {"cs-uri-query", "cs(Cookie)"} & set(first)
