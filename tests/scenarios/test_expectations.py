"""A platform's difference replaces a step's expectations, and is reported when it is not needed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.expectations import PlatformDifference, unmet_expectations, with_differences
from tests.support.shapes import Answer

STEP = {"get": "/a", "code": "x", "same": ["etag", "body"], "headers": {"vary": "Accept", "allow": False}}
PREVIOUS = Answer(200, {"etag": "1"}, b"body")


def difference(instead_of: dict[str, Any], **expect: Any) -> PlatformDifference:  # noqa: ANN401 - any TOML
    return PlatformDifference(why="", instead_of=instead_of, expect=expect, at={})


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (difference({"code": "x"}, code="y"), {**STEP, "status": 200, "code": "y"}),
        (difference({"status": 200}, status=403), {**STEP, "status": 403}),
        (
            difference({"same": ["etag"]}, different=["etag"]),
            {**STEP, "status": 200, "same": ["body"], "different": ["etag"]},
        ),
        (
            difference({"headers": {"vary": "Accept"}}, headers={"vary": False}),
            {**STEP, "status": 200, "headers": {"vary": False, "allow": False}},
        ),
    ],
)
def test_with_differences_replaces_the_expectations_of_the_step(
    platform: PlatformDifference, expected: dict[str, Any]
) -> None:
    assert with_differences(STEP, [platform]) == expected
    assert not list(platform.missing_from(STEP))


@pytest.mark.parametrize(
    "instead_of", [{"code": "y"}, {"status": 404}, {"same": ["vary"]}, {"headers": {"vary": False}}]
)
def test_missing_from_reports_an_expectation_that_the_step_does_not_have(instead_of: dict[str, Any]) -> None:
    assert len(list(difference(instead_of).missing_from(STEP))) == 1


@pytest.mark.parametrize(
    ("instead_of", "response", "count"),
    [
        ({"status": 200}, Answer(403, {}, b""), 0),
        ({"status": 200}, Answer(200, {}, b""), 1),
        ({"code": "x"}, Answer(403, {}, b"<Code>MissingKey</Code>"), 0),
        ({"code": "MissingKey"}, Answer(403, {}, b"<Code>MissingKey</Code>"), 1),
        ({"code": "x"}, Answer(403, {}, b"neither JSON nor XML"), 0),
        ({"code": "x"}, Answer(403, {}, b'{"error": {"code": "x"}}'), 1),
        ({"same": ["etag", "body"]}, Answer(200, {"etag": "2"}, b"other"), 0),
        ({"same": ["etag", "body"]}, Answer(200, {"etag": "1"}, b"other"), 1),
        ({"headers": {"vary": False}}, Answer(200, {"vary": "Accept"}, b""), 0),
        ({"headers": {"vary": False}}, Answer(200, {}, b""), 1),
        ({"status": 404, "headers": {"vary": False}}, Answer(404, {}, b""), 2),
    ],
)
def test_unneeded_for_reports_each_expectation_that_is_met(
    instead_of: dict[str, Any], response: Answer, count: int
) -> None:
    assert len(list(difference(instead_of).unneeded_for(response, PREVIOUS, {}))) == count


def test_a_value_that_cannot_be_read_is_an_unmet_expectation() -> None:
    (problem,) = unmet_expectations({"status": 200, "dimensions": [1, 1]}, PREVIOUS, None, {})
    assert problem.startswith("dimensions: expected [1, 1], got UnidentifiedImageError")
