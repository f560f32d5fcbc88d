"""Tests the documented VCL: a real Varnish before two real nodes of one store."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings

from galerly_cdn.http import front_refresh
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.refresh import Refresher
from galerly_cdn.settings.table import Settings
from tests.scenarios.test_nginx_requests import ACCEPTS, RAW_HEADERS, RAW_TARGETS, RULES
from tests.support import varnish
from tests.support.exhaustive import EVERYTHING
from tests.support.nginx_fleet import AVIF, PICTURE, PRIVATE, Fleet, get, raw_status, signer_with_key
from tests.support.shapes import send_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from galerly_cdn.access.signing import Signer

pytestmark = pytest.mark.server("varnishd")

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return signer_with_key(tmp_path / "keys")


@pytest.fixture
def fleet(tmp_path: Path, signer: Signer) -> Iterator[Fleet]:  # noqa: ARG001 - it makes the keys
    (tmp_path / "secret").write_text(f"{front_refresh.secret(TOKEN)} *stdin\n")
    started = Fleet(
        tmp_path, health_path="/health", private_prefixes="clients", public_keys=tmp_path / "keys"
    )
    yield started
    started.stop()


def vcl(fleet: Fleet) -> str:
    return varnish.configuration(fleet.ports, fleet.root / "secret")


@pytest.fixture(scope="module")
def deciding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A front that answers with the Accept that it would send to a node; nothing else is changed."""
    folder = tmp_path_factory.mktemp("deciding")
    text = varnish.configuration([1, 1], folder / "secret")
    text = text.replace("    call fold_accept;\n", "    call fold_accept;\n    return (synth(404));\n")
    text = text.replace("sub vcl_synth {\n", "sub vcl_synth {\n    set resp.http.Folded = req.http.Accept;\n")
    with varnish.running(folder, text) as port:
        yield port


@given(accept=ACCEPTS)
@settings(max_examples=2000 if EVERYTHING else 500)
@example(accept="image/avif" + "," * 31)
@example(accept="image/avif" + "," * 32)
@example(accept="image/avif;;q=0,image/webp;q=0.010")
def test_any_accept_is_folded_to_what_a_node_negotiates_alike(deciding: int, accept: str) -> None:
    answer = send_request(deciding, "GET", PICTURE, {"Host": "a", "Accept": accept})
    folded = answer.headers["folded"].encode()
    sent = accept.strip(" \t").encode()
    assert folded in {b"image/avif", b"image/webp", b"*/*"}
    both = next(rule for rule in RULES if rule.name == "both")
    assert negotiate(folded, both.negotiable) == negotiate(sent, both.negotiable)


def test_picture_is_cached_and_no_request_changes_the_next_plain_answer(fleet: Fleet) -> None:
    requests = [(target, "Host: a") for target in RAW_TARGETS]
    requests += [(PICTURE, header) for header in RAW_HEADERS]
    accepts = [AVIF["Accept"], "image/webp", "*/*"]
    names = ("content-type", "etag", "cache-control", "access-control-allow-origin", "vary")
    with varnish.running(fleet.root, vcl(fleet)) as port:
        expected = {accept: get(port, Accept=accept) for accept in accepts}
        for target, header in requests:
            assert raw_status(port, target, header) < 500, (target, header)
            for accept in accepts:
                answer = get(port, Accept=accept)
                assert answer.body == expected[accept].body, (target, header)
                same = {name: answer.headers[name] for name in names}
                assert same == {name: expected[accept].headers[name] for name in names}, (target, header)
        hit = get(port)
        refused = get(port, Range="bytes=9999999-")
        original, missing = get(port, "/original/g/a.jpg"), get(port, "/resize/tiny/g/none.jpg")
        statuses = [raw_status(port, PICTURE, "Host: a", method) for method in ("POST", "PURGE", "BAN")]
    assert hit.headers["cache-status"] == "varnish; hit"
    assert not {"server-timing", "cdn-cache-control", "x-galerly-photo", "via"} & hit.headers.keys()
    assert (refused.status, refused.headers["cache-control"]) == (416, "no-store")
    assert (original.status, missing.status) == (403, 404)
    assert statuses == [405, 405, 405]


def test_private_picture_is_checked_by_a_node_on_each_request_and_not_kept(
    fleet: Fleet, signer: Signer
) -> None:
    fleet.put("clients/smith/1.jpg")

    def signed(lifetime_s: int) -> str:
        url = signer.url(f"https://cdn.test{PRIVATE}", expires_s=int(time.time()) + lifetime_s)
        return url.removeprefix("https://cdn.test")

    with varnish.running(fleet.root, vcl(fleet)) as port:
        allowed = [get(port, signed(3600)) for _ in range(3)]
        encoded = PRIVATE.replace("clients", "%63lients")
        refused = [get(port, path).status for path in (PRIVATE, encoded, signed(-1), f"{signed(3600)}x")]
    assert [one.status for one in allowed] == [200, 200, 200]
    assert {one.headers["cache-control"] for one in allowed} == {"private, max-age=3600"}
    assert all(one.headers["cache-status"].endswith(", varnish; fwd=bypass") for one in allowed)
    assert refused == [403, 403, 403, 403]


def test_node_that_ends_under_load_fails_no_request_and_then_pictures_are_stale(fleet: Fleet) -> None:
    paths = [f"/resize/{size}/g/{number}.jpg" for number in range(30) for size in ("tiny", "small")]
    for number in range(30):
        fleet.put(f"g/{number}.jpg")
    begun = threading.Semaphore(0)

    def view(path: str) -> int:
        begun.release()
        return get(port, path).status

    # An entry that is old at once: no test waits ten seconds
    text = vcl(fleet).replace('"\\1s"), 0s)', '"\\1s"), 0s) / 20')
    with varnish.running(fleet.root, text) as port:
        with ThreadPoolExecutor(4) as threads:
            answers = threads.map(view, paths)
            for _ in range(12):
                begun.acquire()
            fleet.nodes[0].process.kill()
            statuses = list(answers)
        etag = get(port).headers["etag"]
        for node in fleet.nodes:
            node.process.kill()
            node.process.communicate()
        while (answer := get(port)).headers["cache-status"] != "varnish; hit; detail=stale":
            assert (answer.status, answer.headers["etag"]) == (200, etag)
        cold = get(port, "/resize/small/g/a.jpg")
    assert set(statuses) == {200}
    assert (answer.status, answer.headers["etag"]) == (200, etag)
    assert (cold.status, cold.headers["retry-after"]) == (503, "1")


async def test_replaced_photograph_is_seen_at_once_after_a_refresh(fleet: Fleet) -> None:
    with varnish.running(fleet.root, vcl(fleet)) as port:
        old = {path: get(port, path).headers["etag"] for path in (PICTURE, "/resize/small.webp/g/a.jpg")}
        fleet.put("g/a.jpg", quality=40)
        known = Settings(fronts=(f"http://127.0.0.1:{port}",))
        async with Refresher(known, TOKEN) as refresher:
            (told,) = await refresher.refresh("g/a.jpg", known.all_targets)
        new = {path: get(port, path).headers["etag"] for path in old}
        async with Refresher(known, f"{TOKEN}x") as refresher:
            (refused,) = await refresher.refresh("g/a.jpg", known.all_targets)
    assert (told.dropped, told.problem, told.found[:5]) == (("all",), "", '200 "')
    assert not set(old.values()) & set(new.values())
    assert "does not accept the secret" in refused.problem
