"""Each mistake in the template makes its scenario fail, first at the step that `MISTAKES` names."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn.aws_local.faults import Fault
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest
from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest
from tests.support import exhaustive, local_cloudfront, pictures
from tests.support.aws_shape import HOST, AwsShape
from tests.support.local_cloudfront import set_value
from tests.support.scenario_player import SCENARIOS, ScenarioRun, signing_settings
from tests.support.template_mistakes import (
    BEHAVIORS,
    FORWARDED_HEADERS,
    MISTAKES,
    POLICY,
    no_failover,
    remove,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.local_cloudfront import Change
    from tests.support.s3_servers import S3Server

    Start = Callable[..., AwsShape]
    Check = Callable[[AwsShape], None]

pytestmark = pytest.mark.server("node", "versitygw")
_BY_NAME = {scenario["name"]: scenario for scenario in SCENARIOS}


def http_is_redirected_to_https(shape: AwsShape) -> None:
    request = ViewerRequest(method="GET", scheme="http", host=HOST, raw_path="/resize/tiny/g/a.jpg")
    response = shape.call(shape.running.cloudfront.edge.respond, request)
    assert (response.status, response.headers.get("location")) == (301, f"https://{HOST}/resize/tiny/g/a.jpg")


def a_missing_object_is_404(shape: AwsShape) -> None:
    """The resizer would respond to either, so that a 403 because of a mistake would pass for a miss."""
    request = OriginRequest("GET", "https", "", "/resized/150x150/none.jpg", "", {})
    assert shape.call(shape.running.cloudfront.faults["s3"].respond, request).status == 404


def renditions_are_served_while_s3_responds_403(shape: AwsShape) -> None:
    shape.put("g/a.jpg", pictures.jpeg())
    shape.running.cloudfront.faults["s3"].fault = Fault.FORBIDDEN
    assert shape.request("GET", "/resize/tiny/g/a.jpg", {}).status == 200


def a_redirect_is_followed_once(shape: AwsShape) -> None:
    shape.put("g/a.png", pictures.png(2000, 2000, alpha=False))
    shape.running.cloudfront.faults["s3"].fault = Fault.FORBIDDEN
    redirect = shape.request("GET", "/resize/medium.png/g/a.png", {})
    assert redirect.status == 302
    assert shape.request("GET", redirect.headers["location"], {}).status == 502


CHECKS: list[tuple[str, Change, Check]] = [
    (
        "renditions are served without TLS",
        set_value(f"{BEHAVIORS}/0/ViewerProtocolPolicy", "allow-all"),
        http_is_redirected_to_https,
    ),
    (
        "CloudFront may not list the bucket",
        remove(POLICY, "MissingIs404"),
        a_missing_object_is_404,
    ),
    (
        "a 403 of S3 does not fail over to the function",
        no_failover("403"),
        renditions_are_served_while_s3_responds_403,
    ),
    (
        "the header of a followed redirect is not forwarded to the resizer",
        remove(FORWARDED_HEADERS, "x-galerly-stored"),
        a_redirect_is_followed_once,
    ),
]
"""Mistakes that no scenario can show, because they need a scheme, an origin's response or a fault."""


@pytest.fixture
def started(tmp_path: Path, versitygw: S3Server) -> Iterator[Start]:
    """A function that starts a template with a change, and a scenario's settings.

    The janitor is deployed only for scenarios that put or remove originals.
    """
    with contextlib.ExitStack() as running:

        def start(scenario: dict[str, Any], change: Change = lambda _: None) -> AwsShape:
            needs_janitor = any(step.keys() & {"put", "remove"} for step in scenario["steps"])
            shape = AwsShape(
                tmp_path,
                versitygw.bucket(),
                {**signing_settings(tmp_path), **scenario.get("settings", {})},
                lambda text: local_cloudfront.changed_template(change, text),
                {"Janitor": "on" if needs_janitor else "off"},
            )
            running.callback(shape.stop)
            return shape

        yield start


@pytest.mark.parametrize(
    ("scenario", "step", "change"),
    exhaustive.cases(
        [
            pytest.param(_BY_NAME[name], step, change, id=mistake)
            for name, mistakes in MISTAKES.items()
            for (step, mistake), change in mistakes.items()
        ],
        every=8,
    ),
)
def test_template_with_mistake_fails_the_scenario_at_the_step(
    scenario: dict[str, Any], step: int, change: Change, started: Start
) -> None:
    """`test_scenarios` shows that the scenario passes without the mistake."""
    number, problem = next(ScenarioRun(started(scenario, change)).run(scenario))
    assert number == step, problem


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for _, _, check in CHECKS])
def test_template_without_mistake_passes_the_check(check: Check, started: Start) -> None:
    check(started({"steps": []}))


@pytest.mark.parametrize(("change", "check"), [pytest.param(*rest, id=mistake) for mistake, *rest in CHECKS])
def test_template_with_mistake_fails_the_check(change: Change, check: Check, started: Start) -> None:
    shape = started({"steps": []}, change)
    with pytest.raises(AssertionError):
        check(shape)
