"""Applies a response headers policy after caching: CORS, security, custom and removed headers.

Source: the CloudFront Developer Guide, "Understand response headers policies".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.aws_local.cloudformation.properties import Property

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.aws_local.http.viewer_exchange import ViewerRequest


class Items(Property, frozen=True):
    items: tuple[str, ...]


class CorsConfig(Property, frozen=True, kw_only=True):
    """CORS. Allowed methods and headers are only for preflight requests, which no behaviour allows."""

    access_control_allow_credentials: bool
    access_control_allow_headers: Items
    access_control_allow_methods: Items
    access_control_allow_origins: Items
    origin_override: bool

    def headers(self, origin: str) -> dict[str, str]:
        """The CORS headers for a page of `origin`; none if the page may not read the response."""
        allowed = self.access_control_allow_origins.items
        if "*" in allowed and not self.access_control_allow_credentials:
            return {"access-control-allow-origin": "*"}
        if not {"*", origin} & set(allowed):
            return {}
        credentials = (
            {"access-control-allow-credentials": "true"} if self.access_control_allow_credentials else {}
        )
        return {"access-control-allow-origin": origin, "vary": "Origin", **credentials}


class ContentTypeOptions(Property, frozen=True):
    override: bool


class ContentSecurityPolicy(Property, frozen=True):
    content_security_policy: str
    override: bool


class StrictTransportSecurity(Property, frozen=True):
    access_control_max_age_sec: int
    include_subdomains: bool
    override: bool

    @property
    def value(self) -> str:
        """The value of Strict-Transport-Security."""
        more = "; includeSubDomains" if self.include_subdomains else ""
        return f"max-age={self.access_control_max_age_sec}{more}"


class SecurityHeadersConfig(Property, frozen=True):
    content_type_options: ContentTypeOptions | None = None
    content_security_policy: ContentSecurityPolicy | None = None
    strict_transport_security: StrictTransportSecurity | None = None

    def headers(self, scheme: str) -> Iterator[tuple[str, str, bool]]:
        """Each header's name, value, and whether it overrides. HSTS only on HTTPS (RFC 6797 §7.2)."""
        if options := self.content_type_options:
            yield "x-content-type-options", "nosniff", options.override
        if policy := self.content_security_policy:
            yield "content-security-policy", policy.content_security_policy, policy.override
        if (hsts := self.strict_transport_security) and scheme == "https":
            yield "strict-transport-security", hsts.value, hsts.override


class CustomHeader(Property, frozen=True):
    header: str
    value: str
    override: bool


class CustomHeadersConfig(Property, frozen=True):
    items: tuple[CustomHeader, ...]


class RemovedHeader(Property, frozen=True):
    header: str


class RemoveHeadersConfig(Property, frozen=True):
    items: tuple[RemovedHeader, ...]


class ResponseHeadersPolicyConfig(Property, frozen=True):
    cors_config: CorsConfig | None = None
    security_headers_config: SecurityHeadersConfig = SecurityHeadersConfig()
    custom_headers_config: CustomHeadersConfig = CustomHeadersConfig(())
    remove_headers_config: RemoveHeadersConfig = RemoveHeadersConfig(())

    def apply(self, headers: dict[str, str], request: ViewerRequest) -> dict[str, str]:
        """The headers of the response to `request`. Headers are removed first, then added."""
        removed = {one.header.lower() for one in self.remove_headers_config.items}
        result = {name: value for name, value in headers.items() if name not in removed}
        for name, value, overrides in self._added(request):
            if overrides or name not in result:
                result[name] = value
        return result

    def _added(self, request: ViewerRequest) -> Iterator[tuple[str, str, bool]]:
        origin = request.headers.get("origin")
        if self.cors_config is not None and origin is not None:
            for name, value in self.cors_config.headers(origin).items():
                yield name, value, self.cors_config.origin_override
        yield from self.security_headers_config.headers(request.scheme)
        for custom in self.custom_headers_config.items:
            yield custom.header.lower(), custom.value, custom.override


class ResponseHeadersPolicy(Property, frozen=True):
    """AWS::CloudFront::ResponseHeadersPolicy."""

    response_headers_policy_config: ResponseHeadersPolicyConfig
