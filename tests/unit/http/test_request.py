"""Requests read from ASGI scopes: repeated headers, and the client's address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.http.request import Request
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = st.sampled_from([b"accept", b"cookie", b"range", b"x-forwarded-for"])


def request(
    headers: Sequence[tuple[bytes, bytes]],
    *,
    client: tuple[str, int] | None = ("192.0.2.1", 4711),
    trusted: Sequence[str] = (),
) -> Request:
    scope = {"method": "GET", "raw_path": b"/", "query_string": b"", "client": client, "headers": headers}
    return Request(scope, "the-request", Settings(trusted_proxies=tuple(trusted)).trusted_networks)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=4))))
def test_repeated_headers_are_joined_in_order(headers: list[tuple[bytes, bytes]]) -> None:
    names = {name for name, _ in headers}
    listed = {name: b", ".join(value for one, value in headers if one == name) for name in names}
    assert request(headers).headers == listed


@pytest.mark.parametrize(
    ("trusted", "client"),
    [([], "192.0.2.1"), (["192.0.2.0/24"], "198.51.100.7"), (["203.0.113.0/24"], "192.0.2.1")],
)
def test_client_is_the_peer_unless_it_is_a_trusted_proxy(trusted: list[str], client: str) -> None:
    assert request([(b"x-forwarded-for", b"198.51.100.7")], trusted=trusted).client == client


def test_repeated_x_forwarded_for_is_one_list() -> None:
    pieces = [(b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-for", b"198.51.100.7")]
    assert request(pieces, trusted=["192.0.2.0/24"]).client == "198.51.100.7"


def test_client_of_a_socket_without_address_is_empty() -> None:
    assert request([], client=None).client == ""
