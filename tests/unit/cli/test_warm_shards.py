"""Tests `warm --all` in shards, as a Kubernetes Job runs them: a shard is killed, and started again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.stored_keys import Shard, stored_key
from tests.support import pictures
from tests.support.cdn_process import PROGRAM, environment
from tests.support.fake_s3 import FakeS3, Fault, Request, fake_s3
from tests.support.s3_servers import CREDENTIALS, SERVERS

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from tests.support.s3_servers import S3Server

KEYS = [f"gallery {number % 7}/{number:03}.png" for number in range(200)]
PICTURES = 2
"""Of a photograph, by `SIZES`: in its own format, and WebP."""
SIZES = "20x20 webp=80"
SHARDS = 3
KILLED = 2


def content(number: int) -> bytes:
    return pictures.png(40 + number % 5, 30)


async def warm(store: str, shard: int, variables: Mapping[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        *PROGRAM, "warm", "--all", "--shard", f"{shard}/{SHARDS}", "--store", store,
        env=environment(GALERLY_SIZES=SIZES, GALERLY_WORKERS="1", **variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


async def ended(process: Process) -> tuple[int | None, int, str]:
    """The exit code, how many pictures were rendered, and the lines on stderr."""
    stdout, stderr = await process.communicate()
    rendered = sum(map(int, re.findall(r"(\d+) rendered", stdout.decode())))
    return process.returncode, rendered, stderr.decode()


def keys_of(shard: int) -> list[str]:
    return [key for key in KEYS if Shard(shard, SHARDS).has(stored_key(key))]


def is_picture(request: Request) -> bool:
    return bool(re.match("bucket/resized/20x20", request.key))


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        for number, key in enumerate(KEYS):
            server.put(f"originals/{key}", content(number))
        yield server


def variables_of(fake: FakeS3) -> dict[str, str]:
    return {**CREDENTIALS, "GALERLY_STORE_ENDPOINT": f"http://127.0.0.1:{fake.port}"}


def at_put(number: int, act: Callable[[], object]) -> Callable[[Request], Fault | None]:
    """Calls `act` at this put of a picture; the put is not answered, so that its photograph is in hand."""
    puts = 0

    def fault(request: Request) -> Fault | None:
        nonlocal puts
        puts += request.method == "PUT" and is_picture(request)
        if puts < number or request.method != "PUT":
            return None
        if puts == number:
            act()
        return Fault(resets=True)

    return fault


async def test_killed_shard_is_finished_by_its_repetition_without_reading_pictures(fake: FakeS3) -> None:
    variables = variables_of(fake)
    killed = await warm("s3://bucket", KILLED, variables)
    fake.fault = at_put(31, lambda: os.killpg(killed.pid, signal.SIGKILL))
    assert (await ended(killed))[0] == -signal.SIGKILL
    fake.fault = lambda _request: None
    stored_before = sum(map(is_picture_name, fake.objects))
    assert 0 < stored_before < PICTURES * len(keys_of(KILLED))
    fake.requests.clear()
    runs = await asyncio.gather(*[warm("s3://bucket", shard, variables) for shard in (1, 2, 3)])
    finished = await asyncio.gather(*map(ended, runs))
    assert [code for code, _, _ in finished] == [0, 0, 0]
    assert sum(map(is_picture_name, fake.objects)) == PICTURES * len(KEYS)
    rendered = sum(count for _, count, _ in finished)
    assert stored_before + rendered == PICTURES * len(KEYS)
    # Only what is missing is asked for by GET before it is put
    read = [one.key for one in fake.requests if one.method == "GET" and is_picture(one)]
    assert len(read) <= rendered
    fake.requests.clear()
    again = await asyncio.gather(*[warm("s3://bucket", shard, variables) for shard in (1, 2, 3)])
    assert [one[:2] for one in await asyncio.gather(*map(ended, again))] == [(0, 0)] * 3
    assert not [one for one in fake.requests if one.method != "HEAD" and one.key.endswith(".png")]
    heads = [one.key for one in fake.requests if one.method == "HEAD"]
    assert len(heads) == len(set(heads)) == len(KEYS) * (1 + PICTURES)


def is_picture_name(name: str) -> bool:
    return name.startswith("bucket/resized/20x20")


async def test_sigterm_ends_a_shard_after_the_photographs_in_hand(fake: FakeS3) -> None:
    variables = variables_of(fake)
    process = await warm("s3://bucket", 1, variables)
    puts = 0

    def fault(request: Request) -> None:
        nonlocal puts
        is_put = request.method == "PUT" and is_picture(request)
        puts += is_put
        if is_put and puts == 5:
            os.killpg(process.pid, signal.SIGTERM)  # as systemd does: to the workers too

    fake.fault = fault
    code, rendered, errors = await ended(process)
    assert code == 75
    assert "ended by SIGTERM" in errors
    stored = sum(map(is_picture_name, fake.objects))
    assert rendered == stored
    assert stored % PICTURES == 0
    assert stored < PICTURES * len(keys_of(1))
    fake.fault = lambda _request: None
    left = PICTURES * len(keys_of(1)) - stored
    assert (await ended(await warm("s3://bucket", 1, variables)))[:2] == (0, left)


@pytest.mark.parametrize("fault", [Fault(status=503, code="SlowDown"), Fault(resets=True)])
async def test_store_that_fails_meanwhile_ends_the_shard_with_75(fake: FakeS3, fault: Fault) -> None:
    requests = 0

    def failing(request: Request) -> Fault | None:
        nonlocal requests
        requests += is_picture(request)
        return fault if requests > 20 else None

    fake.fault = failing
    code, _, errors = await ended(await warm("s3://bucket", 1, variables_of(fake)))
    assert code == 75, errors
    assert len(errors.splitlines()) < 40


async def test_photograph_that_cannot_be_shown_is_listed_and_the_others_are_made(fake: FakeS3) -> None:
    key = keys_of(1)[3]
    fake.put(f"originals/{key}", b"no picture")
    code, rendered, errors = await ended(await warm("s3://bucket", 1, variables_of(fake)))
    assert (code, rendered) == (1, PICTURES * (len(keys_of(1)) - 1))
    assert f"galerly-cdn: {key}: " in errors


@pytest.mark.parametrize("kind", ["folder", *SERVERS])
async def test_shards_make_every_picture_once_in_real_stores(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    variables = dict(CREDENTIALS)
    if kind == "folder":
        store = str(tmp_path)
        for number, key in enumerate(KEYS[:30]):
            path = tmp_path / "originals" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(number))
    else:
        server: S3Server = request.getfixturevalue(kind)
        bucket = server.bucket()
        for number, key in enumerate(KEYS[:30]):
            bucket.put(f"originals/{key}", content(number))
        store, variables = f"s3://{bucket.name}", {**variables, "GALERLY_STORE_ENDPOINT": server.endpoint}
    for made in (30 * PICTURES, 0):
        runs = await asyncio.gather(*[warm(store, shard, variables) for shard in (1, 2, 3)])
        finished = await asyncio.gather(*map(ended, runs))
        assert [code for code, _, _ in finished] == [0, 0, 0], finished
        assert sum(count for _, count, _ in finished) == made
