"""Tests `galerly-cdn serve` over a failing remote store: responses, log lines and exit codes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import by_code
from tests.support import pictures
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.shapes import Answer, ServeProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

CACHED, UNCACHED = "/resize/tiny/g/warm.jpg", "/resize/tiny/g/cold-{}.jpg"
STALE = "store-unreachable"


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        for key in ("warm", *(f"cold-{number}" for number in range(20))):
            server.put(f"originals/g/{key}.jpg", pictures.jpeg(width=300, height=200))
        yield server


class FakeStoreServer(ServeProcess):
    """`galerly-cdn serve` over the fake store. The fake runs in this thread, so requests run in another."""

    def _start(self) -> None:
        self._serve({"workers": 1, **self.settings})

    async def get(self, path: str) -> Answer:
        return await asyncio.to_thread(self.request, "GET", path, {})


async def serve(fake: FakeS3, root: Path) -> FakeStoreServer:
    configured = fake.settings()
    settings: dict[str, object] = {
        "store": configured.store,
        "store_endpoint": configured.store_endpoint,
        "store_fresh_s": 0.05,
        "store_deadline_s": 1,
    }
    return await asyncio.to_thread(FakeStoreServer, root / "unused", root / "unused", settings)


@pytest.fixture
async def served(fake: FakeS3, tmp_path: Path) -> AsyncIterator[FakeStoreServer]:
    shape = await serve(fake, tmp_path)
    yield shape
    await asyncio.to_thread(shape.stop)


FAULTS: dict[str, tuple[Fault, int, str]] = {
    "down": (Fault(resets=True), 503, "store-unreachable"),
    "internal error": (Fault(status=500), 503, "store-unreachable"),
    "slow down": (Fault(status=503, code="SlowDown"), 503, "store-busy"),
    "silent": (Fault(hangs=True), 503, "store-slow"),
    "refusing": (Fault(status=403, code="AccessDenied"), 502, "store-refused"),
    "redirecting": (Fault(status=307), 502, "store-refused"),
}


@pytest.mark.parametrize(("fault", "status", "code"), FAULTS.values(), ids=FAULTS)
async def test_uncached_picture_gets_the_documented_error(
    fake: FakeS3, served: FakeStoreServer, fault: Fault, status: int, code: str
) -> None:
    fake.fault = lambda _request: fault
    answer = await served.get(UNCACHED.format(0))
    assert (answer.status, code in answer.body.decode()) == (status, True)
    assert answer.headers["cache-control"] == "no-store"
    retry_after_s = by_code()[code].retry_after_s
    assert answer.headers.get("retry-after") == f"{retry_after_s}"
    fake.fault = lambda _request: None
    assert (await until(lambda: served.get(UNCACHED.format(0)))).status == 200


@pytest.mark.parametrize("name", ["down", "internal error", "slow down", "silent", "refusing"])
async def test_cached_picture_is_served_while_the_store_is_unreachable(
    fake: FakeS3, served: FakeStoreServer, name: str
) -> None:
    warm = await served.get(CACHED)
    fake.fault = lambda _request: FAULTS[name][0]
    before = len(fake.requests)
    answers = [await served.get(CACHED) for _ in range(200)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, warm.body)}
    assert STALE in answers[-1].headers["cache-status"]
    assert len(fake.requests) - before <= 50
    fake.fault = lambda _request: None
    again = await until(
        lambda: served.get(CACHED), lambda answer: STALE not in answer.headers["cache-status"]
    )
    assert again.body == warm.body


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault(cut=0.5), 503), (Fault(altered=lambda content: content[: len(content) // 2]), 502)],
    ids=["cut", "short"],
)
async def test_truncated_original_is_never_rendered(
    fake: FakeS3, served: FakeStoreServer, fault: Fault, status: int
) -> None:
    fake.fault = lambda request: fault if request.method == "GET" and "originals" in request.key else None
    assert (await served.get(UNCACHED.format(0))).status == status
    assert not fake.rendition_names()
    fake.fault = lambda _request: None
    assert (await until(lambda: served.get(UNCACHED.format(0)))).status == 200


async def until(
    request: Callable[[], Awaitable[Answer]],
    is_done: Callable[[Answer], bool] = lambda answer: answer.status == 200,
) -> Answer:
    """The first answer that satisfies `is_done`; a recovered store must be used again within 5 s."""
    started_s = time.monotonic()
    while True:
        answer = await request()
        if is_done(answer):
            return answer
        assert time.monotonic() - started_s < 5


async def test_store_unreachable_at_the_start_is_used_when_it_recovers(
    fake: FakeS3, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.fault = lambda _request: Fault(resets=True)
    shape = await serve(fake, tmp_path)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(" cannot")[0] for line in lines] == [
        f"WARNING galerly_cdn.store.open: s3://bucket/{name}" for name in ("originals", "resized", "incoming")
    ]
    assert (await shape.get(CACHED)).status == 503
    fake.fault = lambda _request: None
    assert (await until(lambda: shape.get(CACHED))).status == 200
    await asyncio.to_thread(shape.stop)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=404, code="NoSuchBucket"), "there is no such bucket"),
        (Fault(status=403, code="InvalidAccessKeyId"), "InvalidAccessKeyId"),
    ],
)
async def test_lasting_fault_at_the_start_is_one_line_and_exit_code_2(
    fake: FakeS3, fault: Fault, message: str
) -> None:
    fake.fault = lambda _request: fault
    configured = fake.settings()
    variables = {"GALERLY_STORE_ENDPOINT": configured.store_endpoint, "GALERLY_WORKERS": "1"}
    command = [sys.executable, "-m", "galerly_cdn", "serve", "--store", configured.store, "--port", "0"]
    run = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
