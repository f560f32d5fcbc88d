"""S3 events in a deployed stack: the janitor and the prewarm function, up to the viewer's response."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from galerly_cdn.aws_local import stack as aws_stack
from galerly_cdn.errors import SettingsError
from galerly_cdn.settings.table import Settings
from tests.support import deployed_stack, local_cloudfront, pictures

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
    from galerly_cdn.aws_local.http.viewer_exchange import ViewerResponse

KEY = "g/a b+é.jpg"
PATH = "/resize/800x600/g/a%20b%2B%C3%A9.jpg"
WEBP = {"accept": "image/webp,*/*"}
RED, BLUE = (pictures.saved(Image.new("RGB", (300, 200), color), "JPEG") for color in ("red", "blue"))
PAGES = {f"resized/{one.rendition_key(KEY)}" for one in Settings().warm_targets}

pytestmark = [pytest.mark.server("versitygw", "node")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the S3 server."""
    root = tmp_path / "s3"
    root.mkdir()
    return root


def seen(response: ViewerResponse) -> tuple[int, str, str]:
    """Status, result type, and color of the rendition."""
    return response.status, response.headers["x-cache"].split()[0], color(response.body)


def color(body: bytes) -> str:
    """Whether an image is mostly red or blue."""
    red, _, blue = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).mean(axis=(0, 1))
    return "red" if red > blue else "blue"


def log_records(stack: deployed_stack.DeployedStack, function: str) -> list[dict[str, Any]]:
    """A function's log records, without metrics."""
    records = [json.loads(line) for line in stack.running.functions[function].log_lines]
    return [record for record in records if "_aws" not in record]


# --------------------------------------------------------------------------------------------- janitor


async def test_a_replaced_original_is_served_after_the_janitors_delay(folder: Path) -> None:
    async with deployed_stack.start(folder) as stack:
        await stack.put(KEY, RED)
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Miss", "red")
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Hit", "red")
        await stack.advance(150)
        await stack.put(KEY, BLUE)
        await stack.advance(149)
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Hit", "red")
        (record,) = stack.records()
        await stack.advance(1)
        assert stack.renditions() == stack.records() == set()
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Miss", "blue")
        assert stack.records() == {record}
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Hit", "blue")
        assert log_records(stack, "JanitorFunction") == [
            {"key": KEY, "deleted": 0, "invalidated": False},  # a first upload needs no invalidation
            {"key": KEY, "deleted": 1, "invalidated": True},
        ]
        assert stack.queue_length("JanitorQueue") == stack.queue_length("JanitorFailed") == 0


async def test_a_deleted_original_is_404_after_the_janitors_delay(folder: Path) -> None:
    async with deployed_stack.start(folder) as stack:
        await stack.put(KEY, RED)
        assert (await stack.request(PATH, **WEBP)).status == 200
        await stack.remove(KEY)
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Hit", "red")
        await stack.advance(150)
        assert stack.renditions() == stack.records() == set()
        assert (await stack.request(PATH, **WEBP)).status == 404


async def test_a_cached_object_whose_rendition_has_expired_is_invalidated(folder: Path) -> None:
    """No rendition is left to delete. The janitor knows of the old original by the bucket's versions."""
    async with deployed_stack.start(folder) as stack:
        await stack.put(KEY, RED)
        assert (await stack.request(PATH, **WEBP)).status == 200
        await stack.advance(150)
        for name in stack.renditions():
            stack.bucket.remove(name)
        await stack.put(KEY, BLUE)
        await stack.advance(150)
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Miss", "blue")


async def test_deletions_of_a_gallery_are_one_invalidation(folder: Path) -> None:
    keys = [f"g/{number}.jpg" for number in range(21)]
    async with deployed_stack.start(folder) as stack:
        for key in keys:
            await stack.put(key, RED)
        assert (await stack.request("/resize/800x600/g/0.jpg")).status == 200
        await stack.advance(150)
        for key in keys:
            await stack.remove(key)
        await stack.advance(150)
        assert log_records(stack, "JanitorFunction")[-21:] == [
            {"key": key, "deleted": int(key == "g/0.jpg"), "invalidated": key == "g/0.jpg"} for key in keys
        ]
        assert (await stack.request("/resize/800x600/g/0.jpg")).status == 404


class PausedResizer:
    """Pauses the first resizer that stores a rendition, before it checks the original again."""

    def __init__(self, stack: deployed_stack.DeployedStack) -> None:
        self.paused = asyncio.Event()
        stack.running.role_checks["Resizer"].after = self._after

    async def _after(self, request: OriginRequest, _answer: object) -> None:
        is_rendition = request.method == "PUT" and "/recipes/" not in request.raw_path
        if is_rendition and not self.paused.is_set():
            self.paused.set()
            await asyncio.Event().wait()  # until it is killed


