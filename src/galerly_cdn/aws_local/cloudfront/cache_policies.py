"""What of a request is the cache's key, and what does the origin get to see? Pure.

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

    def chosen(self, request: ViewerRequest) -> dict[str, str]:
        """What the policy takes of the request's headers."""
        names = sorted(one.lower() for one in self.headers)
        return {name: request.headers[name] for name in names if name in request.headers}


class QueryStringsConfig(Property, frozen=True):
    query_string_behavior: Literal["none", "all", "whitelist"]
    query_strings: tuple[str, ...] = ()

    def chosen(self, request: ViewerRequest) -> str:
        """What the policy takes of the request's query."""
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
            raise ValueError("compressed answers are not modelled")


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
    """The cache's key. `method` is GET for whatever a GET has filled."""

    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    method: str = "GET"


class ForwardedValues(Value, frozen=True):
    """What the origin is sent of a request, beside its path."""

    query: str
    headers: dict[str, str]


def cache_key(request: ViewerRequest, policy: CachePolicyConfig) -> CacheKey:
    """The key of a request as the viewer function left it."""
    own = policy.parameters_in_cache_key_and_forwarded_to_origin
    headers = own.headers_config.chosen(request)
    return CacheKey(request.raw_path, own.query_strings_config.chosen(request), tuple(headers.items()))


def forwarded_values(
    request: ViewerRequest, policy: CachePolicyConfig, beside: OriginRequestPolicyConfig | None
) -> ForwardedValues:
    """What is in the key, and what the origin request policy names beside it."""
    own = policy.parameters_in_cache_key_and_forwarded_to_origin
    query, headers = own.query_strings_config.chosen(request), own.headers_config.chosen(request)
    if beside is None:
        return ForwardedValues(query, headers)
    more = beside.query_strings_config.chosen(request)
    parts = dict.fromkeys([*query.split("&"), *more.split("&")])
    return ForwardedValues(
        "&".join(part for part in parts if part), headers | beside.headers_config.chosen(request)
    )
