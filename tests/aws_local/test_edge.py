"""The edge: behaviours, signatures, viewer functions, cache key, headers and access log."""

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

PLAIN = local_cloudfront.read_plan().distribution.behaviors[0]
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
    async with local_cloudfront.start(bucket) as running:
        yield running


def request(method: str = "GET", scheme: str = "https", target: str = PATH, **fields: Any) -> ViewerRequest:  # noqa: ANN401 - fields of a value
    path, _, query = target.partition("?")
    default = {
        "method": method,
        "scheme": scheme,
        "raw_path": path,
        "query": query,
        "host": local_cloudfront.HOST,
    }
    return ViewerRequest(**{**default, **fields})


# ------------------------------------------------------------------------------------------ schemes


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
def test_http_is_redirected_or_refused_by_the_viewer_protocol_policy(
    protocol: str, scheme: str, method: str, status: int | None
) -> None:
    response = behaviors.refusal(
        replaced(PLAIN, viewer_protocol_policy=protocol), request(method, scheme), 443
    )
    assert (response and response.response.status) == status


@pytest.mark.parametrize(
    ("host", "https_port", "location"),
    [
        ("cdn.example.com", 443, "https://cdn.example.com/resize/a//%2F/../b?x=%41&&y"),
        ("localhost:8000", 8443, "https://localhost:8443/resize/a//%2F/../b?x=%41&&y"),
    ],
)
def test_a_redirect_keeps_the_path_and_query_byte_for_byte(host: str, https_port: int, location: str) -> None:
    viewer_request = request(scheme="http", target="/resize/a//%2F/../b?x=%41&&y", host=host)
    response = behaviors.refusal(PLAIN, viewer_request, https_port)
    assert response
    assert response.response.headers["location"] == location


# --------------------------------------------------------------------------------------- behaviours