async def test_a_stale_rendition_of_a_killed_resizer_is_deleted(folder: Path) -> None:
    """It was killed after it stored the rendition, and before it saw that the original was replaced."""
    async with deployed_stack.start(folder) as stack:
        await stack.put(KEY, RED)
        paused = PausedResizer(stack)
        request = asyncio.create_task(stack.request(PATH, **WEBP))
        await paused.paused.wait()
        await stack.put(KEY, BLUE)
        stack.running.resizer.kill()
        assert (await request).status == 502
        (remaining,) = stack.renditions()
        assert color(stack.bucket.get(remaining)) == "red"
        await stack.advance(6)  # longer than CloudFront keeps a 502
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Miss", "red")
        await stack.advance(144)
        assert stack.renditions() == set()
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Miss", "blue")
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Hit", "blue")
        assert {color(stack.bucket.get(key)) for key in stack.renditions()} == {"blue"}


async def test_a_stale_rendition_of_a_running_resizer_is_rendered_again(folder: Path) -> None:
    """The same race without a kill. The resizer sees the new original itself."""
    async with deployed_stack.start(folder) as stack:
        await stack.put(KEY, RED)

        async def replace_original(request: OriginRequest, _answer: object) -> None:
            if request.method == "PUT":
                stack.record_s3_requests("Resizer")
                await stack.put(KEY, BLUE)

        stack.running.role_checks["Resizer"].after = replace_original
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Miss", "blue")
        (remaining,) = stack.renditions()
        assert color(stack.bucket.get(remaining)) == "blue"


async def test_a_message_that_fails_three_times_is_in_the_dead_letter_queue(folder: Path) -> None:
    without_permission = local_cloudfront.changed_template(
        local_cloudfront.set_value("JanitorRole/Properties/Policies/0/PolicyDocument/Statement/2", None)
    )
    async with deployed_stack.start(folder, without_permission) as stack:
        await stack.put(KEY, RED)
        assert (await stack.request(PATH, **WEBP)).status == 200
        await stack.advance(150)
        await stack.put(KEY, BLUE)
        await stack.advance(150)
        for _ in range(3):
            assert (stack.queue_length("JanitorQueue"), stack.queue_length("JanitorFailed")) == (1, 0)
            await stack.advance(1020)
        assert (stack.queue_length("JanitorQueue"), stack.queue_length("JanitorFailed")) == (0, 1)
        assert len(stack.renditions()) == 1


# --------------------------------------------------------------------------------------------- prewarm


async def test_prewarm_renders_an_upload_from_one_read_and_viewers_get_it_from_s3(
    folder: Path,
) -> None:
    async with deployed_stack.start(folder, Prewarm="on") as stack:
        s3_requests = stack.record_s3_requests("PrewarmFunction")
        await stack.put(KEY, RED)
        await stack.advance(0)
        assert stack.renditions() == PAGES
        reads = [
            request
            for request in s3_requests
            if request.method == "GET" and "/originals/" in request.raw_path
        ]
        assert len(reads) == 1
        assert log_records(stack, "PrewarmFunction") == [{"key": KEY, "made": len(PAGES), "was_there": 0}]
        assert seen(await stack.request(PATH, **WEBP)) == (200, "Miss", "red")
        assert stack.running.resizer.init_durations_s == []


async def test_prewarm_ignores_the_events_of_its_own_renditions(folder: Path) -> None:
    """Otherwise the function would invoke itself without end."""
    async with deployed_stack.start(folder, Prewarm="on") as stack:
        await stack.put(KEY, RED)
        await stack.advance(0)
        await stack.remove(KEY)  # all earlier events have arrived when this one has
        assert stack.queue_length("PrewarmQueue") == 0
        assert stack.queue_length("JanitorQueue") == 2


async def test_prewarm_renders_a_replaced_original_again(folder: Path) -> None:
    async with deployed_stack.start(folder, Prewarm="on") as stack:
        await stack.put(KEY, RED)
        await stack.advance(0)
        await stack.put(KEY, BLUE)
        await stack.advance(0)
        assert {color(stack.bucket.get(name)) for name in stack.renditions()} == {"blue"}
        await stack.advance(150)
        assert stack.renditions() == PAGES


@pytest.mark.parametrize(
    "parameters", [{"Prewarm": "on", "Janitor": "off"}, {"Prewarm": "off", "Janitor": "on"}]
)
async def test_parameters_decide_which_functions_are_deployed(parameters: dict[str, str]) -> None:
    functions = local_cloudfront.read_plan(local_cloudfront.TEMPLATE, **parameters).functions
    assert [*functions] == ["Resizer", "PrewarmFunction"] + ["JanitorFunction"] * (
        parameters["Janitor"] == "on"
    )


async def test_an_s3_server_without_versioning_raises_settings_error() -> None:
    with pytest.raises(SettingsError, match="cannot enable versioning"):
        async with aws_stack.start(local_cloudfront.deployment(), aws_stack.FunctionCode(str(Path.cwd()))):
            pass
