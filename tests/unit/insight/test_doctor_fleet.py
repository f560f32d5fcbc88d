"""Tests of the checks of several machines: each with its fault, and all without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from galerly_cdn.insight.doctor.checks import Status, run
from galerly_cdn.insight.doctor.fleet import CHECKS, FleetFacts
from galerly_cdn.model import Refreshed
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

FRONTS = ("http://10.0.0.8", "https://[2001:db8::9]:8443", "http://front.internal")
HEALTHY = FleetFacts(
    settings=Settings(
        fronts=FRONTS,
        trusted_proxies=("10.0.0.8/32", "2001:db8::/64"),
        max_connections_per_client=2000,
    ),
    refreshed=(
        Refreshed(kind="node", address="http://10.0.0.1:8001", found="absent"),
        *(Refreshed(kind="front", address=one) for one in FRONTS),
    ),
)


def _with(**values: object) -> Callable[[FleetFacts], FleetFacts]:
    return lambda facts: replaced(facts, settings=replaced(facts.settings, **values))


FAULTS: dict[str, tuple[Callable[[FleetFacts], FleetFacts], Status, str]] = {
    "trusted-fronts": (
        _with(trusted_proxies=("10.0.0.0/24",)),
        Status.FAILED,
        "not in trusted_proxies: 2001:db8::9",
    ),
    "front-connections": (_with(max_connections_per_client=256), Status.WARNING, "at most 256 connections"),
    "fronts-and-nodes": (
        lambda facts: replaced(
            facts, refreshed=(Refreshed(kind="front", address=FRONTS[0], problem="it cannot be reached"),)
        ),
        Status.FAILED,
        f"{FRONTS[0]}: it cannot be reached",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_by_its_check_alone(name: str) -> None:
    make, status, found = FAULTS[name]
    findings = {one.check: one for one in run(CHECKS, make(HEALTHY))}
    assert findings[name].status is status
    assert found in findings[name].found
    assert {one.status for one in findings.values() if one.check != name} == {Status.OK}


def test_healthy_fleet_has_no_findings() -> None:
    assert [one.found for one in run(CHECKS, HEALTHY)] == [
        "trusted_proxies has the fronts",
        "a front opens at most 2,000 connections to a node (max_connections_per_client)",
        "fronts: 3, nodes: 1",
    ]


@pytest.mark.parametrize(
    ("facts", "statuses"),
    [
        (FleetFacts(settings=Settings()), [Status.NOT_APPLICABLE] * 3),
        (
            FleetFacts(settings=Settings(fronts=FRONTS), problem="no token"),
            [Status.FAILED, Status.WARNING, Status.FAILED],
        ),
    ],
)
def test_checks_of_a_fleet_that_is_not_configured(facts: FleetFacts, statuses: list[Status]) -> None:
    assert [one.status for one in run(CHECKS, facts)] == statuses
