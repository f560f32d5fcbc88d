"""Finds the viewer's address behind trusted proxies, and the key of a client in rate limits. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from galerly_cdn.settings.networks import Address, parse_ip

if TYPE_CHECKING:
    from galerly_cdn.settings.networks import Networks


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


def client_address(peer: str, forwarded: bytes, trusted: Networks) -> str:
    """The viewer's address: the peer's unless it is trusted, else the right-most forwarded one that is not.

    `forwarded` is `X-Forwarded-For`, to which every proxy appends the peer that it saw. Everything left of an
    untrusted or malformed address can have been written by the client.
    """
    client = peer
    for item in reversed(forwarded.decode("latin-1").split(",")):
        if client not in trusted:
            break
        address = _address(item.strip(" \t"))
        if address is None:
            break
        client = str(address)
    return client


def _address(text: str) -> Address | None:
    try:
        return parse_ip(text)
    except ValueError:
        return None
