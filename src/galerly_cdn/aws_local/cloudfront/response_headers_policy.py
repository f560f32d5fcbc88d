"""Which headers does a viewer get? A response headers policy, applied after caching. Pure.

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
    """Allowed methods and headers are told to preflights alone, which no behaviour lets in."""

    access_control_allow_credentials: bool
    access_control_allow_headers: Items
    access_control_allow_methods: Items
    access_control_allow_origins: Items
    origin_override: bool

    def told(self, origin: str) -> dict[str, str]:
        """What a page of `origin` is told; nothing if it may not."""
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
    def told(self) -> str:
        more = "; includeSubDomains" if self.include_subdomains else ""
        return f"max-age={self.access_control_max_age_sec}{more}"


class SecurityHeadersConfig(Property, frozen=True):
    content_type_options: ContentTypeOptions | None = None
    content_security_policy: ContentSecurityPolicy | None = None
    strict_transport_security: StrictTransportSecurity | None = None

    def told(self, scheme: str) -> Iterator[tuple[str, str, bool]]:
        """Name, value, and whether it overrides; HSTS on HTTPS alone (RFC 6797 §7.2)."""
        if one := self.content_type_options:
            yield "x-content-type-options", "nosniff", one.override
        if policy := self.content_security_policy:
            yield "content-security-policy", policy.content_security_policy, policy.override
        if (security := self.strict_transport_security) and scheme == "https":
            yield "strict-transport-security", security.told, security.override


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

    def applied(self, headers: dict[str, str], request: ViewerRequest) -> dict[str, str]:
        """A response's headers as the viewer of `request` gets them: removed first, then added."""
        removed = {one.header.lower() for one in self.remove_headers_config.items}
        left = {name: value for name, value in headers.items() if name not in removed}
        for name, value, overrides in self._added(request):
            if overrides or name not in left:
                left[name] = value
        return left

    def _added(self, request: ViewerRequest) -> Iterator[tuple[str, str, bool]]:
        origin = request.headers.get("origin")
        if self.cors_config is not None and origin is not None:
            for name, value in self.cors_config.told(origin).items():
                yield name, value, self.cors_config.origin_override
        yield from self.security_headers_config.told(request.scheme)
        for one in self.custom_headers_config.items:
            yield one.header.lower(), one.value, one.override


class ResponseHeadersPolicy(Property, frozen=True):
    """AWS::CloudFront::ResponseHeadersPolicy."""

    response_headers_policy_config: ResponseHeadersPolicyConfig
