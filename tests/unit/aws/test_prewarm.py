"""Tests of the prewarm function and of reading S3's events."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from galerly_cdn.aws.functions import s3_events
from galerly_cdn.aws.functions.prewarm import Prewarm
from galerly_cdn.aws.functions.s3_events import ObjectChange
from galerly_cdn.errors import (
    GalerlyError,
    MalformedKey,
    NoSuchOriginal,
    StoreBusy,
    StoreUnreachable,
    TooManyPixels,
    Undecodable,
)
from galerly_cdn.http.urls import format_stored
from galerly_cdn.model import Format, facts_key
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.lambda_functions import CHANGED, Functions, change
from tests.support.render_jobs import target

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
    targets = functions.settings.warm_targets
    stored = bucket.rendition_names()
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
    count = len(functions.settings.warm_targets)
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
        == len(functions.settings.warm_targets)
        == last["made"] + last["was_there"]
    )
    assert metrics["RenditionBytes"] > 0


async def test_prewarm_deletion_does_nothing(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    await prewarm(functions).handle(change(f"originals/{KEY}", what="Object Deleted"), "prewarm")
    assert (functions.lines, fake.requests) == ([], [])


def job_event(*keys: str) -> dict[str, Any]:
    """The event of S3 Batch Operations for these keys."""
    tasks = [
        {"taskId": f"t{number}", "s3BucketArn": "arn:aws:s3:::b", "s3Key": quote(key), "s3VersionId": None}
        for number, key in enumerate(keys)
    ]
    return {"invocationSchemaVersion": "1.0", "invocationId": "i", "job": {"id": "j"}, "tasks": tasks}


async def run_job(functions: Functions, *keys: str) -> list[tuple[str, object]]:
    """The result code of each task, and its text, from JSON if it has succeeded."""
    result = await prewarm(functions).handle_job(job_event(*keys), "prewarm")
    assert (result["invocationSchemaVersion"], result["invocationId"]) == ("1.0", "i")
    assert [one["taskId"] for one in result["results"]] == [f"t{number}" for number in range(len(keys))]
    return [
        (one["resultCode"], json.loads(text) if text.startswith("{") else text)
        for one in result["results"]
        for text in [one["resultString"]]
    ]


async def test_prewarm_job_makes_missing_and_outdated_renditions(fake: FakeS3) -> None:
    functions = Functions(fake.settings())
    explicit = target("800x600", Format.JPEG)  # no page requests it without its name
    assert (await functions.ask(format_stored(explicit, KEY))).status == 200
    count = len(functions.settings.warm_targets)
    made = {"made": count, "outdated": 0, "current": 0}
    assert await run_job(functions, f"originals/{KEY}") == [("Succeeded", made)]
    fake.put(f"originals/{KEY}", b"another original")
    made = {"made": count + 1, "outdated": count + 1, "current": 0}
    assert await run_job(functions, f"originals/{KEY}") == [("Succeeded", made)]
    renders = functions.renderer.renders
    current = {"made": 0, "outdated": 0, "current": count}
    assert await run_job(functions, f"originals/{KEY}") == [("Succeeded", current)]
    assert functions.renderer.renders == renders


async def test_prewarm_job_reports_a_code_for_each_failure(fake: FakeS3) -> None:
    functions = Functions(fake.settings(store_deadline_s=2))
    keys = ("originals/g/gone.jpg", "originals/g/.hidden", "originals/g/down.jpg")
    fake.fault = lambda one: Fault(status=503) if "down" in one.key else None
    assert await run_job(functions, *keys) == [
        ("PermanentFailure", NoSuchOriginal.code),
        ("PermanentFailure", MalformedKey.code),
        ("TemporaryFailure", StoreBusy.code),
    ]
    functions.renderer.error = Undecodable("cut off")
    assert await run_job(functions, f"originals/{KEY}") == [("PermanentFailure", Undecodable.code)]


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
