"""Tests the front that `galerly-cdn nginx` describes: a real nginx before two nodes of one store."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from galerly_cdn.access import keys
from galerly_cdn.access.policy import Policy
from galerly_cdn.errors import (
    BadRequest,
    HeadersTooLarge,
    MethodNotAllowed,
    Unavailable,
    UnknownPath,
    UrlTooLong,
)
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.insight.outcomes import Tier
from galerly_cdn.model import PREFERENCE
from galerly_cdn.serialization import to_json
from galerly_cdn.settings.table import Settings
from tests.support import nginx, pictures, tls_certificates
from tests.support.exhaustive import EVERYTHING, count
from tests.support.logs import report_on
from tests.support.shapes import ServeProcess, send_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from galerly_cdn.access.signing import Signer
    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.model import Format, SizeRule
    from tests.support.shapes import Answer

    Signed = Callable[..., str]

pytestmark = pytest.mark.server("nginx")

AVIF = {"Accept": "image/avif,image/webp,*/*"}
PICTURE = "/resize/tiny/g/a.jpg"
SIZES = ("both 10x10 avif=60 webp=80", "avif 20x20 avif=60", "webp 30x30 webp=80", "none 40x40 jpeg=80")


RULES = Settings(sizes=SIZES).size_rules


class Fleet:
    """Two nodes of one store, and a front."""

    def __init__(self, root: Path, **values: object) -> None:
        given = {"public_urls": "https://cdn.test", "trusted_proxies": "127.0.0.1/32", **values}
        self.root = root
        (root / "front").mkdir()
        self.nodes = [ServeProcess(root / "photographs", root / "renditions", dict(given)) for _ in range(2)]
        self.put("g/a.jpg")

    def put(self, key: str, quality: int = 92) -> None:
        self.nodes[0].put(key, pictures.jpeg(60, 40, quality=quality))

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def stop(self) -> list[dict[str, object]]:
        """The access logs of both nodes."""
        return [line for node in self.nodes if node.process.poll() is None for line in node.stop()]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    started = Fleet(tmp_path)
    yield started
    started.stop()


def front_settings(**values: object) -> Settings:
    return Settings(public_urls=("https://cdn.test",), **values)  # type: ignore[arg-type]  # the caller names fields


def get(port: int, path: str = PICTURE, method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return send_request(port, method, path, {"Host": "cdn.test", **AVIF, **named})


def entries(root: Path) -> list[str]:
    """The keys of the front's cache entries."""
    files = (file for file in (root / "front/cache").rglob("*") if file.is_file())
    keys = (file.read_bytes().partition(b"\nKEY: ")[2].partition(b"\n")[0] for file in files)
    return sorted(key.decode("latin-1") for key in keys)


def test_picture_is_cached_with_the_node_s_headers_and_its_own_cache_status(fleet: Fleet) -> None:
    with nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port:
        direct = get(fleet.ports[0])
        first, second = get(port), get(port, "/resize/150x150/g/%61.jpg?v=2", Host="evil.test", Origin="null")
        head, unmodified = get(port, method="HEAD"), get(port, If_None_Match=first.headers["etag"])
        named = get(port, "/resize/tiny.avif/g/a.jpg")
        cached = entries(fleet.root)
    assert (first.status, second.status, head.status, unmodified.status) == (200, 200, 200, 304)
    assert first.body == second.body == direct.body
    assert (head.body, unmodified.body) == (b"", b"")
    assert first.headers["cache-status"].startswith("galerly-cdn; ")
    assert first.headers["cache-status"].endswith(", nginx; fwd=uri-miss")
    assert first.headers["server-timing"].startswith("total;dur=")
    assert second.headers["cache-status"] == head.headers["cache-status"] == "nginx; hit"
    assert "server-timing" not in second.headers
    same = {"etag", "cache-control", "content-type", "content-disposition", "content-length", "vary"}
    same |= {"access-control-allow-origin", "cross-origin-resource-policy", "timing-allow-origin"}
    for answer in (first, second, head):
        assert {name: answer.headers[name] for name in same} == {name: direct.headers[name] for name in same}
    assert "vary" not in named.headers
    assert cached == ["150x150.avif/g/a.jpg"], "one entry for both names of a size and both ways to a format"


