"""Reads the functions' roles, and evaluates what a role allows.

Source: the IAM User Guide, "Policy evaluation logic". Within one account, the policies of the role and of the
resource are evaluated together: an Allow in either is enough, a Deny in either refuses.
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
    """The principal that may assume the role."""

    effect: Literal["Allow"]
    principal: dict[Literal["Service"], Literal["lambda.amazonaws.com", "batchoperations.s3.amazonaws.com"]]
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
    """The statements of a role's inline policies."""

    statements: tuple[IdentityStatement, ...]

    def allows(self, action: str, resource: str, *resource_policies: PolicyDocument) -> bool:
        """Whether the role may perform an action on a resource, over TLS."""
        context = {"aws:securetransport": "true"}
        access = Access(service="", action=action, resource=resource, context=context)
        others = (statement for document in resource_policies for statement in document.statement)
        return policy.is_allowed(access, [*self.statements, *others])


class FunctionWithRole(Value, frozen=True):
    """A Lambda function: its name in Lambda, its properties, and its role."""

    name: str
    properties: LambdaFunction
    role: Role

    @property
    def may_log(self) -> bool:
        """Whether it may create log streams and write to them."""
        group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{self.properties.logging_config.log_group}"
        stream = f"{group}:log-stream:{self.name}"
        return self.role.allows("logs:CreateLogStream", stream) and self.role.allows(
            "logs:PutLogEvents", stream
        )


def read_roles(stack: Stack) -> dict[str, Role]:
    """All roles by ARN."""
    return {
        str(stack.refer(name, "Arn")): Role(
            tuple(statement for inline in role.policies for statement in inline.policy_document.statement)
        )
        for name, role in stack.all(RoleResource, "AWS::IAM::Role").items()
    }


def read_functions(stack: Stack) -> dict[str, FunctionWithRole]:
    """All functions by logical name. Raises `UnmodelledProperty` for a role outside the template."""
    functions = {}
    by_arn = read_roles(stack)
    for name, properties in stack.all(LambdaFunction, "AWS::Lambda::Function").items():
        if properties.role not in by_arn:
            raise UnmodelledProperty(name, "Role", f"there is no role {properties.role}")
        functions[name] = FunctionWithRole(stack.identity(name), properties, by_arn[properties.role])
    return functions


def check_poller(function: FunctionWithRole, queue_arn: str) -> None:
    """Checks that the function's role allows Lambda to poll a queue; Lambda refuses the mapping otherwise.

    Raises `SettingsError`. Source: the AWS Lambda Developer Guide, "Configuring a queue to use with Lambda".
    """
    required = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    if problems := [
        f"{function.name}: its role may not {action} of {queue_arn}"
        for action in required
        if not function.role.allows(action, queue_arn)
    ]:
        raise SettingsError(problems)