@pytest.mark.parametrize(
    ("path", "normalized"),
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
def test_normalized_path_follows_rfc_3986(path: str, normalized: str) -> None:
    assert behaviors.normalized_path(path) == normalized


@given(st.text("/.%2eE~aé", max_size=20))
def test_normalized_path_is_idempotent(text: str) -> None:
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
def test_matches_uses_cloudfronts_path_patterns(pattern: str, path: str, *, is_match: bool) -> None:
    assert behaviors.matches(pattern, path) is is_match


def test_choose_returns_the_first_matching_behaviour() -> None:
    ordered = [replaced(PLAIN, path_pattern=pattern) for pattern in ("/resize/*/clients/*", "/resize/*", "*")]
    chosen = [
        behaviors.choose(ordered, path).path_pattern
        for path in ("/resize/a/clients/b", "/x/../resize/a", "/original/a")
    ]
    assert chosen == ["/resize/*/clients/*", "/resize/*", "*"]


@pytest.mark.parametrize(
    ("viewer_request", "status"),
    [
        (request("POST"), 403),
        (request("OPTIONS"), 403),
        (request("DELETE"), 403),
        (request(has_body=True), 403),
        (request("HEAD"), None),
    ],
)
def test_a_body_or_a_method_that_is_not_allowed_is_403(
    viewer_request: ViewerRequest, status: int | None
) -> None:
    response = behaviors.refusal(PLAIN, viewer_request, 443)
    assert (response and response.response.status) == status


@needs_node
async def test_the_function_gets_the_raw_path(viewer: local_cloudfront.Viewer) -> None:
    response = await viewer.request("/x/../resize/800x600/g/a.jpg")
    assert (response.status, json.loads(response.body)["error"]["code"]) == (404, "unknown-path")
    assert not viewer.resizer.requests


# --------------------------------------------------------------------------------------- signatures


PRIVATE_PATH = "/resize/800x600/clients/smith/1.jpg"
PRIVATE_URL = f"https://{local_cloudfront.HOST}{PRIVATE_PATH}"
EXPIRES_S = int(local_cloudfront.Clock().now_s) + 60


def signed(signer: Signer, **fields: Any) -> str:  # noqa: ANN401 - fields of a value
    grant = Policy(resource=PRIVATE_URL, **{"expires_s": EXPIRES_S, **fields})
    return signer.url(PRIVATE_URL, grant).removeprefix(f"https://{local_cloudfront.HOST}")


@needs_node
@pytest.mark.parametrize("ecdsa", [True, False], ids=["ecdsa", "rsa"])
async def test_a_signed_url_is_served_and_the_origin_gets_no_signature(
    *,
    ecdsa: bool,
    bucket: s3_servers.Objects,
    tmp_path: Path,
) -> None:
    private = private_galleries.PrivateGallery(tmp_path, ecdsa=ecdsa)
    async with local_cloudfront.start(bucket, private.text) as viewer:
        response = await viewer.request(signed(private.signer))
        assert (response.status, response.headers["cache-control"]) == (200, "private, max-age=3600")
        (received,) = viewer.resizer.requests
        assert (received.query, received.headers["x-galerly-private"]) == ("", "1")
        assert not {"Key-Pair-Id", "Hash-Algorithm"} & set(re.findall(r"[\w-]+", str(received)))


@needs_node
async def test_signed_cookies_allow_their_resource_only(bucket: s3_servers.Objects, tmp_path: Path) -> None:
    private = private_galleries.PrivateGallery(tmp_path)
    resource = f"https://{local_cloudfront.HOST}/resize/*/clients/smith/*"
    cookies = private.signer.cookies(Policy(resource=resource, expires_s=EXPIRES_S))
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    async with local_cloudfront.start(bucket, private.text) as viewer:
        assert (await viewer.request(PRIVATE_PATH, cookie=header)).status == 200
        assert (await viewer.request(PRIVATE_PATH.replace("smith", "jones"), cookie=header)).status == 403


@needs_node
async def test_a_missing_or_invalid_signature_is_403_and_reaches_no_origin(
    bucket: s3_servers.Objects, tmp_path: Path
) -> None:
    private = private_galleries.PrivateGallery(tmp_path)
    valid = signed(private.signer)
    async with local_cloudfront.start(bucket, private.text) as viewer:
        invalid = {
            PRIVATE_PATH: "MissingKey",
            signed(private.signer_named("KOTHER")): "AccessDenied",
            signed(private.signer, expires_s=EXPIRES_S - 60): "AccessDenied",
            signed(private.signer, starts_s=EXPIRES_S - 1): "AccessDenied",
            signed(private.signer, network="192.0.2.0/24"): "AccessDenied",
            valid.replace("smith/1", "smith/2"): "AccessDenied",
        }
        for target, code in invalid.items():
            response = await viewer.request(target)
            assert (response.status, f"<Code>{code}</Code>" in response.body.decode()) == (403, True), target
            assert response.headers["x-cache"] == "Error from cloudfront"
        assert not viewer.resizer.requests
        assert (await viewer.request(valid)).status == 200


@needs_node
async def test_a_hit_needs_a_signature(bucket: s3_servers.Objects, tmp_path: Path) -> None:
    private = private_galleries.PrivateGallery(tmp_path)
    async with local_cloudfront.start(bucket, private.text) as viewer:
        await viewer.request(signed(private.signer))
        assert (await viewer.request(signed(private.signer))).headers["x-cache"] == "Hit from cloudfront"
        assert (await viewer.request(PRIVATE_PATH)).status == 403


@needs_node
async def test_an_encoding_that_no_private_pattern_matches_is_refused_by_the_function(
    bucket: s3_servers.Objects, tmp_path: Path
) -> None:
    """Normalisation does not decode `%40` (RFC 3986), so the pattern with `@` does not match."""
    async with local_cloudfront.start(
        bucket, private_galleries.PrivateGallery(tmp_path, "smith@home").text
    ) as viewer:
        for encoded in ("smith@home", "%73mith@home", "x/../smith@home"):
            assert b"MissingKey" in (await viewer.request(f"/resize/800x600/{encoded}/1.jpg")).body
        response = await viewer.request("/resize/800x600/smith%40home/a/1.jpg")
        assert (response.status, response.headers["x-cache"].split()[0]) == (403, "FunctionGeneratedResponse")
        assert b"signature-required" in response.body
        assert not viewer.resizer.requests


@needs_node
async def test_a_private_behaviour_without_its_key_group_serves_unsigned_requests(
    bucket: s3_servers.Objects, tmp_path: Path
) -> None:
    """Only the key group protects a private gallery, so a test must notice when it is missing."""
    where = "Distribution/Properties/DistributionConfig/CacheBehaviors/0/TrustedKeyGroups"
    text = local_cloudfront.changed_template(
        local_cloudfront.set_value(where, None), private_galleries.PrivateGallery(tmp_path).text
    )
    async with local_cloudfront.start(bucket, text) as viewer:
        assert (await viewer.request(PRIVATE_PATH)).status == 200


# ---------------------------------------------------------------------------------------- functions

EVENT_AS_RESPONSE = """function handler(event) {
    return { statusCode: 200, statusDescription: 'OK', headers: { a: { value: '1' } },
        body: { encoding: 'text', data: JSON.stringify(event) } };
}"""


def with_function(code: str) -> str:
    return local_cloudfront.changed_template(
        local_cloudfront.set_value("Viewer/Properties/FunctionCode", code)
    )


@every_engine
async def test_a_function_gets_the_event_of_version_1(
    programs: tuple[str, ...], bucket: s3_servers.Objects
) -> None:
    async with local_cloudfront.start(bucket, with_function(EVENT_AS_RESPONSE), programs) as viewer:
        response = await viewer.request(
            "/resize/a%20b?x=1&y=2&y=%33&z", cookie="c=d; e", accept="a", connection="close"
        )
    event = json.loads(response.body)
    request_id = event["context"].pop("requestId")
    assert request_id == response.headers["x-amz-cf-id"]
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
async def test_a_response_of_the_function_bypasses_cache_and_origin(
    programs: tuple[str, ...], bucket: s3_servers.Objects
) -> None:
    async with local_cloudfront.start(bucket, with_function(EVENT_AS_RESPONSE), programs) as viewer:
        for _ in range(2):
            response = await viewer.request(PATH)
            assert response.headers["x-cache"] == "FunctionGeneratedResponse from cloudfront"
        assert viewer.cloudfront.faults["s3"].request_count == 0


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
async def test_a_function_that_fails_or_returns_something_invalid_is_an_error(
    body: str, status: int, programs: tuple[str, ...], bucket: s3_servers.Objects
) -> None:
    code = f"function handler(event) {{ {body} }}"
    async with local_cloudfront.start(bucket, with_function(code), programs) as viewer:
        assert (await viewer.request(PATH)).status == status
        assert (await viewer.request(PATH)).status == status  # the engine still works


@needs_node
async def test_code_with_a_syntax_error_raises_unmodelled_property(bucket: s3_servers.Objects) -> None:
    with pytest.raises(UnmodelledProperty, match="FunctionCode: SyntaxError"):
        async with local_cloudfront.start(bucket, with_function("function handler(event) {"), ("node",)):
            pass


def with_response_function(body: str) -> str:
    """The template with a viewer-response function of the behaviour `/resize/*`."""
    code = f"""function handler(event) {{
        if (event.context.eventType === 'viewer-request') {{ return event.request; }}
        {body}
    }}"""

    def change(resources: dict[str, Any]) -> None:
        local_cloudfront.set_value("Viewer/Properties/FunctionCode", code)(resources)
        where = "Distribution/Properties/DistributionConfig/CacheBehaviors/0/FunctionAssociations"
        arn = {"Fn::GetAtt": ["Viewer", "FunctionARN"]}
        event_types = ("viewer-request", "viewer-response")
        local_cloudfront.set_value(
            where, [{"EventType": event_type, "FunctionARN": arn} for event_type in event_types]
        )(resources)

    return local_cloudfront.changed_template(change)


@needs_node
async def test_a_viewer_response_function_does_not_run_for_errors(bucket: s3_servers.Objects) -> None:
    body = """event.response.headers.seen = { value: String(event.response.statusCode) };
        return event.response;"""
    async with local_cloudfront.start(bucket, with_response_function(body)) as viewer:
        assert (await viewer.request(PATH)).headers["seen"] == "200"
        viewer.resizer.make_response = lambda _: OriginResponse(404, {}, b"")
        assert "seen" not in (await viewer.request("/resize/other")).headers


@needs_node
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("throw new Error('no')", 503),
        ("event.response.statusCode = 404; return event.response", 502),
        ("event.response.headers.Upper = { value: '1' }; return event.response", 502),
    ],
)
async def test_a_viewer_response_function_that_fails_or_changes_the_status_is_an_error(
    body: str, status: int, bucket: s3_servers.Objects
) -> None:
    async with local_cloudfront.start(bucket, with_response_function(body)) as viewer:
        response = await viewer.request(PATH)
        assert (response.status, response.headers["x-cache"]) == (status, "Error from cloudfront")


