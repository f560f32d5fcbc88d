"""Traces: what a receiver of OpenTelemetry spans gets, and what it must not get."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.app import server
from galerly_cdn.errors import SettingsError, StoreUnreachable
from galerly_cdn.http.request import empty_scope
from galerly_cdn.settings.table import Settings
from galerly_cdn.tracing import Tracer
from tests.support import pictures
from tests.support.cdn_process import PROGRAM, environment
from tests.support.in_memory_cdn import InMemoryCdn
from tests.support.trace_receiver import attributes, receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.trace_receiver import Receiver

PATH = "/resize/tiny/g/a.jpg"
PROXY = "10.0.0.1"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01", f"00-{TRACE_ID}-{SPAN_ID}-00"


class TracedCdn(InMemoryCdn):
    """A CDN in memory behind the proxy 10.0.0.1, whose requests are traced."""

    def trace(self) -> Tracer:
        self.originals.put("g/a.jpg")
        tracer = Tracer()
        self.application = tracer.application(
            lambda _path: self.edge.answer,
            self.settings,
            self.telemetry,
            clock=self.clock,
            find_hit=self.edge.find_hit,
        )
        return tracer


@contextlib.contextmanager
def traced(cdn: TracedCdn) -> Iterator[TracedCdn]:
    """Trace the requests of a CDN; the spans have been received on leaving."""
    tracer = cdn.trace()
    try:
        yield cdn
    finally:
        tracer.close(timeout_s=60)  # however busy the machine is: no thread may outlive its test


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    with receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.address)
        yield received


@pytest.fixture
def cdn() -> TracedCdn:
    return TracedCdn(Settings(trusted_proxies=(f"{PROXY}/32",), public_urls=("https://cdn.test",)))


async def test_miss_is_a_request_span_with_a_span_for_each_stage(received: Receiver, cdn: TracedCdn) -> None:
    with traced(cdn):
        await cdn.ask(PATH, accept="image/webp")
    *parts, request = received.spans
    assert (request.name, request.parent_span_id) == ("GET /resize/{size}/{key}", b"")
    assert [part.name for part in parts] == [
        "store.look_up",
        "worker.queue",
        "store.open",
        "worker.render",
        "store.put",
        "store.head",
    ]
    assert {part.parent_span_id for part in parts} == {request.span_id}
    assert {part.trace_id for part in parts} == {request.trace_id}
    edges = [request.start_time_unix_nano, *(part.end_time_unix_nano for part in parts)]
    assert [part.start_time_unix_nano for part in parts] == edges[:-1]
    assert edges == sorted(edges)
    assert edges[-1] <= request.end_time_unix_nano == 1_700_000_000 * 10**9
    (record,) = cdn.records
    assert attributes(request) == {
        "http.request.method": "GET",
        "http.route": "/resize/{size}/{key}",
        "url.path": PATH,
        "http.response.status_code": 200,
        "http.response.body.size": record.bytes,
        "galerly.request_id": record.request_id,
        "galerly.size": "150x150",
        "galerly.format": "webp",
        "galerly.cache": "fwd=uri-miss; stored",
    }
    assert received.resource["service.name"] == "galerly-cdn"


async def test_hit_and_shared_fill_are_a_span_without_parts(received: Receiver, cdn: TracedCdn) -> None:
    cdn.renderer.gate.close()
    with traced(cdn):
        first = asyncio.create_task(cdn.ask(PATH))
        await cdn.renderer.gate.arrival()
        second = asyncio.create_task(cdn.ask(PATH))
        while cdn.originals.heads < 3:
            await asyncio.wait([second], timeout=0)
        cdn.renderer.gate.open()
        await asyncio.gather(first, second)
        await cdn.ask(PATH)
    cached = [attributes(span).get("galerly.cache") for span in received.spans if span.kind == 2]
    assert sorted(map(str, cached)) == ["fwd=uri-miss; stored", "fwd=uri-miss; stored; collapsed", "hit"]
    assert len(received.spans) == 3 + 6


async def test_plain_hit_is_a_span_with_the_facts_of_its_record(received: Receiver, cdn: TracedCdn) -> None:
    with traced(cdn):
        await cdn.ask(PATH)
        scope = {**empty_scope("192.0.2.1"), "method": "GET", "raw_path": PATH.encode()}
        assert cdn.application.answer_hit(scope) is not None
    *_, hit = received.spans
    record = cdn.records[-1]
    assert attributes(hit)["galerly.request_id"] == record.request_id
    assert (attributes(hit)["galerly.cache"], record.cache) == ("hit", "hit")


@pytest.mark.parametrize(
    ("client", "headers", "is_continued"),
    [
        (PROXY, [(b"traceparent", SAMPLED.encode())], True),
        (PROXY, [(b"traceparent", SAMPLED.encode()), (b"x-forwarded-for", b"192.0.2.9")], True),
        ("192.0.2.1", [(b"traceparent", SAMPLED.encode())], False),
        ("192.0.2.1", [(b"traceparent", SAMPLED.encode()), (b"x-forwarded-for", PROXY.encode())], False),
        ("192.0.2.1", [(b"traceparent", NOT_SAMPLED.encode())], False),
        (PROXY, [(b"traceparent", b"00-0000-0000-01")], False),
        (PROXY, [(b"traceparent", SAMPLED.encode())] * 2, False),
        (PROXY, [], False),
    ],
    ids=["proxy", "forwarded", "viewer", "spoofed", "viewer who forbids it", "damaged", "twice", "none"],
)
async def test_context_is_taken_from_a_trusted_proxy_only(
    received: Receiver, cdn: TracedCdn, client: str, headers: list[tuple[bytes, bytes]], *, is_continued: bool
) -> None:
    with traced(cdn):
        await cdn.ask("/resize/tiny/g/none.jpg", client=client, extra=headers)
    (span,) = received.spans
    assert (span.trace_id.hex() == TRACE_ID) is is_continued
    assert span.parent_span_id.hex() == (SPAN_ID if is_continued else "")


@pytest.mark.parametrize(
    ("sampler", "traceparent", "spans"),
    [
        ("always_off", "", 0),
        ("parentbased_always_off", SAMPLED, 1),
        ("parentbased_always_on", NOT_SAMPLED, 0),
        ("parentbased_always_on", "", 1),
    ],
)
async def test_sampler_of_the_environment_decides_what_is_sent(  # noqa: PLR0917 - the columns of the table
    received: Receiver,
    cdn: TracedCdn,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    traceparent: str,
    spans: int,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    with traced(cdn):
        await cdn.ask("/resize/1x1/g/a.jpg", client=PROXY, traceparent=traceparent)
    assert len(received.spans) == spans


@pytest.mark.parametrize(
    ("path", "method", "name", "code", "is_failed"),
    [
        ("/resize/tiny/g/a.jpg", "GET", "GET /resize/{size}/{key}", "store-unreachable", True),
        ("/resize/tiny/a%00.jpg", "GET", "GET", "malformed-key", False),
        ("/original/g/a.jpg", "GET", "GET /original/{key}", "signature-required", False),
        ("/resize/tiny/g/a.jpg", "BREW", "HTTP", "method-not-allowed", False),
    ],
)
async def test_error_is_named_by_its_code(  # noqa: PLR0917 - the columns of the table
    received: Receiver, cdn: TracedCdn, path: str, method: str, name: str, code: str, *, is_failed: bool
) -> None:
    with traced(cdn):
        cdn.originals.error = StoreUnreachable("the detail names a bucket")
        await cdn.ask(path, method)
    (span,) = received.spans
    assert (span.name, attributes(span)["error.type"]) == (name, code)
    assert span.status.code == (2 if is_failed else 0)
    assert b"bucket" not in received.bodies[0]


async def test_spans_hold_no_query_header_or_address(received: Receiver, cdn: TracedCdn) -> None:
    with traced(cdn):
        await cdn.ask(
            PATH,
            query=b"Policy=in-query&Signature=in-query&Key-Pair-Id=in-query",
            client=PROXY,
            cookie="CloudFront-Signature=in-header",
            authorization="Bearer in-header",
            referer="https://in-header.test/",
            user_agent="in-header",
            x_forwarded_for="192.0.2.77",
            tracestate="vendor=in-header",
        )
    sent = b"".join(received.bodies)
    assert PATH.encode() in sent
    assert not re.search(rb"in-query|in-header|192\.0\.2|10\.0\.0|Signature", sent)


def test_variable_that_cannot_be_used_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(SettingsError, match="OTEL_… cannot be used: max_queue_size"):
        Tracer()


def test_traces_without_the_extra_are_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "galerly_cdn.tracing", None)
    with pytest.raises(SettingsError, match=r"pip install 'galerly-cdn\[otel\]'"):
        server._open_tracer(Settings(traces=True))


def test_server_without_traces_loads_no_opentelemetry() -> None:
    code = "import sys, galerly_cdn.app.server as s; from galerly_cdn.settings.table import Settings as S\n"
    code += "assert s._open_tracer(S()) is None; print(*[m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_served_miss_is_traced_until_the_server_ends(tmp_path: Path, received: Receiver) -> None:
    gallery = tmp_path / "photographs" / "g"
    gallery.mkdir(parents=True)
    (gallery / "a.jpg").write_bytes(pictures.jpeg(60, 40))
    folders = [str(gallery.parent), "--renditions", str(tmp_path / "renditions")]
    variables = {"GALERLY_TRACES": "true", "OTEL_SERVICE_NAME": "pictures", "GALERLY_WORKERS": "1"}
    process = subprocess.Popen(
        [*PROGRAM, "serve", *folders, "--port", "0"],
        stdout=subprocess.PIPE,
        env=environment(**variables),
        text=True,
    )
    assert process.stdout
    with process.stdout as output:
        address = output.readline().split()[-1]
        with urllib.request.urlopen(f"{address.rstrip('/')}{PATH}", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        output.read()
        assert process.wait(60) == 0
    assert received.resource["service.name"] == "pictures"
    (render,) = [span for span in received.spans if span.name == "worker.render"]
    assert render.end_time_unix_nano > render.start_time_unix_nano
