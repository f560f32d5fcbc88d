"""Tests of a server process under load: concurrent misses, kills, and originals that are replaced."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.support import exhaustive, pictures
from tests.support.shapes import Answer, running

if TYPE_CHECKING:
    from pathlib import Path

CONCURRENT = exhaustive.count(1000, sample=300)
KILLS = exhaustive.count(100, sample=10)
REPLACES = exhaustive.count(1000, sample=100)


async def fetch(port: int, path: str) -> Answer | None:
    """One GET on a connection of its own; None if the server ended before the response was complete."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    except ConnectionError:
        return None
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers["content-length"]))
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
    finally:
        writer.close()
    return Answer(int(status.split()[1]), headers, body)


def is_whole(answer: Answer) -> bool:
    """Whether it is a 200 whose ETag is the MD5 of its bytes."""
    return answer.status == 200 and answer.headers["etag"] == f'"{hashlib.md5(answer.body).hexdigest()}"'


async def test_concurrent_misses_of_one_rendition_render_once(tmp_path: Path) -> None:
    with running(tmp_path) as shape:
        shape.put("g/large.jpg", pictures.jpeg(6000, 4000))
        requests = [fetch(shape.port, "/resize/medium/g/large.jpg") for _ in range(CONCURRENT)]
        answers = await asyncio.gather(*requests)
        records = shape.stop()
    bodies = {answer.body for answer in answers if answer and is_whole(answer)}
    assert len(bodies) == 1
    assert all(answer and is_whole(answer) for answer in answers)
    caches = Counter(record["cache"] for record in records)
    assert caches["fwd=uri-miss; stored"] == 1
    assert caches["fwd=uri-miss; stored; collapsed"] + caches["hit"] == CONCURRENT - 1


async def test_concurrent_misses_of_many_renditions_render_each_once(tmp_path: Path) -> None:
    with running(tmp_path, queue_wait_s=600) as shape:
        original = pictures.jpeg(900, 600)
        for number in range(50):
            shape.put(f"g/{number}.jpg", original)
        paths = [f"/resize/small/g/{number}.jpg" for number in range(50)] * 20
        random.Random(4).shuffle(paths)
        answers = await asyncio.gather(*(fetch(shape.port, path) for path in paths))
        records = shape.stop()
    assert all(answer and is_whole(answer) for answer in answers)
    assert Counter(record["cache"] for record in records)["fwd=uri-miss; stored"] == 50


async def test_render_survives_disconnect_of_first_viewer(tmp_path: Path) -> None:
    with running(tmp_path) as shape:
        shape.put("g/large.jpg", pictures.jpeg(4000, 3000))
        _, writer = await asyncio.open_connection("127.0.0.1", shape.port)
        writer.write(b"GET /resize/medium.avif/g/large.jpg HTTP/1.1\r\nHost: a\r\n\r\n")
        await writer.drain()
        others = [
            asyncio.create_task(fetch(shape.port, "/resize/medium.avif/g/large.jpg")) for _ in range(19)
        ]
        writer.close()
        answers = await asyncio.gather(*others)
        records = shape.stop()
    assert all(answer and is_whole(answer) for answer in answers)
    alone = [record for record in records if "collapsed" not in str(record["cache"])]
    assert [(record["status"], record["reason"]) for record in alone] == [(499, "disconnected")]
    assert sum("stored" in str(record["cache"]) for record in records) == 19


async def test_renders_that_nobody_waits_for_are_dropped(tmp_path: Path) -> None:
    with running(tmp_path, workers=1, queue_wait_s=600) as shape:
        for number in range(30):
            shape.put(f"g/{number}.jpg", pictures.jpeg(1600, 1200))
        writers = []
        for number in range(30):
            _, writer = await asyncio.open_connection("127.0.0.1", shape.port)
            writer.write(f"GET /resize/medium.avif/g/{number}.jpg HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            writers.append(writer)
        for writer in writers:
            await writer.drain()
            writer.close()
        answer = await fetch(shape.port, "/resize/small/g/0.jpg")
        records = shape.stop()
    assert answer
    assert is_whole(answer)
    assert [record["status"] for record in records] == [499] * 30 + [200]
    assert len(list((tmp_path / "renditions").rglob("*/" + "?" * 64))) < 12, (
        "those that had begun, and the last"
    )


async def test_killed_server_leaves_correct_renditions(tmp_path: Path) -> None:
    """SIGKILL after some responses, with requests in progress; then every rendition is requested."""
    chance = random.Random(9)
    photographs = tmp_path / "photographs" / "g"
    photographs.mkdir(parents=True)
    (photographs / "a.jpg").write_bytes(pictures.jpeg(600, 400))
    names = [f"{number}.jpg" for number in range(KILLS * 4)]
    for name in names:  # many keys of one original: all must give the same picture
        os.link(photographs / "a.jpg", photographs / name)
    remaining_names = iter(names)
    right: bytes | None = None
    for _ in range(KILLS):
        with running(tmp_path, workers=2, access_log=False) as shape:
            paths = [f"/resize/small.jpeg/g/{name}" for name in itertools.islice(remaining_names, 4)]
            tasks = [asyncio.create_task(fetch(shape.port, path)) for path in paths]
            for finished in itertools.islice(asyncio.as_completed(tasks), chance.randrange(4)):
                await finished
            shape.process.kill()
            answers = [answer for answer in await asyncio.gather(*tasks) if answer]
            assert all(is_whole(answer) for answer in answers)
    with running(tmp_path) as shape:
        for name in names:
            answer = await fetch(shape.port, f"/resize/small.jpeg/g/{name}")
            assert answer
            assert is_whole(answer)
            right = right or answer.body
            assert answer.body == right
        shape.stop()


async def test_replaced_original_is_never_served_again(tmp_path: Path) -> None:
    """The original is replaced again and again under load; each request afterwards gets the new picture."""
    with running(tmp_path, access_log=False) as shape:
        red, blue = (solid(color) for color in ("red", "blue"))
        shape.put("g/a.jpg", red)
        stopping = asyncio.Event()

        async def load() -> None:
            while not stopping.is_set():
                answer = await fetch(shape.port, "/resize/tiny.jpeg/g/a.jpg")
                assert answer
                assert answer.status in {200, 503}

        loads = [asyncio.create_task(load()) for _ in range(3)]
        for turn in range(REPLACES):
            shape.put("g/a.jpg", (red, blue)[turn % 2])
            answer = await fetch(shape.port, "/resize/tiny.jpeg/g/a.jpg")
            assert answer
            assert is_whole(answer)
            assert shown(answer) == ("red", "blue")[turn % 2], turn
        stopping.set()
        await asyncio.gather(*loads)
        shape.stop()


def solid(color: str) -> bytes:
    """A small JPEG of one color; red and blue are equally long files."""
    return pictures.saved(Image.new("RGB", (300, 200), color), "JPEG", quality=90)


def shown(answer: Answer) -> str:
    seen = Image.open(io.BytesIO(answer.body)).convert("RGB").getpixel((70, 50))
    assert isinstance(seen, tuple)
    red, _, blue = seen
    return "red" if red > blue else "blue"


pytestmark = [pytest.mark.timeout(240), pytest.mark.exhaustive]
