"""Faults of S3 and Lambda: the status that viewers get, how long it is cached, and the recovery."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from PIL import Image

from galerly_cdn.aws.functions import function_url
from galerly_cdn.aws_local.faults import Fault
from galerly_cdn.http import urls
from galerly_cdn.model import Format
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support import pictures, private_galleries, s3_fault_stack
from tests.support.render_jobs import target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse
    from tests.support import s3_servers
    from tests.support.s3_fault_stack import S3FaultStack

pytestmark = [pytest.mark.server("node"), pytest.mark.server("versitygw")]
PATH = "/resize/150x150/g/a.jpg"
STORED = "resized/150x150/g/a.jpg"
OTHER = "/resize/150x150/g/b.jpg"
SHORT_DEADLINE = Settings(store_deadline_s=0.5)
"""A short deadline, so that a function gives up on a store that does not respond."""


@pytest.fixture
async def bucket(versitygw_bucket: s3_servers.Objects) -> s3_servers.Objects:
    for name in ("a", "b"):
        versitygw_bucket.put(f"originals/g/{name}.jpg", pictures.jpeg(300, 200))
    return versitygw_bucket


@pytest.fixture
async def stack(bucket: s3_servers.Objects) -> AsyncIterator[S3FaultStack]:
    async with s3_fault_stack.start(bucket, SHORT_DEADLINE) as running:
        yield running


def result(response: ViewerResponse) -> str:
    """CloudFront's result type: Miss, Hit or Error."""
    return response.headers["x-cache"].split()[0]


def code(response: ViewerResponse) -> str:
    """The code of our error; the whole body of another."""
    try:
        return str(json.loads(response.body)["error"]["code"])
    except (KeyError, ValueError):
        return response.body.decode("utf-8", "replace")


# --------------------------------------------------------------------- S3 for CloudFront


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.SLOW, Fault.FORBIDDEN])
async def test_a_fault_of_s3_for_cloudfront_fails_over_to_the_resizer(
    stack: S3FaultStack, fault: Fault
) -> None:
    origin = stack.running.cloudfront.faults["s3"]
    origin.fault = fault
    rendered = await stack.request(PATH)
    stack.running.cloudfront.cache.invalidate("/*")
    stored = await stack.request(PATH)
    origin.fault = None
    stack.running.cloudfront.cache.invalidate("/*")
    recovered = await stack.request(PATH)
    assert [response.status for response in (rendered, stored, recovered)] == [200] * 3
    assert rendered.body == stored.body == recovered.body
    assert stack.running.cloudfront.faults["resizer"].request_count == 2


async def test_a_cached_object_is_served_while_all_origins_are_down(stack: S3FaultStack) -> None:
    cached = await stack.request(PATH)
    for origin in stack.running.cloudfront.faults.values():
        origin.fault = Fault.DOWN
    stack.clock.now_s += 364 * 86_400
    response = await stack.request(PATH)
    assert (response.status, result(response), response.body) == (200, "Hit", cached.body)
    stack.clock.now_s += 2 * 86_400  # the object is stale, and no origin can be reached
    assert (await stack.request(PATH)).body == cached.body


# ----------------------------------------------------------------- temporary faults


def store_fault(fault: Fault) -> Callable[[S3FaultStack], AbstractAsyncContextManager[None]]:
    """A fault of the S3 server for the function only."""

    @asynccontextmanager
    async def during(stack: S3FaultStack) -> AsyncIterator[None]:
        stack.proxy.inject(fault)
        yield
        stack.proxy.clear()

    return during


def lambda_fault(fault: Fault) -> Callable[[S3FaultStack], AbstractAsyncContextManager[None]]:
    """A fault of Lambda for CloudFront."""

    @asynccontextmanager
    async def during(stack: S3FaultStack) -> AsyncIterator[None]:
        origin = stack.running.cloudfront.faults["resizer"]
        origin.fault = fault
        yield
        origin.fault = None

    return during


