"""Is an answer what a step of `scenarios.toml` expects? Pure."""

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
_LISTED = {"same", "other"}
"""Words that list what may hold or not, one by one."""


class Imposed(Value, frozen=True, kw_only=True):
    """What a platform answers `instead_of` what steps expect, and why.

    `at` has the numbers of the steps, by their scenario's name. Where it lasts `for_s` seconds, `answers` is
    all that holds until then; asked again after it, the step is answered as everywhere.
    """

    why: str
    answers: Step
    at: dict[str, tuple[int, ...]]
    instead_of: Step = {}  # noqa: RUF012 - each gets one of its own
    for_s: float = 0.0

    def unsaid(self, step: Step) -> Iterator[str]:
        """What it speaks of that the step does not say: it has changed since."""
        said = {"status": 200, **step}
        for word, what in _each(self.instead_of):
            if (word, what) not in list(_each(said)):
                yield f"the step does not say {word} = {what!r}"

    def undue(self, answer: Answer, before: Answer | None, originals: Mapping[str, bytes]) -> Iterator[str]:
        """What the answer meets all the same: the platform imposes it no longer."""
        for word, what in _each(self.instead_of):
            alone = {"status": answer.status, word: what}
            if not list(disappointments(alone, answer, before, originals)):
                yield f"{word} = {what!r} is met: nothing is imposed"


def imposed_on(step: Step, imposed: Sequence[Imposed]) -> Step:
    """The step as it is to be answered there."""
    expected = {"status": 200, **step}
    for one in imposed:
        for word, what in one.instead_of.items():
            if isinstance(what, dict):
                expected[word] = {name: value for name, value in expected[word].items() if name not in what}
            elif word in _LISTED:
                expected[word] = [name for name in expected[word] if name not in what]
            else:
                expected.pop(word)
        for word, what in one.answers.items():
            if isinstance(what, dict):
                expected[word] = expected.get(word, {}) | what
            elif word in _LISTED:
                expected[word] = [*expected.get(word, []), *what]
            else:
                expected[word] = what
    return expected


def _each(step: Step) -> Iterator[tuple[str, Any]]:
    """One expectation after the other, in the form a step has it."""
    for word, what in step.items():
        if isinstance(what, dict):
            yield from ((word, {name: value}) for name, value in what.items())
        elif word in _LISTED:
            yield from ((word, [name]) for name in what)
        else:
            yield word, what


def disappointments(
    step: Step, answer: Answer, before: Answer | None, originals: Mapping[str, bytes]
) -> Iterator[str]:
    """Every expectation of the step that the answer does not meet."""
    first, last = step.get("bytes", (0, None))
    if "holds" in step and answer.body != originals[step["holds"]][first:last]:
        yield f"the body is not {step['holds']}, from {first} to {last}"
    expected = {"status": 200, **step}
    for name, look in LOOKS.items():
        if name in expected and (found := _seen(look, answer)) != expected[name]:
            yield f"{name}: expected {expected[name]!r}, got {found!r}"
    for name, value in step.get("headers", {}).items():
        told = answer.headers.get(name)
        if (told is not None) if value is False else told != value:
            yield f"header {name}: expected {value!r}, got {told!r}"
    for name in step.get("same", []):
        if before is None or _aspect(answer, name) != _aspect(before, name):
            yield f"{name} differs from the answer before"
    for name in step.get("other", []):
        if before is None or _aspect(answer, name) == _aspect(before, name):
            yield f"{name} is that of the answer before"


def _lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.body.splitlines()]


def _code(answer: Answer) -> str:
    """An error's code: of our JSON, or of the XML in which AWS's services speak for themselves."""
    if told := re.search(rb"<Code>(\w+)</Code>", answer.body):
        return told[1].decode()
    return str(json.loads(answer.body)["error"]["code"])


LOOKS: dict[str, Callable[[Answer], object]] = {
    "status": lambda answer: answer.status,
    "type": lambda answer: answer.headers.get("content-type"),
    "cache": lambda answer: answer.cache,
    "length": lambda answer: len(answer.body),
    "code": _code,
    "sides": lambda answer: list(Image.open(io.BytesIO(answer.body)).size),
    "outcome": lambda answer: json.loads(answer.body).get("outcome"),
    "existed": lambda answer: json.loads(answer.body).get("existed"),
    "removed": lambda answer: [target for line in _lines(answer) for target in line["removed"]],
    "made": lambda answer: sum(line.get("was_there") is False for line in _lines(answer)),
    "were_there": lambda answer: sum(line.get("was_there") is True for line in _lines(answer)),
    "failed": lambda answer: [line["error"]["code"] for line in _lines(answer) if "error" in line],
}
"""What a step may expect, and how it is read from an answer."""


def _seen(look: Callable[[Answer], object], answer: Answer) -> object:
    """What is read from an answer; from one that is something else altogether, what it is not."""
    try:
        return look(answer)
    except (KeyError, OSError, ValueError) as problem:
        return problem


def _aspect(answer: Answer, name: str) -> object:
    return answer.body if name == "body" else answer.headers.get(name)
