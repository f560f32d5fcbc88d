"""Tests the front that `galerly-cdn nginx` describes: a real nginx before two nodes of one store."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest

from galerly_cdn.access.policy import Policy
from galerly_cdn.errors import (
    Unavailable,
)
from galerly_cdn.insight.outcomes import Tier
from galerly_cdn.serialization import to_json
from tests.support import nginx, tls_certificates
from tests.support.exhaustive import count
from tests.support.logs import report_on
from tests.support.nginx_fleet import (
    AVIF,
    PICTURE,
    PRIVATE,
    Fleet,
    entries,
    front_settings,
    get,
    signer_with_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from galerly_cdn.settings.table import Settings

    Signed = Callable[..., str]

pytestmark = pytest.mark.server("nginx")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    started = Fleet(tmp_path)
    yield started
    started.stop()


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


@pytest.mark.parametrize("private", ["clients"], indirect=True)
def test_node_that_is_left_out_is_asked_before_a_viewer_is_told_that_there_is_none(
    private: tuple[Fleet, Settings, Signed],
) -> None:
    """`down` stands for what nginx makes of a node for the two seconds after two failures."""
    fleet, known, signed = private
    port, (back, lost) = nginx.free_port(), fleet.nodes
    text = nginx.front_configuration(fleet.root / "front", port, fleet.ports, known)
    left_out = text.replace(f":{back.port} max_fails=2", f":{back.port} down max_fails=2")
    assert left_out != text
    lost.process.kill()
    lost.process.communicate()
    with nginx.running(fleet.root / "front", left_out, port):
        head, hot = get(port, method="HEAD"), get(port)
        part, missing = get(port, Range="bytes=0-3"), get(port, "/resize/tiny/none.jpg")
        original = "/original/clients/smith/1.jpg"
        paths = (signed(PRIVATE), PRIVATE, signed(original), original)
        checked = [get(port, path).status for path in paths]
        with ThreadPoolExecutor(20) as threads:
            herd = Counter(threads.map(lambda _: get(port, "/resize/small/g/a.jpg").status, range(20)))
        cached = entries(fleet.root)
        lines = back.stop()
        none = get(port, "/resize/small.png/g/a.jpg")
    assert (head.status, hot.status, part.status, missing.status) == (200, 200, 206, 404)
    assert head.headers["cache-status"].endswith(", nginx; fwd=uri-miss")
    assert hot.headers["cache-status"] == "nginx; hit"
    assert checked == [200, 403, 200, 403]
    assert herd == {200: 20}
    assert sum("stages_ms" in line and "/resize/small/" in str(line["path"]) for line in lines) == 1
    assert not any(entry.startswith("private/") for entry in cached)
    assert (none.status, none.headers["retry-after"]) == (503, str(Unavailable.retry_after_s))
    assert json.loads(none.body)["error"]["code"] == Unavailable.code


def test_front_that_does_not_know_a_private_prefix_caches_none_of_its_pictures(tmp_path: Path) -> None:
    signer_with_key(tmp_path / "keys")
    fleet = Fleet(tmp_path, private_prefixes="clients", public_keys=tmp_path / "keys")
    fleet.put("clients/smith/1.jpg")
    with nginx.running_front(tmp_path / "front", fleet.ports, front_settings()) as port:
        assert get(port, "/resize/tiny/clients/smith/1.jpg").status == 403
    fleet.stop()
    assert entries(tmp_path) == []


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
