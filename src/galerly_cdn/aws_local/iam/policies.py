"""May somebody do something to something? Policies of resources and of roles, evaluated. Pure.

Source: the IAM User Guide, "Policy evaluation logic": a Deny that matches decides, else an Allow, else no.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Scalar = str | bool
Listed = Scalar | tuple[Scalar, ...]

_OPERATORS = {"StringEquals", "StringLike", "ArnEquals", "ArnLike", "Bool"}
_KEYS = {"aws:sourcearn", "aws:sourceaccount", "aws:securetransport"}


class Access(Value, frozen=True, kw_only=True):
    """Who wants to do what to what; `context` has the values of condition keys, names in small letters.

    `service` is the host name of a service that signed, empty for anybody and for a role.
    """

    service: str
    action: str
    resource: str
    context: dict[str, str]


class _Statement(Property, frozen=True, kw_only=True):
    sid: str = ""
    effect: Literal["Allow", "Deny"]
    action: Listed
    resource: Listed
    condition: dict[str, dict[str, Listed]] = {}

    def __post_init__(self) -> None:
        """Refuse what would be evaluated wrongly."""
        for operator, tests in self.condition.items():
            if operator not in _OPERATORS:
                raise ValueError(f"the condition operator {operator} is not modelled")
            for key in tests:
                if key.lower() not in _KEYS:
                    raise ValueError(f"the condition key {key} is not modelled")

    def applies(self, access: Access) -> bool:
        """Whether it speaks of this access."""
        return (
            any(_like(one.lower(), access.action.lower()) for one in _each(self.action))
            and any(_like(one, access.resource) for one in _each(self.resource))
            and all(
                _holds(operator, _each(wanted), access.context.get(key.lower()))
                for operator, tests in self.condition.items()
                for key, wanted in tests.items()
            )
        )


class Statement(_Statement, frozen=True, kw_only=True):
    """Of a resource's policy: it says of whom it speaks."""

    principal: Literal["*"] | dict[str, Listed]

    def __post_init__(self) -> None:
        """Refuse what would be evaluated wrongly."""
        super().__post_init__()
        if isinstance(self.principal, dict) and set(self.principal) != {"Service"}:
            raise ValueError(f"principals {sorted(self.principal)} are not modelled")

    def applies(self, access: Access) -> bool:
        """Whether it speaks of this access."""
        return self._is_of(access.service) and super().applies(access)

    def _is_of(self, service: str) -> bool:
        if isinstance(self.principal, str):
            return True
        return service in _each(self.principal["Service"])


class IdentityStatement(_Statement, frozen=True, kw_only=True):
    """Of a role's policy: it speaks of whoever has the role."""


class PolicyDocument(Property, frozen=True):
    version: Literal["2012-10-17"]
    statement: tuple[Statement, ...]

    def allows(self, access: Access) -> bool:
        """Whether the access is allowed, and not denied."""
        return is_allowed(access, self.statement)


class IdentityDocument(Property, frozen=True):
    version: Literal["2012-10-17"]
    statement: tuple[IdentityStatement, ...]


def is_allowed(access: Access, statements: Iterable[_Statement]) -> bool:
    """Whether one of the statements allows it, and none denies it."""
    return {one.effect for one in statements if one.applies(access)} == {"Allow"}


class BucketPolicy(Property, frozen=True):
    """AWS::S3::BucketPolicy."""

    bucket: str
    policy_document: PolicyDocument


class Permission(Property, frozen=True, kw_only=True):
    """AWS::Lambda::Permission: a statement of a function's policy."""

    function_name: str
    action: str
    principal: str
    source_arn: str | None = None
    source_account: str | None = None
    function_url_auth_type: str | None = None
    invoked_via_function_url: bool | None = None


class QueuePolicy(Property, frozen=True):
    """AWS::SQS::QueuePolicy; queues are named by their URLs."""

    queues: tuple[str, ...]
    policy_document: PolicyDocument


def of_bucket(policies: Mapping[str, BucketPolicy], bucket: str) -> PolicyDocument:
    """The policy of a bucket; without one nothing is allowed. Raises `UnmodelledProperty` for two."""
    found = [one.policy_document for one in policies.values() if one.bucket == bucket]
    if len(found) > 1:
        raise UnmodelledProperty(", ".join(policies), "Bucket", "a bucket has one policy")
    return found[0] if found else PolicyDocument("2012-10-17", ())


def _holds(operator: str, wanted: tuple[str, ...], found: str | None) -> bool:
    """A key that the request has not makes a condition false."""
    if found is None:
        return False
    if operator == "StringEquals":
        return found in wanted
    if operator == "Bool":
        return found.lower() in {one.lower() for one in wanted}
    return any(_like(one, found) for one in wanted)  # ArnEquals and ArnLike are the same


def _like(pattern: str, text: str) -> bool:
    told = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(told, text, re.DOTALL) is not None


def _each(listed: Listed) -> tuple[str, ...]:
    found = listed if isinstance(listed, tuple) else (listed,)
    return tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in found)
