"""Tests what a front makes of any request: a format, an entry, a refusal; a real nginx before real nodes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from galerly_cdn.errors import (
    BadRequest,
    HeadersTooLarge,
    MethodNotAllowed,
    UnknownPath,
    UrlTooLong,
)
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.model import PREFERENCE
from galerly_cdn.settings.table import Settings
from tests.support import nginx
from tests.support.exhaustive import EVERYTHING
from tests.support.nginx_fleet import (
    AVIF,
    PICTURE,
    PRIVATE,
    Fleet,
    entries,
    front_settings,
    get,
    raw_answer,
    raw_status,
    signer_with_key,
)
from tests.support.shapes import send_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.model import Format, SizeRule

pytestmark = pytest.mark.server("nginx")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    started = Fleet(tmp_path)
    yield started
    started.stop()


SIZES = ("both 10x10 avif=60 webp=80", "avif 20x20 avif=60", "webp 30x30 webp=80", "none 40x40 jpeg=80")

RULES = Settings(sizes=SIZES).size_rules

FORMATS: dict[Format | None, str] = {None: "*/*", **{one: one.media_type for one in PREFERENCE}}

_TYPES = [
    "image/avif",
    "image/webp",
    "IMAGE/AVIF",
    "image/*",
    "*/*",
    "image/avifx",
    "ximage/webp",
    "a/b",
    "",
    "webp",
]

_PARAMETERS = [
    "q=0",
    "q=1",
    "Q=0.000",
    "q=0.001",
    "q=1.",
    "q=0.",
    "q=2",
    "q=",
    "q=.5",
    "x=1",
    "x",
    "q =1",
    "",
    'x="a"',
]

_SPACES = st.sampled_from(["", " ", "\t", "  "])

ELEMENTS = st.builds(
    lambda type_, parameters, space: f"{space};{space}".join([type_, *parameters]),
    st.sampled_from(_TYPES),
    st.lists(st.sampled_from(_PARAMETERS), max_size=3),
    _SPACES,
)

ACCEPTS = st.one_of(
    st.builds(lambda elements, space: f"{space},".join(elements), st.lists(ELEMENTS, max_size=6), _SPACES),
    st.text("".join(map(chr, range(0x20, 0x7F))) + "\t", max_size=60),
    st.builds(
        lambda count, text: "image/avif" + text * count, st.integers(0, 40), st.sampled_from([",", ",a/b"])
    ),
    st.integers(1000, 1040).map(lambda length: "image/webp,".ljust(length - 1) + ","),
)


@pytest.fixture(scope="module")
def deciding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A front that answers with the Accept that it would send to a node; nothing else is changed."""
    folder, port = tmp_path_factory.mktemp("deciding"), nginx.free_port()
    text = nginx.front_configuration(folder, port, [1], Settings(sizes=SIZES))
    with nginx.running(
        folder, text.replace("location /resize/ {", "location /resize/ {\nreturn 200 $galerly_accept;"), port
    ):
        yield port


@given(accept=ACCEPTS, rule=st.sampled_from(RULES))
@settings(max_examples=2000 if EVERYTHING else 600)
@example(accept="image/avif" + "," * 31, rule=RULES[0])
@example(accept="image/avif" + "," * 32, rule=RULES[0])
@example(accept="image/avif;;q=0,image/webp;q=0.010", rule=RULES[0])
def test_any_accept_is_folded_as_the_edge_negotiates(deciding: int, accept: str, rule: SizeRule) -> None:
    headers = {"Host": "a", "Accept": accept}
    answer = send_request(deciding, "GET", f"/resize/{rule.name}/a.jpg", headers)
    wanted = negotiate(accept.strip(" \t").encode(), rule.negotiable)
    assert (answer.status, answer.body.decode()) == (200, FORMATS[wanted])


