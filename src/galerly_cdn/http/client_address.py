"""IP addresses: how they are read, and which one is the viewer's behind trusted proxies. Pure."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_ip(told: str) -> Address:
    """The address; `::ffff:192.0.2.1` is 192.0.2.1 (RFC 4291 §2.5.5.2). Raises `ValueError`."""
    address = ipaddress.ip_address(told)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def rate_limit_key(told: str) -> str:
    """Who holds the address: an IPv4 address itself, and in IPv6 its /64, whose holder may take any of it.

    (RFC 4291 §2.5.1: the low 64 bits are for the machine itself to choose.) What is no address is itself.
    """
    try:
        address = parse_ip(told)
    except ValueError:
        return told
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


def _address(told: str) -> Address | None:
    try:
        return parse_ip(told)
    except ValueError:
        return None
