"""Parses the header of the PROXY protocol: the client's address, as a proxy over TCP tells it. Pure.

(HAProxy's "The PROXY protocol, versions 1 & 2", `doc/proxy-protocol.txt`.)
"""

from __future__ import annotations

import ipaddress
import re

from galerly_cdn.errors import BadRequest
from galerly_cdn.serialization import Value
from galerly_cdn.settings.networks import parse_ip

MAX_TEXT_BYTES = 107
"""The longest header of version 1, its line end included (§2.1)."""
MAX_BINARY_BYTES = 4096
"""The longest header of version 2 that is accepted, as in nginx. Certificates of clients may be in it."""
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_BYTES = 16
"""Signature, version and command, family, and the length of what follows (§2.2)."""
_TEXT = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (\d+) (\d+))"
)
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_LOCAL, _PROXY = 0, 1
_ADDRESS_BYTES = {0: 0, 1: 4, 2: 16, 3: 108}
"""Bytes of one address of each family: unspecified, IPv4, IPv6, unix (§2.2)."""
_PORT_BYTES = {0: 0, 1: 2, 2: 2, 3: 0}


class ProxyHeader(Value, frozen=True):
    """A complete header."""

    peer: tuple[str, int] | None
    """The client's address and port. None where the proxy names none: the connection is its own (`LOCAL`, a
    health check), or of another kind (`UNKNOWN`, unix)."""
    length_bytes: int
    """What follows is the client's."""


def parse_proxy_header(received: bytes) -> ProxyHeader | None:
    """The header at the start of what a connection received; None while it is incomplete.

    Raises `BadRequest` as soon as the bytes can begin no header: they are then the client's own, or damaged.
    """
    if received[: len(_SIGNATURE)] == _SIGNATURE[: len(received)]:
        return _parse_binary(received)
    if received[:6] != b"PROXY "[: len(received)]:
        raise BadRequest("the connection does not begin with a PROXY protocol header")
    return _parse_text(received)


def _parse_text(received: bytes) -> ProxyHeader | None:
    line, end, _ = received[:MAX_TEXT_BYTES].partition(b"\r\n")
    if not end:
        if len(received) >= MAX_TEXT_BYTES:
            raise BadRequest("the PROXY protocol header is longer than 107 bytes")
        return None
    matched = _TEXT.fullmatch(line)
    if matched is None:
        raise BadRequest("the PROXY protocol header is malformed")
    family, source, destination, *ports = matched.groups()
    length_bytes = len(line) + len(end)
    if family is None:
        return ProxyHeader(None, length_bytes)
    if not all(_PORT.fullmatch(port) and int(port) <= 65535 for port in ports):
        raise BadRequest("a port in the PROXY protocol header is malformed")
    versions = [_text_address(one).version for one in (source, destination)]
    if versions != [int(family)] * 2:
        raise BadRequest("the addresses in the PROXY protocol header are not of its family")
    return ProxyHeader((str(parse_ip(source.decode())), int(ports[0])), length_bytes)


def _text_address(text: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text.decode())
    except ValueError as error:
        raise BadRequest("an address in the PROXY protocol header is malformed") from error


def _parse_binary(received: bytes) -> ProxyHeader | None:
    if len(received) < _FIXED_BYTES:
        return None
    version, command = divmod(received[12], 16)
    family, transport = divmod(received[13], 16)
    length_bytes = _FIXED_BYTES + int.from_bytes(received[14:16], "big")
    if version != 2 or command not in {_LOCAL, _PROXY}:
        raise BadRequest("the version or the command of the PROXY protocol header is unknown")
    if length_bytes > MAX_BINARY_BYTES:
        raise BadRequest(f"the PROXY protocol header is longer than {MAX_BINARY_BYTES} bytes")
    if command == _PROXY and (family not in _ADDRESS_BYTES or transport > 2):
        raise BadRequest("the address family of the PROXY protocol header is unknown")
    if command == _PROXY and length_bytes < _FIXED_BYTES + 2 * (_ADDRESS_BYTES[family] + _PORT_BYTES[family]):
        raise BadRequest("the PROXY protocol header is shorter than its addresses")
    if len(received) < length_bytes:
        return None
    if command == _LOCAL or not _PORT_BYTES[family]:
        return ProxyHeader(None, length_bytes)
    return ProxyHeader(_binary_peer(received[_FIXED_BYTES:], _ADDRESS_BYTES[family]), length_bytes)


def _binary_peer(block: bytes, address_bytes: int) -> tuple[str, int]:
    """The source of a block of addresses: source, destination, source port, destination port."""
    address = ipaddress.ip_address(block[:address_bytes])
    port = int.from_bytes(block[2 * address_bytes :][:2], "big")
    return str(parse_ip(str(address))), port
