"""Refuses a template that CloudFormation, or a service that it calls, would refuse: names, quotas, values.

cfn-lint knows the schemas of properties. This module knows what AWS documents beside them: quotas, reserved
names, and properties that depend on each other. The source of each limit is named where it is checked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from galerly_cdn.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from galerly_cdn.aws_local.cloudformation.stack import Stack


class TemplateRefused(CommandError):
    """AWS would refuse to create the stack; `detail` names the resource and the limit."""

    code = "template-refused"
    public = "AWS would refuse this template."


NAME_LENGTHS: Mapping[tuple[str, str], int] = {
    ("AWS::Budgets::Budget", "Budget.BudgetName"): 100,
    ("AWS::CloudFront::CachePolicy", "CachePolicyConfig.Name"): 128,
    ("AWS::CloudFront::Function", "Name"): 64,
    ("AWS::CloudFront::KeyGroup", "KeyGroupConfig.Name"): 128,
    ("AWS::CloudFront::OriginAccessControl", "OriginAccessControlConfig.Name"): 64,
    ("AWS::CloudFront::OriginRequestPolicy", "OriginRequestPolicyConfig.Name"): 128,
    ("AWS::CloudFront::PublicKey", "PublicKeyConfig.Name"): 128,
    ("AWS::CloudFront::ResponseHeadersPolicy", "ResponseHeadersPolicyConfig.Name"): 128,
    ("AWS::CloudFront::Distribution", "DistributionConfig.Comment"): 128,
    ("AWS::CloudFront::Function", "FunctionConfig.Comment"): 128,
    ("AWS::CloudFront::CachePolicy", "CachePolicyConfig.Comment"): 128,
    ("AWS::CloudFront::OriginRequestPolicy", "OriginRequestPolicyConfig.Comment"): 128,
    ("AWS::CloudFront::PublicKey", "PublicKeyConfig.Comment"): 128,
    ("AWS::CloudFront::ResponseHeadersPolicy", "ResponseHeadersPolicyConfig.Comment"): 128,
    ("AWS::CloudWatch::Alarm", "AlarmDescription"): 1024,
    ("AWS::Lambda::Function", "FunctionName"): 64,
    ("AWS::Lambda::Function", "Description"): 256,
    ("AWS::Logs::DeliveryDestination", "Name"): 60,
    ("AWS::Logs::DeliverySource", "Name"): 60,
    ("AWS::S3::Bucket", "BucketName"): 63,
    ("AWS::SNS::Topic", "DisplayName"): 100,
    ("AWS::WAFv2::WebACL", "Name"): 128,
}
"""The most characters of a name or comment, from the API reference of each service."""
MAX_REMOVED_HEADERS = MAX_CUSTOM_HEADERS = 10
"""CloudFront quotas of a response headers policy."""
RESERVED_HEADERS = frozenset({
    *("connection", "content-encoding", "content-length", "expect", "host", "keep-alive"),
    *("proxy-authenticate", "proxy-authorization", "proxy-connection", "trailer", "transfer-encoding"),
    *("upgrade", "via", "warning", "x-accel-buffering", "x-accel-charset", "x-accel-limit-rate"),
    *("x-accel-redirect", "x-amzn-auth", "x-amzn-cf-billing", "x-amzn-cf-id", "x-amzn-cf-xff"),
    *("x-amzn-errortype", "x-amzn-fle-profile", "x-amzn-header-count", "x-amzn-header-order"),
    *("x-amzn-lambda-integration-tag", "x-amzn-requestid", "x-cache", "x-forwarded-proto", "x-real-ip"),
})  # fmt: skip
"""Headers that a response headers policy can neither remove nor set: CloudFront Developer Guide, "Understand
response headers policies" and "Restrictions on all edge functions"."""
_RESERVED_PREFIXES = ("x-amz-cf-", "x-edge-")
MAX_BEHAVIORS = 75
"""CloudFront quota: cache behaviours of a distribution, here with the default one."""
_FAILOVER_CODES = {400, 403, 404, 416, 429, 500, 502, 503, 504}
"""CloudFront Developer Guide, "Optimize high availability with CloudFront origin failover"."""
_ERROR_CODES = {400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504}
"""CloudFront API reference, CustomErrorResponse."""
_ORIGINS = "DistributionConfig.Origins"
_RANGES: Mapping[tuple[str, str], tuple[float, float]] = {
    ("AWS::CloudFront::Distribution", f"{_ORIGINS}.ConnectionAttempts"): (1, 3),
    ("AWS::CloudFront::Distribution", f"{_ORIGINS}.ConnectionTimeout"): (1, 10),
    ("AWS::CloudFront::Distribution", f"{_ORIGINS}.S3OriginConfig.OriginReadTimeout"): (1, 120),
    ("AWS::CloudFront::Distribution", f"{_ORIGINS}.CustomOriginConfig.OriginReadTimeout"): (1, 120),
    ("AWS::CloudFront::Distribution", f"{_ORIGINS}.CustomOriginConfig.OriginKeepaliveTimeout"): (1, 120),
    ("AWS::Lambda::EventSourceMapping", "ScalingConfig.MaximumConcurrency"): (2, 1000),
    ("AWS::Lambda::Function", "Timeout"): (0, 900),
    ("AWS::SQS::Queue", "DelaySeconds"): (0, 900),
    ("AWS::SQS::Queue", "MessageRetentionPeriod"): (60, 1_209_600),
    ("AWS::SQS::Queue", "VisibilityTimeout"): (0, 43_200),
    ("AWS::WAFv2::WebACL", "Rules.Statement.RateBasedStatement.Limit"): (10, 2_000_000_000),
}  # fmt: skip
"""The least and greatest value of a number, from the API reference of each service."""
_MAX_KEYS = 5
"""CloudFront quota: public keys in a key group."""
_MAX_ENVIRONMENT_BYTES = 4096
"""Lambda quota: environment variables of a function."""
_MAX_POLICY_CHARACTERS = 10_240
"""IAM quota: all inline policies of a role, without white space."""
_MAX_DAY_S, _MAX_WEEK_S = 86_400, 604_800
"""The longest time that an alarm evaluates, by periods below and above an hour: CloudWatch User Guide."""


