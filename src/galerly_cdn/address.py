"""Which machine does an IP address name? IPv4 mapped into IPv6 is the IPv4 address it holds. Pure."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def read(told: str) -> Address:
    """The address; `::ffff:192.0.2.1` is 192.0.2.1 (RFC 4291 §2.5.5.2). Raises `ValueError`."""
    address = ipaddress.ip_address(told)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