RAW_TARGETS = [
    "/foo/../resize/tiny/g/a.jpg",
    "/resize/tiny/./g/a.jpg",
    "/resize/tiny/x/..%2fg/a.jpg",
    "/resize/tiny/%2e/g/a.jpg",
    "/resize/tiny/x/%2E%2E/g/a.jpg",
    "/resize/tiny/g%2fa.jpg",
    "/resize/tiny/g%2Fa.jpg",
    "/resize/tiny//g/a.jpg",
    "//resize/tiny/g/a.jpg",
    "/resize/tiny/g/a.jpg/",
    "/resize/tiny/g/a.jpg/..",
    "/resize/tiny/g/a.jpg%0d%0aX:y",
    "/resize/tiny/g/a.jpg%0a",
    "/resize/tiny/g/a.jpg%00",
    "/resize/tiny/g/a.jpg%zz",
    "/resize/tiny/g/a.jpg%",
    "/resize/tiny/g/a.jpg#b",
    "/resize/tiny/g/a.jpg?x#y",
    "/resize/tiny/g\\a.jpg",
    "/resize/tiny/g%5ca.jpg",
    "/resize/tiny/g/a<b.jpg",
    "/resize/tiny/g/\xff.jpg",
    "/resize/tiny/%67/%61.%6a%70%67",
    "/resize/%74iny/g/a.jpg",
    "/resize/tiny/g/A.jpg",
    "/resize/tiny/g/a.jpg?v=1",
    "http://evil.test/resize/tiny/g/a.jpg",
    "HTTP://evil.test:80/foo/../resize/tiny/g/a.jpg",
    "http://evil.test",
    "http://evil.test?/resize/tiny/g/a.jpg",
    "*",
    "resize/tiny/g/a.jpg",
    "/-galerly/unavailable",
    "/admin",
    "/metrics",
    "/readyz",
    "/v1/originals",
]

RAW_HEADERS = [
    "Host: evil.test",
    "Host: cdn.test:1",
    "Host: [::1]",
    "Host: a\r\nHost: b",
    "Host: a\r\nX-Forwarded-Host: evil.test",
    "Host: a\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin",
    "Host: a\r\nOrigin: null",
    "Host: a\r\nRange: bytes=0-1",
    "Host: a\r\nIf-None-Match: *",
    "Host: a\r\nIf-Match: x",
    "Host: a\r\nAccept: image/webp\r\nAccept: image/avif",
    "Host: a\r\nAccept-Encoding: br, gzip",
    "Host: a\r\nCache-Control: no-cache\r\nPragma: no-cache",
    "Host: a\r\nConnection: Accept",
    "Host: a\r\nContent-Length: 5\r\n\r\nGET /",
    "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0",
    "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
    "Host: a\r\nGalerly-Refresh: x",
    "Host: a\r\nAuthorization: Bearer x\r\nCookie: CloudFront-Policy=x",
]


@pytest.mark.parametrize("is_warm", [False, True])
def test_no_request_changes_the_next_plain_answer(fleet: Fleet, *, is_warm: bool) -> None:
    requests = [(target, "Host: a") for target in RAW_TARGETS]
    requests += [(PICTURE, header) for header in RAW_HEADERS]
    accepts = [AVIF["Accept"], "image/webp", "*/*"]
    expected = {accept: get(fleet.ports[0], Accept=accept) for accept in accepts}
    with nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port:
        if is_warm:
            assert {get(port, Accept=accept).status for accept in accepts} == {200}
        for target, header in requests:
            status = raw_status(port, target, header)
            assert status < 500, (target, header)
            answers = {accept: get(port, Accept=accept) for accept in accepts}
            for accept, answer in answers.items():
                for name in ("content-type", "etag", "cache-control", "access-control-allow-origin", "vary"):
                    assert answer.headers[name] == expected[accept].headers[name], (target, header, name)
                assert (answer.status, answer.body) == (200, expected[accept].body), (target, header)
        for method in ("POST", "PUT", "DELETE", "PURGE", "OPTIONS"):
            assert raw_status(port, PICTURE, "Host: a", method) == 405
        assert {raw_status(port, path, "Host: a") for path in RAW_TARGETS[-5:]} == {404}
    pictures_of = [one for one in entries(fleet.root) if one.endswith("/g/a.jpg")]
    assert pictures_of == ["150x150.avif/g/a.jpg", "150x150.webp/g/a.jpg", "150x150/g/a.jpg"]


