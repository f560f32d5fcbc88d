"""Resolves a template with its parameters: conditions, rules, references, and each resource's properties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from galerly_cdn.aws_local.cloudformation import parameters, properties
from galerly_cdn.aws_local.cloudformation.intrinsic_functions import NOTHING, Resolver
from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty
from galerly_cdn.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws_local.cloudformation.properties import Property

P = TypeVar("P", bound="Property")

ACCOUNT = "123456789012"
REGION = "us-east-1"
STACK_NAME = "local"
PSEUDO: Mapping[str, object] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NoValue": NOTHING,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
}
_SECTIONS = {
    *("AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules"),
    *("Conditions", "Mappings", "Resources", "Outputs"),
}
_RESOURCE_ATTRIBUTES = {
    *("Type", "Properties", "Condition", "DependsOn", "DeletionPolicy"),
    *("UpdateReplacePolicy", "Metadata"),
}
_ATTRIBUTES: Mapping[tuple[str, str], str] = {
    ("AWS::CloudFront::Distribution", "DomainName"): "{name}.cloudfront.net",
    ("AWS::CloudFront::Function", "FunctionARN"): f"arn:aws:cloudfront::{ACCOUNT}:function/{{name}}",
    ("AWS::CloudFront::OriginAccessControl", "Id"): "{id}",
    ("AWS::Events::Rule", "Arn"): f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{{id}}",
    ("AWS::IAM::Role", "Arn"): f"arn:aws:iam::{ACCOUNT}:role/{{id}}",
    ("AWS::Lambda::Function", "Arn"): f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{id}}",
    ("AWS::Lambda::Url", "FunctionUrl"): f"https://{{name}}.lambda-url.{REGION}.on.aws/",
    ("AWS::Logs::LogGroup", "Arn"): f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{id}}:*",
    ("AWS::Logs::DeliveryDestination", "Arn"): f"arn:aws:logs:{REGION}:{ACCOUNT}:delivery-destination:{{id}}",
    ("AWS::S3::Bucket", "Arn"): "arn:aws:s3:::{id}",
    ("AWS::S3::Bucket", "RegionalDomainName"): f"{{id}}.s3.{REGION}.amazonaws.com",
    ("AWS::SQS::Queue", ""): f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{{id}}",
    ("AWS::SQS::Queue", "Arn"): f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{id}}",
    ("AWS::SQS::Queue", "QueueName"): "{id}",
    ("AWS::WAFv2::WebACL", "Arn"): f"arn:aws:wafv2:{REGION}:{ACCOUNT}:global/webacl/{{id}}/1",
}
"""The value of a GetAtt by type and attribute, and of a Ref (attribute "") where that is not `id`.

`name` is the logical name in lower case.
"""


class Stack:
    """A template with its parameters.

    Raises `UnmodelledProperty` for unknown sections and resource types, `SettingsError` for invalid
    parameters.
    """

    def __init__(
        self, template: Mapping[str, Any], parameter_values: Mapping[str, str], name: str = STACK_NAME
    ) -> None:
        for section in template:
            if section not in _SECTIONS:
                raise UnmodelledProperty(section, "", "this section is not modelled")
        self._name = name
        self._template = template
        self._parameters = parameters.read_parameters(template.get("Parameters", {}), parameter_values)
        self._check_rules()
        self._resources = {
            name: resource
            for name, resource in template["Resources"].items()
            if self._is_created(name, resource)
        }

    def all(self, kind: type[P], type_name: str) -> dict[str, P]:
        """The properties of all resources of a type, by logical name. Raises `UnmodelledProperty`."""
        return {
            name: properties.model(
                kind, type_name, name, resource.get("Properties", {}), self._resolver(name).resolve
            )
            for name, resource in self._resources.items()
            if resource["Type"] == type_name
        }

    def resolved(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The type and the properties of every resource, by logical name, with functions evaluated.

        Raises `UnmodelledProperty`.
        """
        return {
            name: (resource["Type"], self._resolver(name).resolve(resource.get("Properties", {})))
            for name, resource in self._resources.items()
        }

    def identity(self, name: str) -> str:
        """The value of a Ref to a resource."""
        return str(self.refer(name, ""))

    def refer(self, name: str, attribute: str) -> object:
        """The value of a Ref (`attribute` is empty) or a GetAtt. Raises `UnmodelledProperty`."""
        if not attribute and name == "AWS::StackName":
            return self._name
        if not attribute and name in PSEUDO:
            return PSEUDO[name]
        if not attribute and name in self._parameters:
            return self._parameters[name]
        if name not in self._resources:
            raise UnmodelledProperty(name, attribute, "there is no such parameter or resource")
        type_name = self._resources[name]["Type"]
        resource_id = self._id(name, type_name)
        if not attribute and (type_name, "") not in _ATTRIBUTES:
            return resource_id
        if (type_name, attribute) not in _ATTRIBUTES:
            raise UnmodelledProperty(name, attribute, f"this attribute of {type_name} is not modelled")
        return _ATTRIBUTES[type_name, attribute].format(id=resource_id, name=name.lower())

    def _id(self, name: str, type_name: str) -> str:
        if type_name == "AWS::S3::Bucket":
            bucket_name = self._resources[name].get("Properties", {}).get("BucketName")
            return (
                str(self._resolver(name).resolve(bucket_name))
                if bucket_name
                else f"{self._name}-{name.lower()}"
            )
        if type_name.startswith("AWS::CloudFront::"):
            return f"E{name.upper()}" if type_name.endswith("Distribution") else f"K{name.upper()}"
        return f"{self._name}-{name}"

    def _resolver(self, resource: str) -> Resolver:
        conditions, mappings = (self._template.get(section, {}) for section in ("Conditions", "Mappings"))
        return Resolver(self.refer, conditions, mappings, resource)

    def _is_created(self, name: str, resource: Mapping[str, Any]) -> bool:
        """Whether the resource's condition is true. Raises `UnmodelledProperty` for an unknown type."""
        for attribute in resource:
            if attribute not in _RESOURCE_ATTRIBUTES:
                raise UnmodelledProperty(name, attribute, "this attribute of a resource is not modelled")
        if not properties.is_known(resource["Type"]):
            raise UnmodelledProperty(name, "Type", f"{resource['Type']} is not modelled")
        condition = resource.get("Condition")
        return condition is None or self._resolver(name).holds({"Condition": condition})

    def _check_rules(self) -> None:
        """Raises `SettingsError` for parameters that violate a rule of the template."""
        problems = []
        for name, rule in self._template.get("Rules", {}).items():
            resolver = self._resolver(name)
            if "RuleCondition" in rule and not resolver.holds(rule["RuleCondition"]):
                continue
            problems += [
                assertion["AssertDescription"]
                for assertion in rule["Assertions"]
                if not resolver.holds(assertion["Assert"])
            ]
        if problems:
            raise SettingsError(problems)