@asynccontextmanager
async def function_hangs(stack: S3FaultStack) -> AsyncIterator[None]:
    """The function exceeds its time-out, because the store does not respond."""
    runtime = stack.running.resizer
    before = runtime.function
    runtime.function = replaced(before, timeout_s=0.25)
    stack.proxy.inject(Fault.SLOW)
    yield
    stack.proxy.clear()
    runtime.function = before


@asynccontextmanager
async def function_throttled(stack: S3FaultStack) -> AsyncIterator[None]:
    """The function's concurrency is used up by a request that waits for the store."""
    runtime = stack.running.resizer
    before = runtime.function
    runtime.function = replaced(before, concurrency=1)
    stack.proxy.inject(Fault.SLOW)
    other = asyncio.create_task(stack.request(OTHER))
    await stack.proxy.waiting.wait()
    yield
    stack.proxy.clear()
    assert (await other).status == 200
    runtime.function = before


def killed_at(method: str) -> Callable[[S3FaultStack], AbstractAsyncContextManager[None]]:
    """The function is killed at its first S3 request of a method: GET before it renders, PUT after."""

    @asynccontextmanager
    async def during(stack: S3FaultStack) -> AsyncIterator[None]:
        stack.proxy.inject(Fault.SLOW, method)

        async def kill() -> None:
            await stack.proxy.waiting.wait()
            stack.running.resizer.kill()

        kill_task = asyncio.create_task(kill())
        yield
        await kill_task
        stack.proxy.clear()

    return during


class Expected(NamedTuple):
    """A fault, the status and a part of the body, and how long the response is cached."""

    during: Callable[[S3FaultStack], AbstractAsyncContextManager[None]]
    status: int
    text: str
    cached_s: int


