"""What would a deployment change? CloudFormation's change set as values, told in lines, and what it opens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.errors import DeploymentFailed
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORDS = {
    "Add": "added",
    "Modify": "modified",
    "Remove": "removed",
    "Import": "taken over",
    "Dynamic": "decided then",
    "SyncWithActual": "as it is",
}
_REPLACED = {"True": "REPLACED", "Conditional": "modified, perhaps REPLACED"}


class Change(Value, frozen=True):
    """What becomes of one resource, by its logical name; of one that is modified, its properties."""

    resource: str
    type: str
    becomes: str
    properties: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f": {', '.join(self.properties)}" if self.properties else ""
        return f"{self.becomes:<26}  {self.type:<42}  {self.resource}{told}"


class ChangeSet(Value, frozen=True):
    """A deployment that is not done yet: its ARN, its stack's, and what it would do."""

    arn: str
    stack_arn: str
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


def read_change(told: Mapping[str, Any]) -> Change:
    """One `ResourceChange` of CloudFormation's API."""
    details = told.get("Details", [])
    names = [one["Target"].get("Name") or one["Target"]["Attribute"] for one in details]
    becomes = _REPLACED.get(told.get("Replacement", "")) or _WORDS[told["Action"]]
    if told["Action"] == "Remove" and told.get("PolicyAction") == "Retain":
        becomes = "removed from the stack, kept"
    return Change(told["LogicalResourceId"], told["ResourceType"], becomes, tuple(sorted(set(names))))


def newly_public(before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
    """The private prefixes of before whose pictures anybody could have after."""
    private = private_folders(after)
    return tuple(one for one in before if not private_folders([one])[0].startswith(private))


def private_prefixes(metadata: str) -> tuple[str, ...]:
    """Those of a stack, by its template's `Metadata`: JSON, or empty. Raises `DeploymentFailed`.

    What cannot be read is not taken for a stack without private galleries.
    """
    try:
        told = json.loads(metadata or "{}")
        return tuple(told.get("galerly-cdn", {}).get("PrivatePrefixes", ()))
    except (ValueError, AttributeError) as error:
        raise DeploymentFailed(f"the stack's metadata cannot be read: {error}") from error
