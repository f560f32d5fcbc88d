"""Tests of the prewarm function and of reading S3's events."""

from __future__ import annotations

from datetime import datetime
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
from galerly_cdn.model import facts_key
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.lambda_functions import CHANGED, Functions, change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.s3_servers import Objects

KEY = "g/a b+ü%2B.jpg"
CHANGED_S = datetime.fromisoformat(CHANGED).timestamp()


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        server.put(f"originals/{KEY}", b"an original")
        yield server


def prewarm(functions: Functions) -> Prewarm:
    return Prewarm(functions.stores, functions.filler, wall=functions.wall, log=functions.log)


async def test_prewarm_upload_stores_every_page_target_from_one_decode(bucket: Objects) -> None:
    bucket.put(f"originals/{KEY}", b"an original")
    functions = Functions(bucket.settings())
    await prewarm(functions).handle(change(f"originals/{KEY}"), "prewarm")
    targets = functions.settings.page_targets
    stored = [name for name in bucket.names() if name.startswith("resized/")]
    names = [facts_key(KEY), *(one.rendition_key(KEY) for one in targets)]
    assert sorted(stored) == sorted(f"resized/{name}" for name in names)
    (job,) = functions.renderer.jobs
    assert len(job.pictures) == len(targets)
    line, metrics = functions.lines
    assert line == {"key": KEY, "made": len(targets), "was_there": 0}
    assert metrics["RenditionBytes"] == sum(
        len(bucket.get(f"resized/{one.rendition_key(KEY)}")) for one in targets
    )
    assert metrics["FunctionName"] == "prewarm"


async def test_prewarm_stored_renditions_are_not_rendered_again(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    for _ in range(2):  # a queue may deliver a message twice
        await prewarm(functions).handle(change(f"originals/{KEY}"), "prewarm")
    count = len(functions.settings.page_targets)
    assert functions.renderer.renders == count
    assert functions.lines[-1] == {"key": KEY, "made": 0, "was_there": count}


@pytest.mark.parametrize("error", [Undecodable("cut off"), TooManyPixels("big")], ids=lambda one: one.code)
async def test_prewarm_unrenderable_original_is_logged_and_not_retried(
    fake: FakeS3, error: GalerlyError
) -> None:
    functions = Functions(fake.settings())
    functions.renderer.error = error
    await prewarm(functions).handle(change(f"originals/{KEY}"), "prewarm")
    assert functions.lines == [
        {"key": KEY, "made": 0, "was_there": 0, "reason": error.code, "detail": error.detail}
    ]


async def test_prewarm_missing_original_is_logged_and_not_retried(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    await prewarm(functions).handle(change("originals/g/gone.jpg"), "prewarm")
    assert functions.lines[0]["reason"] == NoSuchOriginal.code


async def test_prewarm_unreachable_store_raises_and_retry_renders_the_rest(fake: FakeS3) -> None:
    fake.fault = lambda one: Fault(status=503) if one.method == "PUT" and "2000x2000" in one.key else None
    functions = Functions(fake.settings(store_deadline_s=2))
    with pytest.raises(StoreUnreachable):
        await prewarm(functions).handle(change(f"originals/{KEY}"), "prewarm")
    fake.fault = lambda _: None
    await prewarm(functions).handle(change(f"originals/{KEY}", received=2), "prewarm")
    first, *_, last, metrics = functions.lines
    assert (
        first["made"] + last["made"]
        == len(functions.settings.page_targets)
        == last["made"] + last["was_there"]
    )
    assert metrics["RenditionBytes"] > 0


async def test_prewarm_deletion_does_nothing(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    await prewarm(functions).handle(change(f"originals/{KEY}", what="Object Deleted"), "prewarm")
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
def test_object_changes_reads_keys_unescaped_and_skips_invalid_ones(name: str, key: str | None) -> None:
    found = list(s3_events.object_changes(change(name), "originals/"))
    assert found == (
        [ObjectChange(key, is_put=True, is_redelivered=False, message_id="1", at_s=CHANGED_S)] if key else []
    )


def test_object_changes_strips_nested_folder_of_bucket() -> None:
    found = list(
        s3_events.object_changes(
            change("a/originals/g/a.jpg", what="Object Deleted", received=3), "a/originals/"
        )
    )
    assert found == [
        ObjectChange("g/a.jpg", is_put=False, is_redelivered=True, message_id="1", at_s=CHANGED_S)
    ]


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"detail":{}}'])
def test_object_changes_unknown_message_raises(body: str) -> None:
    event = {"Records": [{"body": body, "attributes": {"ApproximateReceiveCount": "1"}}]}
    with pytest.raises((KeyError, ValueError, TypeError)):
        list(s3_events.object_changes(event, "originals/"))
