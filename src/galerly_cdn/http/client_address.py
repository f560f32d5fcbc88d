"""Parses IP addresses, and finds the viewer's address behind trusted proxies. Pure."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_ip(text: str) -> Address:
    """The address; `::ffff:192.0.2.1` is 192.0.2.1 (RFC 4291 §2.5.5.2). Raises `ValueError`."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def rate_limit_key(client: str) -> str:
    """The key of a client in rate limits: an IPv4 address itself, an IPv6 address's /64.

    A holder of a /64 can use every address in it (RFC 4291 §2.5.1: the low 64 bits are the interface's own
    choice). Text that is not an address is its own key.
    """
    try:
        address = parse_ip(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


def client_address(peer: str, forwarded: bytes, trusted: tuple[Network, ...]) -> str:
    """The viewer's address: the peer's unless it is trusted, else the right-most forwarded one that is not.

    `forwarded` is `X-Forwarded-For`, to which every proxy appends the peer that it saw. Everything left of an
    untrusted or malformed address can have been written by the client.
    """
    client = peer
    for item in reversed(forwarded.decode("latin-1").split(",")):
        if not is_trusted(client, trusted):
            break
        address = _address(item.strip(" \t"))
        if address is None:
            break
        client = str(address)
    return client


def is_trusted(text: str, trusted: tuple[Network, ...]) -> bool:
    """Whether an address is in one of the networks; no text that is not an address is."""
    address = _address(text)
    return address is not None and any(address in network for network in trusted)


def _address(text: str) -> Address | None:
    try:
        return parse_ip(text)
    except ValueError:
        return None
