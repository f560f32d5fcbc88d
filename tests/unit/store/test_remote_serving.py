"""`galerly-cdn serve` over a store that fails: what viewers and operators are told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import pictures
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.shapes import Answer, ServeProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

WARM, COLD = "/resize/tiny/g/warm.jpg", "/resize/tiny/g/cold-{}.jpg"
STALE = "store-unreachable"


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with fake_s3() as server:
        for key in ("warm", *(f"cold-{number}" for number in range(20))):
            server.put(f"originals/g/{key}.jpg", pictures.jpeg(width=300, height=200))
        yield server


class Served(ServeProcess):
    """Over the fake: it answers in this thread, so who asks must be in another."""

    def _start(self) -> None:
        self._serve({"workers": 1, **self.settings})

    async def get(self, path: str) -> Answer:
        return await asyncio.to_thread(self.request, "GET", path, {})


async def serve(fake: FakeS3, root: Path) -> Served:
    told = fake.settings()
    settings: dict[str, object] = {
        "store": told.store,
        "store_endpoint": told.store_endpoint,
        "store_fresh_s": 0.05,
        "store_deadline_s": 1,
    }
    return await asyncio.to_thread(Served, root / "unused", root / "unused", settings)


@pytest.fixture
async def served(fake: FakeS3, tmp_path: Path) -> AsyncIterator[Served]:
    shape = await serve(fake, tmp_path)
    yield shape
    await asyncio.to_thread(shape.stop)


FAULTS: dict[str, tuple[Fault, int, str]] = {
    "down": (Fault(resets=True), 503, "store-unreachable"),
    "internal error": (Fault(status=500), 503, "store-unreachable"),
    "slow down": (Fault(status=503, code="SlowDown"), 503, "store-unreachable"),
    "silent": (Fault(hangs=True), 503, "store-unreachable"),
    "refusing": (Fault(status=403, code="AccessDenied"), 502, "store-refused"),
    "leading elsewhere": (Fault(status=307), 502, "store-refused"),
}


@pytest.mark.parametrize(("fault", "status", "code"), FAULTS.values(), ids=FAULTS)
async def test_a_cold_picture_is_answered_as_documented(
    fake: FakeS3, served: Served, fault: Fault, status: int, code: str
) -> None:
    fake.fault = lambda _request: fault
    answer = await served.get(COLD.format(0))
    assert (answer.status, code in answer.body.decode()) == (status, True)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
    fake.fault = lambda _request: None
    assert (await until(lambda: served.get(COLD.format(0)))).status == 200


@pytest.mark.parametrize("name", ["down", "internal error", "slow down", "silent"])
async def test_no_warm_picture_fails_while_the_store_is_away(fake: FakeS3, served: Served, name: str) -> None:
    warm = await served.get(WARM)
    fake.fault = lambda _request: FAULTS[name][0]
    before = len(fake.requests)
    answers = [await served.get(WARM) for _ in range(200)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, warm.body)}
    assert STALE in answers[-1].headers["cache-status"]
    assert len(fake.requests) - before <= 50
    fake.fault = lambda _request: None
    again = await until(lambda: served.get(WARM), lambda answer: STALE not in answer.headers["cache-status"])
    assert again.body == warm.body


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault(cut=0.5), 503), (Fault(altered=lambda content: content[: len(content) // 2]), 502)],
    ids=["cut", "short"],
)
async def test_half_an_original_is_never_rendered(
    fake: FakeS3, served: Served, fault: Fault, status: int
) -> None:
    fake.fault = lambda request: fault if request.method == "GET" and "originals" in request.key else None
    assert (await served.get(COLD.format(0))).status == status
    assert not [key for key in fake.objects if "resized" in key]
    fake.fault = lambda _request: None
    assert (await until(lambda: served.get(COLD.format(0)))).status == 200


async def until(
    ask: Callable[[], Awaitable[Answer]],
    enough: Callable[[Answer], bool] = lambda answer: answer.status == 200,
) -> Answer:
    """The first answer that is enough; a store that is back must be found within 5 s."""
    began_s = time.monotonic()
    while True:
        answer = await ask()
        if enough(answer):
            return answer
        assert time.monotonic() - began_s < 5


async def test_a_store_that_is_away_at_the_start_is_served_when_it_comes(
    fake: FakeS3, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.fault = lambda _request: Fault(resets=True)
    shape = await serve(fake, tmp_path)
    said = capfd.readouterr().err.splitlines()
    assert [line.split(" cannot")[0] for line in said] == [
        f"WARNING galerly_cdn.store.open: s3://bucket/{name}" for name in ("originals", "resized", "incoming")
    ]
    assert (await shape.get(WARM)).status == 503
    fake.fault = lambda _request: None
    assert (await until(lambda: shape.get(WARM))).status == 200
    await asyncio.to_thread(shape.stop)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(status=404, code="NoSuchBucket"), "there is no such bucket"),
        (Fault(status=403, code="InvalidAccessKeyId"), "InvalidAccessKeyId"),
    ],
)
async def test_what_waiting_does_not_mend_is_one_line_and_exit_2(
    fake: FakeS3, fault: Fault, sentence: str
) -> None:
    fake.fault = lambda _request: fault
    told = fake.settings()
    variables = {"GALERLY_STORE_ENDPOINT": told.store_endpoint, "GALERLY_WORKERS": "1"}
    command = [sys.executable, "-m", "galerly_cdn", "serve", "--store", told.store, "--port", "0"]
    run = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert sentence in run.stderr
    assert len(run.stderr.splitlines()) == 1
