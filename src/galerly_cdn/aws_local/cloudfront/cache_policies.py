"""Computes the cache key of a request, and the query and headers that are forwarded to the origin.

Source: the CloudFront Developer Guide, "Control the cache key with a policy", "Control origin requests".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from galerly_cdn.aws_local.cloudformation.properties import Property
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest


class CookiesConfig(Property, frozen=True):
    cookie_behavior: Literal["none"]


class HeadersConfig(Property, frozen=True):
    header_behavior: Literal["none", "whitelist"]
    headers: tuple[str, ...] = ()

    def select(self, request: ViewerRequest) -> dict[str, str]:
        """The request's headers that the policy includes."""
        names = sorted(name.lower() for name in self.headers)
        return {name: request.headers[name] for name in names if name in request.headers}


class QueryStringsConfig(Property, frozen=True):
    query_string_behavior: Literal["none", "all", "whitelist"]
    query_strings: tuple[str, ...] = ()

    def select(self, request: ViewerRequest) -> str:
        """The part of the request's query that the policy includes."""
        if self.query_string_behavior == "none":
            return ""
        parts = [part for part in request.query.split("&") if part]
        if self.query_string_behavior == "whitelist":
            parts = [part for part in parts if part.partition("=")[0] in self.query_strings]
        return "&".join(parts)


class KeyParameters(Property, frozen=True):
    enable_accept_encoding_gzip: bool
    enable_accept_encoding_brotli: bool
    cookies_config: CookiesConfig
    headers_config: HeadersConfig
    query_strings_config: QueryStringsConfig

    def __post_init__(self) -> None:
        if self.enable_accept_encoding_gzip or self.enable_accept_encoding_brotli:
            raise ValueError("compression is not modelled")


class CachePolicyConfig(Property, frozen=True, kw_only=True):
    min_ttl_s: float
    default_ttl_s: float
    max_ttl_s: float
    parameters_in_cache_key_and_forwarded_to_origin: KeyParameters


class CachePolicy(Property, frozen=True):
    """AWS::CloudFront::CachePolicy."""

    cache_policy_config: CachePolicyConfig


class OriginRequestPolicyConfig(Property, frozen=True):
    cookies_config: CookiesConfig
    headers_config: HeadersConfig
    query_strings_config: QueryStringsConfig


class OriginRequestPolicy(Property, frozen=True):
    """AWS::CloudFront::OriginRequestPolicy."""

    origin_request_policy_config: OriginRequestPolicyConfig


class CacheKey(Value, frozen=True, cache_hash=True):
    """The key of a cached object. `method` is the method of the request whose response was cached."""

    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    method: str = "GET"


class ForwardedValues(Value, frozen=True):
    """The query and headers that are forwarded to the origin."""

    query: str
    headers: dict[str, str]


def cache_key(request: ViewerRequest, policy: CachePolicyConfig) -> CacheKey:
    """The cache key of a request as the viewer-request function returned it."""
    parameters = policy.parameters_in_cache_key_and_forwarded_to_origin
    headers = parameters.headers_config.select(request)
    return CacheKey(request.raw_path, parameters.query_strings_config.select(request), tuple(headers.items()))


def forwarded_values(
    request: ViewerRequest, policy: CachePolicyConfig, origin_request_policy: OriginRequestPolicyConfig | None
) -> ForwardedValues:
    """The values of the cache key, and those that the origin request policy adds."""
    parameters = policy.parameters_in_cache_key_and_forwarded_to_origin
    query, headers = (
        parameters.query_strings_config.select(request),
        parameters.headers_config.select(request),
    )
    if origin_request_policy is None:
        return ForwardedValues(query, headers)
    more = origin_request_policy.query_strings_config.select(request)
    parts = dict.fromkeys([*query.split("&"), *more.split("&")])
    return ForwardedValues(
        "&".join(part for part in parts if part),
        headers | origin_request_policy.headers_config.select(request),
    )
