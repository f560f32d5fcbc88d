"""What may a function do? Its role: who may take it, and the policies written into it. Pure.

Source: the IAM User Guide, "Policy evaluation logic"; within one account a role's policies and those of the
resource are one: an Allow of either is enough, a Deny of either decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property, UnmodelledProperty
from galerly_cdn.aws_local.cloudformation.stack import ACCOUNT, REGION
from galerly_cdn.aws_local.iam import policies as policy
from galerly_cdn.aws_local.iam.policies import Access, IdentityDocument, IdentityStatement, PolicyDocument
from galerly_cdn.aws_local.iam.resources import LambdaFunction
from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.aws_local.cloudformation.stack import Stack


class TrustStatement(Property, frozen=True):
    """Who may take the role."""

    effect: Literal["Allow"]
    principal: dict[Literal["Service"], Literal["lambda.amazonaws.com"]]
    action: Literal["sts:AssumeRole"]


class Trust(Property, frozen=True):
    version: Literal["2012-10-17"]
    statement: tuple[TrustStatement]


class InlinePolicy(Property, frozen=True):
    policy_document: IdentityDocument


class RoleResource(Property, frozen=True):
    """AWS::IAM::Role."""

    assume_role_policy_document: Trust
    policies: tuple[InlinePolicy, ...]


class Role(Value, frozen=True):
    """Whoever has it may do what its statements say."""

    statements: tuple[IdentityStatement, ...]

    def may(self, action: str, resource: str, *beside: PolicyDocument) -> bool:
        """Whether it may take an action on a resource, over TLS; `beside` is the resource's own policy."""
        context = {"aws:securetransport": "true"}
        access = Access(service="", action=action, resource=resource, context=context)
        own = (statement for one in beside for statement in one.statement)
        return policy.is_allowed(access, [*self.statements, *own])


class FunctionWithRole(Value, frozen=True):
    """A function, by which name it is invoked, and what it may do."""

    name: str
    told: LambdaFunction
    role: Role

    @property
    def may_log(self) -> bool:
        """Whether it may write its lines: streams are made by it."""
        group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{self.told.logging_config.log_group}"
        stream = f"{group}:log-stream:{self.name}"
        return self.role.may("logs:CreateLogStream", stream) and self.role.may("logs:PutLogEvents", stream)


def read_functions(stack: Stack) -> dict[str, FunctionWithRole]:
    """All functions, by logical name. Raises `UnmodelledProperty` for a role from elsewhere."""
    roles = {
        str(stack.refer(name, "Arn")): one for name, one in stack.all(RoleResource, "AWS::IAM::Role").items()
    }
    found = {}
    for name, told in stack.all(LambdaFunction, "AWS::Lambda::Function").items():
        if told.role not in roles:
            raise UnmodelledProperty(name, "Role", f"there is no role {told.role}")
        statements = tuple(
            statement for one in roles[told.role].policies for statement in one.policy_document.statement
        )
        found[name] = FunctionWithRole(stack.identity(name), told, Role(statements))
    return found


def check_poller(function: FunctionWithRole, queue_arn: str) -> None:
    """Lambda takes messages for a function by the function's role, and refuses a mapping without these.

    Raises `SettingsError`. AWS Lambda Developer Guide, "Configuring a queue to use with Lambda".
    """
    needed = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    if problems := [
        f"{function.name}: its role may not {action} of {queue_arn}"
        for action in needed
        if not function.role.may(action, queue_arn)
    ]:
        raise SettingsError(problems)
