"""Reads what a resource policy on AWS allows to CloudFront (IAM User Guide, "JSON policy elements"). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.serialization import ValidationError, from_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CLOUDFRONT = "cloudfront.amazonaws.com"


def allowed_actions(policy: str, distribution_arn: str) -> set[str]:
    """The actions that a policy (JSON) allows to CloudFront for a distribution, as they are written.

    A policy that is empty or no JSON allows nothing. `Deny` and wildcards are not evaluated: our template has
    none that concern CloudFront.
    """
    try:
        statements = _listed(from_json(dict[str, Any], policy.encode()).get("Statement"))
    except ValidationError:
        return set()
    return {
        action
        for statement in statements
        if _is_for(statement, distribution_arn)
        for action in _listed(statement.get("Action"))
    }


def _is_for(statement: Mapping[str, Any], distribution_arn: str) -> bool:
    """Whether a statement allows something to CloudFront, for this distribution or for any."""
    principal = statement.get("Principal")
    services = _listed(principal.get("Service")) if isinstance(principal, dict) else []
    sources = list(_sources(statement))
    is_allowed = statement.get("Effect") == "Allow" and _CLOUDFRONT in services
    return is_allowed and (not sources or distribution_arn in sources)


def _sources(statement: Mapping[str, Any]) -> Iterator[str]:
    """The values of the condition key aws:SourceArn, whose case does not count."""
    for operator in (statement.get("Condition") or {}).values():
        for key, values in operator.items():
            if key.lower() == "aws:sourcearn":
                yield from _listed(values)


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """A value of a policy, which may stand for a list of one."""
    return value if isinstance(value, list) else [value]
