"""Tests of the Lambda functions under AWS's own runtime client, over a real S3 server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from galerly_cdn.aws.functions import function_url
from galerly_cdn.aws_local.functions.runtime import (
    MAX_PAYLOAD_BYTES,
    Crashed,
    Function,
    FunctionFailed,
    Throttled,
    TimedOut,
)
from galerly_cdn.http import urls
from galerly_cdn.model import Format, facts_key
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.lambda_functions import answer, change, function, request, running
from tests.support.render_jobs import target
from tests.support.s3_servers import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.s3_servers import Objects

LOCKED = {
    "_cffi_backend",
    "_pi_heif",
    "cachetools",
    "cffi",
    "msgspec",
    "obstore",
    "platformdirs",
    "pycparser",
    "pyvips",
    "tenacity",
}
"""The top-level modules of the packages in `lambda.txt`."""
HEAVY = {"boto3", "botocore", "click", "cryptography", "httpx", "jinja2", "prometheus_client", "httptools"}
KEY = "g/a b.jpg"
WEBP = target("150x150", Format.WEBP)
PROGRAM = """
import os, time

def handler(event, context):
    print("seen", context.aws_request_id, context.function_name)
    if event.get("fails"):
        raise ValueError("on purpose")
    if event.get("ends"):
        os._exit(3)
    if event.get("hangs"):
        time.sleep(3600)
    if event.get("waits"):
        print("waiting", flush=True)
        open(event["waits"]).read()
    return {"echo": event, "body": "x" * event.get("length", 0), "pid": os.getpid()}