def test_part_is_answered_by_the_node_and_416_is_not_immutable(fleet: Fleet) -> None:
    with nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port:
        whole = get(port)
        part, refused = get(port, Range="bytes=2-5"), get(port, Range="bytes=9999999-")
    assert (part.status, part.body) == (206, whole.body[2:6])
    assert (refused.status, refused.headers["cache-control"]) == (416, "no-store")


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
    "Host: a\r\nAuthorization: Bearer x\r\nCookie: CloudFront-Policy=x",
]


def raw_status(port: int, target: str, header: str, method: str = "GET") -> int:
    """As `raw_answer`, the status alone."""
    return raw_answer(port, target, header, method).status


class RawAnswer(NamedTuple):
    """The status and the body of a response; the status is 0 if the connection was closed without any."""

    status: int
    body: bytes


def raw_answer(port: int, target: str, header: str, method: str = "GET") -> RawAnswer:
    """The response to a request that is sent as it is written."""
    request = f"{method} {target} HTTP/1.1\r\nConnection: close\r\n{header}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.encode("latin-1"))
        received = b""
        with contextlib.suppress(ConnectionResetError):  # after its answer to a malformed request
            while chunk := connection.recv(65536):
                received += chunk
    body = received.partition(b"\r\n\r\n")[2]
    return RawAnswer(int(received[9:12]), body) if received.startswith(b"HTTP/") else RawAnswer(0, body)


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


def test_herd_for_one_picture_causes_one_render(fleet: Fleet) -> None:
    viewers = count(1000, 200)
    start = threading.Barrier(viewers)

    def view(_: int) -> tuple[int, bytes]:
        start.wait(60)
        answer = get(port)
        return answer.status, answer.body

    with (
        nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port,
        ThreadPoolExecutor(viewers) as threads,
    ):
        answers = Counter(threads.map(view, range(viewers)))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 200
    lines = fleet.stop()
    assert len([line for line in lines if line.get("stages_ms")]) == 1


def test_all_renditions_of_a_photograph_are_asked_of_one_node(fleet: Fleet) -> None:
    sizes = ("tiny", "400x400", "small.webp")
    with nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port:
        for number in range(40):
            for size in sizes:
                assert get(port, f"/resize/{size}/none/{number}%20.jpg").status == 404
    asked = [Counter(line["key"] for line in node.stop()) for node in fleet.nodes]
    assert not asked[0].keys() & asked[1].keys()
    assert min(map(len, asked)) > 5
    assert set((asked[0] + asked[1]).values()) == {len(sizes)}


def test_lost_node_fails_no_request_and_without_nodes_cached_pictures_are_stale(fleet: Fleet) -> None:
    for number in range(8):
        fleet.put(f"g/{number}.jpg")
    text = nginx.front_configuration(
        fleet.root / "front", port := nginx.free_port(), fleet.ports, front_settings()
    )
    # An entry that is old at once: no test waits ten seconds
    text = text.replace("proxy_cache_valid 200 10s", "proxy_cache_valid 200 1s")
    with nginx.running(fleet.root / "front", text, port):
        for number in range(4):
            assert get(port, f"/resize/tiny/g/{number}.jpg").status == 200
        fleet.nodes[0].process.kill()
        fleet.nodes[0].process.communicate()
        for number in range(8):
            assert get(port, f"/resize/tiny/g/{number}.jpg").status == 200
        etag = get(port).headers["etag"]
        fleet.nodes[1].process.kill()
        fleet.nodes[1].process.communicate()
        statuses = set()
        while "nginx; hit; detail=stale" not in statuses:
            answer = get(port)
            assert (answer.status, answer.headers["etag"]) == (200, etag)
            statuses.add(answer.headers["cache-status"])
        cold = get(port, "/resize/small/g/a.jpg")
    assert (cold.status, cold.headers["retry-after"]) == (503, str(Unavailable.retry_after_s))
    assert json.loads(cold.body)["error"]["code"] == Unavailable.code
    assert cold.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_node_that_ends_under_load_fails_no_request(fleet: Fleet, sent: signal.Signals) -> None:
    paths = [f"/resize/{size}/g/{number}.jpg" for number in range(30) for size in ("tiny", "small")]
    for number in range(30):
        fleet.put(f"g/{number}.jpg")
    begun = threading.Semaphore(0)

    def view(path: str) -> int:
        begun.release()
        return get(port, path).status

    with (
        nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port,
        ThreadPoolExecutor(4) as threads,
    ):
        answers = threads.map(view, paths)
        for _ in range(12):
            begun.acquire()
        fleet.nodes[0].process.send_signal(sent)
        statuses = list(answers)
    fleet.nodes[0].process.communicate()
    assert set(statuses) == {200}


