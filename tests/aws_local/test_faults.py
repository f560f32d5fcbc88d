"""What fails behind CloudFront: which status a viewer gets, how long it is kept, and that it heals."""

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
from tests.support import gated_stack, pictures, private_galleries
from tests.support.render_jobs import target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse
    from tests.support import s3_servers
    from tests.support.gated_stack import Whole

pytestmark = [pytest.mark.server("node"), pytest.mark.server("versitygw")]
PATH = "/resize/150x150/g/a.jpg"
STORED = "resized/150x150/g/a.jpg"
OTHER = "/resize/150x150/g/b.jpg"
QUICK = Settings(store_deadline_s=0.5)
"""So that a function is done with a store that does not answer, before a test is."""


@pytest.fixture
async def bucket(versitygw_bucket: s3_servers.Objects) -> s3_servers.Objects:
    for name in ("a", "b"):
        versitygw_bucket.put(f"originals/g/{name}.jpg", pictures.jpeg(300, 200))
    return versitygw_bucket


@pytest.fixture
async def whole(bucket: s3_servers.Objects) -> AsyncIterator[Whole]:
    async with gated_stack.whole(bucket, QUICK) as running:
        yield running


def result(answer: ViewerResponse) -> str:
    """Miss, Hit, Error: in CloudFront's word."""
    return answer.headers["x-cache"].split()[0]


def code(answer: ViewerResponse) -> str:
    """Of an error that is ours; of others what they are."""
    try:
        return str(json.loads(answer.body)["error"]["code"])
    except (KeyError, ValueError):
        return answer.body.decode("utf-8", "replace")


# --------------------------------------------------------------------- S3, as CloudFront sees it


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.SLOW, Fault.FORBIDDEN])
async def test_while_cloudfront_cannot_ask_s3_the_resizer_answers(whole: Whole, fault: Fault) -> None:
    door = whole.chain.cloud.faults["s3"]
    door.fault = fault
    made = await whole.ask(PATH)
    whole.chain.cloud.cache.invalidate("/*")
    stored = await whole.ask(PATH)
    door.fault = None
    whole.chain.cloud.cache.invalidate("/*")
    healed = await whole.ask(PATH)
    assert [one.status for one in (made, stored, healed)] == [200] * 3
    assert made.body == stored.body == healed.body
    assert whole.chain.cloud.faults["resizer"].asked == 2


async def test_what_is_cached_is_answered_while_everything_is_down(whole: Whole) -> None:
    warm = await whole.ask(PATH)
    for door in whole.chain.cloud.faults.values():
        door.fault = Fault.DOWN
    whole.clock.now_s += 364 * 86_400
    found = await whole.ask(PATH)
    assert (found.status, result(found), found.body) == (200, "Hit", warm.body)
    whole.clock.now_s += 2 * 86_400  # stale, and nobody to ask
    assert (await whole.ask(PATH)).body == warm.body


# ----------------------------------------------------------------- what fails, for a moment


def store(fault: Fault) -> Callable[[Whole], AbstractAsyncContextManager[None]]:
    """The S3 server, for the function alone."""

    @asynccontextmanager
    async def during(whole: Whole) -> AsyncIterator[None]:
        whole.gate.close(fault)
        yield
        whole.gate.open()

    return during


def lambda_is(fault: Fault) -> Callable[[Whole], AbstractAsyncContextManager[None]]:
    """Lambda, for CloudFront."""

    @asynccontextmanager
    async def during(whole: Whole) -> AsyncIterator[None]:
        door = whole.chain.cloud.faults["resizer"]
        door.fault = fault
        yield
        door.fault = None

    return during


@asynccontextmanager
async def function_hangs(whole: Whole) -> AsyncIterator[None]:
    """Over its time: held by a store that it would give more of it."""
    runtime = whole.chain.resizer
    before = runtime.function
    runtime.function = replaced(before, timeout_s=0.25)
    whole.gate.close(Fault.SLOW)
    yield
    whole.gate.open()
    runtime.function = before


@asynccontextmanager
async def function_throttled(whole: Whole) -> AsyncIterator[None]:
    """All the concurrency there is waits for the store."""
    runtime = whole.chain.resizer
    before = runtime.function
    runtime.function = replaced(before, concurrency=1)
    whole.gate.close(Fault.SLOW)
    other = asyncio.create_task(whole.ask(OTHER))
    await whole.gate.held.wait()
    yield
    whole.gate.open()
    assert (await other).status == 200
    runtime.function = before


def killed_at(method: str) -> Callable[[Whole], AbstractAsyncContextManager[None]]:
    """The function, by the kernel, when it asks the store so: before it renders, or when it has rendered."""

    @asynccontextmanager
    async def during(whole: Whole) -> AsyncIterator[None]:
        whole.gate.close(Fault.SLOW, method)

        async def kill() -> None:
            await whole.gate.held.wait()
            whole.chain.resizer.kill()

        killing = asyncio.create_task(kill())
        yield
        await killing
        whole.gate.open()

    return during


class Failing(NamedTuple):
    """What fails, then status, what is told, and for how many seconds it is kept."""

    during: Callable[[Whole], AbstractAsyncContextManager[None]]
    status: int
    told: str
    kept_s: int