def check(stack: Stack) -> None:
    """Raise `TemplateRefused` with everything that AWS would refuse of the resources of a stack."""
    resources = stack.resolved()
    if problems := [*_names(resources), *_ranges(resources), *_rules(resources)]:
        raise TemplateRefused("; ".join(problems))


def check_import(template: Mapping[str, Any]) -> None:
    """Raise `TemplateRefused` for names that an automatic import would not recognise.

    It compares names that the template has as text, without intrinsic functions: CloudFormation User Guide,
    "Import AWS resources into a CloudFormation stack automatically". Only retained buckets of ours exist
    before their stack.
    """
    problems = [
        f"{name}: BucketName: an automatic import needs the name itself, not an intrinsic function"
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::S3::Bucket" and not isinstance(one["Properties"].get("BucketName"), str)
    ]
    if problems:
        raise TemplateRefused("; ".join(problems))


_Resources = dict[str, tuple[str, dict[str, Any]]]


def _values(node: Any, path: str) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    """The values at a path of property names, in every element of lists."""
    if isinstance(node, list):
        for one in node:
            yield from _values(one, path)
    elif not path:
        yield node
    elif isinstance(node, dict):
        first, _, rest = path.partition(".")
        if first in node:
            yield from _values(node[first], rest)


def _names(resources: _Resources) -> Iterator[str]:
    for (type_name, path), length in NAME_LENGTHS.items():
        for name, properties in _of(resources, type_name):
            for value in _values(properties, path):
                if len(str(value)) > length:
                    yield f"{name}: {path}: {value!r} has {len(str(value))} characters, {length} are allowed"


def _ranges(resources: _Resources) -> Iterator[str]:
    for (type_name, path), (least, greatest) in _RANGES.items():
        for name, properties in _of(resources, type_name):
            for value in _values(properties, path):
                if not least <= float(value) <= greatest:
                    yield f"{name}: {path}: {value} is not between {least} and {greatest}"


