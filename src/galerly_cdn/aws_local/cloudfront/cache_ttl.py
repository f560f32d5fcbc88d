"""How long does CloudFront keep a response? Pure; times are seconds of the epoch.

Source: the CloudFront Developer Guide, "Manage how long content stays in the cache" and "How CloudFront
processes HTTP 4xx and 5xx status codes from your origin".
"""

from __future__ import annotations

import email.utils
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws_local.cloudfront.cache_policies import CachePolicyConfig

ALWAYS = {404, 405, 414, 500, 501, 502, 503, 504}
"""Errors that are kept whatever they say."""
IF_TOLD = {400, 403, 412, 415}
"""Errors that are kept if their Cache-Control has a max-age. No others are."""
DEFAULT_ERROR_S = 10.0
_UNKEPT = {"no-store", "private"}


def ttl_s(
    status: int,
    headers: Mapping[str, str],
    policy: CachePolicyConfig,
    error_ttls_s: Mapping[int, float],
    now_s: float,
) -> float | None:
    """How long a response is fresh; None if it is not kept at all."""
    if status >= 400:
        return _of_error(status, headers, error_ttls_s)
    said = directives(headers)
    if _UNKEPT & set(said) and not policy.min_ttl_s:
        return None
    told = 0.0 if {"no-cache", *_UNKEPT} & set(said) else _told(headers, now_s)
    if told is None:
        return max(policy.min_ttl_s, policy.default_ttl_s)
    return min(max(told, policy.min_ttl_s), policy.max_ttl_s)


def directives(headers: Mapping[str, str]) -> dict[str, str]:
    """Cache-Control's, by name in small letters (RFC 9111 §5.2)."""
    parts = (part.strip().partition("=") for part in headers.get("cache-control", "").split(","))
    return {name.lower(): value.strip('"') for name, _, value in parts if name}


def _of_error(status: int, headers: Mapping[str, str], error_ttls_s: Mapping[int, float]) -> float | None:
    told = _max_age(headers)
    if status not in ALWAYS and not (status in IF_TOLD and told is not None):
        return None
    return max(error_ttls_s.get(status, DEFAULT_ERROR_S), told or 0.0)


def _told(headers: Mapping[str, str], now_s: float) -> float | None:
    """What the origin says: s-maxage, else max-age, else Expires."""
    told = _max_age(headers)
    if told is not None or "expires" not in headers:
        return told
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers["expires"]).timestamp() - now_s)
    except ValueError:
        return 0.0  # RFC 9111 §5.3: an invalid date has passed


def _max_age(headers: Mapping[str, str]) -> float | None:
    said = directives(headers)
    for name in ("s-maxage", "max-age"):
        if said.get(name, "").isdecimal():
            return float(said[name])
    return None
