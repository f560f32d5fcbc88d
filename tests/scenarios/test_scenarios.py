"""Runs `scenarios.toml` on every shape. The file's head says what a scenario may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.aws_shape import IMPOSED, OnAws
from tests.support.scenario_player import EVENTS, REQUESTS, SCENARIOS, Play, verification
from tests.support.shapes import OneMachine, OverS3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.s3_servers import S3Server

    Running = OneMachine | OnAws
    Start = Callable[[str, Path, dict[str, object]], Running]

SHAPES: dict[str, tuple[pytest.MarkDecorator, ...]] = {
    "a folder": (),
    "S3": (),
    "AWS": (pytest.mark.server("node", "versitygw"),),  # moto believes signatures, and adds CORS of its own
}


@pytest.fixture(scope="module")
def start(s3_server: S3Server) -> Start:
    """Starts a shape by its name."""

    def started(name: str, root: Path, settings: dict[str, object]) -> Running:
        signed = {**verification(root), **settings}
        if name == "AWS":
            return OnAws(root, s3_server.bucket(), signed)
        if name == "S3":
            return OverS3(root, root, signed, bucket=s3_server.bucket())
        return OneMachine(root / "photographs", root / "renditions", {"writable": True, **signed})

    return started


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory, start: Start) -> Iterator[Callable[[str], Running]]:
    """The shapes without settings of their own, started when the first scenario needs them."""
    running: dict[str, Running] = {}

    def shared(name: str) -> Running:
        if name not in running:
            running[name] = start(name, tmp_path_factory.mktemp("common"), {})
        return running[name]

    yield shared
    for shape in running.values():
        shape.stop()


@pytest.fixture
def shape(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    common: Callable[[str], Running],
    start: Start,
) -> Iterator[Running]:
    """A running shape; one of its own for a scenario with settings of its own."""
    name, settings = request.param
    if not settings:
        yield common(name)
        return
    running = start(name, tmp_path, settings)
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("shape", "scenario"),
    [
        pytest.param((name, one.get("settings", {})), one, id=f"{one['name']}, {name}", marks=marks)
        for one in SCENARIOS
        for name, marks in SHAPES.items()
    ],
    indirect=["shape"],
)
def test_scenario(shape: Running, scenario: dict[str, Any]) -> None:
    problems = [f"step {number}, {problem}" for number, problem in Play(shape).run(scenario)]
    assert not problems, "\n".join(problems)


def test_what_aws_imposes_is_said_of_steps_that_there_are() -> None:
    """One that is not would be passed over."""
    steps = {one["name"]: len(one["steps"]) for one in SCENARIOS}
    for one in IMPOSED:
        for name, numbers in one.at.items():
            assert set(numbers) <= set(range(1, steps[name] + 1)), (one.why, name)


def test_every_word_of_the_scenarios_is_known() -> None:
    """One that is not would be passed over, and what it expects never looked at."""
    for scenario in SCENARIOS:
        assert scenario.keys() <= {"name", "originals", "settings", "steps"}, scenario["name"]
        for step in scenario["steps"]:
            (verb,) = step.keys() & (EVENTS | REQUESTS.keys())
            assert step.keys() - {verb} <= REQUESTS.get(verb, set()), step