# -------------------------------------------------------------------------------------- cache key


@needs_node
async def test_query_and_accept_are_not_in_the_cache_key(viewer: local_cloudfront.Viewer) -> None:
    responses = [
        await viewer.request(PATH),
        await viewer.request(f"{PATH}?v=2"),
        await viewer.request(PATH, accept="image/png"),
        await viewer.request("/resize/thumbnail/g/%61.jpg"),
        await viewer.request(PATH, "HEAD"),
    ]
    assert [response.headers["x-cache"].split()[0] for response in responses] == [
        "Miss",
        "Hit",
        "Hit",
        "Hit",
        "Hit",
    ]
    assert (await viewer.request(PATH, accept="image/webp")).headers["x-cache"] == "Miss from cloudfront"


@needs_node
async def test_accept_in_the_cache_key_makes_an_object_for_each_value(bucket: s3_servers.Objects) -> None:
    where = "PathOnly/Properties/CachePolicyConfig/ParametersInCacheKeyAndForwardedToOrigin/HeadersConfig"
    text = local_cloudfront.changed_template(
        local_cloudfront.set_value(where, {"HeaderBehavior": "whitelist", "Headers": ["Accept"]})
    )
    async with local_cloudfront.start(bucket, text) as viewer:
        for accept in ("image/png", "image/gif"):
            assert (await viewer.request(PATH, accept=accept)).headers["x-cache"] == "Miss from cloudfront"
        assert [request.headers["accept"] for request in viewer.resizer.requests] == [
            "image/png",
            "image/gif",
        ]


