"""Compares a response with what a step of `scenarios.toml` expects."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

from PIL import Image

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.shapes import Answer

Step = dict[str, Any]
_LISTS = {"same", "different"}
"""Expectations whose value is a list of separate expectations."""


class PlatformDifference(Value, frozen=True, kw_only=True):
    """What a platform responds `instead_of` what steps expect, and why.

    `at` has the numbers of the steps by their scenario's name. A difference that lasts `for_s` seconds
    expects only `expect` until then; when the request is repeated afterwards, the step holds as it is
    written.
    """

    why: str
    expect: Step
    at: dict[str, tuple[int, ...]]
    instead_of: Step = {}  # noqa: RUF012 - each value gets a dictionary of its own
    for_s: float = 0.0

    def missing_from(self, step: Step) -> Iterator[str]:
        """The expectations of `instead_of` that the step does not have: the step has changed since."""
        expected = {"status": 200, **step}
        for name, value in _separate(self.instead_of):
            if (name, value) not in list(_separate(expected)):
                yield f"the step does not expect {name} = {value!r}"

    def unneeded_for(
        self, response: Answer, previous: Answer | None, originals: Mapping[str, bytes]
    ) -> Iterator[str]:
        """The expectations of `instead_of` that the response meets: the platform does not differ any more."""
        for name, value in _separate(self.instead_of):
            single = {"status": response.status, name: value}
            if not list(unmet_expectations(single, response, previous, originals)):
                yield f"{name} = {value!r} is met: the platform does not differ"


def with_differences(step: Step, differences: Sequence[PlatformDifference]) -> Step:
    """The step with the expectations for a platform with these differences."""
    expected = {"status": 200, **step}
    for difference in differences:
        for name, value in difference.instead_of.items():
            if isinstance(value, dict):
                expected[name] = {key: kept for key, kept in expected[name].items() if key not in value}
            elif name in _LISTS:
                expected[name] = [kept for kept in expected[name] if kept not in value]
            else:
                expected.pop(name)
        for name, value in difference.expect.items():
            if isinstance(value, dict):
                expected[name] = expected.get(name, {}) | value
            elif name in _LISTS:
                expected[name] = [*expected.get(name, []), *value]
            else:
                expected[name] = value
    return expected


def _separate(step: Step) -> Iterator[tuple[str, Any]]:
    """Each single expectation of a step, in the form in which a step has it."""
    for name, value in step.items():
        if isinstance(value, dict):
            yield from ((name, {key: single}) for key, single in value.items())
        elif name in _LISTS:
            yield from ((name, [single]) for single in value)
        else:
            yield name, value


def unmet_expectations(
    step: Step, response: Answer, previous: Answer | None, originals: Mapping[str, bytes]
) -> Iterator[str]:
    """A description of each expectation of the step that the response does not meet."""
    first, last = step.get("bytes", (0, None))
    if "body_of" in step and response.body != originals[step["body_of"]][first:last]:
        yield f"the body is not {step['body_of']}, from {first} to {last}"
    expected = {"status": 200, **step}
    for name, read in READERS.items():
        if name in expected and (actual := _read(read, response)) != expected[name]:
            yield f"{name}: expected {expected[name]!r}, got {actual!r}"
    for name, value in step.get("headers", {}).items():
        header = response.headers.get(name)
        if (header is not None) if value is False else header != value:
            yield f"header {name}: expected {value!r}, got {header!r}"
    for name in step.get("same", []):
        if previous is None or _body_or_header(response, name) != _body_or_header(previous, name):
            yield f"{name} differs from that of the previous response"
    for name in step.get("different", []):
        if previous is None or _body_or_header(response, name) == _body_or_header(previous, name):
            yield f"{name} is that of the previous response"


def _lines(response: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.body.splitlines()]


def _code(response: Answer) -> str:
    """An error's code, from our JSON or from the XML of an AWS service."""
    if code := re.search(rb"<Code>(\w+)</Code>", response.body):
        return code[1].decode()
    return str(json.loads(response.body)["error"]["code"])


READERS: dict[str, Callable[[Answer], object]] = {
    "status": lambda response: response.status,
    "type": lambda response: response.headers.get("content-type"),
    "cache": lambda response: response.cache,
    "length": lambda response: len(response.body),
    "code": _code,
    "dimensions": lambda response: list(Image.open(io.BytesIO(response.body)).size),
    "outcome": lambda response: json.loads(response.body).get("outcome"),
    "existed": lambda response: json.loads(response.body).get("existed"),
    "removed": lambda response: [target for line in _lines(response) for target in line["removed"]],
    "made": lambda response: sum(line.get("was_there") is False for line in _lines(response)),
    "were_there": lambda response: sum(line.get("was_there") is True for line in _lines(response)),
    "failed": lambda response: [line["error"]["code"] for line in _lines(response) if "error" in line],
}
"""How the value of each expectation is read from a response."""


def _read(read: Callable[[Answer], object], response: Answer) -> object:
    """The value read from a response; the exception if it cannot be read."""
    try:
        return read(response)
    except (KeyError, OSError, ValueError) as error:
        return error


def _body_or_header(response: Answer, name: str) -> object:
    return response.body if name == "body" else response.headers.get(name)