def test_front_serves_https(fleet: Fleet) -> None:
    folder, port = fleet.root / "front", nginx.free_port()
    files = tls_certificates.make(folder)
    options = {"certificate": str(files.certificate), "certificate_key": str(files.key)}
    text = nginx.front_configuration(folder, port, fleet.ports, front_settings(), **options)
    with nginx.running(folder, text, port):
        context = tls_certificates.trusting(files.certificate)
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
        with contextlib.closing(connection):
            connection.request("GET", PICTURE, headers=AVIF)
            response = connection.getresponse()
            body = response.read()
    assert (response.status, response.headers["content-type"], len(body) > 100) == (200, "image/avif", True)


def test_replaced_photograph_is_revalidated_and_shown(fleet: Fleet) -> None:
    text = nginx.front_configuration(
        fleet.root / "front", port := nginx.free_port(), fleet.ports, front_settings()
    )
    text = text.replace("proxy_cache_valid 200 10s", "proxy_cache_valid 200 1s")
    with nginx.running(fleet.root / "front", text, port):
        old, statuses = get(port), set()
        while "nginx; fwd=stale; fwd-status=304" not in statuses:
            statuses.add(get(port).headers["cache-status"])
        fleet.put("g/a.jpg", quality=40)
        while (new := get(port)).headers["etag"] == old.headers["etag"]:
            pass
    assert new.status == 200
    assert new.headers["cache-status"].endswith(", nginx; fwd=stale")
    assert new.body == get(fleet.ports[0]).body


def signer_with_key(folder: Path) -> Signer:
    """A signer; the folder has its public key alone, as a node wants it."""
    _, _, private = keys.create_key_pair(folder, ecdsa=True)
    signer = keys.load_signer(private)
    private.unlink()
    return signer


PRIVATE = "/resize/tiny/clients/smith/1.jpg"


@pytest.fixture
def private(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Fleet, Settings, Signed]]:
    """A fleet with private galleries, the front's settings, and a function that signs a path for so long."""
    signer = signer_with_key(tmp_path / "keys")
    fleet = Fleet(tmp_path, private_prefixes=request.param, public_keys=tmp_path / "keys")
    fleet.put("clients/smith/1.jpg")

    def signed(path: str, lifetime_s: int = 3600) -> str:
        url = f"https://cdn.test{path}"
        policy = Policy(resource=url, expires_s=int(time.time()) + lifetime_s)
        return signer.url(url, policy).removeprefix("https://cdn.test")

    yield fleet, front_settings(private_prefixes=(request.param,)), signed
    fleet.stop()


@pytest.mark.parametrize("private", ["clients"], indirect=True)
def test_private_picture_is_cached_and_each_request_is_checked(
    private: tuple[Fleet, Settings, Signed],
) -> None:
    fleet, known, signed = private
    with nginx.running_front(fleet.root / "front", fleet.ports, known) as port:
        first, hot = get(port, signed(PRIVATE)), get(port, signed(PRIVATE))
        part = get(port, signed(PRIVATE), Range="bytes=0-3")
        missing = get(port, signed("/resize/tiny/clients/smith/none.jpg"))
        answers = {path: get(port, path) for path in (PRIVATE, signed(PRIVATE, -1), signed(PRIVATE) + "x")}
        misspelled = [
            get(port, signed(PRIVATE).replace(PRIVATE, path)).status
            for path in (
                PRIVATE.replace("clients", "%63lients"),
                PRIVATE.replace("tiny", "small"),
                PRIVATE.replace("/smith", "%2fsmith"),
                PRIVATE.replace("/smith", "//smith"),
                f"/x/..{PRIVATE}",
                f"/authorize{PRIVATE}",
                "/-galerly/authorize",
                f"{PRIVATE}?{'a' * 5000}",
            )
        ]
        original, public = get(port, "/original/g/a.jpg"), get(port)
        cached = entries(fleet.root)
    for answer in (first, hot):
        assert (answer.status, answer.headers["cache-control"]) == (200, "private, max-age=3600")
        assert "access-control-allow-origin" not in answer.headers
    assert first.body == hot.body
    assert hot.headers["cache-status"] == "nginx; hit"
    assert (part.status, part.body) == (206, hot.body[:4])
    assert missing.status == 404
    codes = [json.loads(one.body)["error"]["code"] for one in answers.values()]
    assert {one.status for one in answers.values()} == {403}
    assert codes == ["signature-required", "signature-expired", "signature-invalid"]
    assert {one.headers["cache-control"] for one in answers.values()} == {"no-store"}
    assert misspelled == [403, 403, 400, 400, 400, 404, 404, 414]
    assert (original.status, public.status) == (403, 200)
    assert cached == ["150x150.avif/g/a.jpg", "private/150x150.avif/clients/smith/1.jpg"]


