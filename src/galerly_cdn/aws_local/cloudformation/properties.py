"""Reads a resource's properties: the fields of a `Property` are modelled, those in `IGNORED` are left out.

Any other property raises `UnmodelledProperty`. If it were ignored in silence, tests would pass with a
template that fails on AWS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from galerly_cdn.errors import CommandError
from galerly_cdn.serialization import ValidationError, Value, convert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_WORDS = {"ttl": "TTL"}
_NAMES = {"function_arn": "FunctionARN", "ipv6_enabled": "IPV6Enabled"}
_UNIT = re.compile(r"_(?:s|mb)$")
_VALIDATION_ERROR = re.compile(r"(?P<why>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)


class UnmodelledProperty(CommandError):
    """The template has a resource type, property or value that the local AWS does not model.

    Starting anyway would test something other than what CloudFormation deploys.
    """

    code = "unmodelled-property"
    public = "The local CloudFront does not model this part of the template."

    def __init__(self, resource: str, path: str = "", why: str = "") -> None:
        super().__init__(": ".join(part for part in (resource, path, why) if part))
        self.resource = resource


def _cloudformation_name(field: str) -> str:
    """The name of a field in CloudFormation: MinTTL for `min_ttl_s`."""
    name = _UNIT.sub("", field)
    return _NAMES.get(name) or "".join(_WORDS.get(word, word.title()) for word in name.split("_"))


class Property(Value, frozen=True, rename=_cloudformation_name):
    """Properties of a resource. A subclass has the modelled ones as fields, and refuses others."""


P = TypeVar("P", bound=Property)

_METRICS = "monitoring; no response depends on it"
_NAME = "a name or comment for people"
_SHIELD = "there is one location, so no misses of several to collect"

MODELLED = {
    "AWS::CloudFront::CachePolicy",
    "AWS::CloudFront::Distribution",
    "AWS::CloudFront::Function",
    "AWS::CloudFront::KeyGroup",
    "AWS::CloudFront::OriginAccessControl",
    "AWS::CloudFront::OriginRequestPolicy",
    "AWS::CloudFront::PublicKey",
    "AWS::CloudFront::ResponseHeadersPolicy",
    "AWS::Events::Rule",
    "AWS::IAM::Role",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Url",
    "AWS::Logs::Delivery",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
}
"""Resource types of which every property is either a field of a `Property` or in `IGNORED`."""

IGNORED: Mapping[str, str | Mapping[str, str]] = {
    "AWS::Budgets::Budget": _METRICS,
    "AWS::CloudFront::CachePolicy": {
        "CachePolicyConfig.Name": _NAME,
        "CachePolicyConfig.Comment": _NAME,
    },
    "AWS::CloudFront::Distribution": {
        "DistributionConfig.Comment": _NAME,
        "DistributionConfig.HttpVersion": "viewers are served over HTTP/1.1",
        "DistributionConfig.IPV6Enabled": "the caller chooses the address to listen on",
        "DistributionConfig.PriceClass": "there is one location",
        "DistributionConfig.Aliases": "every host name is served",
        "DistributionConfig.ViewerCertificate": "the caller provides the certificate",
        "DistributionConfig.WebACLId": "a firewall only refuses requests, and counts them at the edge",
        "DistributionConfig.Origins.OriginShield": _SHIELD,
        "DistributionConfig.Origins.CustomOriginConfig.OriginSSLProtocols": "the URL is called without TLS",
        "DistributionConfig.Origins.CustomOriginConfig.OriginKeepaliveTimeout": "likewise",
    },
    "AWS::CloudFront::Function": {"Name": _NAME, "FunctionConfig.Comment": _NAME},
    "AWS::CloudFront::KeyGroup": {"KeyGroupConfig.Name": _NAME},
    "AWS::CloudFront::MonitoringSubscription": _METRICS,
    "AWS::CloudFront::OriginAccessControl": {"OriginAccessControlConfig.Name": _NAME},
    "AWS::CloudFront::OriginRequestPolicy": {
        "OriginRequestPolicyConfig.Name": _NAME,
        "OriginRequestPolicyConfig.Comment": _NAME,
    },
    "AWS::CloudFront::PublicKey": {
        "PublicKeyConfig.Name": _NAME,
        "PublicKeyConfig.Comment": _NAME,
        "PublicKeyConfig.CallerReference": _NAME,
    },
    "AWS::CloudFront::ResponseHeadersPolicy": {
        "ResponseHeadersPolicyConfig.Name": _NAME,
        "ResponseHeadersPolicyConfig.Comment": _NAME,
    },
    "AWS::CloudWatch::Alarm": _METRICS,
    "AWS::CloudWatch::Dashboard": _METRICS,
    "AWS::Events::Rule": {"Description": _NAME},
    "AWS::IAM::Role": {"Policies.PolicyName": _NAME},
    "AWS::Lambda::Function": {
        "Description": _NAME,
        "Runtime": "this machine's Python runs it",
        "Architectures": "this machine's processor runs it",
        "Code": "the caller provides the code, from the checkout or an unpacked zip",
    },
    "AWS::Logs::Delivery": {
        "DeliverySourceName": "there is one distribution",
        "DeliveryDestinationArn": "the caller gets the records",
        "S3EnableHiveCompatiblePath": "likewise",
        "S3SuffixPath": "likewise",
    },
    "AWS::Logs::DeliveryDestination": "the caller gets the records",
    "AWS::Logs::DeliverySource": "there is one distribution",
    "AWS::Logs::LogGroup": _METRICS,
    "AWS::Route53::RecordSetGroup": "there is no DNS",
    "AWS::S3::Bucket": {
        "PublicAccessBlockConfiguration": "the bucket policy is evaluated, and allows the public nothing",
        "OwnershipControls": "only the owner writes objects",
        "LifecycleConfiguration": "nothing is kept for days",
        "CorsConfiguration": "uploads go to the S3 server, not through CloudFront",
    },
    "AWS::SNS::Subscription": _METRICS,
    "AWS::SNS::Topic": _METRICS,
    "AWS::SQS::Queue": {
        "SqsManagedSseEnabled": "messages are not written to a disk",
        "MessageRetentionPeriod": "nothing is kept for days",
    },
    "AWS::WAFv2::WebACL": "a firewall only refuses requests, and counts them at the edge",
}
"""The reason by resource type and property path, without list positions; for a whole type only the reason."""


def is_known(type_name: str) -> bool:
    """Whether resources of a type are modelled or ignored."""
    return type_name in MODELLED or isinstance(IGNORED.get(type_name), str)


def model(
    kind: type[P], type_name: str, resource: str, properties: object, resolve: Callable[[Any], Any]
) -> P:
    """A resource's properties as a value, with intrinsic functions evaluated by `resolve`.

    Ignored properties are removed before and after, so that their functions need not be modelled. Raises
    `UnmodelledProperty`.
    """
    ignored = IGNORED.get(type_name, {})
    assert not isinstance(ignored, str)  # noqa: S101 - only modelled types are read
    resolved = resolve(_without(properties, "", ignored))
    try:
        return convert(kind, _without(resolved, "", ignored))
    except ValidationError as error:
        raise unmodelled_error(resource, "", error) from error


def unmodelled_error(resource: str, parent: str, error: ValidationError) -> UnmodelledProperty:
    """The error for a value that does not match its type, with its path below `parent`."""
    match = _VALIDATION_ERROR.fullmatch(str(error))
    assert match  # noqa: S101 - the pattern matches any text
    path = ".".join(part for part in (parent, match["path"]) if part)
    return UnmodelledProperty(resource, path, match["why"])


def _without(node: Any, path: str, ignored: Iterable[str]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, list):
        return [_without(element, path, ignored) for element in node]
    if not isinstance(node, dict):
        return node
    paths = {name: f"{path}.{name}" if path else name for name in node}
    return {
        name: _without(value, paths[name], ignored)
        for name, value in node.items()
        if paths[name] not in ignored
    }