@needs_node
@pytest.mark.parametrize(
    ("config", "query"),
    [
        ({"QueryStringBehavior": "none"}, ""),
        ({"QueryStringBehavior": "all"}, "b=1&a=2&a=3"),
        ({"QueryStringBehavior": "whitelist", "QueryStrings": ["a"]}, "a=2&a=3"),
    ],
)
async def test_the_origin_gets_the_query_and_headers_of_the_policies(
    config: dict[str, Any], query: str, bucket: s3_servers.Objects
) -> None:
    def change(resources: dict[str, Any]) -> None:
        local_cloudfront.set_value(
            "Viewer/Properties/FunctionCode", "function handler(event) { return event.request; }"
        )(resources)
        local_cloudfront.set_value("Marks/Properties/OriginRequestPolicyConfig/QueryStringsConfig", config)(
            resources
        )

    async with local_cloudfront.start(bucket, local_cloudfront.changed_template(change)) as viewer:
        await viewer.request(f"{PATH}?b=1&a=2&a=3", x_galerly_stored="1", referer="x", user_agent="me")
        (received,) = viewer.resizer.requests
    assert received.query == query
    assert received.headers["x-galerly-stored"] == "1"
    assert "referer" not in received.headers
    assert received.headers["user-agent"] == "Amazon CloudFront"


