"""Tests of the facts that the worker pool learns with a picture or a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn import errors
from galerly_cdn.model import FactRecord
from galerly_cdn.render.pool.worker_state import Phase
from tests.support.fact_records import FACTS
from tests.support.render_jobs import job_for, target
from tests.support.worker_pool import JOB, LoopClock, file_with, hooked_pool, ticks

if TYPE_CHECKING:
    from galerly_cdn.model import Facts
    from galerly_cdn.render.pool import protocol

WAIT_S = 1000.0


@pytest.mark.parametrize("is_known_good", [False, True])
async def test_render_tells_the_facts_of_an_original_that_is_not_known_to_be_good(
    *, is_known_good: bool
) -> None:
    known = FactRecord("a.jpg", "v1", "r1", FACTS, is_good=is_known_good)
    content = json.dumps({"do": "nothing", "frames": 7}).encode()
    learnt: list[Facts] = []
    async with hooked_pool(workers=1) as workers:
        with file_with(content) as fd:
            await workers.render(fd, len(content), JOB, "token", known=known, learn=learnt.append)
    assert [facts.frames for facts in learnt] == ([] if is_known_good else [7])


@pytest.mark.parametrize(
    ("script", "error", "frames"),
    [
        ({"do": "raise", "code": "undecodable"}, errors.Undecodable, [7]),
        ({"do": "raise", "code": "too-much-memory"}, errors.TooMuchMemory, [7]),
        ({"do": "allocate"}, errors.TooMuchMemory, [7]),
        ({"do": "nothing", "frames": 10**9}, errors.TooManyPixels, [10**9]),
        ({"do": "exit"}, errors.WorkerDied, []),
    ],
    ids=["damaged", "memory", "allocation", "limit", "crash"],
)
async def test_failed_render_tells_the_facts_that_were_read(
    script: dict[str, object], error: type[errors.GalerlyError], frames: list[int]
) -> None:
    content = json.dumps({"frames": 7} | script).encode()
    learnt: list[Facts] = []
    async with hooked_pool(workers=1) as workers:
        with file_with(content) as fd, pytest.raises(error):
            await workers.render(fd, len(content), JOB, "token", learn=learnt.append)
    assert [facts.frames for facts in learnt] == frames


async def test_original_over_a_limit_reserves_no_memory() -> None:
    """A refused original must not wait for the memory that decoding it would take."""
    script = {"do": "nothing", "frames": 10**9, "memory_bytes": 10**12}
    content = json.dumps(script).encode()
    async with hooked_pool(workers=1) as workers, workers._budget.reserve(1):
        with file_with(content) as fd, pytest.raises(errors.TooManyPixels):
            await workers.render(fd, len(content), JOB, "token")


async def test_warm_tells_the_facts_once_and_the_next_worker_that_the_original_is_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = json.dumps({"do": "nothing", "frames": 7}).encode()
    job = job_for(*(target(f"{side}x1") for side in (1, 2, 3)))
    learnt: list[Facts] = []
    requests: list[protocol.Request] = []
    async with hooked_pool(workers=1) as workers:
        (only,) = workers._supervisor.serving
        start_request = only.start_request

        def recorded(request: protocol.Request, fd: int) -> Any:  # noqa: ANN401 - the worker's future
            requests.append(request)
            return start_request(request, fd)

        monkeypatch.setattr(only, "start_request", recorded)
        with file_with(content) as fd:
            warm = workers.warm(fd, len(content), job, "token", learn=learnt.append)
            async with contextlib.aclosing(warm) as pictures:
                await anext(pictures)
                await workers.run_script("nothing")  # a viewer takes the worker between two pictures
                assert len([one async for one in pictures]) == 2
    assert [facts.frames for facts in learnt] == [7]
    assert [request.is_known_good for request in requests] == [False, False, True]


async def test_own_sentence_of_a_refusal_reaches_the_server_shortened() -> None:
    for sentence in ("A HEIC file: install it.", "x" * 1000):
        content = json.dumps({"do": "raise sentence", "sentence": sentence}).encode()
        async with hooked_pool(workers=1) as workers:
            with file_with(content) as fd, pytest.raises(errors.UnsupportedFormat) as refused:
                await workers.render(fd, len(content), JOB, "token")
        assert refused.value.public == sentence[:300]
        assert refused.value.detail == "the hook's detail"


async def test_render_and_warming_are_observed_by_kind_once_for_each_job() -> None:
    """The kind of a script is not among the formats of pictures, as that of a camera's raw file."""
    observed: list[tuple[str, float]] = []
    job = job_for(target("800x600"), target("400x400"))
    content = json.dumps({"do": "nothing"}).encode()
    async with hooked_pool(workers=1) as workers:
        workers._observe = lambda kind, seconds: observed.append((kind, seconds))
        with file_with(content) as fd:
            await workers.render(fd, len(content), JOB, "token")
            assert [kind for kind, _ in observed] == ["raw"]
            async with contextlib.aclosing(workers.warm(fd, len(content), job, "token")) as pictures:
                assert len([one async for one in pictures]) == 2
            await workers.inspect(fd, len(content), "token")
            assert workers.phases() == {Phase.FREE: 1}
    assert [kind for kind, _ in observed] == ["raw", "raw"]
    assert all(0 < seconds < WAIT_S for _, seconds in observed)


async def test_waiting_for_memory_is_not_observed() -> None:
    observed: list[float] = []
    script = {"do": "nothing", "memory_bytes": 10}
    content = json.dumps(script).encode()
    async with hooked_pool(workers=1, render_memory_bytes=10) as workers:
        workers._observe = lambda _kind, seconds: observed.append(seconds)
        async with workers._budget.reserve(10):
            with file_with(content) as fd:
                render = asyncio.create_task(workers.render(fd, len(content), JOB, "token"))
                while not workers._budget._waiting:
                    await ticks()
                LoopClock(asyncio.get_running_loop()).skip(WAIT_S)
        await render
    assert 0 < observed[0] < WAIT_S