"""


@pytest.fixture
def program(tmp_path: Path) -> Function:
    """A function that fails, ends, hangs, waits or echoes, as its event says."""
    (tmp_path / "echo.py").write_text(PROGRAM)
    return Function(
        name="echo", handler="echo.handler", root=str(tmp_path), environment={}, timeout_s=60, memory_mb=128
    )


# ------------------------------------------------------------------------------------------- the functions


async def test_resizer_miss_renders_stores_and_logs(bucket: Objects) -> None:
    bucket.put(f"originals/{KEY}", pictures.jpeg(600, 400))
    async with running(function("resizer", bucket.settings())) as runtime:
        path = urls.format_stored(WEBP, KEY)
        found = answer(await runtime.invoke(request(path)))
        again = answer(await runtime.invoke(request(path)))
        missing = answer(await runtime.invoke(request("/resized/150x150/none")))
    assert (found.status, found.headers["content-type"]) == (200, "image/webp")
    assert again.body == found.body == bucket.get(f"resized/{WEBP.rendition_key(KEY)}")
    assert (missing.status, missing.code) == (404, "no-such-original")
    assert len(runtime.init_durations_s) == 1
    assert runtime.peak_bytes > 0
    records = [json.loads(line) for line in runtime.log_lines]
    assert [one["status"] for one in records if "status" in one] == [200, 200, 404]
    (metrics,) = [one for one in records if "_aws" in one]
    assert (metrics["FunctionName"], metrics["RenditionBytes"]) == ("resizer", len(found.body))


async def test_resizer_hostile_original_gets_415(bucket: Objects) -> None:
    hostile = {
        "cut.jpg": (pictures.truncated(pictures.jpeg()), "undecodable"),
        "huge.png": (pictures.huge_header_png(), "too-many-pixels"),
        "page.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported-format"),
        "empty.jpg": (b"", "unsupported-format"),
    }
    for key, (content, _) in hostile.items():
        bucket.put(f"originals/{key}", content)
    async with running(function("resizer", bucket.settings())) as runtime:
        for key, (_, code) in hostile.items():
            found = answer(await runtime.invoke(request(f"/resized/150x150/{key}")))
            assert (found.status, found.code) == (415, code)
    stored = set(bucket.rendition_names())
    assert stored == {f"resized/facts/{key}" for key in hostile}


async def test_resizer_original_above_memory_gets_415(
    bucket: Objects,
) -> None:
    bucket.put("originals/a.webp", pictures.webp(600, 400))
    async with running(replaced(function("resizer", bucket.settings()), memory_mb=301)) as runtime:
        found = answer(await runtime.invoke(request("/resized/150x150/a.webp")))
    assert (found.status, found.code) == (415, "too-much-memory")


async def test_resizer_picture_above_payload_is_stored_and_redirected(
    bucket: Objects,
) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (1200, 1200, 4), np.uint8)
    bucket.put("originals/noise.png", pictures.saved(Image.fromarray(noise), "PNG"))
    large = target("2000x2000", Format.PNG)
    async with running(function("resizer", bucket.settings())) as runtime:
        found = answer(await runtime.invoke(request(urls.format_stored(large, "noise.png"))))
    assert (found.status, found.body) == (302, b"")
    assert found.headers["location"].startswith("/resize/2000x2000.png/noise.png?stored=1&")
    assert len(bucket.get(f"resized/{large.rendition_key('noise.png')}")) > function_url.MAX_BODY_BYTES


async def test_prewarm_upload_stores_every_page_target(bucket: Objects) -> None:
    bucket.put(f"originals/{KEY}", pictures.jpeg(300, 200))
    async with running(function("prewarm", bucket.settings())) as runtime:
        assert await runtime.invoke(change(f"originals/{KEY}")) is None
        bucket.put("originals/bad.jpg", b"nothing")
        assert await runtime.invoke(change("originals/bad.jpg")) is None
    stored = set(bucket.rendition_names())
    renditions = {f"resized/{one.rendition_key(KEY)}" for one in Settings().warm_targets}
    assert stored == renditions | {f"resized/{facts_key(KEY)}", "resized/facts/bad.jpg"}


@asynccontextmanager
async def cloudfront() -> AsyncIterator[tuple[str, list[str]]]:
    """A fake CloudFront API that accepts every invalidation: its address, and the requests it got."""
    requests: list[str] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length_bytes = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        requests.append(head.partition("\r\n")[0] + (await reader.readexactly(length_bytes)).decode())
        body = b"<Invalidation><Id>I1</Id><Status>InProgress</Status></Invalidation>"
        writer.write(
            b"HTTP/1.1 201 -\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        with closing(writer):
            await writer.drain()

    async with await asyncio.start_server(respond, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests


async def test_janitor_deletion_deletes_renditions_and_invalidates_tag(bucket: Objects) -> None:
    bucket.put(f"resized/{WEBP.rendition_key(KEY)}", b"of an original that is gone")
    async with cloudfront() as (address, requests):
        janitor = function(
            "janitor",
            bucket.settings(),
            GALERLY_DISTRIBUTION="E1ABCDEF",
            AWS_ENDPOINT_URL_CLOUDFRONT=address,
        )
        async with running(janitor) as runtime:
            result = await runtime.invoke(change(f"originals/{KEY}", what="Object Deleted"))
    assert (result, bucket.names()) == ({"batchItemFailures": []}, [])
    (sent,) = requests
    assert sent.startswith("POST /2020-05-31/distribution/E1ABCDEF/invalidation ")
    assert f"<Path>#{urls.cache_tag(KEY)}</Path>" in sent
    assert [json.loads(line) for line in runtime.log_lines] == [
        {"key": KEY, "deleted": 1, "invalidated": True}
    ]


async def test_resizer_invalid_settings_end_start(bucket: Objects) -> None:
    async with running(function("resizer", bucket.settings(), GALERLY_SIZES="nonsense")) as runtime:
        with pytest.raises(Crashed):
            await runtime.invoke(request("/"))
        assert any("GALERLY_SIZES" in line for line in runtime.log_lines)


@pytest.mark.parametrize("name", ["resizer", "prewarm", "janitor"])
def test_handler_imports_only_locked_packages(name: str) -> None:
    """The zip has no boto3, jinja2, httpx and the like: importing one would fail every request."""
    program = f"""
