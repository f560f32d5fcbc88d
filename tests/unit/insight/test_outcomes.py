"""The definition of a hit, for each kind of line that is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from galerly_cdn.http import cache_status
from galerly_cdn.insight.outcomes import (
    PICTURES,
    Outcome,
    Tier,
    access_outcome,
    cloudfront_outcome,
    hits_of,
    nginx_outcome,
)
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from galerly_cdn.http.cache_status import CacheStatus

STORED = replaced(cache_status.MISS, stored=True)


@pytest.mark.parametrize(
    ("status", "cache", "has_render", "outcome"),
    [
        (200, cache_status.MEMORY_HIT, False, Outcome.CACHE_HIT),
        (304, cache_status.MEMORY_HIT, False, Outcome.CACHE_HIT),
        (206, cache_status.MEMORY_HIT, False, Outcome.CACHE_HIT),
        (200, cache_status.stale_hit(90), False, Outcome.CACHE_HIT),
        (200, cache_status.STORE_HIT, False, Outcome.STORE_HIT),
        (200, cache_status.MISS, True, Outcome.RENDER),
        (200, cache_status.OUTDATED, True, Outcome.RENDER),
        (200, STORED, True, Outcome.RENDER),
        (302, STORED, True, Outcome.RENDER),  # the resizer's redirect to a large picture that it has stored
        (200, STORED, False, Outcome.STORE_HIT),  # copied from a stored rendition
        (200, replaced(STORED, collapsed=True), False, Outcome.SHARED_RENDER),
        (415, cache_status.MISS, False, Outcome.ERROR),
        (416, cache_status.MEMORY_HIT, False, Outcome.ERROR),
        (499, cache_status.MISS, False, Outcome.LEFT),
        (200, None, False, Outcome.OTHER),
        (404, None, False, Outcome.ERROR),
    ],
    ids=str,
)
def test_access_outcome_follows_status_and_cache_status(
    status: int,
    cache: CacheStatus | None,
    has_render: bool,  # noqa: FBT001 - a column of the table
    outcome: Outcome,
) -> None:
    parameters = cache.parameters if cache else ""
    assert access_outcome(status, parameters, has_render=has_render) is outcome


@pytest.mark.parametrize(
    ("status", "result", "response_result", "is_picture", "outcome"),
    [
        (200, "Hit", "Hit", True, Outcome.CACHE_HIT),
        (304, "Hit", "Hit", True, Outcome.CACHE_HIT),
        (200, "RefreshHit", "RefreshHit", True, Outcome.CACHE_HIT),
        (200, "OriginShieldHit", "OriginShieldHit", True, Outcome.CACHE_HIT),
        (200, "Miss", "Miss", True, Outcome.MISS),
        (206, "Miss", "Miss", True, Outcome.MISS),
        (304, "Miss", "Miss", True, Outcome.MISS),
        (302, "Miss", "Miss", True, Outcome.OTHER),  # the resizer's redirect: the next request is counted
        (301, "Redirect", "Redirect", True, Outcome.OTHER),
        (200, "Error", "Hit", True, Outcome.CACHE_HIT),  # the viewer left during the download
        (200, "Error", "Miss", True, Outcome.MISS),
        (200, "Error", "Error", True, Outcome.OTHER),
        (0, "Error", "Error", True, Outcome.LEFT),
        (404, "Error", "Error", True, Outcome.ERROR),
        (403, "FunctionGeneratedResponse", "FunctionGeneratedResponse", True, Outcome.ERROR),
        (503, "LimitExceeded", "LimitExceeded", True, Outcome.ERROR),
        (502, "CapacityExceeded", "CapacityExceeded", True, Outcome.ERROR),
        (200, "Hit", "Hit", False, Outcome.OTHER),  # an original
    ],
)
def test_cloudfront_outcome_follows_status_and_result_type(
    status: int,
    result: str,
    response_result: str,
    is_picture: bool,  # noqa: FBT001 - a column of the table
    outcome: Outcome,
) -> None:
    assert cloudfront_outcome(status, result, response_result, is_picture=is_picture) is outcome


@pytest.mark.parametrize(
    ("status", "result", "is_picture", "outcome"),
    [
        (200, "HIT", True, Outcome.CACHE_HIT),
        (304, "HIT", True, Outcome.CACHE_HIT),
        (200, "REVALIDATED", True, Outcome.CACHE_HIT),
        (200, "STALE", True, Outcome.CACHE_HIT),
        (200, "MISS", True, Outcome.MISS),
        (200, "EXPIRED", True, Outcome.MISS),  # it was replaced
        (206, "", True, Outcome.MISS),  # a part, or a private picture: the node answered
        (404, "HIT", True, Outcome.ERROR),
        (503, "", True, Outcome.ERROR),
        (499, "MISS", True, Outcome.LEFT),
        (200, "", False, Outcome.OTHER),
    ],
)
def test_nginx_outcome_follows_status_and_cache_status(
    status: int,
    result: str,
    is_picture: bool,  # noqa: FBT001 - a column of the table
    outcome: Outcome,
) -> None:
    assert nginx_outcome(status, result, is_picture=is_picture) is outcome


@pytest.mark.parametrize(
    ("tier", "hits"),
    [
        (Tier.CLOUDFRONT, {Outcome.CACHE_HIT}),
        (Tier.NGINX, {Outcome.CACHE_HIT}),
        (Tier.SERVER, {Outcome.CACHE_HIT, Outcome.STORE_HIT}),
        (Tier.RESIZER, {Outcome.CACHE_HIT, Outcome.STORE_HIT}),
    ],
)
def test_hits_where_a_cache_is_in_front_are_cache_hits_alone(tier: Tier, hits: set[Outcome]) -> None:
    assert hits_of(tier) == hits
    assert hits < PICTURES
