"""Who is the viewer behind the proxies in front? Whoever is not trusted is believed nothing. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from galerly_cdn.http import ip_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """Networks from their CIDR spellings. Raises `ValueError`."""
    return tuple(map(ipaddress.ip_network, cidrs))


def client_address(peer: str, forwarded: bytes, trusted: tuple[Network, ...]) -> str:
    """The viewer's address: the peer's, unless it is trusted; then the right-most that is not.

    `forwarded` is `X-Forwarded-For`, to which every proxy appends the peer that it saw. What stands left
    of an address that is not trusted, or is no address, was written by anybody.
    """
    found = peer
    for told in reversed(forwarded.decode("latin-1").split(",")):
        if not _is_trusted(found, trusted):
            break
        named = _address(told.strip(" \t"))
        if named is None:
            break
        found = str(named)
    return found


def _is_trusted(told: str, trusted: tuple[Network, ...]) -> bool:
    named = _address(told)
    return named is not None and any(named in network for network in trusted)


def _address(told: str) -> ip_addresses.Address | None:
    try:
        return ip_addresses.parse_ip(told)
    except ValueError:
        return None
