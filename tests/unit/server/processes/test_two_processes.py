"""Tests of `serve --processes 2`: concurrent misses, killed processes, replaced and purged photographs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import exhaustive, pictures
from tests.support.raw_http import Viewer, get
from tests.support.shapes import ServeProcess, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONCURRENT = exhaustive.count(1000, sample=300)
KILLS = exhaustive.count(20, sample=4)
OWN_SOCKETS = 3
"""Of a hit process: its channel, and the pair that wakes its event loop."""
PATH = "/resize/small.jpeg/g/a.jpg"

pytestmark = [pytest.mark.timeout(240), pytest.mark.exhaustive]


def hit_process(shape: ServeProcess) -> int | None:
    """The process id of the hit process, if one runs."""
    children = Path(f"/proc/{shape.process.pid}/task/{shape.process.pid}/children").read_text().split()
    for child in children:
        if b"hit_process" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return None


@asynccontextmanager
async def viewers(shape: ServeProcess, number: int) -> AsyncIterator[list[Viewer]]:
    """Connections on which one request was answered: the server has given half of them away."""
    opened = [
        Viewer(*await asyncio.open_connection("127.0.0.1", shape.port, limit=1 << 20)) for _ in range(number)
    ]
    for viewer in opened:
        await viewer.send(get("/first"))
    for viewer in opened:
        await viewer.response()
    try:
        yield opened
    finally:
        for viewer in opened:
            viewer.writer.close()


async def fetch(viewer: Viewer) -> tuple[str, bytes] | None:
    """The cache status and the bytes of the picture; None if the connection was broken."""
    try:
        await viewer.send(get(PATH))
        status, headers, body = await viewer.response()
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
    assert status == 200
    assert headers["etag"] == f'"{hashlib.md5(body).hexdigest()}"'
    return headers["cache-status"].removeprefix("galerly-cdn; "), body


def writers(records: list[dict[str, object]]) -> int:
    """How many processes have answered these requests: each has a prefix of its request ids."""
    return len({str(record["request_id"]).partition("-")[0] for record in records})


async def hit_from_both(shape: ServeProcess, some: list[Viewer]) -> int:
    """Request the picture until the hit process serves nearly half of the connections; its process id."""
    while True:
        assert all(await asyncio.gather(*map(fetch, some)))
        process = hit_process(shape)
        if process is not None and connections_of(process) >= len(some) // 2 - 1:
            return process


def connections_of(process: int) -> int:
    """The connections of a hit process."""
    sockets = 0
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            sockets += str(file.readlink()).startswith("socket:")
    return sockets - OWN_SOCKETS


async def test_concurrent_misses_over_two_processes_render_once(tmp_path: Path) -> None:
    with running(tmp_path, processes=2) as shape:
        shape.put("g/a.jpg", pictures.jpeg(600, 400))
        await fetch_first(shape)
        async with viewers(shape, CONCURRENT) as all_viewers:
            await hit_from_both(shape, all_viewers)
            shape.put("g/a.jpg", pictures.jpeg(6000, 4000))
            first = await asyncio.gather(*map(fetch, all_viewers))
            second = await asyncio.gather(*map(fetch, all_viewers))
        records = shape.stop()
    assert all((*first, *second))
    assert len({answer[1] for answer in (*first, *second) if answer}) == 1
    caches = Counter(answer[0] for answer in first if answer)
    assert caches["fwd=stale; stored"] == 1
    assert (
        caches["fwd=stale; stored; collapsed"] + caches["hit"] + caches["hit; detail=store"] == CONCURRENT - 1
    )
    assert {answer[0] for answer in second if answer} <= {"hit", "hit; detail=store"}
    answered = [record for record in records if record["status"] == 200]
    assert len({record["request_id"] for record in records}) == len(records)
    assert writers(answered) == 2
    assert len(answered) >= 2 * CONCURRENT


async def fetch_first(shape: ServeProcess) -> None:
    """Let the server render the picture."""
    async with viewers(shape, 1) as (viewer,):
        assert await fetch(viewer)


async def test_killed_process_breaks_its_connections_only(tmp_path: Path) -> None:
    with running(tmp_path, processes=2) as shape:
        shape.put("g/a.jpg", pictures.jpeg(600, 400))
        await fetch_first(shape)
        bodies: set[bytes | None] = set()
        for _ in range(KILLS):
            async with viewers(shape, 20) as all_viewers:
                process = await hit_from_both(shape, all_viewers)
                loads = [asyncio.create_task(load(viewer)) for viewer in all_viewers]
                await asyncio.wait(loads, return_when=asyncio.FIRST_COMPLETED, timeout=0)
                os.kill(process, signal.SIGKILL)
                got = await asyncio.gather(*loads)
            broken = [one for one in got if one[-1] is None]
            assert 9 <= len(broken) <= 11
            bodies |= {body for one in got for body in one if body}
        records = shape.stop()
    assert len(bodies) == 1
    numbers = Counter(record["request_id"] for record in records)
    assert set(numbers.values()) == {1}


async def load(viewer: Viewer) -> list[bytes | None]:
    """The bytes of the picture, many times; None at the end of a broken connection."""
    got: list[bytes | None] = []
    for _ in range(200):
        answer = await fetch(viewer)
        got.append(answer and answer[1])
        if answer is None:
            break
    return got


async def test_replaced_photograph_is_never_served_again_by_any_process(tmp_path: Path) -> None:
    with running(tmp_path, processes=2, access_log=False) as shape:
        shape.put("g/a.jpg", pictures.jpeg(600, 400))
        await fetch_first(shape)
        async with viewers(shape, 4) as some:
            await hit_from_both(shape, some)
            seen: set[bytes] = set()
            for turn in range(exhaustive.count(200, sample=20)):
                shape.put("g/a.jpg", pictures.jpeg(600 - turn, 400))
                got = await asyncio.gather(*map(fetch, some))
                now = {answer[1] for answer in got if answer}
                assert len(now) == 1
                assert not now & seen
                seen |= now
        shape.stop()


async def test_purged_photograph_is_rendered_again_for_any_process(tmp_path: Path) -> None:
    with running(tmp_path, processes=2, writable=True) as shape:
        shape.put("g/a.jpg", pictures.jpeg(600, 400))
        await fetch_first(shape)
        async with viewers(shape, 4) as some:
            await hit_from_both(shape, some)
            for _ in range(5):
                await asyncio.gather(*map(fetch, some))
                purge = asyncio.to_thread(shape.administer, "POST", "/purge/g/a.jpg", {}, b"")
                assert (await purge).status == 200
                got = Counter(answer[0] for answer in await asyncio.gather(*map(fetch, some)) if answer)
                assert got["fwd=uri-miss; stored"] == 1
        shape.stop()
