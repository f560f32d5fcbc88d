"""What a platform imposes on a step is asserted in its place, and refused where it is not needed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.expectations import Imposed, disappointments, imposed_on
from tests.support.shapes import Answer

STEP = {"get": "/a", "code": "x", "same": ["etag", "body"], "headers": {"vary": "Accept", "allow": False}}
BEFORE = Answer(200, {"etag": "1"}, b"body")


def imposed(instead_of: dict[str, Any], **answers: Any) -> Imposed:  # noqa: ANN401 - any TOML
    return Imposed(why="", instead_of=instead_of, answers=answers, at={})


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (imposed({"code": "x"}, code="y"), {**STEP, "status": 200, "code": "y"}),
        (imposed({"status": 200}, status=403), {**STEP, "status": 403}),
        (
            imposed({"same": ["etag"]}, other=["etag"]),
            {**STEP, "status": 200, "same": ["body"], "other": ["etag"]},
        ),
        (
            imposed({"headers": {"vary": "Accept"}}, headers={"vary": False}),
            {**STEP, "status": 200, "headers": {"vary": False, "allow": False}},
        ),
    ],
)
def test_what_is_imposed_stands_for_what_the_step_says(one: Imposed, expected: dict[str, Any]) -> None:
    assert imposed_on(STEP, [one]) == expected
    assert not list(one.unsaid(STEP))


@pytest.mark.parametrize(
    "instead_of", [{"code": "y"}, {"status": 404}, {"same": ["vary"]}, {"headers": {"vary": False}}]
)
def test_what_a_step_does_not_say_cannot_be_imposed_on(instead_of: dict[str, Any]) -> None:
    assert len(list(imposed(instead_of).unsaid(STEP))) == 1


@pytest.mark.parametrize(
    ("instead_of", "answer", "undue"),
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
def test_what_is_imposed_without_need_is_told(instead_of: dict[str, Any], answer: Answer, undue: int) -> None:
    assert len(list(imposed(instead_of).undue(answer, BEFORE, {}))) == undue


def test_what_cannot_be_read_at_all_disappoints() -> None:
    (told,) = disappointments({"status": 200, "sides": [1, 1]}, BEFORE, None, {})
    assert told.startswith("sides: expected [1, 1], got UnidentifiedImageError")