import sys
locked = {LOCKED!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if path is None and top not in sys.stdlib_module_names and top not in locked and top not in known:
            raise ModuleNotFoundError(name)

known = {{"galerly_cdn", "_libvips"}}
sys.meta_path.insert(0, Blocker())
import galerly_cdn.aws.functions.{name}_handler
print(sorted({HEAVY!r} & set(sys.modules)))
print("pyvips" in sys.modules)
"""
    environment = {
        **CREDENTIALS,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "RENDITION_DAYS": "180",
        "GALERLY_STORE": "s3://bucket",
    }
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert process.stderr == ""
    assert process.stdout.splitlines() == ["[]", str(name != "janitor")]


# --------------------------------------------------------------------------------------------- the runtime


async def test_runtime_invoke_returns_result(program: Function) -> None:
    async with running(program) as runtime:
        first = await runtime.invoke({"a": "ü"})
        second = await runtime.invoke({"a": 2})
    assert first["echo"] == {"a": "ü"}
    assert first["pid"] == second["pid"]
    assert [line.split()[2] for line in runtime.log_lines] == ["echo", "echo"]
    assert runtime.init_durations_s[0] > 0


async def test_runtime_raising_function_fails_and_keeps_running(program: Function) -> None:
    async with running(program) as runtime:
        with pytest.raises(FunctionFailed, match="on purpose"):
            await runtime.invoke({"fails": True})
        assert (await runtime.invoke({}))["echo"] == {}
        assert len(runtime.init_durations_s) == 1


async def test_runtime_exited_function_is_started_again(program: Function) -> None:
    async with running(program) as runtime:
        with pytest.raises(Crashed, match="exit 3"):
            await runtime.invoke({"ends": True})
        assert (await runtime.invoke({}))["echo"] == {}
        assert len(runtime.init_durations_s) == 2


async def test_runtime_function_over_timeout_is_killed(program: Function) -> None:
    late = replaced(program, timeout_s=0.5)
    async with running(late) as runtime:
        with pytest.raises(TimedOut):
            await runtime.invoke({"hangs": True})
        assert runtime._idle == []


async def test_runtime_cancelled_invoke_does_not_reuse_environment(program: Function, tmp_path: Path) -> None:
    """The caller gave up: the environment that still handles its event gets no other event."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with running(program) as runtime:
        given_up = asyncio.create_task(runtime.invoke({"waits": str(pipe)}))
        writing = await asyncio.to_thread(pipe.open, "w")  # opens when the function reads
        given_up.cancel()
        await asyncio.wait([given_up])
        assert (await runtime.invoke({"a": 1}))["echo"] == {"a": 1}
        writing.close()
        assert len(runtime.init_durations_s) == 2


async def test_runtime_kill_ends_busy_environments_only(program: Function, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with running(program) as runtime:
        invocation = asyncio.create_task(runtime.invoke({"waits": str(pipe)}))
        writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)  # open when the function reads
        runtime.kill()
        with pytest.raises(Crashed, match="exit -9"):
            await invocation
        os.close(writer)
        runtime.kill()  # an environment that waits for an event is not killed
        assert (await runtime.invoke({}))["echo"] == {}
        runtime.kill()
        await runtime.invoke({})
        assert len(runtime.init_durations_s) == 2


async def test_runtime_function_without_log_permission_loses_lines(program: Function) -> None:
    async with running(replaced(program, may_log=False)) as runtime:
        assert (await runtime.invoke({}))["echo"] == {}
        with pytest.raises(Crashed, match="exit 3"):
            await runtime.invoke({"ends": True})
        assert runtime.log_lines == []


async def test_runtime_result_above_payload_fails(program: Function) -> None:
    async with running(program) as runtime:
        assert len((await runtime.invoke({"length": MAX_PAYLOAD_BYTES - 100}))["body"]) > 6_000_000
        with pytest.raises(FunctionFailed, match="ResponseSizeTooLarge"):
            await runtime.invoke({"length": MAX_PAYLOAD_BYTES})


async def test_runtime_missing_module_crashes(program: Function) -> None:
    async with running(replaced(program, handler="none.handler")) as runtime:
        with pytest.raises(Crashed):
            await runtime.invoke({})


async def test_runtime_invocations_above_concurrency_are_throttled(program: Function, tmp_path: Path) -> None:
    pipes = [tmp_path / "one", tmp_path / "two"]
    for pipe in pipes:
        os.mkfifo(pipe)
    async with running(replaced(program, concurrency=2)) as runtime:
        invocations = [asyncio.create_task(runtime.invoke({"waits": str(pipe)})) for pipe in pipes]
        while runtime._busy < 2:
            await asyncio.wait(invocations, timeout=0)
        with pytest.raises(Throttled):
            await runtime.invoke({})
        for pipe in pipes:
            await asyncio.to_thread(pipe.write_text, "go")
        results = await asyncio.gather(*invocations)
        assert len({one["pid"] for one in results}) == 2
        await runtime.invoke({})
    assert len(runtime.init_durations_s) == 2
