"""Cache-Status values, their header form (RFC 9211) and their metrics label."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.http import cache_status
from galerly_cdn.http.cache_status import CacheStatus
from galerly_cdn.serialization import replaced


@pytest.mark.parametrize(
    ("status", "parameters", "result"),
    [
        (cache_status.MEMORY_HIT, "hit", "hit"),
        (cache_status.STORE_HIT, "hit; detail=store", "stored"),
        (cache_status.stale_hit(90.6), "hit; ttl=-90; detail=store-unreachable", "stale"),
        (cache_status.stale_hit(0.4), "hit; ttl=-0; detail=store-unreachable", "stale"),
        (cache_status.MISS, "fwd=uri-miss", "miss"),
        (cache_status.OUTDATED, "fwd=stale", "miss"),
        (replaced(cache_status.MISS, stored=True), "fwd=uri-miss; stored", "miss"),
        (replaced(cache_status.OUTDATED, collapsed=True), "fwd=stale; collapsed", "miss"),
        (
            replaced(cache_status.MISS, stored=True, collapsed=True),
            "fwd=uri-miss; stored; collapsed",
            "miss",
        ),
    ],
    ids=lambda value: value.parameters if isinstance(value, CacheStatus) else "",
)
def test_cache_status_header_names_the_cache_and_the_parameters(
    status: CacheStatus, parameters: str, result: str
) -> None:
    assert status.parameters == parameters
    assert status.header == (b"cache-status", b"galerly-cdn; " + parameters.encode())
    assert status.result == result


@given(
    st.builds(
        CacheStatus,
        forwarded=st.sampled_from(["", "uri-miss", "stale"]),
        stale_s=st.none() | st.integers(0, 10**9),
        detail=st.sampled_from(["", "store", "store-unreachable"]),
        stored=st.booleans(),
        collapsed=st.booleans(),
    )
)
def test_cache_status_header_is_one_list_member_with_parameters(status: CacheStatus) -> None:
    """RFC 9211 §2: an sf-list of tokens, here with one member; RFC 8941 §3.1.2 for the parameters."""
    parameter = r"; [a-z]+(=(-?[0-9]+|[a-z-]+))?"
    name, value = status.header
    assert name == b"cache-status"
    assert re.fullmatch(rf"galerly-cdn({parameter})+", value.decode())
    names = [part.partition("=")[0] for part in value.decode().split("; ")[1:]]
    assert len(names) == len(set(names))
