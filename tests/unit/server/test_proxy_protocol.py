"""Tests the parser of PROXY protocol headers: tables after HAProxy's document, and arbitrary bytes."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import BadRequest
from galerly_cdn.server.proxy_protocol import (
    MAX_BINARY_BYTES,
    MAX_TEXT_BYTES,
    ProxyHeader,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack(">HH", 56324, 443)
IPV6 = ipaddress.ip_address("2001:db8::1").packed * 2 + struct.pack(">HH", 56324, 443)
MAPPED = ipaddress.ip_address("::ffff:192.0.2.1").packed * 2 + struct.pack(">HH", 1, 2)
PATHS = bytes(216)
TLV = b"\x03\x00\x04\xfd\x16\xc2\x83"
"""A checksum, which is not read."""


def binary(command: int, family: int, block: bytes = b"") -> bytes:
    """A header of version 2; `command` and `family` are its bytes 13 and 14."""
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(block)) + block


HEADERS = {
    b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n": ("192.0.2.1", 56324),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ("255.255.255.255", 65535),
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n": ("0.0.0.0", 0),
    b"PROXY TCP6 2001:db8::1 2001:DB8:0:0::7 1 2\r\n": ("2001:db8::1", 1),
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n": ("192.0.2.1", 1),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff:f:f ? 65535 65535\r\n": None,
    b"PROXY UNKNOWN " + b"a" * (MAX_TEXT_BYTES - 16) + b"\r\n": None,
    binary(0x21, 0x11, IPV4): ("192.0.2.1", 56324),
    binary(0x21, 0x11, IPV4 + TLV): ("192.0.2.1", 56324),
    binary(0x21, 0x11, IPV4 + b"x" * (MAX_BINARY_BYTES - 28)): ("192.0.2.1", 56324),
    binary(0x21, 0x12, IPV4): ("192.0.2.1", 56324),
    binary(0x21, 0x21, IPV6): ("2001:db8::1", 56324),
    binary(0x21, 0x21, MAPPED): ("192.0.2.1", 1),
    binary(0x21, 0x31, PATHS): None,
    binary(0x21, 0x00): None,
    binary(0x20, 0x00): None,
    binary(0x20, 0x11, IPV4): None,
    binary(0x20, 0xFF, b"any"): None,
}  # fmt: skip
REFUSED = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",  # TLS
    b"\r\n\r\n\x00\r\nQUIT\r",
    b"\r\nGET",
    b"proxy TCP4",
    b"PROXY\tTCP4 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY TCP4 192.0.2.1  198.51.100.7 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 01 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 -1 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1 " + b"9" * 60 + b"\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::7 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY TCP6 2001:db8::1 198.51.100.7 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP6 2001:db8::1::2 ::1 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY UNKNOWN a\n\r\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWN " + b"a" * (MAX_TEXT_BYTES - 15) + b"\r\n",
    b"PROXY TCP4 " + b"a" * MAX_TEXT_BYTES,
    binary(0x22, 0x11, IPV4),
    binary(0x11, 0x11, IPV4),
    binary(0x31, 0x11, IPV4),
    binary(0x21, 0x41, IPV4),
    binary(0x21, 0x13, IPV4),
    binary(0x21, 0x11, IPV4[:-1]),
    binary(0x21, 0x21, IPV4),
    binary(0x21, 0x31, IPV6),
    binary(0x21, 0x11, IPV4 + b"x" * (MAX_BINARY_BYTES - 27)),
    binary(0x20, 0x11, b"x" * 60_000),
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_header_is_read_from_its_last_byte_on_and_names_the_client(header: bytes) -> None:
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None
    for rest in (b"", b"GET / HTTP/1.1\r\n", header):
        assert parse_proxy_header(header + rest) == ProxyHeader(HEADERS[header], len(header))


@pytest.mark.parametrize("received", REFUSED)
def test_header_with_an_error_is_refused_and_no_part_of_it_is_a_header(received: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_proxy_header(received)
    for end in range(len(received)):
        with contextlib.suppress(BadRequest):
            assert parse_proxy_header(received[:end]) is None


@given(st.sampled_from([b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 192.0.2.1 "]), st.binary(max_size=300))
def test_arbitrary_bytes_are_a_header_or_incomplete_or_a_bad_request(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(BadRequest):
        header = parse_proxy_header(start + rest)
        if header is None:
            assert len(start + rest) < MAX_BINARY_BYTES
        else:
            assert header.length_bytes <= len(start + rest)
            if header.peer:
                assert str(ipaddress.ip_address(header.peer[0])) == header.peer[0]
                assert 0 <= header.peer[1] <= 65535


@given(
    st.sampled_from([*HEADERS]),
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_changed_bytes_of_a_header_raise_nothing_but_bad_request(
    header: bytes, changes: list[tuple[int, int]]
) -> None:
    changed = bytearray(header)
    for at, byte in changes:
        changed[at % len(changed)] = byte
    with contextlib.suppress(BadRequest):
        parse_proxy_header(bytes(changed))


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535))
def test_both_versions_of_a_header_name_the_same_client(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address,
    destination: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    other_port: int,
) -> None:
    if source.version != destination.version:
        destination = source
    text = f"PROXY TCP{source.version} {source} {destination} {port} {other_port}\r\n".encode()
    block = source.packed + destination.packed + struct.pack(">HH", port, other_port)
    family = {4: 0x11, 6: 0x21}[source.version]
    first, second = parse_proxy_header(text), parse_proxy_header(binary(0x21, family, block))
    assert first is not None
    assert second is not None
    assert first.peer == second.peer
