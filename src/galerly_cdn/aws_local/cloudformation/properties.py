"""Which properties of a resource do we model, and which do we knowingly leave out?

What a `Property` has as a field is modelled: somebody reads it. What `IGNORED` names is left out, with
the reason. Everything else stops the start: silence is how doubles lie.
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
_AT = re.compile(r"(?P<why>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)


class UnmodelledProperty(CommandError):
    """The template has a resource type, property or value that the local AWS does not model.

    Starting anyway would test something other than what CloudFormation deploys.
    """

    code = "unmodelled-property"
    public = "The local CloudFront does not model this part of the template."

    def __init__(self, resource: str, path: str = "", why: str = "") -> None:
        super().__init__(": ".join(part for part in (resource, path, why) if part))
        self.resource = resource


def _spelt(field: str) -> str:
    """A field's name as CloudFormation spells it: `min_ttl_s` is MinTTL."""
    bare = _UNIT.sub("", field)
    return _NAMES.get(bare) or "".join(_WORDS.get(word, word.title()) for word in bare.split("_"))


class Property(Value, frozen=True, rename=_spelt):
    """Properties of a resource; a subclass has the ones that are modelled, and refuses all others."""


P = TypeVar("P", bound=Property)

_METRICS = "watches; nothing that a viewer is answered depends on it"
_NAME = "a name that people read"
_SHIELD = "one machine has no regions whose misses could meet"

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
"""Types of resources of which every property is a field of a value, or ignored."""

IGNORED: Mapping[str, str | Mapping[str, str]] = {
    "AWS::CloudFront::CachePolicy": {
        "CachePolicyConfig.Name": _NAME,
        "CachePolicyConfig.Comment": _NAME,
    },
    "AWS::CloudFront::Distribution": {
        "DistributionConfig.Comment": _NAME,
        "DistributionConfig.HttpVersion": "HTTP/1.1 is spoken here",
        "DistributionConfig.IPV6Enabled": "whoever runs it chooses the address to listen on",
        "DistributionConfig.PriceClass": "one machine is one location",
        "DistributionConfig.Aliases": "every host name is answered",
        "DistributionConfig.ViewerCertificate": "whoever runs it brings the certificate",
        "DistributionConfig.Origins.OriginShield": _SHIELD,
        "DistributionConfig.Origins.CustomOriginConfig.OriginSSLProtocols": "the function's front is no wire",
        "DistributionConfig.Origins.CustomOriginConfig.OriginKeepaliveTimeout": "the same",
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
        "Runtime": "the Python of this machine",
        "Architectures": "the processor of this machine",
        "Code": "the checkout, or the content of the zip",
    },
    "AWS::Logs::Delivery": {
        "DeliverySourceName": "there is one distribution",
        "DeliveryDestinationArn": "whoever starts it says where lines go",
        "S3EnableHiveCompatiblePath": "the same",
        "S3SuffixPath": "the same",
    },
    "AWS::Logs::DeliveryDestination": "whoever starts it says where lines go",
    "AWS::Logs::DeliverySource": "there is one distribution",
    "AWS::Logs::LogGroup": _METRICS,
    "AWS::Route53::RecordSetGroup": "there is no DNS",
    "AWS::S3::Bucket": {
        "PublicAccessBlockConfiguration": "the policy is evaluated as it is; it allows the public nothing",
        "OwnershipControls": "nobody else writes",
        "LifecycleConfiguration": "nothing lives for days here",
        "CorsConfiguration": "uploads go to the S3 server, not through CloudFront",
    },
    "AWS::SNS::Subscription": _METRICS,
    "AWS::SNS::Topic": _METRICS,
    "AWS::SQS::Queue": {
        "SqsManagedSseEnabled": "nothing is written to a disk",
        "MessageRetentionPeriod": "nothing lives for days here",
    },
}
"""Type, then path (lists are transparent), then why; of a whole type only the reason."""


def is_known(type_name: str) -> bool:
    """Whether resources of a type are modelled, or ignored altogether."""
    return type_name in MODELLED or isinstance(IGNORED.get(type_name), str)


def model(
    kind: type[P], type_name: str, resource: str, properties: object, resolve: Callable[[Any], Any]
) -> P:
    """A resource's properties, resolved, as a value. Raises `UnmodelledProperty`.

    What is ignored is taken out before too, so that nothing of it has to be resolved.
    """
    left_out = IGNORED.get(type_name, {})
    assert not isinstance(left_out, str)  # noqa: S101 - whoever asks to model it reads its properties
    resolved = resolve(_without(properties, "", left_out))
    try:
        return convert(kind, _without(resolved, "", left_out))
    except ValidationError as error:
        raise unmodelled_error(resource, "", error) from error


def unmodelled_error(resource: str, below: str, error: ValidationError) -> UnmodelledProperty:
    """A value that does not fit, as the error that names its place."""
    told = _AT.fullmatch(str(error))
    assert told  # noqa: S101 - the pattern takes any text
    path = ".".join(part for part in (below, told["path"]) if part)
    return UnmodelledProperty(resource, path, told["why"])


def _without(node: Any, at: str, left_out: Iterable[str]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, list):
        return [_without(one, at, left_out) for one in node]
    if not isinstance(node, dict):
        return node
    below = {name: f"{at}.{name}" if at else name for name in node}
    return {
        name: _without(one, below[name], left_out)
        for name, one in node.items()
        if below[name] not in left_out
    }
