"""Tests that ambiguous requests are refused: request smuggling (CWE-444), RFC 9112."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import BadRequest, MethodNotAllowed
from galerly_cdn.server.framing import check_head, origin_form
from galerly_cdn.server.listener import no_hit
from tests.support.raw_http import Echo, get, run, serving

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tests.support.raw_http import Served

SECOND = get("/second")
"""Sent in the same packet after every request of the tables; after an ambiguous one it must not be served."""

POST = b"POST /a HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"0\r\n\r\n"

each_kind = pytest.mark.parametrize("kind", ["bodies dropped", "bodies taken", "hits"])
"""The viewers' listener, one whose application may read bodies, and one that answers plain hits."""


def _serving(application: Echo, kind: str) -> AbstractAsyncContextManager[Served]:
    answer_hit = application.answer_hit if kind == "hits" else no_hit
    return serving(application, takes_bodies=kind == "bodies taken", answer_hit=answer_hit)


REFUSED = {
    # Two framings of one body (RFC 9112 §6.3): a proxy may use one, this server the other.
    "content-length and transfer-encoding": (
        POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + SMUGGLED,
        400,
    ),
    "transfer-encoding and content-length": (POST + CHUNKED + b"Content-Length: 5\r\n\r\n" + SMUGGLED, 400),
    "two content-lengths": (POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n", 400),
    "two equal content-lengths": (POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    "a list of content-lengths": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "content-length +5": (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    "content-length -1": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "content-length 0x10": (POST + b"Content-Length: 0x10\r\n\r\n", 400),
    "content-length 1_0": (POST + b"Content-Length: 1_0\r\n\r\n", 400),
    "content-length 5 5": (POST + b"Content-Length: 5 5\r\n\r\nhello", 400),
    "empty content-length": (POST + b"Content-Length:\r\n\r\n", 400),
    "content-length of 2^64": (POST + b"Content-Length: 18446744073709551616\r\n\r\n", 400),
    "content-length of 5000 digits": (POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n", 400),
    "transfer-encoding xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED, 400),
    "transfer-encoding identity": (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "transfer-encoding chunked, identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
    "transfer-encoding gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + SMUGGLED, 400),
    "chunked twice in one header": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + SMUGGLED, 400),
    "chunked twice in two headers": (POST + CHUNKED + CHUNKED + b"\r\n" + SMUGGLED, 400),
    "transfer-encoding with a vertical tab": (
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + SMUGGLED,
        400,
    ),
    "transfer-encoding in quotes": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + SMUGGLED, 400),
    "transfer-encoding under HTTP/1.0": (b"POST /a HTTP/1.0\r\n" + CHUNKED + b"\r\n" + SMUGGLED, 400),
    # Lines and headers that parsers split differently (RFC 9112 §2.2, §5).
    "bare line feeds": (b"GET /a HTTP/1.1\nHost: a\n\n", 400),
    "a bare line feed within": (GET + b"X: 1\nY: 2\r\n\r\n", 400),
    "a bare line feed at the end": (GET + b"X: 1\r\n\n", 400),
    "carriage returns alone": (b"GET /a HTTP/1.1\rHost: a\r\r", 400),
    "a carriage return in a value": (GET + b"X: 1\rY: 2\r\n\r\n", 400),
    "a folded header": (GET + b"X: 1\r\n 2\r\n\r\n", 400),
    "a folded transfer-encoding": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + SMUGGLED, 400),
    "a space before the colon": (POST + b"Content-Length : 5\r\n\r\nhello", 400),
    "a tab before the colon": (POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + SMUGGLED, 400),
    "a space before the first header": (b"GET /a HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "a header without a colon": (GET + b"Nonsense\r\n\r\n", 400),
    "a header without a name": (GET + b": 1\r\n\r\n", 400),
    "a NUL in a value": (GET + b"X: 1\x002\r\n\r\n", 400),
    "a NUL in a name": (GET + b"X\x00: 1\r\n\r\n", 400),
    "a non-ASCII name": (GET + b"X\xff: 1\r\n\r\n", 400),
    # The request line (RFC 9112 §3).
    "HTTP/0.9": (b"GET /a\r\n", 400),
    "HTTP/0.9 with its version": (b"GET /a HTTP/0.9\r\nHost: a\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /a HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    "HTTP/1.10": (b"GET /a HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    "http/1.1 in lower case": (b"GET /a http/1.1\r\nHost: a\r\n\r\n", 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a method in lower case": (b"get /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an unknown method": (b"FETCH /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a very long method": (b"G" * 100_000 + b" /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no method": (b" /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a tab in the request line": (b"GET\t/a\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a TLS greeting": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # The target (RFC 9112 §3.2).
    "a non-ASCII target": ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
    "a NUL in the target": (b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a control character in the target": (b"GET /a\x1bb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment in the target": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a target without a slash": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an asterisk for GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an asterisk for OPTIONS": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "an authority for GET": (b"GET a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an authority for CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "a path for CONNECT": (b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "an absolute form of another scheme": (b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute form without a host": (b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a target of 5 kB": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a target of 1 MB": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    # Host (RFC 9112 §3.2).
    "no host": (b"GET /a HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + b"Host: b\r\n\r\n", 400),
    "two equal hosts": (GET + b"Host: a\r\n\r\n", 400),
    "two hosts under HTTP/1.0": (b"GET /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a path in the host": (b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a list of hosts": (b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "a user in the host": (b"GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    # Size (CPDoS: an oversized request becomes an error that a cache keeps for all viewers).
    "headers of 40 kB": (GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "a header of 1 MB": (GET + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
    "8000 small headers": (GET + b"X: 1\r\n" * 8000 + b"\r\n", 431),
}

SERVED_LAST = {
    # Legal, but the connection ends with the response: no body is read, no other protocol is spoken.
    "a body": (POST + b"Content-Length: 5\r\n\r\nhello", "/a"),
    "a body that looks like a request": (POST + b"Content-Length: 66\r\n\r\n", "/a"),
    "a body on a GET": (GET + b"Content-Length: 5\r\n\r\nhello", "/a"),
    "a chunked body": (POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", "/a"),
    "a chunked body in capitals": (POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n", "/a"),
    "a chunked body with an extension": (POST + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0\r\n\r\n", "/a"),
    "a chunk of negative size": (POST + CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n", "/a"),
    "a chunk ended by a bare line feed": (POST + CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n", "/a"),
    "a chunk larger than it says": (POST + CHUNKED + b"\r\n2\r\nhello\r\n0\r\n\r\n", "/a"),
    "a length in a trailer": (POST + CHUNKED + b"\r\n0\r\nContent-Length: 5\r\n\r\n", "/a"),
    "a body that waits for 100 Continue": (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", "/a"),
    "an upgrade to h2c": (
        GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
        "/a",
    ),
    "an upgrade to WebSocket": (
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "/a",
    ),
    "connection: close": (GET + b"Connection: close\r\n\r\n", "/a"),
    "RTSP/1.0, which the parser takes for HTTP/1.0": (b"GET /a RTSP/1.0\r\n\r\n", "/a"),
    "HTTP/1.0": (b"GET /a HTTP/1.0\r\n\r\n", "/a"),
    "HTTP/1.0 with keep-alive": (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/a"),
}

SERVED = {
    "an absolute form": (b"GET http://b/a?q HTTP/1.1\r\nHost: a\r\n\r\n", "/a", "q"),
    "an absolute form with a user and a port": (
        b"GET HTTPS://u:p@b:80/a HTTP/1.1\r\nHost: a\r\n\r\n",
        "/a",
        "",
    ),
    "an absolute form without a path": (b"GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "/", ""),
    "an absolute form without a path but a query": (b"GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "/", "q"),
    "two slashes": (b"GET //b/a HTTP/1.1\r\nHost: a\r\n\r\n", "//b/a", ""),
    "two question marks": (b"GET /a?b?c HTTP/1.1\r\nHost: a\r\n\r\n", "/a", "b?c"),
    "escapes untouched": (b"GET /a%2Fb%00%0d%0aX:y HTTP/1.1\r\nHost: a\r\n\r\n", "/a%2Fb%00%0d%0aX:y", ""),
    "dots untouched": (b"GET /../a/./b HTTP/1.1\r\nHost: a\r\n\r\n", "/../a/./b", ""),
    "an empty host": (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", "/a", ""),
    "a host in brackets": (b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "/a", ""),
    "an empty line before": (b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", ""),
    "spaces before the target, as nginx reads them": (b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", ""),
    "no body": (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "/a", ""),
    "an upgrade without a Connection header": (GET + b"Upgrade: h2c\r\n\r\n", "/a", ""),
    "a target of 4 kB": (b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", "/" + "a" * 4000, ""),
    "headers of 30 kB": (GET + b"X: " + b"a" * 30_000 + b"\r\n\r\n", "/a", ""),
    "another method": (b"DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n", "/a", ""),
}


@each_kind
@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_ambiguous_request_is_refused_and_ends_connection(raw: bytes, status: int, kind: str) -> None:
    async def scenario() -> None:
        application = Echo()
        async with _serving(application, kind) as served, served.viewer() as viewer:
            await viewer.send(raw + SECOND)
            got, headers, body = await viewer.response()
            assert got == status
            assert headers["connection"] == "close"
            assert headers["content-type"] == "application/json"
            assert headers["cache-control"] == "no-store"
            assert "date" in headers
            assert "server" not in headers
            error = json.loads(body)["error"]
            assert sorted(error) == ["code", "message", "request_id"]
            assert "llhttp" not in str(error)
            assert await viewer.read_to_end() == b""
        assert application.raw_paths == []

    run(scenario())


@each_kind
@pytest.mark.parametrize(("raw", "path"), SERVED_LAST.values(), ids=SERVED_LAST.keys())
def test_last_request_of_connection_is_served_alone(raw: bytes, path: str, kind: str) -> None:
    async def scenario() -> None:
        application = Echo()
        async with _serving(application, kind) as served, served.viewer() as viewer:
            await viewer.send(raw + SECOND)
            status, headers, body = await viewer.response()
            assert (status, json.loads(body)["raw_path"], headers["connection"]) == (200, path, "close")
            assert await viewer.read_to_end() == b""
        assert application.raw_paths == [path.encode()]

    run(scenario())


@each_kind
@pytest.mark.parametrize(("raw", "path", "query"), SERVED.values(), ids=SERVED.keys())
def test_unambiguous_request_is_served_and_so_is_next(raw: bytes, path: str, query: str, kind: str) -> None:
    async def scenario() -> None:
        async with _serving(Echo(), kind) as served, served.viewer() as viewer:
            await viewer.send(raw + SECOND)
            status, headers, body = await viewer.response()
            request = json.loads(body)
            assert (status, request["raw_path"], request["query"]) == (200, path, query)
            assert "connection" not in headers
            assert json.loads((await viewer.response())[2])["raw_path"] == "/second"

    run(scenario())


def test_check_head_refuses_ambiguous_framing() -> None:
    host = (b"host", b"a")
    assert check_head("1.1", [host, (b"content-length", b"0")]) is False
    assert check_head("1.1", [host, (b"content-length", b"5")]) is True
    assert check_head("1.1", [host, (b"transfer-encoding", b"Chunked")]) is True
    refused: list[tuple[str, list[tuple[bytes, bytes]]]] = [
        ("1.1", []),
        ("1.0", [host, host]),
        ("0.9", []),
        ("2.0", [host]),
        ("1.1", [(b"host", b"a\r\n b")]),
        ("1.1", [host, (b"content-length", b"+5")]),
        ("1.1", [host, (b"content-length", b"")]),
        ("1.1", [host, (b"content-length", b"\xd9\xa5")]),
        ("1.1", [host, (b"content-length", b"5"), (b"content-length", b"5")]),
        ("1.1", [host, (b"content-length", b"5"), (b"transfer-encoding", b"chunked")]),
        ("1.1", [host, (b"transfer-encoding", b"chunked, chunked")]),
        ("1.0", [(b"transfer-encoding", b"chunked")]),
    ]
    for version, headers in refused:
        with pytest.raises(BadRequest):
            check_head(version, headers)


@pytest.mark.parametrize(
    ("method", "target", "error"),
    [
        (b"CONNECT", b"a:1", MethodNotAllowed),
        (b"OPTIONS", b"*", MethodNotAllowed),
        (b"GET", b"*", BadRequest),
        (b"GET", b"", BadRequest),
        (b"GET", b"/\xff", BadRequest),
        (b"GET", b"/a\r", BadRequest),
    ],
)
def test_origin_form_other_target_raises(method: bytes, target: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        origin_form(method, target)
