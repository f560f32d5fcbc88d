"""Declares the properties of a distribution's resources that are modelled, as CloudFormation names them.

Source: the CloudFormation Template Reference, AWS::CloudFront and AWS::Lambda::Url.
"""

from __future__ import annotations

from typing import Literal

from galerly_cdn.aws_local.cloudformation.properties import Property

Event = Literal["viewer-request", "viewer-response"]
Method = Literal["GET", "HEAD"]


class FunctionAssociation(Property, frozen=True):
    event_type: Event
    function_arn: str


class CacheBehavior(Property, frozen=True, kw_only=True):
    path_pattern: str = "*"
    target_origin_id: str
    viewer_protocol_policy: Literal["allow-all", "https-only", "redirect-to-https"]
    allowed_methods: tuple[Method, ...]
    cached_methods: tuple[Method, ...]
    compress: bool = False
    trusted_key_groups: tuple[str, ...] = ()
    cache_policy_id: str
    origin_request_policy_id: str | None = None
    response_headers_policy_id: str | None = None
    function_associations: tuple[FunctionAssociation, ...] = ()

    def __post_init__(self) -> None:
        if self.compress:
            raise ValueError("compression is not modelled")
        if set(self.cached_methods) != {"GET", "HEAD"}:
            raise ValueError("CachedMethods other than GET and HEAD are not modelled")


class S3OriginConfig(Property, frozen=True):
    origin_access_identity: Literal[""]
    origin_read_timeout_s: float = 30.0


class CustomOriginConfig(Property, frozen=True):
    origin_protocol_policy: Literal["https-only"]
    origin_read_timeout_s: float = 30.0


class OriginConfig(Property, frozen=True, kw_only=True):
    id: str
    domain_name: str
    origin_access_control_id: str = ""
    s3_origin_config: S3OriginConfig | None = None
    custom_origin_config: CustomOriginConfig | None = None
    connection_attempts: int = 3
    connection_timeout_s: float = 10.0


class Codes(Property, frozen=True):
    quantity: int
    items: tuple[int, ...]


class FailoverCriteria(Property, frozen=True):
    status_codes: Codes


class Member(Property, frozen=True):
    origin_id: str


class Members(Property, frozen=True):
    quantity: Literal[2]
    items: tuple[Member, Member]


class OriginGroup(Property, frozen=True):
    id: str
    failover_criteria: FailoverCriteria
    members: Members


class OriginGroups(Property, frozen=True):
    quantity: int
    items: tuple[OriginGroup, ...]


class CustomErrorResponse(Property, frozen=True):
    error_code: int
    error_caching_min_ttl_s: float


class CacheTagConfig(Property, frozen=True):
    header_name: str


class DistributionConfig(Property, frozen=True, kw_only=True):
    enabled: bool
    origins: tuple[OriginConfig, ...]
    origin_groups: OriginGroups = OriginGroups(0, ())
    default_cache_behavior: CacheBehavior
    cache_behaviors: tuple[CacheBehavior, ...] = ()
    custom_error_responses: tuple[CustomErrorResponse, ...] = ()
    cache_tag_config: CacheTagConfig | None = None

    def __post_init__(self) -> None:
        if not self.enabled:
            raise ValueError("a distribution that is not Enabled serves nothing")


class DistributionResource(Property, frozen=True):
    distribution_config: DistributionConfig


class OriginAccessControlConfig(Property, frozen=True):
    origin_access_control_origin_type: Literal["s3", "lambda"]
    signing_behavior: Literal["always", "never"]
    signing_protocol: Literal["sigv4"]


class OriginAccessControl(Property, frozen=True):
    origin_access_control_config: OriginAccessControlConfig


class PublicKeyConfig(Property, frozen=True):
    encoded_key: str


class PublicKey(Property, frozen=True):
    public_key_config: PublicKeyConfig


class KeyGroupConfig(Property, frozen=True):
    items: tuple[str, ...]


class KeyGroup(Property, frozen=True):
    key_group_config: KeyGroupConfig


class FunctionUrl(Property, frozen=True):
    """AWS::Lambda::Url."""

    target_function_arn: str
    auth_type: Literal["AWS_IAM"]
    invoke_mode: Literal["BUFFERED"] = "BUFFERED"