def test_error_of_the_front_has_the_shape_of_a_node_s(fleet: Fleet) -> None:
    cases: list[tuple[GalerlyError, str, str, dict[str, str]]] = [
        (BadRequest(), "GET", "/resize/tiny//a.jpg", {}),
        (BadRequest(), "GET", "/resize/tiny/%zz", {}),
        (BadRequest(), "GET", PICTURE, {"Content-Length": "2000"}),
        (UnknownPath(), "GET", "/metrics", {}),
        (UnknownPath(), "GET", "/-galerly/unavailable", {}),
        (MethodNotAllowed(), "POST", PICTURE, {}),
        (UrlTooLong(), "GET", "/resize/tiny/" + "a" * 9000, {}),
        (HeadersTooLarge(), "GET", PICTURE, {"X-A": "a" * 9000}),
    ]
    with nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port:
        for error, method, path, headers in cases:
            answer = send_request(port, method, path, {"Host": "a", **headers})
            told = json.loads(answer.body)["error"]
            assert (answer.status, told["code"], told["message"]) == (error.status, error.code, error.public)
            assert len(told["request_id"]) == 32
            cache_control = "public, max-age=60" if error.max_age_s else "no-store"
            assert answer.headers["cache-control"] == cache_control
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["access-control-allow-origin"] == "*"


PIECES = [
    "/",
    "/",
    "g",
    "a.jpg",
    "clients",
    "smith",
    "1.jpg",
    "%61",
    "%63lients",
    "%67",
    ".",
    "..",
    "%2e",
    "%2f",
]

PIECES += [
    "%5c",
    "%25",
    "%252f",
    "%23",
    "%3f",
    "?",
    "#",
    "%00",
    "%0a",
    "+",
    "%20",
    "<",
    '"',
    "'",
    "$",
    "{",
    ";",
]

PIECES += ["%zz", "%", "\\", "*", "~", "\xe9", "%c3%a9", "%ff", "&", "=", "@", ":"]

TARGETS = st.builds(
    lambda beginning, pieces: beginning + "".join(pieces),
    st.sampled_from(
        ["/resize/tiny/", "/resize/150x150/clients/", "/resize/tiny.webp/g/", "/original/", "/", ""]
    ),
    st.lists(st.sampled_from(PIECES), max_size=8),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of a front and of its node, with a private picture that is in the front's cache."""
    root = tmp_path_factory.mktemp("shared")
    signer = signer_with_key(root / "keys")
    fleet = Fleet(root, private_prefixes="clients", public_keys=root / "keys")
    fleet.put("clients/smith/1.jpg")
    url = f"https://cdn.test{PRIVATE}"
    signed = signer.url(url, expires_s=int(time.time()) + 3600).removeprefix("https://cdn.test")
    settings_ = front_settings(private_prefixes=("clients",))
    with nginx.running_front(root / "front", fleet.ports, settings_) as port:
        assert {get(port, path).status for path in (signed, PICTURE)} == {200}
        yield port, fleet.ports[0]
    fleet.stop()


@given(target=TARGETS)
@settings(max_examples=3000 if EVERYTHING else 300)
@example(target="/resize/tiny/clients/smith/1.jpg")
@example(target="/resize/tiny/%63lients/smith/1.jpg")
@example(target="/resize/tiny/clients/smith/1.jpg%0a")
@example(target="/resize/tiny/g/a.jpg%0a")
@example(target="/resize/tiny/g/%61.jpg")
def test_any_path_is_answered_as_the_node_answers_or_refused(shared: tuple[int, int], target: str) -> None:
    front, node = (raw_answer(port, target, "Host: cdn.test\r\nAccept: image/avif") for port in shared)
    assert front.status < 500
    if front.status == 200:
        assert (front.body, front.status) == (node.body, node.status) or node.status == 400
    elif front.status not in {400, 404}:
        assert front.status == node.status
