"""Decides on the facts of several machines: what nodes need behind fronts, and who is reached. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from galerly_cdn.http.client_address import is_trusted, parse_ip
from galerly_cdn.insight.doctor.checks import Check, Result, Status, Subject, Symptom, judged, skipped, some
from galerly_cdn.model import Refreshed
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT_CONNECTIONS = Settings().max_connections_per_client


class FleetFacts(Value, frozen=True, kw_only=True):
    """The settings, and what the fronts and nodes that they name have answered to a refresh."""

    settings: Settings
    refreshed: tuple[Refreshed, ...] = ()
    """Of a photograph that does not exist."""
    problem: str = ""
    """Why none was asked."""


def _trusted(facts: FleetFacts) -> Result:
    fronts, networks = facts.settings.fronts, facts.settings.trusted_networks
    if not fronts:
        return skipped("the setting fronts is empty")
    if not networks:
        return Result(Status.FAILED, "trusted_proxies is empty")
    missing = [one for one in _addresses(fronts) if not is_trusted(one, networks)]
    found = f"not in trusted_proxies: {some(missing)}" if missing else "trusted_proxies has the fronts"
    return judged(found, is_ok=not missing)


def _addresses(fronts: tuple[str, ...]) -> Iterator[str]:
    """The IP addresses among the fronts' hosts; a name has several, as each machine resolves it."""
    for one in fronts:
        host = urlsplit(one).hostname or ""
        try:
            yield str(parse_ip(host))
        except ValueError:
            continue


def _connections(facts: FleetFacts) -> Result:
    if not facts.settings.fronts:
        return skipped("the setting fronts is empty")
    count = facts.settings.max_connections_per_client
    found = f"a front opens at most {count:,} connections to a node (max_connections_per_client)"
    return judged(found, is_ok=count > _DEFAULT_CONNECTIONS, otherwise=Status.WARNING)


def _reached(facts: FleetFacts) -> Result:
    if facts.problem:
        return Result(Status.FAILED, facts.problem)
    if not facts.refreshed:
        return skipped("the settings fronts and nodes are empty")
    problems = [f"{one.address}: {one.problem}" for one in facts.refreshed if one.problem]
    if problems:
        return Result(Status.FAILED, some(problems))
    fronts = sum(one.kind == "front" for one in facts.refreshed)
    return Result(Status.OK, f"fronts: {fronts}, nodes: {len(facts.refreshed) - fronts}")


CHECKS: tuple[Check[FleetFacts], ...] = (
    Check(
        "trusted-fronts",
        Subject.FLEET,
        Symptom.NOT_LOADING,
        "The addresses of all fronts are in `trusted_proxies`.",
        "Otherwise a node takes a front for one viewer, whose limits all viewers share, and does not tell it "
        "how long it may keep an answer.",
        "Set `trusted_proxies` on each node to the fronts' addresses, such as `10.0.0.8/32`.",
        _trusted,
    ),
    Check(
        "front-connections",
        Subject.FLEET,
        Symptom.SLOW,
        "A node accepts more connections of a front than the default for one viewer.",
        "At busy times a front waits for a connection, or answers 503.",
        "Raise `max_connections_per_client` on the nodes, to 2000 for example, and print the fronts' "
        "configuration again.",
        _connections,
    ),
    Check(
        "fronts-and-nodes",
        Subject.FLEET,
        Symptom.NOT_LOADING,
        "Every front and node of the settings is reached, and accepts the secret or the token.",
        "A changed photograph is dropped at once only where it is; elsewhere it is seen within 11 s.",
        "Start what is not reached. Print a front's configuration again with the admin API's token; give all "
        "nodes the same `admin_token_file`.",
        _reached,
    ),
)
"""The checks of several machines, in the order of the report."""
