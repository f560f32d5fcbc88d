"""Which machine does an IP address name, and who holds it? IPv4 mapped into IPv6 is IPv4. Pure."""

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