FAULTS = {
    "the store is down": Expected(store_fault(Fault.DOWN), 503, "store-unreachable", 1),
    "the store is slow": Expected(store_fault(Fault.SLOW), 503, "store-slow", 1),
    "the store says 403": Expected(store_fault(Fault.FORBIDDEN), 502, "store-refused", 5),
    "the function is over its time": Expected(function_hangs, 504, "Gateway Timeout", 5),
    "the function is throttled": Expected(function_throttled, 429, "ConcurrentInvocationLimitExceeded", 0),
    "the function dies before it renders": Expected(killed_at("GET"), 502, "Internal Server Error", 5),
    "the function dies having rendered": Expected(killed_at("PUT"), 502, "Internal Server Error", 5),
    "the function answers too much": Expected(lambda_fault(Fault.OVERSIZE), 502, "Bad Gateway", 5),
    "Lambda is down": Expected(lambda_fault(Fault.DOWN), 502, "could not be reached", 5),
    "Lambda is slow": Expected(lambda_fault(Fault.SLOW), 504, "did not answer in time", 5),
    "Lambda says 403": Expected(lambda_fault(Fault.FORBIDDEN), 403, "<Error/>", 0),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_has_its_status_until_its_lifetime_ends(stack: S3FaultStack, name: str) -> None:
    during, status, text, cached_s = FAULTS[name]
    async with during(stack):
        failed = await stack.request(PATH)
    assert (failed.status, result(failed)) == (status, "Error"), failed
    assert text in code(failed)
    request_count = stack.running.cloudfront.faults["resizer"].request_count
    if cached_s:
        stack.clock.now_s += cached_s - 0.01
        assert (await stack.request(PATH)).status == status
        assert stack.running.cloudfront.faults["resizer"].request_count == request_count
        stack.clock.now_s += 0.01
    recovered = await stack.request(PATH)
    assert (recovered.status, result(recovered)) == (200, "Miss"), recovered
    assert result(await stack.request(PATH)) == "Hit"


def test_the_documentation_lists_status_and_lifetime_of_each_fault() -> None:
    guide = (Path(__file__).parents[2] / "docs/aws.md").read_text("utf-8")
    rows = [f"| {name} | {expected.status} | {expected.cached_s} |\n" for name, expected in FAULTS.items()]
    assert "|---|---|---|\n" + "".join(rows) + "\n" in guide


async def test_a_killed_function_affects_one_environment_and_no_other_request(
    stack: S3FaultStack, bucket: s3_servers.Objects
) -> None:
    async with killed_at("PUT")(stack):
        assert (await stack.request(PATH)).status == 502
    assert not any(name.startswith("resized/") for name in bucket.names())
    assert (await stack.request(OTHER)).status == 200
    assert len(stack.running.resizer.init_durations_s) == 2


async def test_s3_down_for_all_is_503_until_it_recovers(bucket: s3_servers.Objects) -> None:
    """Nothing listens at the S3 server's address, for CloudFront and for the function."""
    async with s3_fault_stack.start(bucket, SHORT_DEADLINE) as stack:
        await stack.request(OTHER)
        async with stack.without_s3():
            failed = await stack.request(PATH)
            assert (failed.status, code(failed)) == (503, "store-unreachable")
            assert failed.headers["retry-after"] == "1"
            assert result(await stack.request(OTHER)) == "Hit"
        stack.clock.now_s += 1
        assert (await stack.request(PATH)).status == 200


# ---------------------------------------------------------------- responses that are too large for Lambda

LARGE = target("2000x2000", Format.PNG)
LARGE_PATH = urls.format_path(LARGE, "noise.png")


@pytest.fixture
async def noise(bucket: s3_servers.Objects) -> s3_servers.Objects:
    """Originals whose largest PNG exceeds Lambda's limit of a response."""
    pixels = np.random.default_rng(7).integers(0, 256, (1200, 1200, 4), np.uint8)
    content = pictures.saved(Image.fromarray(pixels), "PNG")
    for key in ("noise.png", "clients/smith/noise.png"):
        bucket.put(f"originals/{key}", content)
    return bucket


async def test_a_rendition_too_large_for_lambda_is_stored_and_served_after_one_redirect(
    noise: s3_servers.Objects,
) -> None:
    async with s3_fault_stack.start(noise) as stack:
        first, response = await stack.follow_redirects(LARGE_PATH)
        assert (first.status, response.status, result(response)) == (302, 200, "Miss")
        assert first.headers["cache-control"] == "private, no-store"
        assert response.headers["content-type"] == "image/png"
        assert response.body == noise.get(f"resized/{LARGE.rendition_key('noise.png')}")
        assert len(response.body) > function_url.MAX_BODY_BYTES
        (again,) = await stack.follow_redirects(LARGE_PATH)
        assert (again.status, result(again), again.body) == (200, "Hit", response.body)
        assert len([line for line in stack.access_log if line["sc-status"] == "302"]) == 1


async def test_a_redirect_to_a_rendition_that_cloudfront_cannot_read_is_502(
    noise: s3_servers.Objects,
) -> None:
    async with s3_fault_stack.start(noise) as stack:
        origin = stack.running.cloudfront.faults["s3"]
        origin.fault = Fault.FORBIDDEN
        first, last = await stack.follow_redirects(LARGE_PATH)
        assert (first.status, last.status, code(last)) == (302, 502, "store-refused")
        origin.fault = None
        stack.clock.now_s += 5
        (response,) = await stack.follow_redirects(LARGE_PATH)
        assert (response.status, result(response)) == (200, "Miss")


async def test_a_private_rendition_too_large_for_lambda_is_served_after_retry_after(
    noise: s3_servers.Objects, tmp_path: Path
) -> None:
    """CloudFront has removed the signature, so a redirect could not carry it."""
    gallery = private_galleries.PrivateGallery(tmp_path)
    async with s3_fault_stack.start(noise, gallery.settings) as stack:
        path = gallery.signed(
            urls.format_path(LARGE, "clients/smith/noise.png"), int(stack.clock.now_s) + 600
        )
        first = await stack.request(path)
        assert (first.status, first.headers["retry-after"]) == (503, "1")
        assert "location" not in first.headers
        stack.clock.now_s += 1
        response = await stack.request(path)
        assert (response.status, result(response)) == (200, "Miss")
        assert len(response.body) > function_url.MAX_BODY_BYTES
        assert (await stack.request(path.partition("?")[0])).status == 403