def _rules(resources: _Resources) -> Iterator[str]:
    for type_name, rule in _RULES.items():
        for name, properties in _of(resources, type_name):
            yield from (f"{name}: {problem}" for problem in rule(properties, resources))


def _of(resources: _Resources, type_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, properties) for name, (kind, properties) in resources.items() if kind == type_name)


def _headers(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    for section, most in (
        ("RemoveHeadersConfig", MAX_REMOVED_HEADERS),
        ("CustomHeadersConfig", MAX_CUSTOM_HEADERS),
    ):
        names = list(_values(properties, f"ResponseHeadersPolicyConfig.{section}.Items.Header"))
        if len(names) > most:
            yield f"{section} has {len(names)} headers, CloudFront allows {most}"
        for name in _repeated(one.lower() for one in names):
            yield f"{section} has {name} twice"
        for name in names:
            if name.lower() in RESERVED_HEADERS or name.lower().startswith(_RESERVED_PREFIXES):
                yield f"{section}: CloudFront reserves {name}"


def _distribution(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    config = properties["DistributionConfig"]
    behaviors = [config["DefaultCacheBehavior"], *config.get("CacheBehaviors", [])]
    if len(behaviors) > MAX_BEHAVIORS:
        yield f"{len(behaviors)} cache behaviours, CloudFront allows {MAX_BEHAVIORS}"
    for pattern in _repeated(str(one.get("PathPattern", "*")) for one in behaviors):
        yield f"two behaviours have the path pattern {pattern}"
    for one in behaviors:
        at = one.get("PathPattern", "the default behaviour")
        if len(at) > 255:
            yield f"{at}: a path pattern has at most 255 characters"
        for event in _repeated(_values(one, "FunctionAssociations.EventType")):
            yield f"{at}: two functions for {event}"
        if one.get("FunctionAssociations") and one.get("LambdaFunctionAssociations"):
            yield f"{at}: CloudFront Functions and Lambda@Edge for viewer events of one behaviour"
    for path, allowed in (
        ("OriginGroups.Items.FailoverCriteria.StatusCodes.Items", _FAILOVER_CODES),
        ("CustomErrorResponses.ErrorCode", _ERROR_CODES),
    ):
        codes = [int(code) for code in _values(config, path)]
        yield from (f"{path}: {code} is not allowed" for code in codes if code not in allowed)
        yield from (f"{path}: {code} is there twice" for code in _repeated(codes))
    for group in _values(config, "OriginGroups.Items"):
        codes = group["FailoverCriteria"]["StatusCodes"]
        if codes["Quantity"] != len(codes["Items"]):
            yield f"Quantity of StatusCodes is {codes['Quantity']}, there are {len(codes['Items'])}"


def _cache_policy(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    config = properties["CachePolicyConfig"]
    if not config["MinTTL"] <= config["DefaultTTL"] <= config["MaxTTL"]:
        yield "MinTTL, DefaultTTL and MaxTTL are not in this order"


def _key_group(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    if len(keys := properties["KeyGroupConfig"]["Items"]) > _MAX_KEYS:
        yield f"{len(keys)} public keys, CloudFront allows {_MAX_KEYS}"


def _public_key(properties: dict[str, Any], resources: _Resources) -> Iterator[str]:
    """A key cannot be changed: the new one is made before the old one is deleted. Names are unique."""
    config = properties["PublicKeyConfig"]
    if config["CallerReference"].removeprefix("Key") not in config["Name"]:
        yield f"Name {config['Name']} stays when the key changes, and two keys cannot have one name"
    for name in _repeated(
        str(one["PublicKeyConfig"]["Name"]) for _, one in _of(resources, "AWS::CloudFront::PublicKey")
    ):
        yield f"two public keys have the name {name}"


def _function(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    variables = properties.get("Environment", {}).get("Variables", {})
    length = sum(len(f"{name}{value}".encode()) for name, value in variables.items())
    if length > _MAX_ENVIRONMENT_BYTES:
        yield f"environment variables of {length} bytes, Lambda allows {_MAX_ENVIRONMENT_BYTES}"
    for name in variables:
        if name.startswith("AWS_") or name in {"LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "_HANDLER"}:
            yield f"Lambda reserves the environment variable {name}"


def _event_source(properties: dict[str, Any], resources: _Resources) -> Iterator[str]:
    """AWS Lambda Developer Guide, "Configuring a queue to use with Lambda"."""
    function = resources.get(str(properties["FunctionName"]).rpartition("-")[2])
    queue = resources.get(str(properties["EventSourceArn"]).rpartition("-")[2])
    if function and queue:
        timeout, visible = function[1].get("Timeout", 3), queue[1].get("VisibilityTimeout", 30)
        if visible < timeout:
            yield f"the queue's visibility timeout, {visible} s, is below the function's timeout, {timeout} s"


def _role(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    policies = [one["PolicyDocument"] for one in properties.get("Policies", [])]
    length = sum(len(json.dumps(one, separators=(",", ":"))) for one in policies)
    if length > _MAX_POLICY_CHARACTERS:
        yield f"inline policies of {length} characters, IAM allows {_MAX_POLICY_CHARACTERS}"
    for name in _repeated(str(one["PolicyName"]) for one in properties.get("Policies", [])):
        yield f"two policies have the name {name}"


def _bucket(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    rules = properties.get("LifecycleConfiguration", {}).get("Rules", [])
    for name in _repeated(str(one.get("Id")) for one in rules):
        yield f"two lifecycle rules have the ID {name}"
    for one in rules:
        if one.get("ExpiredObjectDeleteMarker") and "ExpirationInDays" in one:
            yield f"{one.get('Id')}: S3 allows ExpiredObjectDeleteMarker only without ExpirationInDays"


def _alarm(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    stats = list(_values(properties, "Metrics.MetricStat"))
    for period in [int(one["Period"]) for one in [*stats, properties] if "Period" in one]:
        evaluated, most = (
            period * int(properties["EvaluationPeriods"]),
            _MAX_WEEK_S if period >= 3600 else _MAX_DAY_S,
        )
        if evaluated > most:
            yield f"it evaluates {evaluated} s, CloudWatch allows {most} s"
        if period % 60 and period not in {10, 20, 30}:
            yield f"a period of {period} s"
    if "Metrics" in properties:
        if sum(one.get("ReturnData", True) for one in properties["Metrics"]) != 1:
            yield "one of its metrics has to return data"
        if "MetricName" in properties:
            yield "it has both Metrics and MetricName"
    if "Statistic" in properties and "ExtendedStatistic" in properties:
        yield "it has both Statistic and ExtendedStatistic"


def _delivery_destination(properties: dict[str, Any], _: _Resources) -> Iterator[str]:
    """cloudformation-coverage-roadmap issue 2274: creating adds a missing prefix, updating removes it."""
    if "/" not in properties["DestinationResourceArn"]:
        yield "DestinationResourceArn has no prefix: creating and updating would differ in S3SuffixPath"


def _repeated(values: Iterable[Any]) -> list[Any]:
    seen = list(values)
    return sorted({one for one in seen if seen.count(one) > 1})


_RULES: Mapping[str, Callable[[dict[str, Any], _Resources], Iterator[str]]] = {
    "AWS::CloudFront::CachePolicy": _cache_policy,
    "AWS::CloudFront::Distribution": _distribution,
    "AWS::CloudFront::KeyGroup": _key_group,
    "AWS::CloudFront::PublicKey": _public_key,
    "AWS::CloudFront::ResponseHeadersPolicy": _headers,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::IAM::Role": _role,
    "AWS::Lambda::EventSourceMapping": _event_source,
    "AWS::Lambda::Function": _function,
    "AWS::Logs::DeliveryDestination": _delivery_destination,
    "AWS::S3::Bucket": _bucket,
}
