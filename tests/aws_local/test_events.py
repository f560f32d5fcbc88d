"""After an upload: the whole way from S3's event to the right picture, as the template has it."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from galerly_cdn.aws_local import stack as chain
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
PAGES = {f"resized/{one.rendition_key(KEY)}" for one in Settings().page_targets}

pytestmark = [pytest.mark.server("versitygw", "node")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the S3 server keeps its buckets."""
    made = tmp_path / "s3"
    made.mkdir()
    return made


def told(answer: ViewerResponse) -> tuple[int, str, str]:
    """Status, `Miss` or `Hit`, and which picture it is."""
    return answer.status, answer.headers["x-cache"].split()[0], color(answer.body)


def color(body: bytes) -> str:
    red, _, blue = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).mean(axis=(0, 1))
    return "red" if red > blue else "blue"


def lines(stack: deployed_stack.Stack, function: str) -> list[dict[str, Any]]:
    """What a function told of its work."""
    found = [json.loads(line) for line in stack.chain.functions[function].lines]
    return [one for one in found if "_aws" not in one]


# --------------------------------------------------------------------------------------------- the janitor


async def test_a_replaced_original_is_a_new_picture_after_the_janitor_s_delay(folder: Path) -> None:
    async with deployed_stack.stack(folder) as stack:
        await stack.put(KEY, RED)
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Miss", "red")
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Hit", "red")
        await stack.later(90)
        await stack.put(KEY, BLUE)
        await stack.later(89)
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Hit", "red")
        await stack.later(1)
        assert stack.renditions() == set()
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Miss", "blue")
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Hit", "blue")
        assert lines(stack, "JanitorFunction") == [
            {"key": KEY, "deleted": 0, "invalidated": False},  # the first upload costs nothing
            {"key": KEY, "deleted": 1, "invalidated": True},
        ]
        assert stack.queue("JanitorQueue") == stack.queue("JanitorFailed") == 0


async def test_a_deleted_original_is_404_after_the_janitor_s_delay(folder: Path) -> None:
    async with deployed_stack.stack(folder) as stack:
        await stack.put(KEY, RED)
        assert (await stack.ask(PATH, **WEBP)).status == 200
        await stack.remove(KEY)
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Hit", "red")
        await stack.later(90)
        assert stack.renditions() == set()
        assert (await stack.ask(PATH, **WEBP)).status == 404


async def test_what_a_cache_still_has_of_an_expired_rendition_goes_too(folder: Path) -> None:
    """Nothing is left to delete then; that there was an original before is what the versions say."""
    async with deployed_stack.stack(folder) as stack:
        await stack.put(KEY, RED)
        assert (await stack.ask(PATH, **WEBP)).status == 200
        await stack.later(90)
        for name in stack.renditions():
            stack.bucket.remove(name)
        await stack.put(KEY, BLUE)
        await stack.later(90)
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Miss", "blue")


class Held:
    """Holds the first resizer whose rendition is stored before it knows: before its second head."""

    def __init__(self, stack: deployed_stack.Stack) -> None:
        self.reached = asyncio.Event()
        stack.chain.guards["Resizer"].after = self._after

    async def _after(self, request: OriginRequest, _answer: object) -> None:
        if request.method == "PUT" and not self.reached.is_set():
            self.reached.set()
            await asyncio.Event().wait()  # until it is killed


async def test_what_a_resizer_that_was_killed_left_of_a_replaced_original_goes(folder: Path) -> None:
    """Its put is done, its second look at the original is not: nobody knows that the rendition is old."""
    async with deployed_stack.stack(folder) as stack:
        await stack.put(KEY, RED)
        held = Held(stack)
        asked = asyncio.create_task(stack.ask(PATH, **WEBP))
        await held.reached.wait()
        await stack.put(KEY, BLUE)
        stack.chain.resizer.kill()
        assert (await asked).status == 502
        (left,) = stack.renditions()
        assert color(stack.bucket.get(left)) == "red"
        await stack.later(6)  # longer than CloudFront keeps a 502
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Miss", "red")
        await stack.later(84)
        assert stack.renditions() == set()
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Miss", "blue")
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Hit", "blue")
        assert {color(stack.bucket.get(one)) for one in stack.renditions()} == {"blue"}