FAULTS = {
    "the store is down": Failing(store(Fault.DOWN), 503, "store-unreachable", 1),
    "the store is slow": Failing(store(Fault.SLOW), 503, "store-unreachable", 1),
    "the store says 403": Failing(store(Fault.FORBIDDEN), 502, "store-refused", 5),
    "the function is over its time": Failing(function_hangs, 504, "Gateway Timeout", 5),
    "the function is throttled": Failing(function_throttled, 429, "ConcurrentInvocationLimitExceeded", 0),
    "the function dies before it renders": Failing(killed_at("GET"), 502, "Internal Server Error", 5),
    "the function dies having rendered": Failing(killed_at("PUT"), 502, "Internal Server Error", 5),
    "the function answers too much": Failing(lambda_is(Fault.OVERSIZE), 502, "Bad Gateway", 5),
    "Lambda is down": Failing(lambda_is(Fault.DOWN), 502, "could not be reached", 5),
    "Lambda is slow": Failing(lambda_is(Fault.SLOW), 504, "did not answer in time", 5),
    "Lambda says 403": Failing(lambda_is(Fault.FORBIDDEN), 403, "<Error/>", 0),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_has_its_status_and_is_forgotten(whole: Whole, name: str) -> None:
    during, status, told, kept_s = FAULTS[name]
    async with during(whole):
        failed = await whole.ask(PATH)
    assert (failed.status, result(failed)) == (status, "Error"), failed
    assert told in code(failed)
    asked = whole.chain.cloud.faults["resizer"].asked
    if kept_s:
        whole.clock.now_s += kept_s - 0.01
        assert (await whole.ask(PATH)).status == status
        assert whole.chain.cloud.faults["resizer"].asked == asked
        whole.clock.now_s += 0.01
    healed = await whole.ask(PATH)
    assert (healed.status, result(healed)) == (200, "Miss"), healed
    assert result(await whole.ask(PATH)) == "Hit"


def test_the_guide_tells_what_a_viewer_gets() -> None:
    told = (Path(__file__).parents[2] / "docs/aws.md").read_text("utf-8")
    rows = [f"| {name} | {one.status} | {one.kept_s} |\n" for name, one in FAULTS.items()]
    assert "|---|---|---|\n" + "".join(rows) + "\n" in told


async def test_a_function_that_dies_costs_one_environment_and_no_other_picture(
    whole: Whole, bucket: s3_servers.Objects
) -> None:
    async with killed_at("PUT")(whole):
        assert (await whole.ask(PATH)).status == 502
    assert not any(name.startswith("resized/") for name in bucket.names())
    assert (await whole.ask(OTHER)).status == 200
    assert len(whole.chain.resizer.inits_s) == 2


async def test_s3_that_is_down_for_both_is_one_503_and_then_right_again(bucket: s3_servers.Objects) -> None:
    """Nothing listens at the server's address: refused to CloudFront and to the function."""
    async with gated_stack.whole(bucket, QUICK) as whole:
        await whole.ask(OTHER)
        async with whole.away():
            failed = await whole.ask(PATH)
            assert (failed.status, code(failed)) == (503, "store-unreachable")
            assert failed.headers["retry-after"] == "1"
            assert result(await whole.ask(OTHER)) == "Hit"
        whole.clock.now_s += 1
        assert (await whole.ask(PATH)).status == 200


# ------------------------------------------------------------------------------- too large for Lambda

LARGE = target("2000x2000", Format.PNG)
LARGE_PATH = urls.format_path(LARGE, "noise.png")


@pytest.fixture
async def noise(bucket: s3_servers.Objects) -> s3_servers.Objects:
    """An original whose largest PNG is more than Lambda answers."""
    drawn = np.random.default_rng(7).integers(0, 256, (1200, 1200, 4), np.uint8)
    content = pictures.saved(Image.fromarray(drawn), "PNG")
    for key in ("noise.png", "clients/smith/noise.png"):
        bucket.put(f"originals/{key}", content)
    return bucket


async def test_a_picture_that_is_too_large_for_lambda_is_stored_and_found_by_one_redirect(
    noise: s3_servers.Objects,
) -> None:
    async with gated_stack.whole(noise) as whole:
        first, found = await whole.follow(LARGE_PATH)
        assert (first.status, found.status, result(found)) == (302, 200, "Miss")
        assert first.headers["cache-control"] == "private, no-store"
        assert found.headers["content-type"] == "image/png"
        assert found.body == noise.get(f"resized/{LARGE.rendition_key('noise.png')}")
        assert len(found.body) > function_url.MAX_BODY_BYTES
        (again,) = await whole.follow(LARGE_PATH)
        assert (again.status, result(again), again.body) == (200, "Hit", found.body)
        assert len([line for line in whole.lines if line["sc-status"] == "302"]) == 1


async def test_a_redirect_to_what_cloudfront_cannot_read_ends_with_502(noise: s3_servers.Objects) -> None:
    async with gated_stack.whole(noise) as whole:
        door = whole.chain.cloud.faults["s3"]
        door.fault = Fault.FORBIDDEN
        first, last = await whole.follow(LARGE_PATH)
        assert (first.status, last.status, code(last)) == (302, 502, "store-refused")
        door.fault = None
        whole.clock.now_s += 5
        (found,) = await whole.follow(LARGE_PATH)
        assert (found.status, result(found)) == (200, "Miss")


async def test_a_private_picture_that_is_too_large_for_lambda_is_there_a_second_later(
    noise: s3_servers.Objects, tmp_path: Path
) -> None:
    """CloudFront has taken the signature off: it cannot be sent along."""
    gallery = private_galleries.Private(tmp_path)
    async with gated_stack.whole(noise, gallery.settings) as whole:
        path = gallery.signed(
            urls.format_path(LARGE, "clients/smith/noise.png"), int(whole.clock.now_s) + 600
        )
        first = await whole.ask(path)
        assert (first.status, first.headers["retry-after"]) == (503, "1")
        assert "location" not in first.headers
        whole.clock.now_s += 1
        found = await whole.ask(path)
        assert (found.status, result(found)) == (200, "Miss")
        assert len(found.body) > function_url.MAX_BODY_BYTES
        assert (await whole.ask(path.partition("?")[0])).status == 403
