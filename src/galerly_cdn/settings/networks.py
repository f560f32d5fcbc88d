"""Parses IP addresses and networks. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNIX = "unix:"
"""Stands for the clients on unix sockets, which have no address, as in nginx's `set_real_ip_from` and log."""


def parse_ip(text: str) -> Address:
    """The address; `::ffff:192.0.2.1` is 192.0.2.1 (RFC 4291 §2.5.5.2). Raises `ValueError`."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Networks:
    """A set of clients: those in networks (CIDR), and with `unix:` those on unix sockets."""

    __slots__ = ("_has_unix", "_networks")

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises `ValueError`."""
        several = tuple(networks)
        self._has_unix = UNIX in several
        self._networks = tuple(ipaddress.ip_network(one) for one in several if one != UNIX)

    def __bool__(self) -> bool:
        return self._has_unix or bool(self._networks)

    def __contains__(self, client: object) -> bool:
        """Whether an address, or `unix:`, is in the set; no other text is."""
        if client == UNIX:
            return self._has_unix
        try:
            address = parse_ip(str(client))
        except ValueError:
            return False
        return any(address in network for network in self._networks)


NO_CLIENTS = Networks(())
