"""Computes how long CloudFront caches a response. Times are in seconds of the epoch.

Source: the CloudFront Developer Guide, "Manage how long content stays in the cache" and "How CloudFront
processes HTTP 4xx and 5xx status codes from your origin".
"""

from __future__ import annotations

import email.utils
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws_local.cloudfront.cache_policies import CachePolicyConfig

CACHED_ERRORS = {404, 405, 414, 500, 501, 502, 503, 504}
"""Statuses of errors that are always cached, whatever their Cache-Control says."""
CACHED_ERRORS_WITH_MAX_AGE = {400, 403, 412, 415}
"""Statuses of errors that are cached if their Cache-Control has a max-age. No other errors are cached."""
DEFAULT_ERROR_S = 10.0
_UNCACHEABLE = {"no-store", "private"}


def ttl_s(
    status: int,
    headers: Mapping[str, str],
    policy: CachePolicyConfig,
    error_ttls_s: Mapping[int, float],
    now_s: float,
) -> float | None:
    """How long a response is fresh; None if it is not cached at all."""
    if status >= 400:
        return _error_ttl_s(status, headers, error_ttls_s)
    names = set(directives(headers))
    if _UNCACHEABLE & names and not policy.min_ttl_s:
        return None
    origin_s = 0.0 if {"no-cache", *_UNCACHEABLE} & names else _origin_ttl_s(headers, now_s)
    if origin_s is None:
        return max(policy.min_ttl_s, policy.default_ttl_s)
    return min(max(origin_s, policy.min_ttl_s), policy.max_ttl_s)


def directives(headers: Mapping[str, str]) -> dict[str, str]:
    """The directives of Cache-Control by lower-case name (RFC 9111 §5.2)."""
    parts = (part.strip().partition("=") for part in headers.get("cache-control", "").split(","))
    return {name.lower(): value.strip('"') for name, _, value in parts if name}


def _error_ttl_s(status: int, headers: Mapping[str, str], error_ttls_s: Mapping[int, float]) -> float | None:
    max_age_s = _max_age_s(headers)
    if status not in CACHED_ERRORS and not (status in CACHED_ERRORS_WITH_MAX_AGE and max_age_s is not None):
        return None
    return max(error_ttls_s.get(status, DEFAULT_ERROR_S), max_age_s or 0.0)


def _origin_ttl_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The lifetime that the origin gives: s-maxage, else max-age, else Expires. None if it gives none."""
    max_age_s = _max_age_s(headers)
    if max_age_s is not None or "expires" not in headers:
        return max_age_s
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers["expires"]).timestamp() - now_s)
    except ValueError:
        return 0.0  # RFC 9111 §5.3: an invalid date counts as past


def _max_age_s(headers: Mapping[str, str]) -> float | None:
    values = directives(headers)
    for name in ("s-maxage", "max-age"):
        if values.get(name, "").isdecimal():
            return float(values[name])
    return None