# ------------------------------------------------------------------------------------------ headers


@needs_node
async def test_the_headers_policy_removes_and_adds_headers_for_misses_and_hits(
    viewer: local_cloudfront.Viewer,
) -> None:
    viewer.resizer.make_response = lambda _: OriginResponse(
        200,
        {
            "x-amz-meta-cache-tag": "o-1",
            "server": "x",
            "vary": "Origin",
            "cache-control": local_cloudfront.IMMUTABLE,
        },
        b"",
    )
    for _ in range(2):
        response = (await viewer.request(PATH, origin="https://gallery.example")).headers
        assert not {"x-amz-meta-cache-tag", "server"} & set(response)
        assert (response["vary"], response["x-content-type-options"]) == ("Accept", "nosniff")
        assert response["access-control-allow-origin"] == "*"
        assert response["strict-transport-security"] == "max-age=31536000"
        assert response["cache-control"] == local_cloudfront.IMMUTABLE
    assert "access-control-allow-origin" not in (await viewer.request(PATH)).headers


def policy(**fields: Any) -> ResponseHeadersPolicyConfig:  # noqa: ANN401 - fields of a value
    return replaced(PLAIN.response_headers_policy, **fields)


def cors(*origins: str, credentials: bool = False, override: bool = True) -> CorsConfig:
    return CorsConfig(
        access_control_allow_credentials=credentials,
        access_control_allow_headers=Items(("*",)),
        access_control_allow_methods=Items(("GET",)),
        access_control_allow_origins=Items(origins),
        origin_override=override,
    )


@pytest.mark.parametrize(
    ("config", "origin", "expected"),
    [
        (cors("*"), "https://a.example", "*"),
        (cors("*", credentials=True), "https://a.example", "https://a.example"),
        (cors("https://a.example"), "https://a.example", "https://a.example"),
        (cors("https://a.example"), "https://b.example", "from the origin"),
        (cors("*", override=False), "https://a.example", "from the origin"),
        (cors("*"), None, "from the origin"),
        (None, "https://a.example", "from the origin"),
    ],
)
def test_cors_headers_are_added_for_an_allowed_origin(
    config: CorsConfig | None, origin: str | None, expected: str
) -> None:
    viewer_request = request(headers={"origin": origin} if origin else {})
    response = policy(cors_config=config).apply(
        {"access-control-allow-origin": "from the origin"}, viewer_request
    )
    assert response["access-control-allow-origin"] == expected


def test_hsts_is_added_on_https_only() -> None:
    for scheme in ("http", "https"):
        response = PLAIN.response_headers_policy.apply({}, request(scheme=scheme))
        assert ("strict-transport-security" in response) == (scheme == "https")


def test_without_override_the_origins_header_is_kept() -> None:
    items = PLAIN.response_headers_policy.custom_headers_config.items
    without_override = replaced(
        PLAIN.response_headers_policy.custom_headers_config,
        items=tuple(replaced(item, override=False) for item in items),
    )
    response = policy(custom_headers_config=without_override).apply({"vary": "Origin"}, request())
    assert response["vary"] == "Origin"


# ---------------------------------------------------------------------------------------------- access log


@needs_node
async def test_access_log_has_the_templates_fields_and_the_result_types(
    viewer: local_cloudfront.Viewer,
) -> None:
    for path in (PATH, PATH, PATH, "/resize/801x600/a", "/nothing"):
        await viewer.request(path, user_agent="me")
    assert [record["x-edge-result-type"] for record in viewer.access_log] == [
        *("Miss", "Hit", "Hit", "FunctionGeneratedResponse", "FunctionGeneratedResponse")
    ]
    first = viewer.access_log[0]
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
