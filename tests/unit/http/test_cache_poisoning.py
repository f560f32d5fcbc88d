"""Requests cannot poison the cache: only path and Accept decide the next viewer's response (S11, CPDoS)."""

from __future__ import annotations

import pytest

from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import Answer, InMemoryCdn
from tests.support.raw_http import Served, get, run, serving

PATH = "/resize/small/g/a.jpg"
EVIL = "evil.example"
PLAIN = get(PATH, "Accept: image/webp")

UNKEYED = [
    # the site
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Host: cdn.example, evil.example",
    "X-Host: evil.example",
    "X-Forwarded-Server: evil.example",
    "X-HTTP-Host-Override: evil.example",
    "X-Original-Host: evil.example",
    "X-Forwarded-Proto: evil.example",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Protocol: evil.example",
    "X-Forwarded-Scheme: nothttps",
    "X-Url-Scheme: evil.example",
    "X-Forwarded-Ssl: on",
    "Front-End-Https: on",
    "X-Forwarded-Port: 1337",
    "X-Forwarded-Prefix: //evil.example",
    'Forwarded: for=203.0.113.1;host="evil.example";proto=https',
    "Origin: https://evil.example",
    "Referer: https://evil.example/",
    "Via: 1.1 evil.example",
    # the address and the method
    "X-Original-URL: /original/evil.example",
    "X-Rewrite-URL: /original/evil.example",
    "X-Forwarded-Uri: /evil.example",
    "X-Forwarded-Path: /evil.example",
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: POST",
    "X-Method-Override: PUT",
    "X-Forwarded-Method: HEAD",
    # the client
    "X-Forwarded-For: 203.0.113.1, evil.example",
    "X-Real-IP: 203.0.113.1",
    "X-Client-IP: 203.0.113.1",
    "X-Cluster-Client-IP: 203.0.113.1",
    "True-Client-IP: 203.0.113.1",
    "CF-Connecting-IP: 203.0.113.1",
    "CloudFront-Viewer-Address: 203.0.113.1:80",
    "Cookie: a=evil.example; CloudFront-Theme=1",
    "Authorization: Bearer evil.example",
    "Proxy-Authorization: Basic ZXZpbA==",
    "User-Agent: evil.example <script>",
    # the representation and its freshness
    "Accept-Encoding: gzip, evil.example",
    "Accept-Language: evil.example",
    "Accept-Charset: utf-7",
    "Save-Data: on",
    "DPR: 9",
    "Width: 99999",
    "Viewport-Width: 1",
    "Sec-CH-Width: 99999",
    "Cache-Control: no-store, evil.example",
    "Pragma: no-cache",
    "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    'If-Match: "evil.example"',
    'If-None-Match: "evil.example"',
    'If-Range: "evil.example"',
    "Range: lines=1-2",
    # headers for proxies
    "Connection: Accept, evil.example",
    "TE: trailers",
    "Trailer: evil.example",
    "Upgrade: evil.example",
    "Expect: evil.example",
    "Max-Forwards: 0",
    "Surrogate-Capability: evil.example",
    "X-Amz-Website-Redirect-Location: https://evil.example",
    "X-Amz-Server-Side-Encryption: evil.example",
    "CDN-Loop: evil.example",
    "Transfer-Encoding-X: chunked",
    "X-Timer: evil.example",
    "Next-Router-Prefetch: 1",
    "X-Middleware-Prefetch: 1",
    "X-Invoke-Status: 500",
    "\x21#$%&'*+.^_`|~: evil.example",
    f"X-Long: {'evil.example ' * 2000}",
]


def cdn_with_one_original(settings: Settings | None = None) -> InMemoryCdn:
    cdn = InMemoryCdn(settings=settings or Settings())
    cdn.originals.put("g/a.jpg")
    return cdn


async def request(served: Served, raw: bytes) -> Answer:
    async with served.viewer() as viewer:
        await viewer.send(raw)
        status, headers, body = await viewer.response()
    for passing in ("date", "connection"):
        headers.pop(passing, None)
    return Answer(status, headers, body)


async def clean_responses() -> list[tuple[int, bytes, dict[str, str]]]:
    """The responses to the only two requests: a miss and a hit."""
    cdn = cdn_with_one_original()
    async with serving(cdn.application) as served:
        return [without_passing_headers(await request(served, PLAIN)) for _ in range(2)]


def without_passing_headers(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    return answer.status, answer.body, answer.lasting_headers


def test_unkeyed_headers_are_at_least_forty() -> None:
    assert len({line.partition(":")[0].lower() for line in UNKEYED}) >= 40


@pytest.mark.parametrize("line", UNKEYED, ids=lambda line: line[:40])
def test_unkeyed_header_changes_no_response(line: str) -> None:
    async def scenario() -> None:
        cdn = cdn_with_one_original()
        poisoned = get(PATH, "Accept: image/webp", line)
        async with serving(cdn.application) as served:
            answers = [await request(served, raw) for raw in (poisoned, PLAIN, poisoned)]
        assert list(map(without_passing_headers, answers)) == [
            *(await clean_responses()),
            (await clean_responses())[1],
        ]
        assert [answer.headers["cache-status"].split("; ")[1] for answer in answers] == [
            "fwd=uri-miss",
            "hit",
            "hit",
        ]
        assert EVIL not in str(answers)
        assert {record.client for record in cdn.records} == {"127.0.0.1"}
        assert cdn.renderer.renders == 1

    run(scenario())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:1337", "cdn.example.evil.example", "[::1]", "127.0.0.1:8000", ""]
)
@pytest.mark.parametrize("target", [PATH, "http://evil.example" + PATH, "https://a@evil.example:1" + PATH])
def test_host_of_a_request_changes_no_response(host: str, target: str) -> None:
    async def scenario() -> None:
        poisoned = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: image/webp\r\n\r\n".encode()
        async with serving(cdn_with_one_original().application) as served:
            answers = [await request(served, raw) for raw in (poisoned, PLAIN)]
        assert list(map(without_passing_headers, answers)) == await clean_responses()
        assert EVIL not in str(answers)

    run(scenario())


REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: a\r\nAccept: image/webp\r\n".encode()
HARMFUL = {
    # The three of CPDoS (Nguyen, Lo Iacono, Federrath 2019): oversize, meta character, method override.
    "an oversize header": (REQUEST + b"X-Oversize: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "many headers": (REQUEST + b"X-Oversize: a\r\n" * 3000 + b"\r\n", 431),
    "a bell": (REQUEST + b"X-Meta: \x07\r\n\r\n", 400),
    "a line feed": (REQUEST + b"X-Meta: a\nb: c\r\n\r\n", 400),
    "a carriage return": (REQUEST + b"X-Meta: a\rb\r\n\r\n", 400),
    "a NUL": (REQUEST + b"X-Meta: a\0b\r\n\r\n", 400),
    "a delete": (REQUEST.replace(b"GET", b"DELETE") + b"\r\n", 405),
    "a post": (REQUEST.replace(b"GET", b"POST") + b"Content-Length: 0\r\n\r\n", 405),
    "an options": (REQUEST.replace(b"GET", b"OPTIONS") + b"\r\n", 405),
    "a trace": (REQUEST.replace(b"GET", b"TRACE") + b"\r\n", 405),
    "an unknown method": (REQUEST.replace(b"GET", b"PURGER") + b"\r\n", 400),
    # Others that make an error or a partial response of a valid address.
    "a bad host": (REQUEST.replace(b"Host: a", b"Host: a/evil.example") + b"\r\n", 400),
    "a bad length": (REQUEST + b"Content-Length: -1\r\n\r\n", 400),
    "an unknown coding": (REQUEST + b"Transfer-Encoding: evil\r\n\r\n", 400),
    "a fat GET": (REQUEST + b"Content-Length: 5\r\n\r\nhello", 200),
    "a query": (REQUEST.replace(b".jpg", b".jpg?w=1&cb=evil.example") + b"\r\n", 200),
    "a range": (REQUEST + b"Range: bytes=0-0\r\n\r\n", 206),
    "a range outside": (REQUEST + b"Range: bytes=999999-\r\n\r\n", 416),
    "a condition": (REQUEST + b"If-None-Match: *\r\n\r\n", 304),
    "a head": (REQUEST.replace(b"GET", b"HEAD") + b"\r\n", 200),
    "another format": (REQUEST.replace(b"webp", b"avif") + b"\r\n", 200),
    "an unknown format": (REQUEST.replace(b"image/webp", b"evil.example/" + b"a" * 8000) + b"\r\n", 200),
    "an expectation": (REQUEST + b"Expect: 200-ok\r\n\r\n", 200),
}


@pytest.mark.parametrize(("raw", "status"), HARMFUL.values(), ids=HARMFUL)
def test_harmful_request_does_not_change_the_next_response(raw: bytes, status: int) -> None:
    async def scenario() -> None:
        cdn = cdn_with_one_original()
        async with serving(cdn.application, refuse=cdn.application.refuse) as served:
            async with served.viewer() as viewer:
                await viewer.send(raw)
                head = await viewer.reader.readuntil(b"\r\n\r\n")
            received = int(head.split()[1])
            assert received == status
            assert EVIL.encode() not in head
            if received >= 400:
                assert b"cache-control: no-store" in head.lower()
            answers = [await request(served, PLAIN) for _ in range(2)]
        assert list(map(without_passing_headers, answers)) == await clean_responses()

    run(scenario())


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["X-Forwarded-For: 203.0.113.1"], "203.0.113.1"),
        (["X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 198.51.100.7"], "198.51.100.7"),
        (["X-Forwarded-For: 203.0.113.1", "x-forwarded-for: 127.0.0.9"], "203.0.113.1"),
        (["X-Forwarded-For: 203.0.113.1:80"], "127.0.0.1"),
        (["X-Forwarded-For: \tevil.example"], "127.0.0.1"),
        (["X_Forwarded_For: 203.0.113.1"], "127.0.0.1"),
        (["X-Real-IP: 203.0.113.1"], "127.0.0.1"),
        (["True-Client-IP: 203.0.113.1"], "127.0.0.1"),
        (["Forwarded: for=203.0.113.1"], "127.0.0.1"),
        (["CloudFront-Viewer-Address: 203.0.113.1:80"], "127.0.0.1"),
    ],
    ids=str,
)
def test_trusted_proxy_sets_the_client_by_x_forwarded_for_only(lines: list[str], client: str) -> None:
    async def scenario() -> None:
        cdn = cdn_with_one_original(Settings(trusted_proxies=("127.0.0.0/8",)))
        async with serving(cdn.application) as served:
            assert (await request(served, get(PATH, *lines))).status == 200
        assert [record.client for record in cdn.records] == [client]

    run(scenario())
