"""Evaluates IAM policies of resources and roles.

Source: the IAM User Guide, "Policy evaluation logic": access is allowed if a statement allows it and none
denies it.
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
    """A principal's action on a resource. `context` has the values of condition keys by lower-case name.

    `service` is the host name of the AWS service that signed the request. It is empty for a role and for an
    unsigned request.
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
        """Raises `ValueError` for operators and keys that are not modelled."""
        for operator, tests in self.condition.items():
            if operator not in _OPERATORS:
                raise ValueError(f"the condition operator {operator} is not modelled")
            for key in tests:
                if key.lower() not in _KEYS:
                    raise ValueError(f"the condition key {key} is not modelled")

    def applies(self, access: Access) -> bool:
        """Whether the statement matches the access."""
        return (
            any(_like(action.lower(), access.action.lower()) for action in _as_tuple(self.action))
            and any(_like(resource, access.resource) for resource in _as_tuple(self.resource))
            and all(
                _holds(operator, _as_tuple(expected), access.context.get(key.lower()))
                for operator, tests in self.condition.items()
                for key, expected in tests.items()
            )
        )


class Statement(_Statement, frozen=True, kw_only=True):
    """A statement of a resource's policy, which names a principal."""

    principal: Literal["*"] | dict[str, Listed]

    def __post_init__(self) -> None:
        """Raises `ValueError` for operators and keys that are not modelled."""
        super().__post_init__()
        if isinstance(self.principal, dict) and set(self.principal) != {"Service"}:
            raise ValueError(f"principals {sorted(self.principal)} are not modelled")

    def applies(self, access: Access) -> bool:
        """Whether the statement matches the access."""
        return self._names(access.service) and super().applies(access)

    def _names(self, service: str) -> bool:
        if isinstance(self.principal, str):
            return True
        return service in _as_tuple(self.principal["Service"])


class IdentityStatement(_Statement, frozen=True, kw_only=True):
    """A statement of a role's policy. The principal is the role."""


class PolicyDocument(Property, frozen=True):
    version: Literal["2012-10-17"]
    statement: tuple[Statement, ...]

    def allows(self, access: Access) -> bool:
        """Whether a statement allows the access and none denies it."""
        return is_allowed(access, self.statement)


class IdentityDocument(Property, frozen=True):
    version: Literal["2012-10-17"]
    statement: tuple[IdentityStatement, ...]


def is_allowed(access: Access, statements: Iterable[_Statement]) -> bool:
    """Whether a statement allows the access and none denies it."""
    return {statement.effect for statement in statements if statement.applies(access)} == {"Allow"}


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
    """AWS::SQS::QueuePolicy. Queues are named by their URLs."""

    queues: tuple[str, ...]
    policy_document: PolicyDocument


def bucket_policy(policies: Mapping[str, BucketPolicy], bucket: str) -> PolicyDocument:
    """The policy of a bucket. Without one nothing is allowed. Raises `UnmodelledProperty` for two."""
    documents = [policy.policy_document for policy in policies.values() if policy.bucket == bucket]
    if len(documents) > 1:
        raise UnmodelledProperty(", ".join(policies), "Bucket", "a bucket has one policy")
    return documents[0] if documents else PolicyDocument("2012-10-17", ())


def _holds(operator: str, expected: tuple[str, ...], value: str | None) -> bool:
    """Whether a condition is true. It is false for a key that the request does not have (`value` is None)."""
    if value is None:
        return False
    if operator == "StringEquals":
        return value in expected
    if operator == "Bool":
        return value.lower() in {text.lower() for text in expected}
    return any(_like(pattern, value) for pattern in expected)  # ArnEquals and ArnLike are the same


def _like(pattern: str, text: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _as_tuple(listed: Listed) -> tuple[str, ...]:
    values = listed if isinstance(listed, tuple) else (listed,)
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
