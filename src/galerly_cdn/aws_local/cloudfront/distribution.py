"""What is the distribution that the template describes? Read from a stack; frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

from galerly_cdn.access import signing
from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty
from galerly_cdn.aws_local.cloudformation.stack import ACCOUNT
from galerly_cdn.aws_local.cloudfront.cache_policies import (
    CachePolicy,
    CachePolicyConfig,
    OriginRequestPolicy,
    OriginRequestPolicyConfig,
)
from galerly_cdn.aws_local.cloudfront.distribution_properties import (
    CacheBehavior,
    DistributionConfig,
    DistributionResource,
    FunctionUrl,
    KeyGroup,
    OriginAccessControl,
    OriginGroup,
    PublicKey,
)
from galerly_cdn.aws_local.cloudfront.response_headers_policy import (
    ResponseHeadersPolicy,
    ResponseHeadersPolicyConfig,
)
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws_local.cloudformation.stack import Stack

T = TypeVar("T")
_DISTRIBUTION = "AWS::CloudFront::Distribution"


class Origin(Value, frozen=True, kw_only=True):
    """Where an object may come from, and how patiently it is asked."""

    id: str
    domain: str
    kind: Literal["s3", "lambda"]
    is_signed: bool
    attempts: int
    connect_s: float
    read_s: float


class Behavior(Value, frozen=True, kw_only=True):
    """What happens to the addresses of a pattern; `keys` are the public ones, None where nobody signs."""

    pattern: str
    target: str
    protocol: str
    methods: tuple[str, ...]
    keys: dict[str, signing.PublicKey] | None
    cache: CachePolicyConfig
    forwarded: OriginRequestPolicyConfig | None
    headers: ResponseHeadersPolicyConfig
    functions: dict[str, str]


class Distribution(Value, frozen=True, kw_only=True):
    """Behaviours in the order they are tried, the default one last."""

    id: str
    arn: str
    domain: str
    behaviors: tuple[Behavior, ...]
    origins: dict[str, Origin]
    groups: dict[str, OriginGroup]
    error_ttls_s: dict[int, float]
    tag_header: str


def read_distribution(stack: Stack) -> Distribution:
    """The one distribution of a stack. Raises `UnmodelledProperty`."""
    found = stack.all(DistributionResource, _DISTRIBUTION)
    if len(found) != 1:
        raise UnmodelledProperty("Resources", _DISTRIBUTION, f"one is modelled, not {len(found)}")
    ((name, resource),) = found.items()
    config = resource.distribution_config
    tried = (*config.cache_behaviors, config.default_cache_behavior)
    behaviors = _Behaviors(stack, name)
    distribution = Distribution(
        id=stack.identity(name),
        arn=f"arn:aws:cloudfront::{ACCOUNT}:distribution/{stack.identity(name)}",
        domain=str(stack.refer(name, "DomainName")),
        behaviors=tuple(behaviors.read(one) for one in tried),
        origins=_origins(stack, name, config),
        groups={one.id: one for one in config.origin_groups.items},
        error_ttls_s={one.error_code: one.error_caching_min_ttl_s for one in config.custom_error_responses},
        tag_header=config.cache_tag_config.header_name.lower() if config.cache_tag_config else "",
    )
    _check_targets(name, distribution)
    return distribution


class _Behaviors:
    """Reads behaviours: what they name by id is looked up."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._name = name
        self._caches = by_id(stack, stack.all(CachePolicy, "AWS::CloudFront::CachePolicy"))
        self._requests = by_id(stack, stack.all(OriginRequestPolicy, "AWS::CloudFront::OriginRequestPolicy"))
        self._headers = by_id(
            stack, stack.all(ResponseHeadersPolicy, "AWS::CloudFront::ResponseHeadersPolicy")
        )
        self._groups = by_id(stack, stack.all(KeyGroup, "AWS::CloudFront::KeyGroup"))
        self._keys = by_id(stack, stack.all(PublicKey, "AWS::CloudFront::PublicKey"))

    def read(self, one: CacheBehavior) -> Behavior:
        request, headers = one.origin_request_policy_id, one.response_headers_policy_id
        return Behavior(
            pattern=one.path_pattern,
            target=one.target_origin_id,
            protocol=one.viewer_protocol_policy,
            methods=one.allowed_methods,
            keys=self._public_keys(one.trusted_key_groups) if one.trusted_key_groups else None,
            cache=self._found(self._caches, one.cache_policy_id).cache_policy_config,
            forwarded=self._found(self._requests, request).origin_request_policy_config if request else None,
            headers=(
                self._found(self._headers, headers).response_headers_policy_config
                if headers
                else ResponseHeadersPolicyConfig()
            ),
            functions={each.event_type: each.function_arn for each in one.function_associations},
        )

    def _public_keys(self, groups: tuple[str, ...]) -> dict[str, signing.PublicKey]:
        ids = [each for group in groups for each in self._found(self._groups, group).key_group_config.items]
        pems = {each: self._found(self._keys, each).public_key_config.encoded_key for each in ids}
        return {each: signing.public_key(pem.encode()) for each, pem in pems.items()}

    def _found(self, among: Mapping[str, T], identity: str) -> T:
        if identity not in among:
            raise UnmodelledProperty(self._name, identity, "nothing of the template has this id")
        return among[identity]


def by_id(stack: Stack, named: Mapping[str, T]) -> dict[str, T]:
    """Resources by what a Ref to them answers."""
    return {stack.identity(name): one for name, one in named.items()}


def _origins(stack: Stack, name: str, config: DistributionConfig) -> dict[str, Origin]:
    controls = by_id(stack, stack.all(OriginAccessControl, "AWS::CloudFront::OriginAccessControl"))
    urls = {
        str(stack.refer(one, "FunctionUrl")).split("/")[2]
        for one in stack.all(FunctionUrl, "AWS::Lambda::Url")
    }
    found = {}
    for one in config.origins:
        kind: Literal["s3", "lambda"] = "lambda" if one.domain_name in urls else "s3"
        own = one.custom_origin_config if kind == "lambda" else one.s3_origin_config
        if own is None:
            raise UnmodelledProperty(name, f"Origins.{one.id}", "neither a bucket nor a function's URL")
        control = controls.get(one.origin_access_control_id)
        if one.origin_access_control_id and control is None:
            raise UnmodelledProperty(name, f"Origins.{one.id}.OriginAccessControlId", "there is no such one")
        found[one.id] = Origin(
            id=one.id,
            domain=one.domain_name,
            kind=kind,
            is_signed=_signs(control, kind),
            attempts=one.connection_attempts,
            connect_s=one.connection_timeout_s,
            read_s=own.origin_read_timeout_s,
        )
    return found


def _signs(control: OriginAccessControl | None, kind: str) -> bool:
    """A control of the other kind signs for another service: as good as not at all."""
    if control is None:
        return False
    own = control.origin_access_control_config
    return own.signing_behavior == "always" and own.origin_access_control_origin_type == kind


def _check_targets(name: str, distribution: Distribution) -> None:
    """Raises `UnmodelledProperty` where an origin is named that there is not."""
    members = [one.origin_id for group in distribution.groups.values() for one in group.members.items]
    targets = [one.target for one in distribution.behaviors]
    for target in targets:
        if target not in distribution.origins and target not in distribution.groups:
            raise UnmodelledProperty(name, "TargetOriginId", f"there is no origin {target}")
    for member in members:
        if member not in distribution.origins:
            raise UnmodelledProperty(name, "OriginGroups", f"there is no origin {member}")
