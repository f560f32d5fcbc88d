"""Reads the distribution that a stack describes, with everything that its behaviours refer to."""

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
    """An origin, with its time-outs and attempts."""

    id: str
    domain: str
    kind: Literal["s3", "lambda"]
    is_signed: bool
    connection_attempts: int
    connection_timeout_s: float
    response_timeout_s: float


class Behavior(Value, frozen=True, kw_only=True):
    """How requests whose path matches a pattern are handled."""

    path_pattern: str
    target_origin_id: str
    viewer_protocol_policy: str
    allowed_methods: tuple[str, ...]
    public_keys: dict[str, signing.PublicKey] | None
    """The keys of trusted key groups by ID; None if requests need no signature."""
    cache_policy: CachePolicyConfig
    origin_request_policy: OriginRequestPolicyConfig | None
    response_headers_policy: ResponseHeadersPolicyConfig
    functions: dict[str, str]
    """ARNs of functions by event type."""


class Distribution(Value, frozen=True, kw_only=True):
    """A distribution. Its behaviours are in the order in which they are tried, the default one last."""

    id: str
    arn: str
    domain: str
    behaviors: tuple[Behavior, ...]
    origins: dict[str, Origin]
    origin_groups: dict[str, OriginGroup]
    error_ttls_s: dict[int, float]
    cache_tag_header: str


def read_distribution(stack: Stack) -> Distribution:
    """The one distribution of a stack. Raises `UnmodelledProperty`."""
    resources = stack.all(DistributionResource, _DISTRIBUTION)
    if len(resources) != 1:
        raise UnmodelledProperty("Resources", _DISTRIBUTION, f"one is modelled, not {len(resources)}")
    ((name, resource),) = resources.items()
    config = resource.distribution_config
    ordered = (*config.cache_behaviors, config.default_cache_behavior)
    reader = _BehaviorReader(stack, name)
    distribution = Distribution(
        id=stack.identity(name),
        arn=f"arn:aws:cloudfront::{ACCOUNT}:distribution/{stack.identity(name)}",
        domain=str(stack.refer(name, "DomainName")),
        behaviors=tuple(reader.read(one) for one in ordered),
        origins=_origins(stack, name, config),
        origin_groups={one.id: one for one in config.origin_groups.items},
        error_ttls_s={one.error_code: one.error_caching_min_ttl_s for one in config.custom_error_responses},
        cache_tag_header=config.cache_tag_config.header_name.lower() if config.cache_tag_config else "",
    )
    _check_targets(name, distribution)
    return distribution


class _BehaviorReader:
    """Reads behaviours, and looks up the policies and key groups that they refer to by ID."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._name = name
        self._cache_policies = by_id(stack, stack.all(CachePolicy, "AWS::CloudFront::CachePolicy"))
        self._origin_request_policies = by_id(
            stack, stack.all(OriginRequestPolicy, "AWS::CloudFront::OriginRequestPolicy")
        )
        self._response_headers_policies = by_id(
            stack, stack.all(ResponseHeadersPolicy, "AWS::CloudFront::ResponseHeadersPolicy")
        )
        self._key_groups = by_id(stack, stack.all(KeyGroup, "AWS::CloudFront::KeyGroup"))
        self._public_keys = by_id(stack, stack.all(PublicKey, "AWS::CloudFront::PublicKey"))

    def read(self, one: CacheBehavior) -> Behavior:
        request, headers = one.origin_request_policy_id, one.response_headers_policy_id
        return Behavior(
            path_pattern=one.path_pattern,
            target_origin_id=one.target_origin_id,
            viewer_protocol_policy=one.viewer_protocol_policy,
            allowed_methods=one.allowed_methods,
            public_keys=self._keys_of(one.trusted_key_groups) if one.trusted_key_groups else None,
            cache_policy=self._look_up(self._cache_policies, one.cache_policy_id).cache_policy_config,
            origin_request_policy=self._look_up(
                self._origin_request_policies, request
            ).origin_request_policy_config
            if request
            else None,
            response_headers_policy=(
                self._look_up(self._response_headers_policies, headers).response_headers_policy_config
                if headers
                else ResponseHeadersPolicyConfig()
            ),
            functions={each.event_type: each.function_arn for each in one.function_associations},
        )

    def _keys_of(self, groups: tuple[str, ...]) -> dict[str, signing.PublicKey]:
        ids = [
            each for group in groups for each in self._look_up(self._key_groups, group).key_group_config.items
        ]
        pems = {each: self._look_up(self._public_keys, each).public_key_config.encoded_key for each in ids}
        return {each: signing.public_key(pem.encode()) for each, pem in pems.items()}

    def _look_up(self, resources: Mapping[str, T], identity: str) -> T:
        if identity not in resources:
            raise UnmodelledProperty(self._name, identity, "no resource of the template has this ID")
        return resources[identity]


def by_id(stack: Stack, resources: Mapping[str, T]) -> dict[str, T]:
    """Resources, given by logical name, by the value of a Ref to them."""
    return {stack.identity(name): resource for name, resource in resources.items()}


def _origins(stack: Stack, name: str, config: DistributionConfig) -> dict[str, Origin]:
    controls = by_id(stack, stack.all(OriginAccessControl, "AWS::CloudFront::OriginAccessControl"))
    urls = {
        str(stack.refer(one, "FunctionUrl")).split("/")[2]
        for one in stack.all(FunctionUrl, "AWS::Lambda::Url")
    }
    origins = {}
    for one in config.origins:
        kind: Literal["s3", "lambda"] = "lambda" if one.domain_name in urls else "s3"
        kind_config = one.custom_origin_config if kind == "lambda" else one.s3_origin_config
        if kind_config is None:
            raise UnmodelledProperty(
                name, f"Origins.{one.id}", "is neither an S3 bucket nor a Lambda function URL"
            )
        control = controls.get(one.origin_access_control_id)
        if one.origin_access_control_id and control is None:
            raise UnmodelledProperty(
                name, f"Origins.{one.id}.OriginAccessControlId", "there is no such origin access control"
            )
        origins[one.id] = Origin(
            id=one.id,
            domain=one.domain_name,
            kind=kind,
            is_signed=_signs(control, kind),
            connection_attempts=one.connection_attempts,
            connection_timeout_s=one.connection_timeout_s,
            response_timeout_s=kind_config.origin_read_timeout_s,
        )
    return origins


def _signs(control: OriginAccessControl | None, kind: str) -> bool:
    """Whether an access control signs requests to this kind of origin.

    A control of the other kind signs for another service, so its signatures are not valid here.
    """
    if control is None:
        return False
    config = control.origin_access_control_config
    return config.signing_behavior == "always" and config.origin_access_control_origin_type == kind


def _check_targets(name: str, distribution: Distribution) -> None:
    """Raises `UnmodelledProperty` if a behaviour or an origin group names an unknown origin."""
    members = [
        member.origin_id for group in distribution.origin_groups.values() for member in group.members.items
    ]
    targets = [one.target_origin_id for one in distribution.behaviors]
    for target in targets:
        if target not in distribution.origins and target not in distribution.origin_groups:
            raise UnmodelledProperty(name, "TargetOriginId", f"there is no origin {target}")
    for member in members:
        if member not in distribution.origins:
            raise UnmodelledProperty(name, "OriginGroups", f"there is no origin {member}")