@pytest.mark.parametrize(("private", "path"), [("clients", PRIVATE), ("/", PICTURE)], indirect=["private"])
def test_private_picture_is_not_shown_while_no_node_can_check(
    private: tuple[Fleet, Settings, Signed], path: str
) -> None:
    fleet, known, signed = private
    with nginx.running_front(fleet.root / "front", fleet.ports, known) as port:
        assert get(port, path).status == 403
        assert get(port, signed(path)).status == 200
        for node in fleet.nodes:
            node.process.kill()
            node.process.communicate()
        answer = get(port, signed(path))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body)["error"]["code"] == "unavailable"


def test_front_that_does_not_know_a_private_prefix_caches_none_of_its_pictures(tmp_path: Path) -> None:
    signer_with_key(tmp_path / "keys")
    fleet = Fleet(tmp_path, private_prefixes="clients", public_keys=tmp_path / "keys")
    fleet.put("clients/smith/1.jpg")
    with nginx.running_front(tmp_path / "front", fleet.ports, front_settings()) as port:
        assert get(port, "/resize/tiny/clients/smith/1.jpg").status == 403
    fleet.stop()
    assert entries(tmp_path) == []


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


class _FullNode(BaseHTTPRequestHandler):
    """A node whose queue is full."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter[int]] = Counter()

    def do_GET(self) -> None:
        self.asked[id(self.server)] += 1
        body = b'{"error":{"code":"queue-full"}}'
        self.send_response(503)
        for name, value in {
            "Retry-After": "7",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class
        pass


def test_node_whose_queue_is_full_is_asked_again_and_its_answer_is_passed_on(tmp_path: Path) -> None:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _FullNode) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever).start()
    try:
        with nginx.running_front(tmp_path, [one.server_address[1] for one in servers]) as port:
            answers = [get(port) for _ in range(10)]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    assert {(one.status, one.headers["retry-after"]) for one in answers} == {(503, "7")}
    assert json.loads(answers[0].body)["error"]["code"] == "queue-full"
    assert sorted(_FullNode.asked.values()) == [10], "one node, every time"


def test_report_reads_the_front_s_log_beside_the_nodes(fleet: Fleet) -> None:
    with nginx.running_front(fleet.root / "front", fleet.ports, front_settings()) as port:
        statuses = [get(port).status for _ in range(4)]
        refused = ("/resize/1x1/g/a.jpg", '/resize/tiny/g/%22"\\.jpg', "/x")
        statuses += [get(port, path).status for path in refused]
    assert statuses == [200, 200, 200, 200, 403, 400, 404]
    (fleet.root / "nodes.log").write_bytes(b"".join(to_json(line) + b"\n" for line in fleet.stop()))
    report = report_on(fleet.root / "front/access.log", fleet.root / "nodes.log")
    assert (report.tier, report.lines.malformed) == (Tier.NGINX, 0)
    assert (report.requests, report.pictures, report.hits, report.renders, report.errors) == (7, 4, 3, 1, 3)
    assert [(one.name, one.requests) for one in report.by_size] == [("150x150", 5)]
    assert [(one.name, one.hits) for one in report.by_format] == [("avif", 3)]