async def test_a_resizer_that_lives_mends_it_itself(folder: Path) -> None:
    """The same race, and nobody dies: the janitor is not needed."""
    async with deployed_stack.stack(folder) as stack:
        await stack.put(KEY, RED)

        async def replaced(request: OriginRequest, _answer: object) -> None:
            if request.method == "PUT":
                stack.watch("Resizer")
                await stack.put(KEY, BLUE)

        stack.chain.guards["Resizer"].after = replaced
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Miss", "blue")
        (left,) = stack.renditions()
        assert color(stack.bucket.get(left)) == "blue"


async def test_a_message_that_fails_three_times_lies_in_the_dead_letter_queue(folder: Path) -> None:
    unable = local_cloudfront.changed(
        local_cloudfront.put("JanitorRole/Properties/Policies/0/PolicyDocument/Statement/2", None)
    )
    async with deployed_stack.stack(folder, unable) as stack:
        await stack.put(KEY, RED)
        assert (await stack.ask(PATH, **WEBP)).status == 200
        await stack.later(90)
        await stack.put(KEY, BLUE)
        await stack.later(90)
        for _ in range(3):
            assert (stack.queue("JanitorQueue"), stack.queue("JanitorFailed")) == (1, 0)
            await stack.later(360)
        assert (stack.queue("JanitorQueue"), stack.queue("JanitorFailed")) == (0, 1)
        assert len(stack.renditions()) == 1


# --------------------------------------------------------------------------------------------- the prewarm


async def test_an_upload_is_warmed_by_one_decode_and_the_first_viewer_is_answered_from_s3(
    folder: Path,
) -> None:
    async with deployed_stack.stack(folder, Prewarm="on") as stack:
        seen = stack.watch("PrewarmFunction")
        await stack.put(KEY, RED)
        await stack.later(0)
        assert stack.renditions() == PAGES
        reads = [one for one in seen if one.method == "GET" and "/originals/" in one.raw_path]
        assert len(reads) == 1
        assert lines(stack, "PrewarmFunction") == [{"key": KEY, "made": len(PAGES), "was_there": 0}]
        assert told(await stack.ask(PATH, **WEBP)) == (200, "Miss", "red")
        assert stack.chain.resizer.inits_s == []


async def test_the_renditions_themselves_are_no_uploads(folder: Path) -> None:
    """The prewarm's own puts are changes in the bucket too: it must not feed itself."""
    async with deployed_stack.stack(folder, Prewarm="on") as stack:
        await stack.put(KEY, RED)
        await stack.later(0)
        await stack.remove(KEY)  # whatever was told before has arrived now
        assert stack.queue("PrewarmQueue") == 0
        assert stack.queue("JanitorQueue") == 2


async def test_a_replaced_original_is_warmed_anew(folder: Path) -> None:
    async with deployed_stack.stack(folder, Prewarm="on") as stack:
        await stack.put(KEY, RED)
        await stack.later(0)
        await stack.put(KEY, BLUE)
        await stack.later(0)
        assert {color(stack.bucket.get(name)) for name in stack.renditions()} == {"blue"}
        await stack.later(90)
        assert stack.renditions() == PAGES


@pytest.mark.parametrize("given", [{"Prewarm": "on", "Janitor": "off"}, {"Prewarm": "off", "Janitor": "on"}])
async def test_only_what_the_parameters_switch_on_is_there(given: dict[str, str]) -> None:
    functions = local_cloudfront.planned(local_cloudfront.PLAIN, **given).functions
    assert [*functions] == ["Resizer", "PrewarmFunction" if given["Prewarm"] == "on" else "JanitorFunction"]


async def test_a_server_that_keeps_no_versions_is_refused_before_anything_happens() -> None:
    with pytest.raises(SettingsError, match="does not keep versions"):
        async with chain.start(local_cloudfront.deployed(), chain.FunctionCode(str(Path.cwd()))):
            pass
