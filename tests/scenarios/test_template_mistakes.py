"""A mistake in the template is noticed by the scenario that `mistakes` names, at the step it names."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.aws_local.faults import Fault
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest
from tests.support import local_cloudfront, pictures
from tests.support.aws_shape import HOST, OnAws
from tests.support.local_cloudfront import put
from tests.support.scenario_player import SCENARIOS, Play, verification
from tests.support.template_mistakes import BEHAVIORS, FAILOVER, MARKS, MISTAKES, POLICY, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.local_cloudfront import Change
    from tests.support.s3_servers import S3Server

    Start = Callable[..., OnAws]
    Check = Callable[[OnAws], None]

pytestmark = pytest.mark.server("node", "versitygw")
_BY_NAME = {one["name"]: one for one in SCENARIOS}


def leads_to_https(shape: OnAws) -> None:
    asked = ViewerRequest(method="GET", scheme="http", host=HOST, raw_path="/resize/tiny/g/a.jpg")
    answer = shape.call(shape.chain.cloud.edge.respond, asked)
    assert (answer.status, answer.headers.get("location")) == (301, f"https://{HOST}/resize/tiny/g/a.jpg")


def tells_the_missing_from_the_refused(shape: OnAws) -> None:
    """The resizer would answer either: a refusal, which is a mistake of ours, would pass for a miss."""
    asked = OriginRequest("GET", "https", "", "/resized/150x150/none.jpg", "", {})
    assert shape.call(shape.chain.cloud.faults["s3"].respond, asked).status == 404


def shows_pictures_while_s3_refuses(shape: OnAws) -> None:
    shape.put("g/a.jpg", pictures.jpeg())
    shape.chain.cloud.faults["s3"].fault = Fault.FORBIDDEN
    assert shape.request("GET", "/resize/tiny/g/a.jpg", {}).status == 200


def sends_nobody_in_circles(shape: OnAws) -> None:
    shape.put("g/a.png", pictures.png(2000, 2000, alpha=False))
    shape.chain.cloud.faults["s3"].fault = Fault.FORBIDDEN
    away = shape.request("GET", "/resize/medium.png/g/a.png", {})
    assert away.status == 302
    assert shape.request("GET", away.headers["location"], {}).status == 502


CHECKS: list[tuple[str, Change, Check]] = [
    (
        "pictures are told without TLS",
        put(f"{BEHAVIORS}/0/ViewerProtocolPolicy", "allow-all"),
        leads_to_https,
    ),
    (
        "CloudFront may not list the bucket",
        without(POLICY, "MissingIs404"),
        tells_the_missing_from_the_refused,
    ),
    (
        "what S3 refuses is no reason to ask the function",
        without(FAILOVER, "403"),
        shows_pictures_while_s3_refuses,
    ),
    (
        "the function is not told that a redirect was followed",
        without(MARKS, "x-galerly-stored"),
        sends_nobody_in_circles,
    ),
]
"""What the scenario file has no word for: the scheme, who says what behind CloudFront, faults."""


@pytest.fixture
def started(tmp_path: Path, versitygw: S3Server) -> Iterator[Start]:
    """Starts what a change has made of the template for a scenario's settings.

    The janitor is deployed where somebody is to clean up.
    """
    with contextlib.ExitStack() as running:

        def start(scenario: dict[str, Any], change: Change = lambda _: None) -> OnAws:
            is_cleaned = any(step.keys() & {"put", "remove"} for step in scenario["steps"])
            shape = OnAws(
                tmp_path,
                versitygw.bucket(),
                {**verification(tmp_path), **scenario.get("settings", {})},
                lambda text: local_cloudfront.changed(change, text),
                {"Janitor": "on" if is_cleaned else "off"},
            )
            running.callback(shape.stop)
            return shape

        yield start


@pytest.mark.parametrize(
    ("scenario", "step", "change"),
    [
        pytest.param(_BY_NAME[name], step, change, id=what)
        for name, those in MISTAKES.items()
        for (step, what), change in those.items()
    ],
)
def test_a_mistake_is_noticed(scenario: dict[str, Any], step: int, change: Change, started: Start) -> None:
    """That the scenario passes without it, `test_scenarios` shows."""
    number, problem = next(Play(started(scenario, change)).run(scenario))
    assert number == step, problem


@pytest.mark.parametrize("check", [pytest.param(one, id=one.__name__) for _, _, one in CHECKS])
def test_without_a_mistake_a_check_is_content(check: Check, started: Start) -> None:
    check(started({"steps": []}))


@pytest.mark.parametrize(("change", "check"), [pytest.param(*rest, id=what) for what, *rest in CHECKS])
def test_a_mistake_without_a_scenario_is_noticed(change: Change, check: Check, started: Start) -> None:
    shape = started({"steps": []}, change)
    with pytest.raises(AssertionError):
        check(shape)
