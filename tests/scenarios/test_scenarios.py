"""Runs each scenario of `scenarios.toml` on every shape."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.aws_shape import AWS_DIFFERENCES, AwsShape
from tests.support.fleet_shape import FLEET_DIFFERENCES, FleetShape
from tests.support.scenario_player import EVENTS, REQUESTS, SCENARIOS, ScenarioRun, signing_settings
from tests.support.shapes import S3ServeProcess, ServeProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.s3_servers import S3Server

    Running = ServeProcess | AwsShape | FleetShape
    Start = Callable[[str, Path, dict[str, object]], Running]

FLEET_STORES = os.environ.get("FLEET_STORES", "versitygw").split()
"""The names of fixtures. `FLEET_STORES="versitygw seaweedfs"` runs the scenarios on a fleet over each."""
_FLEET = "a fleet over "
SHAPES: dict[str, tuple[pytest.MarkDecorator, ...]] = {
    "a folder": (),
    "S3": (),
    "AWS": (pytest.mark.server("node", "versitygw"),),  # moto verifies no signatures, and adds CORS headers
    **{f"{_FLEET}{store}": (pytest.mark.server("nginx", store),) for store in FLEET_STORES},
}


@pytest.fixture(scope="module")
def start(s3_server: S3Server, request: pytest.FixtureRequest) -> Start:
    """A function that starts a shape, given by its name."""

    def started(name: str, root: Path, settings: dict[str, object]) -> Running:
        settings = {**signing_settings(root), **settings}
        if name == "AWS":
            return AwsShape(root, s3_server.bucket(), settings)
        if name.startswith(_FLEET):
            server: S3Server = request.getfixturevalue(name.removeprefix(_FLEET))
            return FleetShape(root, server.bucket(), settings)
        if name == "S3":
            return S3ServeProcess(root, root, settings, bucket=s3_server.bucket())
        return ServeProcess(root / "photographs", root / "renditions", {"writable": True, **settings})

    return started


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory, start: Start) -> Iterator[Callable[[str], Running]]:
    """A function that returns a shape with default settings, which all scenarios share. It starts it once."""
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
    """A running shape. A scenario with settings has a shape of its own."""
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
        pytest.param(
            (name, scenario.get("settings", {})), scenario, id=f"{scenario['name']}, {name}", marks=marks
        )
        for scenario in SCENARIOS
        for name, marks in SHAPES.items()
    ],
    indirect=["shape"],
)
def test_scenario_on_shape_meets_all_expectations(shape: Running, scenario: dict[str, Any]) -> None:
    problems = [f"step {number}, {problem}" for number, problem in ScenarioRun(shape).run(scenario)]
    assert not problems, "\n".join(problems)


def test_differences_name_existing_steps() -> None:
    """A difference of another step would be ignored."""
    steps = {scenario["name"]: len(scenario["steps"]) for scenario in SCENARIOS}
    for difference in (*AWS_DIFFERENCES, *FLEET_DIFFERENCES):
        for name, numbers in difference.at.items():
            assert set(numbers) <= set(range(1, steps[name] + 1)), (difference.why, name)


def test_scenarios_have_only_known_keys() -> None:
    """An unknown key would be ignored, and its expectation never compared."""
    for scenario in SCENARIOS:
        assert scenario.keys() <= {"name", "originals", "settings", "steps"}, scenario["name"]
        for step in scenario["steps"]:
            (action,) = step.keys() & (EVENTS | REQUESTS.keys())
            assert step.keys() - {action} <= REQUESTS.get(action, set()), step
