"""Prewarm makes what pages ask for, and gives back to the queue only what another try may mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from galerly_cdn.aws.functions import s3_events
from galerly_cdn.aws.functions.prewarm import Prewarm
from galerly_cdn.aws.functions.s3_events import ObjectChange
from galerly_cdn.errors import (
    GalerlyError,
    NoSuchOriginal,
    StoreUnreachable,
    TooManyPixels,
    Undecodable,
)
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.lambda_functions import Functions, change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.s3_servers import Objects

KEY = "g/a b+ü%2B.jpg"


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        server.put(f"originals/{KEY}", b"an original")
        yield server


def prewarm(functions: Functions) -> Prewarm:
    return Prewarm(functions.stores, functions.origin, wall=functions.wall, tell=functions.tell)


async def test_every_size_and_format_that_pages_ask_for_is_stored_from_one_decode(bucket: Objects) -> None:
    bucket.put(f"originals/{KEY}", b"an original")
    functions = Functions(bucket.settings())
    await prewarm(functions).take(change(f"originals/{KEY}"), "prewarm")
    targets = functions.settings.page_targets
    stored = [name for name in bucket.names() if name.startswith("resized/")]
    assert sorted(stored) == sorted(f"resized/{one.rendition_key(KEY)}" for one in targets)
    (job,) = functions.renderer.jobs
    assert len(job.pictures) == len(targets)
    line, metrics = functions.lines
    assert line == {"key": KEY, "made": len(targets), "was_there": 0}
    assert metrics["RenditionBytes"] == sum(len(bucket.get(name)) for name in stored)
    assert metrics["FunctionName"] == "prewarm"


async def test_what_is_there_is_not_made_again(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    for _ in range(2):  # a queue may bring a message twice
        await prewarm(functions).take(change(f"originals/{KEY}"), "prewarm")
    count = len(functions.settings.page_targets)
    assert functions.renderer.renders == count
    assert functions.lines[-1] == {"key": KEY, "made": 0, "was_there": count}


@pytest.mark.parametrize("error", [Undecodable("cut off"), TooManyPixels("big")], ids=lambda one: one.code)
async def test_an_original_that_cannot_be_rendered_is_done(fake: FakeS3, error: GalerlyError) -> None:
    functions = Functions(fake.settings())
    functions.renderer.error = error
    await prewarm(functions).take(change(f"originals/{KEY}"), "prewarm")
    assert functions.lines == [
        {"key": KEY, "made": 0, "was_there": 0, "reason": error.code, "detail": error.detail}
    ]


async def test_an_original_that_is_gone_is_done(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    await prewarm(functions).take(change("originals/g/gone.jpg"), "prewarm")
    assert functions.lines[0]["reason"] == NoSuchOriginal.code


async def test_a_store_that_is_away_gives_the_message_back(fake: FakeS3) -> None:
    fake.fault = lambda one: Fault(status=503) if one.method == "PUT" and "2000x2000" in one.key else None
    functions = Functions(fake.settings(store_deadline_s=2))
    with pytest.raises(StoreUnreachable):
        await prewarm(functions).take(change(f"originals/{KEY}"), "prewarm")
    fake.fault = lambda _: None
    await prewarm(functions).take(change(f"originals/{KEY}", received=2), "prewarm")
    first, *_, last, metrics = functions.lines
    assert (
        first["made"] + last["made"]
        == len(functions.settings.page_targets)
        == last["made"] + last["was_there"]
    )
    assert metrics["RenditionBytes"] > 0


async def test_a_deletion_is_nothing_to_warm(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    await prewarm(functions).take(change(f"originals/{KEY}", what="Object Deleted"), "prewarm")
    assert (functions.lines, fake.requests) == ([], [])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("originals/g/a.jpg", "g/a.jpg"),
        ("originals/g/a b+%20ü.jpg", "g/a b+%20ü.jpg"),
        ("originals/originals/a.jpg", "originals/a.jpg"),
        ("originals/folder/", None),
        ("originals/", None),
        ("originals/a//b", None),
        ("originals/../a", None),
        ("originals/" + "a" * 901, None),
        ("resized/800x600/g/a.jpg", None),
        ("originalsx/a.jpg", None),
    ],
)
def test_a_key_is_read_as_it_is_and_what_no_address_names_is_no_original(name: str, key: str | None) -> None:
    found = list(s3_events.object_changes(change(name), "originals/"))
    assert found == ([ObjectChange(key, is_put=True, is_again=False)] if key else [])


def test_an_original_below_a_folder_of_the_bucket_is_found() -> None:
    found = list(
        s3_events.object_changes(
            change("a/originals/g/a.jpg", what="Object Deleted", received=3), "a/originals/"
        )
    )
    assert found == [ObjectChange("g/a.jpg", is_put=False, is_again=True)]


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"detail":{}}'])
def test_a_message_that_nobody_knows_is_given_back(body: str) -> None:
    event = {"Records": [{"body": body, "attributes": {"ApproximateReceiveCount": "1"}}]}
    with pytest.raises((KeyError, ValueError, TypeError)):
        list(s3_events.object_changes(event, "originals/"))
