"""Reads CloudFormation's change sets, and finds private prefixes that a change would make public."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ACTIONS = {
    "Add": "added",
    "Modify": "modified",
    "Remove": "removed",
    "Import": "taken over",
    "Dynamic": "decided when executed",
    "SyncWithActual": "updated to its actual state",
}
_REPLACEMENTS = {"True": "REPLACED", "Conditional": "modified, perhaps REPLACED"}


class Change(Value, frozen=True):
    """The change of one resource, by its logical name; `properties` are those that are modified."""

    resource: str
    type: str
    action: str
    properties: tuple[str, ...] = ()

    def __str__(self) -> str:
        properties = f": {', '.join(self.properties)}" if self.properties else ""
        return f"{self.action:<26}  {self.type:<42}  {self.resource}{properties}"


class ChangeSet(Value, frozen=True):
    """A change set that was not executed: its ARN, its stack's ARN, and its changes."""

    arn: str
    stack_arn: str
    changes: tuple[Change, ...]

    @property
    def imports(self) -> bool:
        """Whether it makes existing resources part of the stack."""
        return any(change.action == _ACTIONS["Import"] for change in self.changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


def read_change(resource_change: Mapping[str, Any]) -> Change:
    """A `ResourceChange` of CloudFormation's API."""
    details = resource_change.get("Details", [])
    names = [detail["Target"].get("Name") or detail["Target"]["Attribute"] for detail in details]
    action = _REPLACEMENTS.get(resource_change.get("Replacement", "")) or _ACTIONS[resource_change["Action"]]
    if resource_change["Action"] == "Remove" and resource_change.get("PolicyAction") == "Retain":
        action = "removed from the stack, kept"
    return Change(
        resource_change["LogicalResourceId"],
        resource_change["ResourceType"],
        action,
        tuple(sorted(set(names))),
    )


def newly_public(before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
    """The private prefixes of `before` whose pictures are public with the private prefixes `after`."""
    private = private_folders(after)
    return tuple(prefix for prefix in before if not private_folders([prefix])[0].startswith(private))


def private_prefixes(metadata: str) -> tuple[str, ...]:
    """The private prefixes in a deployed template's `Metadata`, which is JSON or empty.

    Raises `DeploymentFailed` for metadata that cannot be read: to assume a stack without private galleries
    could publish them.
    """
    try:
        value = json.loads(metadata or "{}")
        return tuple(value.get("galerly-cdn", {}).get("PrivatePrefixes", ()))
    except (ValueError, AttributeError) as error:
        raise DeploymentFailed(f"the stack's metadata cannot be read: {error}") from error
