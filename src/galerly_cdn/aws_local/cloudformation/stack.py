"""What does a template become when it is deployed? Parameters, conditions and references resolved. Pure."""

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
NAME = "local"
PSEUDO: Mapping[str, object] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NoValue": NOTHING,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": NAME,
}
_SECTIONS = {
    *("AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules"),
    *("Conditions", "Mappings", "Resources", "Outputs"),
}
_OF_RESOURCES = {
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
    ("AWS::S3::Bucket", "Arn"): "arn:aws:s3:::{id}",
    ("AWS::S3::Bucket", "RegionalDomainName"): f"{{id}}.s3.{REGION}.amazonaws.com",
    ("AWS::SQS::Queue", ""): f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{{id}}",
    ("AWS::SQS::Queue", "Arn"): f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{id}}",
}
"""What a GetAtt answers, and a Ref where that is not `id`; `name` is the logical name in small letters."""


class Stack:
    """A template with the parameters it is deployed with.

    Raises `UnmodelledProperty` for sections and types of resources that are not known, `SettingsError` for
    parameters that do not fit.
    """

    def __init__(self, template: Mapping[str, Any], given: Mapping[str, str]) -> None:
        for name in template:
            if name not in _SECTIONS:
                raise UnmodelledProperty(name, "", "the section is not known")
        self._template = template
        self._parameters = parameters.read_parameters(template.get("Parameters", {}), given)
        self._check_rules()
        self._resources = {
            name: one for name, one in template["Resources"].items() if self._is_made(name, one)
        }

    def all(self, kind: type[P], type_name: str) -> dict[str, P]:
        """The resources of a type, by logical name. Raises `UnmodelledProperty`."""
        return {
            name: properties.model(
                kind, type_name, name, one.get("Properties", {}), self._resolver(name).resolve
            )
            for name, one in self._resources.items()
            if one["Type"] == type_name
        }

    def identity(self, name: str) -> str:
        """What a Ref to a resource answers."""
        return str(self.refer(name, ""))

    def refer(self, name: str, attribute: str) -> object:
        """What a Ref (without an attribute) or a GetAtt answers. Raises `UnmodelledProperty`."""
        if not attribute and name in PSEUDO:
            return PSEUDO[name]
        if not attribute and name in self._parameters:
            return self._parameters[name]
        if name not in self._resources:
            raise UnmodelledProperty(name, attribute, "there is no such parameter or resource")
        type_name = self._resources[name]["Type"]
        own = self._id(name, type_name)
        if not attribute and (type_name, "") not in _ATTRIBUTES:
            return own
        if (type_name, attribute) not in _ATTRIBUTES:
            raise UnmodelledProperty(name, attribute, f"the attribute of {type_name} is not known")
        return _ATTRIBUTES[type_name, attribute].format(id=own, name=name.lower())

    def _id(self, name: str, type_name: str) -> str:
        if type_name == "AWS::S3::Bucket":
            told = self._resources[name].get("Properties", {}).get("BucketName")
            return str(self._resolver(name).resolve(told)) if told else f"{NAME}-{name.lower()}"
        if type_name.startswith("AWS::CloudFront::"):
            return f"E{name.upper()}" if type_name.endswith("Distribution") else f"K{name.upper()}"
        return f"{NAME}-{name}"

    def _resolver(self, resource: str) -> Resolver:
        conditions, mappings = (self._template.get(each, {}) for each in ("Conditions", "Mappings"))
        return Resolver(self.refer, conditions, mappings, resource)

    def _is_made(self, name: str, resource: Mapping[str, Any]) -> bool:
        """Whether its condition holds. Raises `UnmodelledProperty` for what is not known of any resource."""
        for each in resource:
            if each not in _OF_RESOURCES:
                raise UnmodelledProperty(name, each, "the attribute of resources is not known")
        if not properties.is_known(resource["Type"]):
            raise UnmodelledProperty(name, "Type", f"{resource['Type']} is not modelled")
        condition = resource.get("Condition")
        return condition is None or self._resolver(name).holds({"Condition": condition})

    def _check_rules(self) -> None:
        """Raises `SettingsError` for parameters that break a rule of the template."""
        problems = []
        for name, rule in self._template.get("Rules", {}).items():
            resolver = self._resolver(name)
            if "RuleCondition" in rule and not resolver.holds(rule["RuleCondition"]):
                continue
            problems += [
                one["AssertDescription"] for one in rule["Assertions"] if not resolver.holds(one["Assert"])
            ]
        if problems:
            raise SettingsError(problems)
