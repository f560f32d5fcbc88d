"""Defines a check, its result and its finding. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

F = TypeVar("F", bound=Value)


class Status(enum.StrEnum):
    """What a check found. Only `failed` makes the command exit with 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


class Subject(enum.StrEnum):
    """What is checked."""

    MACHINE = "machine"
    FLEET = "fleet"
    URL = "url"
    STORE = "store"
    STACK = "stack"


class Symptom(enum.StrEnum):
    """What an operator notices; the specification's headings of Troubleshooting, and one more."""

    NOT_LOADING = "Pictures do not load"
    SLOW = "Pictures are slow"
    COSTLY = "It costs too much"
    UNSAFE = "Photographs are less safe"


class Result(Value, frozen=True):
    """What a check found, as a phrase for people."""

    status: Status
    found: str


class Check(Value, Generic[F], frozen=True):
    """One check. `decide` judges the facts of its subject.

    `what`, `why` and `remedy` are sentences for operators: what is checked, why it matters, what to do.
    """

    id: str
    subject: Subject
    symptom: Symptom
    what: str
    why: str
    remedy: str
    decide: Callable[[F], Result]


class Finding(Value, frozen=True):
    """The result of one check, with what operators need to act on it."""

    check: str
    subject: Subject
    status: Status
    what: str
    found: str
    why: str
    remedy: str

    def __str__(self) -> str:
        heading = f"{self.status:<14}  {self.subject:<7}  {self.check}"
        if self.status not in {Status.WARNING, Status.FAILED}:
            return f"{heading}: {self.found}"
        parts = (("checked", self.what), ("found", self.found), ("why", self.why), ("to do", self.remedy))
        return "\n".join([heading, *(f"    {name:<8} {text}" for name, text in parts)])


def run(checks: Iterable[Check[F]], facts: F) -> Iterator[Finding]:
    """The findings of the checks on these facts."""
    for check in checks:
        result = check.decide(facts)
        yield Finding(
            check.id, check.subject, result.status, check.what, result.found, check.why, check.remedy
        )


def judged(found: str, *, is_ok: bool, otherwise: Status = Status.FAILED) -> Result:
    """`ok`, or else another status."""
    return Result(Status.OK if is_ok else otherwise, found)


def skipped(reason: str) -> Result:
    """The check does not apply here."""
    return Result(Status.NOT_APPLICABLE, reason)


def some(items: Iterable[str], count: int | None = None, shown: int = 3) -> str:
    """The first items, and how many more there are: `a, b, c and 4 more`. `count` is the number of all."""
    listed = list(items)
    more = (len(listed) if count is None else count) - len(listed[:shown])
    return ", ".join(listed[:shown]) + (f" and {more} more" if more else "")
