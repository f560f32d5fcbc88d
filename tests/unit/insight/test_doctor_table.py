"""Tests of the table of checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from galerly_cdn.insight.doctor.checks import Check, Finding, Status, Subject, some
from galerly_cdn.insight.doctor.table import CHECKS
from tests.unit.insight import (
    test_doctor_fleet,
    test_doctor_machine,
    test_doctor_stack,
    test_doctor_store,
    test_doctor_url,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.serialization import Value

FAULTS: dict[Subject, Mapping[str, object]] = {
    Subject.MACHINE: test_doctor_machine.FAULTS,
    Subject.FLEET: test_doctor_fleet.FAULTS,
    Subject.URL: test_doctor_url.FAULTS,
    Subject.STORE: test_doctor_store.FAULTS,
    Subject.STACK: test_doctor_stack.FAULTS,
}
"""The tested faults of each subject. Its test module tests each check without its fault too."""


@pytest.mark.parametrize("subject", Subject)
def test_every_check_has_a_tested_fault(subject: Subject) -> None:
    assert [one.id for one in CHECKS if one.subject is subject] == list(FAULTS[subject])


def test_every_check_has_its_own_name() -> None:
    assert len({one.id for one in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_texts_of_a_check_are_sentences(check: Check[Value]) -> None:
    texts = (check.what, check.why, check.remedy)
    assert all(text[0].isupper() and text.endswith(".") for text in texts)


@pytest.mark.parametrize(
    ("status", "lines"), [(Status.OK, 1), (Status.NOT_APPLICABLE, 1), (Status.WARNING, 5), (Status.FAILED, 5)]
)
def test_finding_says_why_and_what_to_do_unless_all_is_well(status: Status, lines: int) -> None:
    finding = Finding("dns", Subject.URL, status, "What.", "found", "Why.", "Remedy.")
    assert len(str(finding).splitlines()) == lines


def test_some_names_three_and_counts_the_others() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some("abcde") == "a, b, c and 2 more"
    assert some("abc", 100) == "a, b, c and 97 more"
